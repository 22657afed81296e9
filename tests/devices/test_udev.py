"""Real udev, real loop devices, real mounts: insert, visit, report."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sneaker.devices.device import SystemDevices
from sneaker.devices.events import (
    StickRemoved,
    UnknownStick,
    VisitDone,
    VisitFailed,
    VisitStarted,
)
from sneaker.devices.udev import UdevWatch, block_device, block_devices
from sneaker.devices.watch import Watcher, WatchSettings
from tests.devices.fakes import FileVisitor, Running, Told
from tests.devices.loop import LoopStick, make_image, run, udev_daemon
from tests.tries import amount

pytestmark = [pytest.mark.udev, pytest.mark.timeout(90)]

MakeStick = Callable[..., LoopStick]

# Settles and looks sooner than is good for a hub full of sticks.
QUICK = WatchSettings(settle_s=0.05, look_interval_s=0.05)
# How many uevents make a storm.
EVENTS = amount(quick=300, thorough=3000)


@pytest.fixture(scope="module", autouse=True)
def _udev() -> Iterator[None]:
    with udev_daemon():
        yield


@pytest.fixture
def make_stick(tmp_path: Path) -> Iterator[MakeStick]:
    sticks = []

    def make(name: str = "a", *, folder: bool = True, enrolled: bool = True) -> LoopStick:
        stick = LoopStick(make_image(tmp_path / f"{name}.img", label=name.upper()), tmp_path / name)
        sticks.append(stick)
        stick.plug_in()
        stick.mount()
        if folder:
            (stick.mount_point / "SNEAKER").mkdir()
        if enrolled:
            (stick.mount_point / "SNEAKER" / "enrolled").touch()
        stick.unmount()
        stick.pull_out()
        return stick

    try:
        yield make
    finally:
        for stick in sticks:
            stick.clean_up()


def watcher(visitor: FileVisitor, told: Told, tmp_path: Path, settings: WatchSettings | None = None) -> Watcher:
    class Here(SystemDevices):
        """Only this test's devices: other tests plug in theirs at the same time."""

        def mounted(self):  # type: ignore[no-untyped-def]
            return [device for device in SystemDevices.mounted(self) if device.mount_point.is_relative_to(tmp_path)]

    return Watcher(visitor, Here(), told, settings=settings or QUICK)


async def in_thread(function: Callable[..., object], *arguments: object) -> None:
    await asyncio.to_thread(function, *arguments)


async def nothing_more() -> None:
    """Wait until udev has dealt with all that happened, and a watcher has had time to look."""
    await in_thread(run, "udevadm", "settle", "--timeout=60")
    await asyncio.sleep(0.3)


def test_udev_describes_the_device_and_says_when_it_changes(make_stick: MakeStick) -> None:
    stick = make_stick("label one")

    async def scenario() -> None:
        changes = asyncio.Event()
        with UdevWatch(changes.set):
            stick.plug_in()
            async with asyncio.timeout(10):
                while not any(device.node == stick.device for device in block_devices()):
                    await changes.wait()
                    changes.clear()
            number = os.stat(stick.device).st_rdev
            device = block_device(number)
            assert device is not None
            assert (device.node, device.number, device.fs_type) == (stick.device, number, "ext4")
            assert device.label == "LABEL ONE"
            assert device.fs_uuid is not None
            assert device.sequence > 0
            assert device in SystemDevices().unmounted()
            changes.clear()
            stick.pull_out()
            async with asyncio.timeout(10):
                while block_device(number) is not None:
                    await changes.wait()
                    changes.clear()

    asyncio.run(scenario())


