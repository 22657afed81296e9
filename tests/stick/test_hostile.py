"""Sticks that somebody has prepared: things in the place of files, names that mean something, too much of everything.

Each ends with a report; nothing is followed out of the stick, nothing is lost, and nothing foreign is changed.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from base64 import b32encode
from collections.abc import Callable
from pathlib import Path

import pytest

from sneaker.errors import StickError
from sneaker.stick import safe_folder as folder_module
from sneaker.stick.info import describe
from sneaker.stick.layout import base32
from sneaker.stick.visit import VisitOptions, visit
from tests.command_line import sneaker
from tests.homes import NOW_MS
from tests.stick.fuse import mounted
from tests.sticks import SMALL, Machine, bundles, cards, machines, names, snapshot
from tests.tries import amount

# Of which a reader looks at every byte.
SPARSE_BUNDLE_BYTES = amount(quick=32, thorough=256) << 20


def bundle_name(number: int) -> str:
    return f"{base32(number.to_bytes(16, 'big'))}.sneaker"


def card_name(machine: Machine, counter: int = NOW_MS) -> str:
    return f"{base32(machine.me.key)}-{counter}.card"


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Machine, Machine, Path]:
    """A has left a message for B."""
    stick = tmp_path / "stick"
    (first, second) = machines(tmp_path, stick, "AB")
    first.sync(stick)
    return first, second, stick


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Return what stands in a folder that is not ours to change: inode and mode by name, without following links."""
    return {
        path.name: (path.lstat().st_ino, path.lstat().st_mode)
        for path in folder.iterdir()
        if not path.is_file() or path.is_symlink()
    }


# ------------------------------------------------------------------------------------------------ not plain files


def make_link(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "secret.sneaker")


def make_dangling(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "created-by-accident")


def make_loop(path: Path, outside: Path) -> None:
    path.symlink_to(path.name)


def make_fifo(path: Path, outside: Path) -> None:
    os.mkfifo(path)


def make_folder(path: Path, outside: Path) -> None:
    path.mkdir()
    (path / "inside").write_text("x")


def make_socket(path: Path, outside: Path) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o600)


