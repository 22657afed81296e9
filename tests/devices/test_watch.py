"""The watcher's decisions, with drives that exist only in the test; tests/devices/test_udev.py has real ones."""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from sneaker.devices.device import MountedDrive
from sneaker.devices.events import (
    DriveRemoved,
    Trouble,
    UnknownStick,
    VisitDone,
    VisitFailed,
    VisitStarted,
    VisitSummary,
)
from sneaker.devices.udev import BlockDevice
from sneaker.devices.watch import Watcher
from sneaker.errors import DriveError, NetworkKeyMismatch, StoreLocked
from tests.devices.fakes import QUICK, FakeDrives, FileVisitor, Running, Told, make_drive


def stick(folder: Path, name: str = "a", *, enrolled: bool = True) -> Path:
    mount_point = folder / name
    (mount_point / "SNEAKER").mkdir(parents=True)
    if enrolled:
        (mount_point / "SNEAKER" / "enrolled").touch()
    return mount_point


def test_a_drive_that_comes_is_visited_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        told, drives, visitor = Told(), FakeDrives(), FileVisitor()
        async with Running(Watcher(visitor, drives, told, settings=QUICK)) as watcher:
            drives.there.append(make_drive(stick(tmp_path)))
            watcher.look()
            (done,) = await told.wait(VisitDone)
            assert isinstance(done, VisitDone)
            assert done.summary.words == "0 in, 1 out"
            for _ in range(20):
                watcher.look()
                await asyncio.sleep(0.01)
            assert len(visitor.visits) == 1
            drives.there.clear()
            watcher.look()
            (removed,) = await told.wait(DriveRemoved)
            assert removed == DriveRemoved(done.drive, during_visit=False)
            drives.there.append(replace(done.drive, sequence=2))
            watcher.look()
            await told.wait(VisitDone, 2)
        assert [type(event) for event in told] == [VisitStarted, VisitDone, DriveRemoved, VisitStarted, VisitDone]

    asyncio.run(scenario())


def test_what_is_plugged_in_at_the_start_is_visited(tmp_path: Path) -> None:
    async def scenario() -> None:
        told = Told()
        drives = FakeDrives([make_drive(stick(tmp_path))])
        async with Running(Watcher(FileVisitor(), drives, told, settings=QUICK)):
            await told.wait(VisitDone)

    asyncio.run(scenario())


def test_unknown_sticks_are_announced_and_others_are_not_even_that(tmp_path: Path) -> None:
    unknown = stick(tmp_path, "unknown", enrolled=False)
    (tmp_path / "photos").mkdir()

    async def scenario() -> None:
        told, visitor = Told(), FileVisitor()
        drives = FakeDrives([make_drive(unknown, 1), make_drive(tmp_path / "photos", 2)])
        async with Running(Watcher(visitor, drives, told, settings=QUICK)) as watcher:
            await told.wait(UnknownStick)
            await asyncio.sleep(0.1)
            drives.there.clear()
            watcher.look()
            await asyncio.sleep(0.1)
        assert [type(event) for event in told] == [UnknownStick]
        assert not visitor.visits

    asyncio.run(scenario())
    assert list((unknown / "SNEAKER").iterdir()) == []
    assert list((tmp_path / "photos").iterdir()) == []


def test_never_two_visits_at_once_on_a_filesystem(tmp_path: Path) -> None:
    """Even if the same filesystem shows up again under another mount while a visit still runs."""

    async def scenario() -> None:
        told, visitor = Told(), FileVisitor(seconds=0.1)
        first = make_drive(stick(tmp_path))
        drives = FakeDrives([first])
        async with Running(Watcher(visitor, drives, told, settings=QUICK)) as watcher:
            await told.wait(VisitStarted)
            for mount_id in range(101, 104):
                drives.there = [replace(first, mount_id=mount_id)]
                watcher.look()
                await asyncio.sleep(0.02)
            await told.wait(VisitDone, 2)
            await asyncio.sleep(0.3)
        assert visitor.most_at_once == 1
        assert len(told.of(VisitDone)) == 2  # those that were gone before their turn are not visited

    asyncio.run(scenario())


