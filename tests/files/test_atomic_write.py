"""Output files: whole or not there, and never in the place of anything of another kind."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sneaker.errors import OutputError
from sneaker.files import atomic_write
from sneaker.files.atomic_write import PART_SUFFIX, Discarded, atomic_file, move_file, new_file, write_whole_file
from sneaker.files.permissions import make_private_folder
from sneaker.home.copy_detection import write_note
from sneaker.home.secret_file import save_secret
from sneaker.keys import Keypair
from sneaker.refs import BlobRef
from sneaker.stick.safe_folder import Folder
from sneaker.store.blobs import BlobStore
from tests.command_line import sneaker


@pytest.fixture
def home(tmp_path: Path) -> Path:
    sneaker("init", at=tmp_path / "home")
    sneaker("publish", "one", at=tmp_path / "home")
    return tmp_path / "home"


WRITERS = {"card": ["clock", "--card"], "bundle": ["export"]}


@pytest.mark.parametrize("kind", WRITERS)
def test_the_own_kind_is_replaced_and_nothing_else(home: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    sneaker(*WRITERS[kind], out, at=home)
    sneaker(*WRITERS[kind], out, at=home)
    first = out.read_bytes()
    out.write_bytes(b"")
    sneaker(*WRITERS[kind], out, at=home)
    assert out.read_bytes()[:8] == first[:8]

    (other,) = set(WRITERS) - {kind}
    sneaker(*WRITERS[other], tmp_path / other, at=home)
    (tmp_path / "text").write_text("what I wrote")
    for target in (tmp_path / other, tmp_path / "text", home / "secret", home / "config.toml", home / "store.sqlite"):
        before = target.read_bytes()
        done = sneaker(*WRITERS[kind], target, at=home, ok=False)
        assert done.code == 37
        assert "exists and is something else" in done.err
        assert target.read_bytes() == before
    assert not list(tmp_path.glob(".*part"))


@pytest.mark.parametrize("kind", WRITERS)
def test_links_pipes_and_devices_stay(home: Path, tmp_path: Path, kind: str) -> None:
    sneaker(*WRITERS[kind], tmp_path / "good", at=home)
    (tmp_path / "link").symlink_to(tmp_path / "good")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    for name, what in (("link", "a link"), ("dangling", "a link"), ("pipe", "a pipe")):
        done = sneaker(*WRITERS[kind], tmp_path / name, at=home, ok=False)
        assert done.code == 37
        assert f"is {what}" in done.err
    assert (tmp_path / "link").is_symlink()
    assert not (tmp_path / "nothing").exists()
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert sneaker(*WRITERS[kind], "/dev/null", at=home, ok=False).code == 37
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_card_is_not_written_over_a_folder(home: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    done = sneaker("clock", "--card", tmp_path / "folder", at=home, ok=False)
    assert done.code == 37
    assert "is a folder" in done.err


def test_nothing_is_replaced_by_default(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"x")
    with pytest.raises(OutputError), new_file(tmp_path / "there") as file:
        file.write(b"y")
    assert (tmp_path / "there").read_bytes() == b"x"


# ---- in which order things reach the disk

EXT4, VFAT, EXFAT, FUSE = 0xEF53, 0x4D44, 0x2011BAB0, 0x65735546


class Disk:
    """Notes each step that counts for what is there after a power cut, and fails at one of them if told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[str] = []
        self.fails_at: int | None = None
        self.has_links = True
        self.syncs_folders = True
        for name in ("fsync", "replace", "rename", "link"):
            monkeypatch.setattr(os, name, self._noting(name, getattr(os, name)))
        monkeypatch.setattr(atomic_write, "_sync_file_system", lambda folder: self._step("sync all"))

    def _step(self, step: str) -> None:
        if self.fails_at == len(self.steps):
            self.steps.append(f"{step} fails")
            raise OSError(errno.EIO, "it is broken")
        self.steps.append(step)

    def _noting(self, name: str, real: Callable[..., None]) -> Callable[..., None]:
        def noted(*arguments: object, **options: object) -> None:
            if name == "fsync":
                folder = stat.S_ISDIR(os.fstat(arguments[0]).st_mode)  # type: ignore[arg-type]
                if folder and not self.syncs_folders:
                    raise OSError(errno.EINVAL, "not here")
                self._step("sync folder" if folder else "sync file")
            elif name == "link":
                if not self.has_links:
                    raise OSError(errno.EPERM, "no links here")
                self._step("name")
            else:
                self._step("name")
            real(*arguments, **options)

        return noted


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def blob_store(path: Path) -> None:
    BlobStore(path.parent / "blobs").add_blob(b"a blob")


def early_blob(home: Path) -> None:
    blobs = BlobStore(home / "blobs")
    (home / "blobs" / "early").mkdir()
    (home / "blobs" / "early" / BlobRef.of(b"a blob").hex()).write_bytes(b"a blob")
    assert blobs.take_early(BlobRef.of(b"a blob"))


def note(path: Path) -> None:
    write_note(path, {"feed": "x"})


def secret(path: Path) -> None:
    save_secret(path, Keypair.from_seed(bytes(32)))


def output(path: Path) -> None:
    with new_file(path) as file:
        file.write(b"x")


def stick_file(path: Path) -> None:
    with Folder(os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)) as folder:
        assert folder.write_small(path.name, b"x")