def make_device(path: Path, outside: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero: reading it would never end


def make_disk(path: Path, outside: Path) -> None:
    os.mknod(path, stat.S_IFBLK | 0o666, os.makedev(7, 200))


THINGS = [
    make_link,
    make_dangling,
    make_loop,
    make_fifo,
    make_folder,
    make_socket,
    pytest.param(make_device, marks=pytest.mark.root),
    pytest.param(make_disk, marks=pytest.mark.root),
]


@pytest.mark.parametrize("make", THINGS)
def test_things_in_the_place_of_files(
    tmp_path: Path, pair: tuple[Machine, Machine, Path], make: Callable[[Path, Path], None]
) -> None:
    first, second, stick = pair
    outside = tmp_path / "outside"
    outside.mkdir()
    hidden = Machine(tmp_path, "X")
    hidden.publish("not on this stick")
    (tmp_path / "other").mkdir()
    hidden.init(tmp_path / "other")
    hidden.sync(tmp_path / "other")
    [bundle] = bundles(tmp_path / "other").iterdir()
    shutil.copy(bundle, outside / "secret.sneaker")
    make(bundles(stick) / bundle.name, outside)
    make(cards(stick) / card_name(hidden), outside)
    make(cards(stick) / card_name(second, NOW_MS * 2), outside)
    make(bundles(stick) / f".{base32(second.me.key)[:16]}-0123456789abcdef.part", outside)
    before = {**listing(bundles(stick)), **listing(cards(stick))}
    for machine in (second, first, second):
        report = machine.sync(stick)
        assert report.complete
        assert report.foreign == 3
    assert hidden.me not in second.clock()
    assert second.clock() == first.clock() == {first.me: 1, second.me: 1}
    assert {**listing(bundles(stick)), **listing(cards(stick))} == before
    assert names(outside) == {"secret.sneaker"}
    shown = sneaker("drive", "info", stick, "--json", at=first.path).json
    assert shown["foreign"] == 3


@pytest.mark.parametrize("make", THINGS)
@pytest.mark.parametrize("place", ["SNEAKER", "drive.json", "cards", "bundles"])
def test_things_in_the_place_of_the_folders(
    tmp_path: Path, pair: tuple[Machine, Machine, Path], make: Callable[[Path, Path], None], place: str
) -> None:
    """The stick is refused, or what of it is intact is used; what stands in the way stays."""
    first, second, stick = pair
    outside = tmp_path / "outside"
    outside.mkdir()
    path = stick / "SNEAKER" if place == "SNEAKER" else stick / "SNEAKER" / place
    # Behind a link stands a whole stick, that a visit must not come to.
    moved = path.rename(outside / "secret.sneaker")
    make(path, outside)
    if path.is_dir() and not path.is_symlink() and place in ("cards", "bundles"):
        return  # a folder in the place of a folder
    before = snapshot(outside)
    status = path.lstat()
    if place in ("SNEAKER", "drive.json"):
        is_empty = make is make_folder and place == "SNEAKER"  # which may become a stick
        for action in (second.sync, second.trust, *([] if is_empty else [second.init])):
            with pytest.raises(StickError):
                action(stick)
        with second.opened() as opened, pytest.raises(StickError):
            describe(opened, stick)
        if make is make_link:  # one is enough of what takes so long
            for words in (("sync", stick), ("drive", "info", stick), ("drive", "forget", stick)):
                assert sneaker(*words, at=second.path, ok=False).code == 60
    else:
        report = second.sync(stick)
        assert report.problems == [f"{place} on the stick is not a folder"]
        assert report.safe_to_remove
        assert report.imported.ingested.accepted == (place == "cards")
    assert snapshot(outside) == before
    assert (path.lstat().st_ino, path.lstat().st_mode) == (status.st_ino, status.st_mode)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    moved.rename(path)
    assert second.sync(stick).complete
    assert second.clock() == {first.me: 1, second.me: 1}


@pytest.mark.root
def test_another_file_system_inside(tmp_path: Path, pair: tuple[Machine, Machine, Path], loop_stick: Path) -> None:
    """A folder that something is mounted on is not the stick's; neither is a file."""
    _, second, stick = pair
    subprocess.run(["mount", "--bind", str(loop_stick), str(bundles(stick))], check=True)
    try:
        report = second.sync(stick)
        assert report.problems == ["bundles on the stick belongs to another file system"]
        assert names(loop_stick) == {"lost+found"}
    finally:
        subprocess.run(["umount", str(bundles(stick))], check=True)
    [bundle] = bundles(stick).iterdir()
    shutil.copy(bundle, loop_stick / "other")
    subprocess.run(["mount", "--bind", str(loop_stick / "other"), str(bundle)], check=True)
    try:
        assert second.sync(stick).foreign == 1
        assert second.clock() == {second.me: 1}
    finally:
        subprocess.run(["umount", str(bundle)], check=True)
    assert second.sync(stick).imported.ingested.accepted == 1


# ------------------------------------------------------------------------------------------------ names


def test_names_that_mean_something(pair: tuple[Machine, Machine, Path]) -> None:
    """Escapes, newlines, bytes that are no UTF-8, names like options: foreign, untouched, and never on the terminal."""
    first, second, stick = pair
    odd = [
        b"\x1b[2J\x1b]0;owned\x07.sneaker",
        b"a\nb.sneaker",
        b"-rf.sneaker",
        b"\xff\xfe\x80.sneaker",
        b"..sneaker",
        b"con.sneaker",
        bundle_name(1).encode() + b"\n",
        bundle_name(1).encode() + b" ",
        b"\xe2\x80\xae" + bundle_name(2).encode(),
        bundle_name(3).upper().encode(),
        b"x" * 255,
    ]
    for name in odd:
        for folder in (bundles(stick), cards(stick)):
            (folder / os.fsdecode(name)).write_bytes(b"\x1b[31m" + name)
    done = sneaker("sync", stick, at=second.path)
    shown = sneaker("drive", "info", stick, at=second.path)
    for text in (done.out, done.err, shown.out, shown.err):
        assert "\x1b" not in text
        assert "owned" not in text
    report = second.sync(stick)
    assert report.complete
    assert report.foreign == 2 * (len(odd) - 1), "hidden files are not counted: replicators have many"
    assert second.clock() == {first.me: 1, second.me: 1}
    for name in odd:
        for folder in (bundles(stick), cards(stick)):
            assert (folder / os.fsdecode(name)).read_bytes() == b"\x1b[31m" + name


def test_marker_that_means_something(tmp_path: Path, pair: tuple[Machine, Machine, Path]) -> None:
    first, _, stick = pair
    marker = stick / "SNEAKER" / "drive.json"
    good = marker.read_bytes()
    bad = [
        b"",
        b"[]",
        b"null",
        b"{" * 5000,
        b"[" * 60000,
        good.replace(b'"sneaker": 1', b'"sneaker": 2'),
        good[:-10],
        good + b" " * 70000,
        b'{"sneaker": 1, "drive": "../../x", "network": "\x1b[2J"}',
        b'{"sneaker": 1, "drive": 5, "network": 7}',
        b"\xff\xfe",
        os.urandom(1000),
    ]
    for data in bad:
        marker.write_bytes(data)
        for words in (("sync", stick), ("drive", "info", stick)):
            if data == bad[8]:
                done = sneaker(*words, at=first.path, ok=False)
                assert done.code == 60
                assert "\x1b" not in done.out + done.err
        with pytest.raises(StickError):
            first.sync(stick)
        with pytest.raises(StickError):
            first.init(stick)
        assert marker.read_bytes() == data
    marker.write_bytes(good)
    assert first.sync(stick).complete
    label = "\x1b]0;owned\x07 \u202egnp"
    sneaker("drive", "trust", stick, "--label", label, at=first.path)
    assert "\x1b" not in sneaker("drive", "list", at=first.path).out


@pytest.mark.root
@pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="no /dev/fuse")
def test_names_that_differ_only_in_case(tmp_path: Path) -> None:
    """On a file system like FAT, our name may be taken in other letters: nothing is overwritten, and nothing breaks."""
    (tmp_path / "stick").mkdir()
    with mounted(tmp_path / "stick", is_fat=True) as mount:
        stick = mount.at
        (stick / "sneaker").mkdir()  # somebody's, or what a program of theirs made of our folder's name
        (first, second) = machines(tmp_path, stick, "AB")
        assert names(stick) == {"sneaker"}
        taken = card_name(first, NOW_MS + 1000).upper()
        (cards(stick) / taken).write_bytes(b"in the way")
        assert (cards(stick) / taken.lower()).exists(), "the file system does what it should"
        assert first.sync(stick).safe_to_remove
        assert (cards(stick) / taken).read_bytes() == b"in the way"
        assert second.sync(stick).imported.ingested.accepted == 1
        first.sync(stick)
        assert first.clock() == second.clock()
        # Another file in the place of a bundle that is to come: its random name in other letters.
        first.publish("one more")
        chosen = bytes(range(16))
        (bundles(stick) / f"{base32(chosen)}.sneaker".upper()).write_bytes(b"was here first")
        first.now_ms += 1000
        with first.opened() as opened:
            report = visit(
                opened, stick, VisitOptions(**SMALL), now_ms=lambda: first.now_ms, random_bytes=lambda count: chosen
            )
        assert report.safe_to_remove
        assert report.problems
        assert (bundles(stick) / f"{base32(chosen)}.sneaker").read_bytes() == b"was here first"
        assert first.sync(stick).complete
        second.sync(stick)
        assert second.clock() == first.clock()
        assert all(name.islower() or b"here" in (bundles(stick) / name).read_bytes() for name in names(bundles(stick)))


