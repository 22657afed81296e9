"""Sticks that fail: at every operation there is, by a real file system that does it on command.

After each failure there is a report and nothing is lost; what stands on the stick under a whole name is whole; and the next
visits go on as if nothing had been.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from sneaker.bundle.card import decode_card
from sneaker.bundle.indexed_file import open_indexed
from sneaker.errors import StickError
from sneaker.stick.visit import VisitReport
from sneaker.store.check import check
from tests.stick.fuse import WRITES, Fault, Mount, mounted
from tests.sticks import Machine, bundles, cards, machines, names, snapshot

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="no /dev/fuse"),
]

# How many operations lie between two that fail: each test begins at another one, so that all of them do in the end.
EACH = pytest.mark.parametrize("stride", [8, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])

# Besides what is common: as when the reader disappears, and a file system that lost its device.
GONE = 0


class Valley:
    """Two machines and a stick, at a moment when everything happens in one visit of A: it takes in, cleans up and leaves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stick = folder / "stick"
        (self.first, self.second) = machines(folder, self.stick, "AB")
        for _ in range(2):
            self.first.sync(self.stick)
            self.second.sync(self.stick)
        self.first.publish("first, left for B")
        self.first.sync(self.stick)
        self.second.publish("second, left for A")
        self.second.sync(self.stick)
        self.first.publish("third")
        self.saved = folder / "saved"
        for name in ("A", "stick"):
            shutil.copytree(folder / name, self.saved / name)
        self.everything = {self.first.me: 3, self.second.me: 2}

    def reset(self) -> None:
        for name in ("A", "stick"):
            shutil.rmtree(self.folder / name)
            shutil.copytree(self.saved / name, self.folder / name)

    def check_whole_names(self) -> None:
        """Whatever has the name of a bundle or card is one, and whole."""
        for path in bundles(self.stick).glob("*.sneaker"):
            with path.open("rb") as file:
                indexed = open_indexed(file)
                assert indexed is not None
                for record in indexed.index.records:
                    indexed.read(record)
        for path in cards(self.stick).glob("*.card"):
            decode_card(path.read_bytes())

    def check_next_visits(self) -> None:
        """The next visits bring everything to everybody, and clean up what was left lying about."""
        assert self.first.sync(self.stick).complete
        with self.copied_second() as second:
            assert second.sync(self.stick).complete
            assert second.clock() == self.everything
        assert self.first.clock() == self.everything
        assert not [name for name in names(bundles(self.stick)) | names(cards(self.stick)) if name.startswith(".")]

    def copied_second(self) -> _Copied:
        return _Copied(self.second)


