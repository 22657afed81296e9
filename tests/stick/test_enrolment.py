"""Which sticks are written to, and who can read what is on them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sneaker.caps import Caps
from sneaker.errors import NetworkKeyMismatch, StickError
from sneaker.stick.enrolment import enrol, trust
from sneaker.stick.stick import Stick
from tests.command_line import sneaker, start
from tests.homes import home
from tests.sticks import Machine, bundles, cards, machines, names, snapshot


def test_unknown_stick_is_left_alone(tmp_path: Path) -> None:
    """Nothing is read from a stick that somebody else made, and nothing written, before a person trusts it."""
    stick = tmp_path / "stick"
    (first, _, stranger) = machines(tmp_path, stick, "ABC")
    first.sync(stick)
    other = Machine(tmp_path, "D")
    before = snapshot(stick)
    with pytest.raises(StickError, match="not known on this machine"):
        other.sync(stick)
    assert other.clock() == {}
    assert snapshot(stick) == before
    other.trust(stick)
    assert other.sync(stick).imported.ingested.accepted == 1
    assert stranger.clock().keys() == {stranger.me}


def test_folder_without_marker_is_no_stick(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "A")
    for path in (tmp_path / "plain", tmp_path / "half"):
        path.mkdir()
    (tmp_path / "half" / "SNEAKER").mkdir()
    for path in (tmp_path / "plain", tmp_path / "half"):
        with pytest.raises(StickError, match="not a sneaker stick"):
            machine.sync(path)
        with pytest.raises(StickError, match="not a sneaker stick"):
            machine.trust(path)
    with pytest.raises(StickError, match="no such folder"):
        machine.sync(tmp_path / "nowhere")
    machine.init(tmp_path / "half")  # a drive init that was interrupted is simply done again
    machine.sync(tmp_path / "half")


def test_two_sticks_are_two_drives(tmp_path: Path) -> None:
    """Label, path and serial do not matter: each marker has an id of its own."""
    first, second = tmp_path / "one" / "STICK", tmp_path / "two" / "STICK"
    for path in (first, second):
        path.mkdir(parents=True)
    machine = Machine(tmp_path, "A")
    machine.publish("hello")
    machine.init(first)
    with home(tmp_path / "B") as other:
        enrol(other, second, "", now_ms=0, random_bytes=os.urandom)
    machine.sync(first)
    with pytest.raises(StickError, match="not known"):
        machine.sync(second)
    with Stick(first) as one, Stick(second) as two:
        assert one.marker() != two.marker()
    with machine.opened() as opened:
        for path in (first, second):
            trust(opened, path, "STICK", now_ms=1)
    for path in (first, second):
        assert machine.sync(path).exported is not None or path == first
    drives = sneaker("drive", "list", "--json", at=machine.path).json["drives"]
    assert [item["label"] for item in drives] == ["STICK", "STICK"]
    assert len({item["id"] for item in drives}) == 2


def test_init_twice_keeps_the_marker(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    (first, _) = machines(tmp_path, stick, "AB")
    before = snapshot(stick)
    other = Machine(tmp_path, "D")
    other.init(stick)
    first.init(stick)
    assert snapshot(stick) == before


def test_another_network(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    machines(tmp_path, stick, "A")
    with home(tmp_path / "other", caps=Caps(bytes(32))) as other:
        from sneaker.stick.enrolment import trust

        with pytest.raises(NetworkKeyMismatch):
            trust(other, stick, "", now_ms=0)


def test_forget_and_trust_again(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    (first, second) = machines(tmp_path, stick, "AB")
    first.sync(stick)
    stick_id = sneaker("drive", "list", "--json", at=first.path).json["drives"][0]["id"]
    before = snapshot(stick)
    sneaker("drive", "forget", stick, at=first.path)
    assert snapshot(stick) == before
    assert sneaker("sync", stick, at=first.path, ok=False).code == 60
    assert sneaker("drive", "forget", stick_id, at=first.path, ok=False).code == 60
    first.trust(stick)
    assert first.sync(stick).complete
    assert second.sync(stick).complete


def test_the_folder_itself_may_be_named(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    (first, second) = machines(tmp_path, stick, "AB")
    first.sync(stick / "SNEAKER")
    (tmp_path / "link").symlink_to(stick)
    assert second.sync(tmp_path / "link" / "SNEAKER").imported.ingested.accepted == 1
    assert not (stick / "SNEAKER" / "SNEAKER").exists()
    # A stick may be mounted at a folder of that name.
    mounted = tmp_path / "media" / "SNEAKER"
    mounted.mkdir(parents=True)
    first.init(mounted)
    assert (mounted / "SNEAKER" / "drive.json").is_file()
    assert first.sync(mounted).complete
    assert first.sync(mounted / "SNEAKER").complete


def test_the_root_of_this_machine_is_no_stick(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "A")
    with pytest.raises(StickError, match="root of this machine"):
        machine.init(Path("/"))
    assert not Path("/SNEAKER").exists()


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    machine = Machine(tmp_path, "A")
    machine.publish("hello")
    before = os.umask(umask)
    try:
        machine.init(stick)
        machine.sync(stick)
    finally:
        os.umask(before)
    for path in (stick / "SNEAKER", bundles(stick), cards(stick)):
        assert path.stat().st_mode & 0o7777 == 0o755
    files = [path for path in stick.rglob("*") if path.is_file()]
    assert len(files) == 4
    assert {path.stat().st_mode & 0o7777 for path in files} == {0o644}


@pytest.mark.root
def test_the_next_machine_has_another_user_id(tmp_path: Path, loop_stick: Path) -> None:
    """On ext4 with root as its owner, a machine that runs as somebody else reads, and adds its own files."""
    loop_stick.chmod(0o777)
    first = Machine(tmp_path, "A")
    first.publish("hello")
    first.init(loop_stick)
    first.sync(loop_stick)
    assert (loop_stick / "SNEAKER").stat().st_mode & 0o7777 == 0o1777

    def visit_as_nobody(name: str) -> str:
        script = (
            "import os, sys; from pathlib import Path; from tests.sticks import Machine\n"
            # Once as root, so that everything is imported that somebody else may not be allowed to read here.
            "root = Path(sys.argv[1] + ' of root'); (root / 'stick').mkdir(parents=True); machine = Machine(root, 'R')\n"
            "machine.publish('hello'); machine.init(root / 'stick'); machine.sync(root / 'stick')\n"
            "machine = Machine(root, 'S'); machine.trust(root / 'stick'); machine.sync(root / 'stick')\n"
            "os.setgroups([]); os.setgid(65534); os.setuid(65534); os.umask(0o077)\n"
            f"stick = Path({str(loop_stick)!r}); machine = Machine(Path(sys.argv[1]), {name!r})\n"
            "machine.publish('from somebody else'); machine.trust(stick); report = machine.sync(stick)\n"
            "print(report.imported.ingested.accepted, report.problems, report.safe_to_remove)"
        )
        folder = tmp_path / f"homes of {name}"
        folder.mkdir()
        os.chown(folder, 65534, 65534)
        for path in (folder.parent, *list(folder.parents)[:-1]):
            path.chmod(path.stat().st_mode | 0o011)
        with start([str(folder)], program=script, stdout=subprocess.PIPE) as running:
            out, _ = running.communicate(timeout=60)
        assert running.returncode == 0
        return out.decode().strip()

    assert visit_as_nobody("B") == "1 [] True"
    assert first.sync(loop_stick).imported.ingested.accepted == 1
    assert len(names(cards(loop_stick))) == 2
    # Where the folder is not open to others, what is there is taken in all the same.
    bundles(loop_stick).chmod(0o755)
    cards(loop_stick).chmod(0o755)
    assert visit_as_nobody("C").startswith("1 ['the stick failed: permission denied']")