def test_two_spellings_of_one_name(pair: tuple[Machine, Machine, Path]) -> None:
    """On a file system that tells case apart, both spellings may be there: only ours counts."""
    first, second, stick = pair
    [bundle] = bundles(stick).iterdir()
    upper = bundles(stick) / (b32encode(os.urandom(16)).decode().rstrip("=") + ".sneaker")
    for name in (upper.name, bundle.name.upper(), bundle.name.replace(".sneaker", ".SNEAKER")):
        (bundles(stick) / name).write_bytes(b"other letters")
    (stick / "sneaker").mkdir()
    (stick / "sneaker" / "drive.json").write_text("{}")
    report = second.sync(stick)
    assert report.complete
    assert report.foreign == 3
    assert second.clock() == {first.me: 1, second.me: 1}


# ------------------------------------------------------------------------------------------------ sizes


@pytest.mark.parametrize("kind", ["empty", "sparse", "sparse bundle", "huge", "junk", "truncated", "log"])
def test_files_that_are_not_what_they_are_called(pair: tuple[Machine, Machine, Path], kind: str) -> None:
    """They are looked at once, cost little, change nothing, and are said once."""
    first, second, stick = pair
    [bundle] = bundles(stick).iterdir()
    path = bundles(stick) / bundle_name(1)
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "junk":
        path.write_bytes(os.urandom(300_000))
    elif kind == "log":
        path.write_bytes(b'{"key": "%x", "value": {}}\n' * 1000)
    elif kind == "truncated":
        path.write_bytes(bundle.read_bytes()[:-100])
    else:
        path.write_bytes(bundle.read_bytes()[:400] if kind == "sparse bundle" else b"")
        with path.open("r+b") as file:
            file.truncate({"sparse": 1 << 30, "sparse bundle": SPARSE_BUNDLE_BYTES, "huge": 1 << 40}[kind])
    first.card(stick, {first.me: 1}, counter=NOW_MS * 2)  # so that nothing is cleaned up here
    started = time.monotonic()
    report = second.sync(stick)
    assert time.monotonic() - started < 20
    assert second.clock() == {first.me: 1, second.me: 1}
    assert not report.complete
    assert [source.status for source in report.imported.sources if source.path.endswith(path.name)] == [
        "truncated" if kind in ("truncated", "sparse bundle") else "refused"
    ] or report.damaged == 1
    assert report.safe_to_remove
    assert path.exists()
    report = second.sync(stick)
    assert report.complete, "once said is enough"
    assert second.path.joinpath("store.sqlite").stat().st_size < 2_000_000