def test_insert_visit_report_twice(make_stick: MakeStick, tmp_path: Path) -> None:
    """The whole way, from losetup to the report; prints the time from the kernel's event to the finished visit."""
    stick = make_stick()
    times = []

    async def scenario() -> None:
        told = Told()
        async with Running(watcher(FileVisitor(), told, tmp_path, WatchSettings())):
            for number in (1, 2):
                started = stick.plug_in()
                await in_thread(stick.mount)
                done = (await told.wait(VisitDone, number))[-1]
                times.append(time.monotonic() - started)
                assert isinstance(done, VisitDone)
                assert done.summary.messages_in == number - 1
                assert done.device.node == stick.device
                assert done.device.mount_point == stick.mount_point
                assert not SystemDevices().unmounted() or stick.device not in {
                    d.node for d in SystemDevices().unmounted()
                }
                await in_thread(stick.unmount)
                stick.pull_out()
                await told.wait(StickRemoved, number)
        assert [type(event) for event in told] == [VisitStarted, VisitDone, StickRemoved] * 2

    asyncio.run(scenario())
    print("from the kernel's event to the finished visit:", ", ".join(f"{seconds:.3f} s" for seconds in times))
    assert min(times) < 5


def test_two_sticks_at_once(make_stick: MakeStick, tmp_path: Path) -> None:
    sticks = [make_stick("a"), make_stick("b")]

    async def scenario() -> None:
        told, visitor = Told(), FileVisitor(seconds=0.3)
        async with Running(watcher(visitor, told, tmp_path)):
            for stick in sticks:
                stick.plug_in()
            await asyncio.gather(*(in_thread(stick.mount) for stick in sticks))
            await told.wait(VisitDone, 2)
        assert sorted(visitor.visits) == [stick.mount_point for stick in sticks]

    asyncio.run(scenario())


def test_the_same_filesystem_on_two_sticks(make_stick: MakeStick, tmp_path: Path) -> None:
    """A copy made with dd has the same UUID: two devices all the same, visited one after the other."""
    first = make_stick("a")
    second = LoopStick(tmp_path / "copy.img", tmp_path / "copy")
    second.image.write_bytes(first.image.read_bytes())

    async def scenario() -> None:
        told = Told()
        async with Running(watcher(FileVisitor(), told, tmp_path)):
            for stick in (first, second):
                stick.plug_in()
                await in_thread(stick.mount)
            await told.wait(VisitDone, 2)

    try:
        asyncio.run(scenario())
    finally:
        second.clean_up()


def everything_on(stick: LoopStick) -> dict[str, tuple[int, int, bytes]]:
    """All that a program can change on a stick: what is there, when it or a folder's list was changed, and what it holds.

    Not the image's bytes: ext4 itself writes to it (its journal, what mkfs left for later) when the stick is mounted.
    """
    paths = [stick.mount_point, *sorted(stick.mount_point.rglob("*"))]
    found = ((path, path.stat()) for path in paths)
    return {
        str(path): (status.st_mode, status.st_ctime_ns, path.read_bytes() if path.is_file() else b"")
        for path, status in found
    }


def test_unknown_sticks_are_announced_and_not_touched(make_stick: MakeStick, tmp_path: Path) -> None:
    unknown, photos = make_stick("unknown", enrolled=False), make_stick("photos", folder=False, enrolled=False)

    async def scenario() -> None:
        told = Told()
        async with Running(watcher(FileVisitor(), told, tmp_path)):
            for stick in (unknown, photos):
                stick.plug_in()
                await in_thread(stick.mount, "-o", "noatime")
            await told.wait(UnknownStick)
            await nothing_more()
            assert before == [everything_on(stick) for stick in (unknown, photos)]
            for stick in (unknown, photos):
                await in_thread(stick.unmount)  # and nothing keeps it busy
        assert [type(event) for event in told] == [UnknownStick]

    before = []
    for stick in (unknown, photos):
        stick.plug_in()
        stick.mount()
        (stick.mount_point / "diary.txt").write_text("dear diary")
        before.append(everything_on(stick))
        stick.unmount()
        stick.pull_out()
    asyncio.run(scenario())