def test_a_failed_visit_is_tried_again_ever_more_slowly(tmp_path: Path) -> None:
    def fail(mount_point: Path, number: int) -> None:
        if number < 4:
            raise OSError(errno.EIO, "Input/output error")

    async def scenario() -> None:
        told, visitor = Told(), FileVisitor(fail=fail)
        drives = FakeDrives([make_drive(stick(tmp_path))])
        async with Running(Watcher(visitor, drives, told, settings=QUICK)):
            await told.wait(VisitDone)
        delays = [event.retry_in_s for event in told.of(VisitFailed) if isinstance(event, VisitFailed)]
        assert delays == [0.02, 0.04, 0.08]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (DriveError("no"), 5),
        (OSError(errno.EIO, "no"), 5),
        (NetworkKeyMismatch("no"), 1),
        (ZeroDivisionError("a bug"), 1),
    ],
)
def test_it_gives_up(tmp_path: Path, error: Exception, attempts: int) -> None:
    def fail(mount_point: Path, number: int) -> None:
        raise error

    async def scenario() -> None:
        told, visitor = Told(), FileVisitor(fail=fail)
        drives = FakeDrives([make_drive(stick(tmp_path))])
        async with Running(Watcher(visitor, drives, told, settings=replace(QUICK, first_retry_s=0.001))):
            failed = await told.wait(VisitFailed, attempts)
            await asyncio.sleep(0.1)
        last = failed[-1]
        assert isinstance(last, VisitFailed)
        assert last.retry_in_s is None
        assert last.error is error
        assert len(visitor.visits) == attempts

    asyncio.run(scenario())


def test_it_waits_for_a_locked_store_as_long_as_it_takes(tmp_path: Path) -> None:
    def fail(mount_point: Path, number: int) -> None:
        if number < 12:
            raise StoreLocked("another sneaker is writing")

    async def scenario() -> None:
        told = Told()
        drives = FakeDrives([make_drive(stick(tmp_path))])
        settings = replace(QUICK, first_retry_s=0.001, longest_retry_s=0.004, removal_grace_s=0)
        async with Running(Watcher(FileVisitor(fail=fail), drives, told, settings=settings)):
            await told.wait(VisitDone)

    asyncio.run(scenario())


def test_pulled_out_during_the_visit(tmp_path: Path) -> None:
    """One event says so; there is no failure and no retry, and the next insert is visited."""
    drives = FakeDrives()

    def fail(mount_point: Path, number: int) -> None:
        if number == 1:
            drives.there.clear()
            raise OSError(errno.EIO, "Input/output error")

    async def scenario() -> None:
        told, visitor = Told(), FileVisitor(fail=fail)
        drive = make_drive(stick(tmp_path))
        async with Running(Watcher(visitor, drives, told, settings=QUICK)) as watcher:
            drives.there.append(drive)
            watcher.look()
            await told.wait(DriveRemoved)
            await asyncio.sleep(0.05)
            drives.there.append(replace(drive, sequence=2))
            watcher.look()
            await told.wait(VisitDone)
        assert [type(event) for event in told] == [VisitStarted, DriveRemoved, VisitStarted, VisitDone]
        assert told[1] == DriveRemoved(drive, during_visit=True)

    asyncio.run(scenario())


