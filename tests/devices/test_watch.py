"""The watcher's decisions, with devices that exist only in the test; tests/devices/test_udev.py has real ones."""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from sneaker.devices.device import MountedDevice
from sneaker.devices.events import (
    StickRemoved,
    Trouble,
    UnknownStick,
    VisitDone,
    VisitFailed,
    VisitStarted,
    VisitSummary,
)
from sneaker.devices.udev import BlockDevice
from sneaker.devices.watch import Watcher
from sneaker.errors import NetworkKeyMismatch, StickError, StoreLocked
from tests.devices.fakes import QUICK, FakeDevices, FileVisitor, Running, Told, make_mounted_device


def stick(folder: Path, name: str = "a", *, enrolled: bool = True) -> Path:
    mount_point = folder / name
    (mount_point / "SNEAKER").mkdir(parents=True)
    if enrolled:
        (mount_point / "SNEAKER" / "enrolled").touch()
    return mount_point


def test_a_drive_that_comes_is_visited_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        told, devices, visitor = Told(), FakeDevices(), FileVisitor()
        async with Running(Watcher(visitor, devices, told, settings=QUICK)) as watcher:
            devices.there.append(make_mounted_device(stick(tmp_path)))
            watcher.look()
            (done,) = await told.wait(VisitDone)
            assert isinstance(done, VisitDone)
            assert done.summary.words == "0 in, 1 out"
            for _ in range(20):
                watcher.look()
                await asyncio.sleep(0.01)
            assert len(visitor.visits) == 1
            devices.there.clear()
            watcher.look()
            (removed,) = await told.wait(StickRemoved)
            assert removed == StickRemoved(done.device, during_visit=False)
            devices.there.append(replace(done.device, sequence=2))
            watcher.look()
            await told.wait(VisitDone, 2)
        assert [type(event) for event in told] == [VisitStarted, VisitDone, StickRemoved, VisitStarted, VisitDone]

    asyncio.run(scenario())


def test_what_is_plugged_in_at_the_start_is_visited(tmp_path: Path) -> None:
    async def scenario() -> None:
        told = Told()
        devices = FakeDevices([make_mounted_device(stick(tmp_path))])
        async with Running(Watcher(FileVisitor(), devices, told, settings=QUICK)):
            await told.wait(VisitDone)

    asyncio.run(scenario())


def test_unknown_sticks_are_announced_and_others_are_not_even_that(tmp_path: Path) -> None:
    unknown = stick(tmp_path, "unknown", enrolled=False)
    (tmp_path / "photos").mkdir()

    async def scenario() -> None:
        told, visitor = Told(), FileVisitor()
        devices = FakeDevices([make_mounted_device(unknown, 1), make_mounted_device(tmp_path / "photos", 2)])
        async with Running(Watcher(visitor, devices, told, settings=QUICK)) as watcher:
            await told.wait(UnknownStick)
            await asyncio.sleep(0.1)
            devices.there.clear()
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
        first = make_mounted_device(stick(tmp_path))
        devices = FakeDevices([first])
        async with Running(Watcher(visitor, devices, told, settings=QUICK)) as watcher:
            await told.wait(VisitStarted)
            for mount_id in range(101, 104):
                devices.there = [replace(first, mount_id=mount_id)]
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
        devices = FakeDevices([make_mounted_device(stick(tmp_path))])
        async with Running(Watcher(visitor, devices, told, settings=QUICK)):
            await told.wait(VisitDone)
        delays = [event.retry_in_s for event in told.of(VisitFailed) if isinstance(event, VisitFailed)]
        assert delays == [0.02, 0.04, 0.08]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (StickError("no"), 5),
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
        devices = FakeDevices([make_mounted_device(stick(tmp_path))])
        async with Running(Watcher(visitor, devices, told, settings=replace(QUICK, first_retry_s=0.001))):
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
        devices = FakeDevices([make_mounted_device(stick(tmp_path))])
        settings = replace(QUICK, first_retry_s=0.001, longest_retry_s=0.004, removal_grace_s=0)
        async with Running(Watcher(FileVisitor(fail=fail), devices, told, settings=settings)):
            await told.wait(VisitDone)

    asyncio.run(scenario())