def test_an_event_storm(make_stick: MakeStick, tmp_path: Path) -> None:
    """Thousands of uevents (in CI), and mounts elsewhere all the time: one visit, and little work."""
    stick = make_stick()
    other = tmp_path / "other"
    other.mkdir()

    def storm() -> float:
        started = time.monotonic()
        uevent = Path(f"/sys/class/block/{Path(stick.device).name}/uevent")
        for number in range(EVENTS):
            uevent.write_text("change")
            if number % (EVENTS // 10) == 0:
                run("mount", "-t", "tmpfs", "none", other)
                run("umount", other)
        run("udevadm", "settle", "--timeout=60")
        return time.monotonic() - started

    async def scenario() -> tuple[float, float]:
        told = Told()
        async with Running(watcher(FileVisitor(), told, tmp_path)):
            stick.plug_in()
            await in_thread(stick.mount)
            await told.wait(VisitDone)
            busy = time.process_time()
            took = await asyncio.to_thread(storm)
            busy = time.process_time() - busy
            await nothing_more()
            assert len(told) == 2
            await in_thread(stick.unmount)
            await told.wait(StickRemoved)
        return took, busy

    took, busy = asyncio.run(scenario())
    print(f"{EVENTS:,} events in {took:.1f} s cost {busy:.2f} s of processor time, the test's own included")
    assert busy < 0.5 * took + 0.5


def test_pulled_out_during_the_visit(make_stick: MakeStick, tmp_path: Path) -> None:
    """The device is taken away under the mount: the visit fails, one event says so, and the next insert is whole."""
    stick = make_stick()
    going = threading.Event()
    gone = threading.Event()

    def fail(mount_point: Path, number: int) -> None:
        if number == 1:
            going.set()
            gone.wait(20)
            os.listdir(mount_point / "SNEAKER")  # what a lazy unmount leaves is the empty folder beneath: an OSError

    async def scenario() -> None:
        told, visitor = Told(), FileVisitor(fail=fail)
        async with Running(watcher(visitor, told, tmp_path)):
            stick.plug_in()
            await in_thread(stick.mount)
            await told.wait(VisitStarted)
            await in_thread(going.wait, 10)
            await in_thread(lambda: stick.unmount(lazily=True))
            stick.pull_out()
            gone.set()
            (removed,) = await told.wait(StickRemoved)
            assert isinstance(removed, StickRemoved)
            assert removed.during_visit
            stick.plug_in()
            await in_thread(stick.mount)
            await told.wait(VisitDone)
        assert not told.of(VisitFailed)

    asyncio.run(scenario())


def test_never_the_root_filesystem_nor_the_homes(make_stick: MakeStick, tmp_path: Path) -> None:
    stick = make_stick()
    stick.plug_in()
    stick.mount()
    folder = tmp_path / "root"
    folder.mkdir()
    run("mount", "--bind", "/", folder)
    try:
        found = [device.mount_point for device in SystemDevices().mounted()]
        assert stick.mount_point in found
        assert folder not in found
        assert Path("/") not in found
        assert stick.mount_point not in [d.mount_point for d in SystemDevices(never=(stick.mount_point,)).mounted()]
        assert stick.mount_point not in [
            d.mount_point for d in SystemDevices(filesystems=frozenset({"vfat"})).mounted()
        ]
    finally:
        run("umount", folder)


def test_mounted_before_udev_knew(make_stick: MakeStick, tmp_path: Path) -> None:
    """Mounting at once, before udev has looked at the device, makes one visit and not two."""
    stick = make_stick()

    async def scenario() -> None:
        told = Told()
        async with Running(watcher(FileVisitor(), told, tmp_path, replace(QUICK, settle_s=0.01))):
            for number in range(1, 4):
                stick.plug_in()
                stick.mount()
                await told.wait(VisitDone, number)
                await nothing_more()
                assert len(told.of(VisitStarted)) == number
                stick.unmount()
                stick.pull_out()
                await told.wait(StickRemoved, number)

    asyncio.run(scenario())