def test_pulled_out_before_the_next_attempt(tmp_path: Path) -> None:
    """A kernel that is slow to notice: the failure is told first, and then that it was pulled out too early."""

    def fail(mount_point: Path, number: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async def scenario() -> None:
        told = Told()
        drives = FakeDrives([make_drive(stick(tmp_path))])
        settings = replace(QUICK, first_retry_s=30)
        async with Running(Watcher(FileVisitor(fail=fail), drives, told, settings=settings)) as watcher:
            await told.wait(VisitFailed)
            drives.there.clear()
            watcher.look()
            (removed,) = await told.wait(DriveRemoved)
            assert isinstance(removed, DriveRemoved)
            assert removed.during_visit

    asyncio.run(scenario())


@pytest.mark.parametrize("pulled", [False, True])
def test_a_visit_that_ends_badly_without_raising(tmp_path: Path, pulled: bool) -> None:
    """A visit reports what it did until the stick failed; that is no success."""
    drives = FakeDrives()

    class Failing(FileVisitor):
        def visit(self, drive: MountedDrive) -> VisitSummary:
            summary = super().visit(drive)
            if len(self.visits) > 1:
                return summary
            if pulled:
                drives.there.clear()
            return replace(summary, messages_in=7, safe_to_remove=False, complete=False, words="the stick failed")

    async def scenario() -> None:
        told = Told()
        drive = make_drive(stick(tmp_path))
        async with Running(Watcher(Failing(), drives, told, settings=QUICK)) as watcher:
            drives.there.append(drive)
            watcher.look()
            if pulled:
                (removed,) = await told.wait(DriveRemoved)
                assert isinstance(removed, DriveRemoved)
                assert removed.during_visit
                assert removed.summary is not None
                assert removed.summary.messages_in == 7
                return
            await told.wait(VisitDone)
        assert [type(event) for event in told] == [VisitStarted, VisitFailed, VisitStarted, VisitDone]

    asyncio.run(scenario())


def test_a_wobbling_stick_is_not_visited_until_it_stays(tmp_path: Path) -> None:
    async def scenario() -> None:
        told, visitor, drives = Told(), FileVisitor(), FakeDrives()
        drive = make_drive(stick(tmp_path))
        async with Running(Watcher(visitor, drives, told, settings=replace(QUICK, settle_s=0.1))) as watcher:
            for sequence in range(5):
                drives.there = [replace(drive, sequence=sequence)]
                watcher.look()
                await asyncio.sleep(0.04)
                drives.there = []
                watcher.look()
                await asyncio.sleep(0.04)
            drives.there = [replace(drive, sequence=9)]
            watcher.look()
            await told.wait(VisitDone)
        assert len(visitor.visits) == 1

    asyncio.run(scenario())


def test_no_event_at_all_is_healed_by_the_timer(tmp_path: Path) -> None:
    async def scenario() -> None:
        told, drives = Told(), FakeDrives()
        settings = replace(QUICK, heal_s=0.05)
        async with Running(Watcher(FileVisitor(), drives, told, settings=settings)):
            await asyncio.sleep(0.02)
            drives.there.append(make_drive(stick(tmp_path)))
            await told.wait(VisitDone)

    asyncio.run(scenario())


def test_a_hundred_thousand_events_are_a_few_looks(tmp_path: Path) -> None:
    looks = 0

    class Counting(FakeDrives):
        def mounted(self) -> list[MountedDrive]:
            nonlocal looks
            looks += 1
            return super().mounted()

    async def scenario() -> None:
        async with Running(
            Watcher(FileVisitor(), Counting(), Told(), settings=replace(QUICK, look_interval_s=0.05))
        ) as w:
            for number in range(100_000):
                w.look()
                if number % 1000 == 0:
                    await asyncio.sleep(0)
            await asyncio.sleep(0.1)

    started = time.monotonic()
    asyncio.run(scenario())
    assert looks <= 3 + (time.monotonic() - started) / 0.05


def test_stopping_waits_for_the_visit_but_not_for_one_that_hangs(tmp_path: Path) -> None:
    hanging = threading.Event()

    async def scenario(seconds: float, grace: float) -> tuple[float, int]:
        told, visitor = Told(), FileVisitor(seconds=seconds)
        if seconds > 10:
            visitor.fail = lambda mount_point, number: hanging.wait(seconds) and None
        drives = FakeDrives([make_drive(stick(tmp_path, str(seconds)))])
        running = Running(Watcher(visitor, drives, told, settings=replace(QUICK, stop_grace_s=grace)))
        async with running:
            await told.wait(VisitStarted)
            started = time.monotonic()
        return time.monotonic() - started, len(told.of(VisitDone))

    took, done = asyncio.run(scenario(0.3, 5))
    assert (took < 2, done) == (True, 1)
    took, done = asyncio.run(scenario(60, 0.2))
    assert (took < 2, done) == (True, 0)
    hanging.set()


def test_once_attends_to_what_is_there_and_returns(tmp_path: Path) -> None:
    async def scenario() -> Told:
        told = Told()
        drives = FakeDrives([make_drive(stick(tmp_path, name), n, sequence=n) for n, name in enumerate("abc", 1)])
        await Watcher(FileVisitor(), drives, told, settings=QUICK).once()
        return told

    told = asyncio.run(scenario())
    assert len(told.of(VisitDone)) == 3
    assert [type(event) for event in told] == [VisitStarted, VisitDone] * 3


def test_looking_anew_visits_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        told = Told()
        drives = FakeDrives([make_drive(stick(tmp_path))])
        async with Running(Watcher(FileVisitor(), drives, told, settings=QUICK)) as watcher:
            await told.wait(VisitDone)
            await asyncio.sleep(0.05)
            watcher.look_anew()
            await told.wait(VisitDone, 2)

    asyncio.run(scenario())


# ---------------------------------------------------------------------------------------------------- mounting


@dataclass
class FakeMounter:
    """Mounts what lies in FakeDrives; ``fail`` times it does not work."""

    drives: FakeDrives
    where: dict[int, Path]
    fail: int = 0
    stays_on: bool = False
    mounted: list[int] = field(default_factory=list)
    repaired: list[int] = field(default_factory=list)
    released: list[tuple[int, bool]] = field(default_factory=list)

    def mount(self, device: BlockDevice) -> bool:
        if self.fail:
            self.fail -= 1
            raise DriveError("udisks says no")
        if device.number not in self.where:
            return False
        self.mounted.append(device.number)
        self.drives.lying.remove(device)
        self.drives.there.append(make_drive(self.where[device.number], device.number, sequence=device.sequence))
        return True

    def release(self, drive: MountedDrive, switch_off: bool) -> bool:
        self.released.append((drive.number, switch_off))
        self.drives.there.remove(drive)
        self.drives.lying.append(make_device(drive.number, drive.sequence))
        return True

    def switch_off(self, drive: MountedDrive) -> None:
        if self.stays_on:
            raise DriveError("polkit does not let this user do that")

    def repair(self, drive: MountedDrive) -> None:
        self.repaired.append(drive.number)
        if self.fail:
            raise DriveError("udisks cannot repair that")


def make_device(number: int, sequence: int = 1) -> BlockDevice:
    return BlockDevice(f"/dev/sd{number}", number, "vfat", f"uuid-{number}", "STICK", sequence, False)


def test_what_nothing_mounts_is_mounted_visited_and_released_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        told, drives, visitor = Told(), FakeDrives(), FileVisitor()
        (tmp_path / "photos").mkdir()
        mounter = FakeMounter(drives, {1: stick(tmp_path), 2: tmp_path / "photos"})
        async with Running(Watcher(visitor, drives, told, mounter, settings=QUICK)) as watcher:
            drives.lying += [make_device(number, sequence=number) for number in (1, 2, 3)]
            watcher.look()
            (done,) = await told.wait(VisitDone)
            assert isinstance(done, VisitDone)
            assert done.released
            for _ in range(20):
                watcher.look()
                await asyncio.sleep(0.02)
            assert sorted(mounter.mounted) == [1, 2]
            assert sorted(mounter.released) == [(1, True), (2, False)]
            drives.lying = [make_device(1, sequence=4)]
            watcher.look()
            await told.wait(VisitDone, 2)
        assert len(visitor.visits) == 2
        assert not told.of(DriveRemoved)

    asyncio.run(scenario())


def test_a_stick_with_several_partitions_is_done_when_all_are(tmp_path: Path) -> None:
    """Nobody is told to pull it out, and it is not switched off, while another part of it is being synced."""
    second_may_go = threading.Event()
    (tmp_path / "photos").mkdir()
    visitor = FileVisitor()

    def hold(mount_point: Path, number: int) -> None:
        if len(visitor.visits) == 2:  # whichever it is: they are mounted at the same time
            second_may_go.wait(20)

    visitor.fail = hold

    async def scenario() -> None:
        told, drives = Told(), FakeDrives()
        mounter = FakeMounter(
            drives, {1: stick(tmp_path, "first"), 2: stick(tmp_path, "second"), 3: tmp_path / "photos"}
        )
        async with Running(Watcher(visitor, drives, told, mounter, settings=QUICK)) as watcher:
            drives.lying += [make_device(number, sequence=7) for number in (1, 2, 3)]
            watcher.look()
            await told.wait(VisitStarted, 2)
            await asyncio.sleep(0.2)
            assert not told.of(VisitDone)
            second_may_go.set()
            await told.wait(VisitDone, 2)
        assert sorted(number for number, _ in mounter.released) == [1, 2, 3]
        assert [switch_off for _, switch_off in mounter.released] == [False, False, True]
        assert not told.of(DriveRemoved)

    asyncio.run(scenario())


def test_a_stick_that_cannot_be_switched_off_may_be_pulled_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        told, drives = Told(), FakeDrives()
        mounter = FakeMounter(drives, {1: stick(tmp_path)}, stays_on=True)
        async with Running(Watcher(FileVisitor(), drives, told, mounter, settings=QUICK)) as watcher:
            drives.lying.append(make_device(1))
            watcher.look()
            (done,) = await told.wait(VisitDone)
        assert isinstance(done, VisitDone)
        assert done.released
        assert [trouble.words for trouble in told.of(Trouble)] == ["polkit does not let this user do that"]

    asyncio.run(scenario())


def test_what_a_person_unmounts_stays_unmounted(tmp_path: Path) -> None:
    async def scenario() -> None:
        drives, told = FakeDrives([make_drive(stick(tmp_path), 1)]), Told()
        mounter = FakeMounter(drives, {1: tmp_path / "a"})
        mounter.release = lambda drive, switch_off: False  # type: ignore[method-assign]
        async with Running(Watcher(FileVisitor(), drives, told, mounter, settings=QUICK)) as watcher:
            await told.wait(VisitDone)
            drives.there, drives.lying = [], [make_device(1)]
            watcher.look()
            await asyncio.sleep(0.2)
            assert not mounter.mounted

    asyncio.run(scenario())


def test_what_the_desktop_mounts_is_left_to_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        drives, told = FakeDrives(lying=[make_device(1)]), Told()
        mounter = FakeMounter(drives, {1: tmp_path / "a"})
        async with Running(
            Watcher(FileVisitor(), drives, told, mounter, settings=replace(QUICK, mount_grace_s=0.2))
        ) as w:
            await asyncio.sleep(0.05)
            drives.lying, drives.there = [], [make_drive(stick(tmp_path), 1)]
            w.look()
            await told.wait(VisitDone)
            await asyncio.sleep(0.3)
            assert not mounter.mounted

    asyncio.run(scenario())


def test_mounting_is_tried_again_and_then_said(tmp_path: Path) -> None:
    async def scenario() -> None:
        drives, told = FakeDrives(lying=[make_device(1)]), Told()
        mounter = FakeMounter(drives, {1: stick(tmp_path)}, fail=2)
        async with Running(Watcher(FileVisitor(), drives, told, mounter, settings=QUICK)):
            await told.wait(VisitDone)
        drives, told = FakeDrives(lying=[make_device(1)]), Told()
        mounter = FakeMounter(drives, {}, fail=99)
        async with Running(Watcher(FileVisitor(), drives, told, mounter, settings=QUICK)):
            assert await told.wait(Trouble) == [Trouble("/dev/sd1", "udisks says no")]

    asyncio.run(scenario())


@pytest.mark.parametrize(("fail", "breaks"), [(0, 1), (0, 9), (1, 9)])
def test_a_damaged_file_system_is_repaired_once_and_visited_anew(tmp_path: Path, fail: int, breaks: int) -> None:
    class Breaking(FileVisitor):
        def visit(self, drive: MountedDrive) -> VisitSummary:
            summary = super().visit(drive)
            return replace(summary, complete=False, damaged=True) if len(self.visits) <= breaks else summary

    async def scenario() -> None:
        told, drives, visitor = Told(), FakeDrives(), Breaking()
        mounter = FakeMounter(drives, {1: stick(tmp_path)})
        async with Running(Watcher(visitor, drives, told, mounter, settings=QUICK)) as watcher:
            drives.lying.append(make_device(1))
            watcher.look()
            await told.wait(VisitStarted)
            mounter.fail = fail
            (done,) = await told.wait(VisitDone)
            await asyncio.sleep(0.1)
        assert isinstance(done, VisitDone)
        assert done.summary.complete == (breaks == 1)
        assert mounter.repaired == [1]
        assert len(visitor.visits) == (1 if fail else 2)
        assert len(told.of(VisitDone)) == 1

    asyncio.run(scenario())


def test_a_bug_in_looking_or_in_one_visit_ends_nothing(tmp_path: Path) -> None:
    good, bad = stick(tmp_path, "good"), stick(tmp_path, "bad")
    broken = [True]

    class Drives(FakeDrives):
        def mounted(self) -> list[MountedDrive]:
            if broken[0]:
                raise OverflowError("a number in the mount table")
            return super().mounted()

    def fail(path: Path, _: int) -> None:
        if path == bad:
            raise RecursionError("deep")

    async def scenario() -> None:
        told, visitor = Told(), FileVisitor(fail=fail)
        drives = Drives([make_drive(bad, 1), make_drive(good, 2, sequence=2)])
        async with Running(Watcher(visitor, drives, told, settings=QUICK)) as watcher:
            (trouble,) = await told.wait(Trouble)
            assert isinstance(trouble, Trouble)
            assert trouble.words.startswith("this is a bug in sneaker, please report it: OverflowError")
            broken[0] = False
            watcher.look()
            (done,) = await told.wait(VisitDone)
            (failed,) = await told.wait(VisitFailed)
            assert isinstance(done, VisitDone)
            assert done.drive.mount_point == good
            assert isinstance(failed, VisitFailed)
            assert failed.drive.mount_point == bad
            assert failed.retry_in_s is None

    asyncio.run(scenario())


def test_a_bug_in_mounting_is_said_and_ends_nothing(tmp_path: Path) -> None:
    class Mounter:
        def mount(self, device: BlockDevice) -> bool:
            raise KeyError(device.node)

        def release(self, drive: MountedDrive, switch_off: bool) -> bool:
            raise AssertionError

        def switch_off(self, drive: MountedDrive) -> None:
            raise AssertionError

        def repair(self, drive: MountedDrive) -> None:
            raise AssertionError

    async def scenario() -> None:
        told, drives = Told(), FakeDrives(lying=[BlockDevice("/dev/sdb1", 0x811, "vfat", None, None, 7, False)])
        async with Running(Watcher(FileVisitor(), drives, told, Mounter(), settings=QUICK)) as watcher:
            (trouble,) = await told.wait(Trouble)
            assert isinstance(trouble, Trouble)
            assert "this is a bug in sneaker, please report it: KeyError" in trouble.words
            drives.there.append(make_drive(stick(tmp_path)))
            watcher.look()
            await told.wait(VisitDone)

    asyncio.run(scenario())