class _Copied:
    """B as it was, for one visit: its home is put back afterwards."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.saved = machine.path.with_name("saved-B")

    def __enter__(self) -> Machine:
        shutil.copytree(self.machine.path, self.saved)
        return self.machine

    def __exit__(self, *exc: object) -> None:
        shutil.rmtree(self.machine.path)
        self.saved.rename(self.machine.path)


@pytest.fixture
def valley(tmp_path: Path) -> Valley:
    return Valley(tmp_path)


def visit(valley: Valley, *faults: Fault, **limits: int) -> tuple[VisitReport, Mount, list[str]]:
    with mounted(valley.stick, *faults, **limits) as mount:
        report = valley.first.sync(mount.at)
        return report, mount, mount.trace()


def writes_of(trace: list[str]) -> int:
    return sum(line.split(" ")[0] in WRITES for line in trace)


def test_without_faults(valley: Valley) -> None:
    report, _, trace = visit(valley)
    assert report.complete
    assert report.imported.ingested.accepted == 1
    assert report.exported is not None
    assert report.exported.messages == 1
    assert report.removed
    assert 15 < writes_of(trace) < 60
    valley.check_whole_names()
    valley.check_next_visits()


@EACH
@pytest.mark.parametrize("error", [GONE, errno.EIO, errno.EROFS, errno.ENOSPC], ids=["gone", "EIO", "EROFS", "ENOSPC"])
def test_failure_at_every_write(valley: Valley, error: int, stride: int) -> None:
    """Pulled out, broken, suddenly read-only or full at the k-th operation that changes something, for every k."""
    _, _, trace = visit(valley)
    count = writes_of(trace)
    assert count > 15
    ops = tuple(WRITES - {"unlink"}) if error == errno.ENOSPC else tuple(WRITES)
    for nth in range(error % stride, count, stride):
        valley.reset()
        fault = Fault(ops, nth, error, sticky=error in (errno.EIO, errno.EROFS), every=error == errno.ENOSPC)
        report, _, trace = visit(valley, fault)
        assert valley.first.clock() == valley.everything, "what came is kept, whatever happens later"
        if report.complete:
            assert nth >= writes_of(trace) - 8, nth  # names are synced once more at the very end
            continue
        assert report.problems, nth
        if error == GONE:
            assert not report.safe_to_remove
        valley.check_whole_names()
        valley.check_next_visits()


@EACH
def test_read_error_at_every_read(valley: Valley, stride: int) -> None:
    """A block that cannot be read costs what is in it at most, and only until it can be read again."""
    _, _, trace = visit(valley)
    count = sum(line.startswith("read") for line in trace)
    assert count > 5
    for nth in range(0, count, stride):
        valley.reset()
        with mounted(valley.stick, Fault(("read",), nth, errno.EIO)) as mount, suppress(StickError):
            valley.first.sync(mount.at)  # or an error, where the marker itself cannot be read
        valley.check_whole_names()
        valley.check_next_visits()


@EACH
@pytest.mark.parametrize("error", [errno.EIO, GONE], ids=["EIO", "gone"])
def test_nothing_can_be_read_any_more(valley: Valley, error: int, stride: int) -> None:
    _, _, trace = visit(valley)
    count = sum(line.startswith("read") for line in trace)
    for nth in range(1 if error == GONE else 2, count, stride):
        valley.reset()
        with mounted(valley.stick, Fault(("read",), nth, error, sticky=True)) as mount, suppress(StickError):
            report = valley.first.sync(mount.at)  # or an error, where the marker itself cannot be read
            assert not report.complete
        valley.check_whole_names()
        valley.check_next_visits()


def test_folder_that_cannot_be_listed(valley: Valley) -> None:
    for path in ("bundles", "cards"):
        valley.reset()
        report, _, _ = visit(valley, Fault(("readdir", "opendir"), 0, errno.EIO, path, every=True))
        assert report.problems == ["the stick failed: the device reports an error"]
        valley.check_next_visits()


@pytest.mark.parametrize("path", [r"bundles/", r"cards/"])
def test_bytes_that_change_between_two_reads(valley: Valley, path: str) -> None:
    """Each read of a place gives other bytes: nothing of it gets in that was not signed, and nothing crashes."""
    before = snapshot(bundles(valley.stick))
    report, _, _ = visit(valley, Fault(("read",), path=path, change=True))
    with valley.first.opened() as opened:
        assert check(opened.store).clean
    assert all(sequence <= valley.everything[feed] for feed, sequence in valley.first.clock().items())
    if path == r"bundles/":
        assert {source.status for source in report.imported.sources} <= {"refused", "damaged"}
        assert report.imported.sources
        assert report.problems, "what was written is not what is read back"
        assert snapshot(bundles(valley.stick)).items() <= before.items(), "and it got no name"
    valley.check_next_visits()


def test_smaller_than_it_says(valley: Valley) -> None:
    """A fake stick takes everything and keeps some of it: that is found out before the file gets its name."""
    for capacity in (0, 100, 1000):
        valley.reset()
        before = snapshot(bundles(valley.stick))
        report, _, _ = visit(valley, capacity=capacity)
        assert any("gives back other bytes than were written" in problem for problem in report.problems)
        assert not report.complete
        assert snapshot(bundles(valley.stick)).items() <= before.items()
        valley.check_whole_names()
        valley.check_next_visits()


def test_full_although_there_seems_to_be_room(valley: Valley) -> None:
    """The file system says that there is room, and then there is none: a part goes there, and the report says which."""
    valley.first.publish(*(os.urandom(3000).hex() for _ in range(100)))
    lacked = 101
    with mounted(valley.stick, room=200_000) as mount:
        report = valley.first.sync(mount.at)
    assert report.exported is not None
    sent = report.exported.messages
    assert 0 < sent < 80
    assert sum(item.messages for item in report.exported.left) == lacked - sent
    assert report.safe_to_remove
    valley.check_whole_names()
    with mounted(valley.stick, room=10_000) as mount:
        report = valley.first.sync(mount.at)
    assert report.problems == [f"the stick is full: {lacked - sent} messages were not put on it"]
    assert report.exported is not None
    assert sum(item.messages for item in report.exported.left) == lacked - sent
    valley.everything[valley.first.me] += 100
    valley.check_next_visits()