@pytest.mark.parametrize("write", [blob_store, note, secret, output, stick_file])
@pytest.mark.parametrize(
    ("kind", "after"), [(EXT4, []), (VFAT, ["sync file"]), (EXFAT, ["sync file"]), (FUSE, ["sync file"])]
)
def test_what_has_a_name_is_whole_and_stays(
    tmp_path: Path,
    disk: Disk,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[Path], None],
    kind: int,
    after: list[str],
) -> None:
    """Whoever writes: the bytes first, then the name, then what the file system needs for the name to last."""
    monkeypatch.setattr(atomic_write, "_file_system", lambda folder: kind)
    disk.has_links = kind == EXT4
    (tmp_path / "blobs" / "sha256" / BlobRef.of(b"a blob").hex()[:2]).mkdir(parents=True)
    write(tmp_path / "name")
    at = disk.steps.index("name")
    assert set(disk.steps[:at]) == {"sync file"}
    assert disk.steps[at + 1 :] == [*after, "sync folder"]


def test_an_early_blob_that_is_held_stays(tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic_write, "_file_system", lambda folder: EXT4)
    (tmp_path / "blobs" / "sha256" / BlobRef.of(b"a blob").hex()[:2]).mkdir(parents=True)
    early_blob(tmp_path)
    assert disk.steps == ["name", "sync folder", "sync folder"], "the name is new in one folder, and gone from another"


def test_where_folders_cannot_be_synced_the_whole_file_system_is(tmp_path: Path, disk: Disk) -> None:
    disk.syncs_folders = False
    output(tmp_path / "name")
    assert disk.steps[-1] == "sync all"


def test_a_folder_that_is_made_stays(tmp_path: Path, disk: Disk) -> None:
    make_private_folder(tmp_path / "a" / "b")
    assert disk.steps == ["sync folder", "sync folder"]
    make_private_folder(tmp_path / "a" / "b")
    assert len(disk.steps) == 2


@pytest.mark.parametrize("replace", [True, False])
def test_a_failure_at_any_step_leaves_the_old_file_or_the_new_one(tmp_path: Path, disk: Disk, replace: bool) -> None:
    path = tmp_path / "name"
    for fails_at in range(4):
        path.unlink(missing_ok=True)
        if replace:
            path.write_bytes(b"old")
        disk.steps.clear()
        disk.fails_at = fails_at
        try:
            write_whole_file(path, b"new", replace=replace)
        except OSError:
            named = "name" in disk.steps
            assert (path.read_bytes() if path.exists() else b"old") == (b"new" if named else b"old")
        else:  # all steps went well, or what does not link can rename
            assert path.read_bytes() == b"new"
            assert fails_at == 3 or not replace
        assert {item.name for item in tmp_path.iterdir()} <= {"name"}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("has_links", [True, False])
def test_a_name_that_is_taken_meanwhile_stays(tmp_path: Path, folder: int, disk: Disk, has_links: bool) -> None:
    disk.has_links = has_links
    link = tmp_path / "name"
    with pytest.raises(FileExistsError), atomic_file(folder, "name", replace=False):
        link.symlink_to("elsewhere")
    assert (tmp_path / "name").is_symlink()
    assert [item.name for item in tmp_path.iterdir()] == ["name"]


def test_what_is_discarded_leaves_nothing(tmp_path: Path, folder: int) -> None:
    with atomic_file(folder, "name", replace=True, part_name=f".mine{PART_SUFFIX}") as file:
        file.write(b"not wanted")
        assert (tmp_path / f".mine{PART_SUFFIX}").exists()
        raise Discarded
    assert not list(tmp_path.iterdir())


def test_a_link_in_the_place_of_the_part_is_not_followed(tmp_path: Path, folder: int) -> None:
    (tmp_path / "private").write_bytes(b"mine")
    (tmp_path / f".x{PART_SUFFIX}").symlink_to(tmp_path / "private")
    with pytest.raises(FileExistsError), atomic_file(folder, "name", replace=True, part_name=f".x{PART_SUFFIX}"):
        pass
    assert (tmp_path / "private").read_bytes() == b"mine"


@pytest.mark.root
def test_on_a_real_file_system(loop_mount: Callable[..., Path], tmp_path: Path) -> None:
    """What a copy of the medium holds at that moment, as if it had been pulled out."""
    at = loop_mount()
    make_private_folder(at / "a" / "b")
    write_whole_file(at / "a" / "b" / "first", b"one" * 1000, replace=False)
    output(at / "second")
    write_whole_file(at / "moving", b"three", replace=True)
    move_file(at / "moving", at / "a" / "third")
    shutil.copy(tmp_path / "stick0.img", tmp_path / "pulled.img")
    pulled = tmp_path / "pulled"
    pulled.mkdir()
    subprocess.run(["e2fsck", "-p", tmp_path / "pulled.img"], check=False, capture_output=True)
    subprocess.run(["mount", "-o", "loop,ro", tmp_path / "pulled.img", pulled], check=True)
    try:
        assert (pulled / "a" / "b" / "first").read_bytes() == b"one" * 1000
        assert (pulled / "second").read_bytes() == b"x"
        assert (pulled / "a" / "third").read_bytes() == b"three"
        assert not (pulled / "moving").exists()
    finally:
        subprocess.run(["umount", pulled], check=True)


@pytest.mark.parametrize("name", ["n" * 255, "\N{OPTICAL DISC}" * 63, "x" + "\N{OPTICAL DISC}" * 63, "\udcff" * 255])
def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path, name: str) -> None:
    write_whole_file(tmp_path / name, b"data", replace=False)
    assert os.listdir(tmp_path) == [name]