def test_pulled_out_during_the_visit(tmp_path: Path) -> None:
    """One event says so; there is no failure and no retry, and the next insert is visited."""
    devices = FakeDevices()

    def fail(mount_point: Path, number: int) -> None:
        if number == 1:
            devices.there.clear()
            raise OSError(errno.EIO, "Input/output error")

    async def scenario() -> None:
        told, visitor = Told(), FileVisitor(fail=fail)
        device = make_mounted_device(stick(tmp_path))
        async with Running(Watcher(visitor, devices, told, settings=QUICK)) as watcher:
            devices.there.append(device)
            watcher.look()
            await told.wait(StickRemoved)
            await asyncio.sleep(0.05)
            devices.there.append(replace(device, sequence=2))
            watcher.look()
            await told.wait(VisitDone)
        assert [type(event) for event in told] == [VisitStarted, StickRemoved, VisitStarted, VisitDone]
        assert told[1] == StickRemoved(device, during_visit=True)

    asyncio.run(scenario())


def test_pulled_out_before_the_next_attempt(tmp_path: Path) -> None:
    """A kernel that is slow to notice: the failure is told first, and then that it was pulled out too early."""

    def fail(mount_point: Path, number: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async def scenario() -> None:
        told = Told()
        devices = FakeDevices([make_mounted_device(stick(tmp_path))])
        settings = replace(QUICK, first_retry_s=30)
        async with Running(Watcher(FileVisitor(fail=fail), devices, told, settings=settings)) as watcher:
            await told.wait(VisitFailed)
            devices.there.clear()
            watcher.look()
            (removed,) = await told.wait(StickRemoved)
            assert isinstance(removed, StickRemoved)
            assert removed.during_visit

    asyncio.run(scenario())


@pytest.mark.parametrize("pulled", [False, True])
def test_a_visit_that_ends_badly_without_raising(tmp_path: Path, pulled: bool) -> None:
    """A visit reports what it did until the stick failed; that is no success."""
    devices = FakeDevices()

    class Failing(FileVisitor):
        def visit(self, device: MountedDevice) -> VisitSummary:
            summary = super().visit(device)
            if len(self.visits) > 1:
                return summary
            if pulled:
                devices.there.clear()
            return replace(summary, messages_in=7, safe_to_remove=False, complete=False, words="the stick failed")

    async def scenario() -> None:
        told = Told()
        device = make_mounted_device(stick(tmp_path))
        async with Running(Watcher(Failing(), devices, told, settings=QUICK)) as watcher:
            devices.there.append(device)
            watcher.look()
            if pulled:
                (removed,) = await told.wait(StickRemoved)
                assert isinstance(removed, StickRemoved)
                assert removed.during_visit
                assert removed.summary is not None
                assert removed.summary.messages_in == 7
                return
            await told.wait(VisitDone)
        assert [type(event) for event in told] == [VisitStarted, VisitFailed, VisitStarted, VisitDone]

    asyncio.run(scenario())


def test_a_wobbling_stick_is_not_visited_until_it_stays(tmp_path: Path) -> None:
    async def scenario() -> None:
        told, visitor, devices = Told(), FileVisitor(), FakeDevices()
        device = make_mounted_device(stick(tmp_path))
        async with Running(Watcher(visitor, devices, told, settings=replace(QUICK, settle_s=0.1))) as watcher:
            for sequence in range(5):
                devices.there = [replace(device, sequence=sequence)]
                watcher.look()
                await asyncio.sleep(0.04)
                devices.there = []
                watcher.look()
                await asyncio.sleep(0.04)
            devices.there = [replace(device, sequence=9)]
            watcher.look()
            await told.wait(VisitDone)
        assert len(visitor.visits) == 1

    asyncio.run(scenario())


def test_no_event_at_all_is_healed_by_the_timer(tmp_path: Path) -> None:
    async def scenario() -> None:
        told, devices = Told(), FakeDevices()
        settings = replace(QUICK, heal_s=0.05)
        async with Running(Watcher(FileVisitor(), devices, told, settings=settings)):
            await asyncio.sleep(0.02)
            devices.there.append(make_mounted_device(stick(tmp_path)))
            await told.wait(VisitDone)

    asyncio.run(scenario())


def test_a_hundred_thousand_events_are_a_few_looks(tmp_path: Path) -> None:
    looks = 0

    class Counting(FakeDevices):
        def mounted(self) -> list[MountedDevice]:
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
            visitor.fail = lambda mount_point, number: hanging.wait(seconds) and None  # type: ignore[assignment]
        devices = FakeDevices([make_mounted_device(stick(tmp_path, str(seconds)))])
        running = Running(Watcher(visitor, devices, told, settings=replace(QUICK, stop_grace_s=grace)))
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
        devices = FakeDevices(
            [make_mounted_device(stick(tmp_path, name), n, sequence=n) for n, name in enumerate("abc", 1)]
        )
        await Watcher(FileVisitor(), devices, told, settings=QUICK).once()
        return told

    told = asyncio.run(scenario())
    assert len(told.of(VisitDone)) == 3
    assert [type(event) for event in told] == [VisitStarted, VisitDone] * 3


def test_looking_anew_visits_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        told = Told()
        devices = FakeDevices([make_mounted_device(stick(tmp_path))])
        async with Running(Watcher(FileVisitor(), devices, told, settings=QUICK)) as watcher:
            await told.wait(VisitDone)
            await asyncio.sleep(0.05)
            watcher.look_anew()
            await told.wait(VisitDone, 2)

    asyncio.run(scenario())


# ---------------------------------------------------------------------------------------------------- mounting


@dataclass
class FakeMounter:
    """Mounts what lies in FakeDevices; ``fail`` times it does not work."""

    devices: FakeDevices
    where: dict[int, Path]
    fail: int = 0
    stays_on: bool = False
    #: How long unmounting takes: until all is written.
    release_s: float = 0.0
    mounted: list[int] = field(default_factory=list)
    repaired: list[int] = field(default_factory=list)
    released: list[tuple[int, bool]] = field(default_factory=list)

    def mount(self, device: BlockDevice) -> bool:
        if self.fail:
            self.fail -= 1
            raise StickError("udisks says no")
        if device.number not in self.where:
            return False
        self.mounted.append(device.number)
        self.devices.lying.remove(device)
        self.devices.there.append(
            make_mounted_device(self.where[device.number], device.number, sequence=device.sequence)
        )
        return True

    def release(self, device: MountedDevice, switch_off: bool) -> bool:
        time.sleep(self.release_s)
        self.released.append((device.number, switch_off))
        self.devices.there.remove(device)
        self.devices.lying.append(make_device(device.number, device.sequence))
        return True

    def switch_off(self, device: MountedDevice) -> None:
        if self.stays_on:
            raise StickError("polkit does not let this user do that")

    def repair(self, device: MountedDevice) -> None:
        self.repaired.append(device.number)
        if self.fail:
            raise StickError("udisks cannot repair that")


def make_device(number: int, sequence: int = 1) -> BlockDevice:
    return BlockDevice(f"/dev/sd{number}", number, "vfat", f"uuid-{number}", "STICK", sequence, False)


def test_what_nothing_mounts_is_mounted_visited_and_released_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        told, devices, visitor = Told(), FakeDevices(), FileVisitor()
        (tmp_path / "photos").mkdir()
        mounter = FakeMounter(devices, {1: stick(tmp_path), 2: tmp_path / "photos"})
        async with Running(Watcher(visitor, devices, told, mounter, settings=QUICK)) as watcher:
            devices.lying += [make_device(number, sequence=number) for number in (1, 2, 3)]
            watcher.look()
            (done,) = await told.wait(VisitDone)
            assert isinstance(done, VisitDone)
            assert done.released
            for _ in range(20):
                watcher.look()
                await asyncio.sleep(0.02)
            assert sorted(mounter.mounted) == [1, 2]
            assert sorted(mounter.released) == [(1, True), (2, False)]
            devices.lying = [make_device(1, sequence=4)]
            watcher.look()
            await told.wait(VisitDone, 2)
        assert len(visitor.visits) == 2
        assert not told.of(StickRemoved)

    asyncio.run(scenario())


@pytest.mark.parametrize("release_s", [0.0, 0.3])
def test_a_stick_with_several_partitions_is_done_when_all_are(tmp_path: Path, release_s: float) -> None:
    """Nobody is told to pull it out, and it is not switched off, while another part of it is being synced."""
    second_may_go = threading.Event()
    (tmp_path / "photos").mkdir()
    visitor = FileVisitor()

    def hold(mount_point: Path, number: int) -> None:
        if len(visitor.visits) == 2:  # whichever it is: they are mounted at the same time
            second_may_go.wait(20)

    visitor.fail = hold

    async def scenario() -> None:
        told, devices = Told(), FakeDevices()
        mounter = FakeMounter(
            devices,
            {1: stick(tmp_path, "first"), 2: stick(tmp_path, "second"), 3: tmp_path / "photos"},
            release_s=release_s,
        )
        async with Running(Watcher(visitor, devices, told, mounter, settings=QUICK)) as watcher:
            devices.lying += [make_device(number, sequence=7) for number in (1, 2, 3)]
            watcher.look()
            await told.wait(VisitStarted, 2)
            await asyncio.sleep(0.2)
            assert not told.of(VisitDone)
            second_may_go.set()
            await told.wait(VisitDone, 2)
        assert sorted(number for number, _ in mounter.released) == [1, 2, 3]
        assert [switch_off for _, switch_off in mounter.released] == [False, False, True]
        assert not told.of(StickRemoved)

    asyncio.run(scenario())


def test_a_stick_that_cannot_be_switched_off_may_be_pulled_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        told, devices = Told(), FakeDevices()
        mounter = FakeMounter(devices, {1: stick(tmp_path)}, stays_on=True)
        async with Running(Watcher(FileVisitor(), devices, told, mounter, settings=QUICK)) as watcher:
            devices.lying.append(make_device(1))
            watcher.look()
            (done,) = await told.wait(VisitDone)
        assert isinstance(done, VisitDone)
        assert done.released
        assert [trouble.words for trouble in told.of(Trouble)] == ["polkit does not let this user do that"]

    asyncio.run(scenario())


def test_what_a_person_unmounts_stays_unmounted(tmp_path: Path) -> None:
    async def scenario() -> None:
        devices, told = FakeDevices([make_mounted_device(stick(tmp_path), 1)]), Told()
        mounter = FakeMounter(devices, {1: tmp_path / "a"})
        mounter.release = lambda device, switch_off: False  # type: ignore[method-assign]
        async with Running(Watcher(FileVisitor(), devices, told, mounter, settings=QUICK)) as watcher:
            await told.wait(VisitDone)
            devices.there, devices.lying = [], [make_device(1)]
            watcher.look()
            await asyncio.sleep(0.2)
            assert not mounter.mounted

    asyncio.run(scenario())


def test_what_the_desktop_mounts_is_left_to_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        devices, told = FakeDevices(lying=[make_device(1)]), Told()
        mounter = FakeMounter(devices, {1: tmp_path / "a"})
        async with Running(
            Watcher(FileVisitor(), devices, told, mounter, settings=replace(QUICK, mount_grace_s=0.2))
        ) as w:
            await asyncio.sleep(0.05)
            devices.lying, devices.there = [], [make_mounted_device(stick(tmp_path), 1)]
            w.look()
            await told.wait(VisitDone)
            await asyncio.sleep(0.3)
            assert not mounter.mounted

    asyncio.run(scenario())


def test_mounting_is_tried_again_and_then_said(tmp_path: Path) -> None:
    async def scenario() -> None:
        devices, told = FakeDevices(lying=[make_device(1)]), Told()
        mounter = FakeMounter(devices, {1: stick(tmp_path)}, fail=2)
        async with Running(Watcher(FileVisitor(), devices, told, mounter, settings=QUICK)):
            await told.wait(VisitDone)
        devices, told = FakeDevices(lying=[make_device(1)]), Told()
        mounter = FakeMounter(devices, {}, fail=99)
        async with Running(Watcher(FileVisitor(), devices, told, mounter, settings=QUICK)):
            assert await told.wait(Trouble) == [Trouble("/dev/sd1", "udisks says no")]

    asyncio.run(scenario())


@pytest.mark.parametrize(("fail", "breaks"), [(0, 1), (0, 9), (1, 9)])
def test_a_damaged_file_system_is_repaired_once_and_visited_anew(tmp_path: Path, fail: int, breaks: int) -> None:
    class Breaking(FileVisitor):
        def visit(self, device: MountedDevice) -> VisitSummary:
            summary = super().visit(device)
            return replace(summary, complete=False, damaged=True) if len(self.visits) <= breaks else summary

    async def scenario() -> None:
        told, devices, visitor = Told(), FakeDevices(), Breaking()
        mounter = FakeMounter(devices, {1: stick(tmp_path)})
        async with Running(Watcher(visitor, devices, told, mounter, settings=QUICK)) as watcher:
            devices.lying.append(make_device(1))
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

    class Devices(FakeDevices):
        def mounted(self) -> list[MountedDevice]:
            if broken[0]:
                raise OverflowError("a number in the mount table")
            return super().mounted()

    def fail(path: Path, _: int) -> None:
        if path == bad:
            raise RecursionError("deep")

    async def scenario() -> None:
        told, visitor = Told(), FileVisitor(fail=fail)
        devices = Devices([make_mounted_device(bad, 1), make_mounted_device(good, 2, sequence=2)])
        async with Running(Watcher(visitor, devices, told, settings=QUICK)) as watcher:
            (trouble,) = await told.wait(Trouble)
            assert isinstance(trouble, Trouble)
            assert trouble.words.startswith("this is a bug in sneaker, please report it: OverflowError")
            broken[0] = False
            watcher.look()
            (done,) = await told.wait(VisitDone)
            (failed,) = await told.wait(VisitFailed)
            assert isinstance(done, VisitDone)
            assert done.device.mount_point == good
            assert isinstance(failed, VisitFailed)
            assert failed.device.mount_point == bad
            assert failed.retry_in_s is None

    asyncio.run(scenario())


def test_a_bug_in_mounting_is_said_and_ends_nothing(tmp_path: Path) -> None:
    class Mounter:
        def mount(self, device: BlockDevice) -> bool:
            raise KeyError(device.node)

        def release(self, device: MountedDevice, switch_off: bool) -> bool:
            raise AssertionError

        def switch_off(self, device: MountedDevice) -> None:
            raise AssertionError

        def repair(self, device: MountedDevice) -> None:
            raise AssertionError

    async def scenario() -> None:
        told, devices = Told(), FakeDevices(lying=[BlockDevice("/dev/sdb1", 0x811, "vfat", None, None, 7, False)])
        async with Running(Watcher(FileVisitor(), devices, told, Mounter(), settings=QUICK)) as watcher:
            (trouble,) = await told.wait(Trouble)
            assert isinstance(trouble, Trouble)
            assert "this is a bug in sneaker, please report it: KeyError" in trouble.words
            devices.there.append(make_mounted_device(stick(tmp_path)))
            watcher.look()
            await told.wait(VisitDone)

    asyncio.run(scenario())