def test_a_bundle_that_grows(pair: tuple[Machine, Machine, Path]) -> None:
    """A replicator that writes in place: first a part is there, then all of it."""
    first, second, stick = pair
    first.publish(*(f"message {number}" for number in range(50)))
    first.sync(stick)
    wholes = []
    for path in bundles(stick).iterdir():
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        wholes.append((path, data))
    report = second.sync(stick)
    assert not report.complete
    assert report.damaged == 2
    assert second.clock().get(first.me, 0) < 51
    for path, data in wholes:
        path.write_bytes(data)
    report = second.sync(stick)
    assert report.complete
    assert report.damaged == 0
    assert second.clock() == {first.me: 51, second.me: 1}


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_very_many_entries(
    tmp_path: Path, pair: tuple[Machine, Machine, Path], monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Foreign names by the million cost a look at each name; names like ours only so many files."""
    first, second, stick = pair
    descriptor = os.open(bundles(stick), os.O_RDONLY)
    for number in range(count):
        os.close(os.open(f"junk-{number}", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=descriptor))
    os.close(descriptor)
    started = time.monotonic()
    report = second.sync(stick)
    seconds = time.monotonic() - started
    print(f"{count:,} foreign entries: {seconds:.2f} s")
    assert seconds < 10 + count / 50_000
    assert report.complete
    assert report.foreign == count
    assert second.clock() == {first.me: 1, second.me: 1}
    # Names like bundles, more of them than any round makes.
    limit = 100 if count < 100_000 else folder_module.MAX_ENTRIES
    monkeypatch.setattr(folder_module, "MAX_ENTRIES", limit)
    for number in range(limit + 50):
        (bundles(stick) / bundle_name(number)).touch()
    report = second.sync(stick)
    assert report.problems[0].startswith("there are more files on the stick")
    assert report.safe_to_remove
    assert len(report.imported.sources) <= 201


# ------------------------------------------------------------------------------------------------ real media


@pytest.mark.root
@pytest.mark.parametrize("how", ["remount", "bind", "device"])
def test_read_only(tmp_path: Path, loop_mount: Callable[..., Path], how: str) -> None:
    """What is there is taken in; the report says that nothing could be left, and that the stick may be pulled."""
    stick = loop_mount(options="noatime")
    device = ""
    (first, second) = machines(tmp_path, stick, "AB")
    first.sync(stick)
    if how == "remount":
        subprocess.run(["mount", "-o", "remount,ro", str(stick)], check=True)
    elif how == "bind":
        other = tmp_path / "bind"
        other.mkdir()
        subprocess.run(["mount", "--bind", str(stick), str(other)], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", str(other)], check=True)
        stick = other
    else:
        device = subprocess.run(
            ["findmnt", "-n", "-o", "SOURCE", str(stick)], check=True, capture_output=True, text=True
        ).stdout.strip()
        subprocess.run(["umount", str(stick)], check=True)
        subprocess.run(["blockdev", "--setro", device], check=True)
        subprocess.run(["mount", "-o", "ro", device, str(stick)], check=True)
    try:
        report = second.sync(stick)
        assert report.imported.ingested.accepted == 1
        assert report.problems == ["the stick failed: it is read-only"]
        assert report.safe_to_remove
        report = second.sync(stick, export=False)
        assert report.complete
        done = sneaker("sync", stick, at=second.path, ok=False)
        assert (done.code, "read-only" in done.out) == (3, True)
    finally:
        subprocess.run(["umount", "-l", str(stick)], check=False)
        if device:  # loop devices are used again, and keep this
            subprocess.run(["blockdev", "--setrw", device], check=True)


@pytest.mark.root
def test_block_device_that_loses_its_blocks(tmp_path: Path, loop_mount: Callable[..., Path]) -> None:
    """The image under the mounted file system is cut: real read errors of a real block device."""
    stick = loop_mount()
    (first, second) = machines(tmp_path, stick, "AB")
    first.publish(*(os.urandom(3000).hex() for _ in range(200)))
    first.sync(stick)
    image = tmp_path / "stick0.img"
    subprocess.run(["umount", str(stick)], check=True)
    device = subprocess.run(
        ["losetup", "-j", str(image), "-n", "-O", "NAME"], capture_output=True, text=True, check=True
    )
    saved = image.read_bytes()
    subprocess.run(["mount", "-o", "noatime", device.stdout.strip(), str(stick)], check=True)
    for path in (bundles(stick), cards(stick)):
        names(path)
    with image.open("r+b") as file:
        file.truncate(1 << 20)
    done = sneaker("sync", stick, at=second.path, ok=False)
    assert done.code in (3, 60), done.out + done.err
    assert "device reports an error" in done.out + done.err
    image.write_bytes(saved)
    subprocess.run(["umount", str(stick)], check=False)
    subprocess.run(["mount", "-o", "noatime", device.stdout.strip(), str(stick)], check=True)
    second.sync(stick)
    assert second.clock()[first.me] == 201


@pytest.mark.root
@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_no_room(
    tmp_path: Path, small_tmpfs: Callable[[int], Path], loop_mount: Callable[..., Path], kind: str
) -> None:
    """Sticks of all sizes that are too small: a gap-free beginning goes on them, the report is honest, and nothing breaks."""
    author = Machine(tmp_path, "A")
    author.publish(*(os.urandom(3000).hex() for _ in range(100)))
    complete = partial = 0
    for size in (300_000, 2_000_000):
        stick = small_tmpfs(size) if kind == "tmpfs" else loop_mount(size)
        author.init(stick)
        author.sync(stick, dry_run=True)
        report = author.sync(stick, min_free_bytes=64 * 1024)
        assert shutil.disk_usage(stick).free >= 64 * 1024 - 8192, "all but the card, which has to fit always"
        reader = Machine(tmp_path, f"reader {size}")
        reader.trust(stick)
        packed = report.exported
        assert packed is not None
        left = sum(item.messages for item in packed.left)
        assert packed.messages + left == 100
        assert bool(left) == (packed.messages < 100)
        complete += not left
        partial += bool(left and packed.messages)
        reader.sync(stick)
        assert reader.clock().get(author.me, 0) == packed.messages
        assert report.safe_to_remove
        assert bool(report.problems) == (packed.messages == 0), report.problems
        again = author.sync(stick)
        assert again.safe_to_remove
        # The next one who has taken in what is there makes room.
        author.sync(stick)
        reader.sync(stick)
        assert reader.clock().get(author.me, 0) >= packed.messages
    assert complete
    assert partial
