"""Stand-ins for devices and visits: the visitor writes and reads real files."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sneaker.devices.device import MountedDevice
from sneaker.devices.events import Enrolment, VisitSummary, WatchEvent
from sneaker.devices.udev import BlockDevice
from sneaker.devices.watch import Watcher, WatchSettings
from sneaker.errors import StickError

QUICK = WatchSettings(
    settle_s=0.01,
    look_interval_s=0.01,
    heal_s=30,
    mount_grace_s=0.02,
    first_retry_s=0.02,
    removal_grace_s=0.02,
    stop_grace_s=2,
)


def make_mounted_device(
    mount_point: Path, number: int = 0x801, *, mount_id: int = 100, sequence: int = 1
) -> MountedDevice:
    return MountedDevice(
        mount_point=mount_point,
        node=f"/dev/sd{number}",
        fs_type="vfat",
        fs_uuid=f"uuid-{number}",
        label="STICK",
        number=number,
        sequence=sequence,
        mount_id=mount_id,
    )


@dataclass
class FakeDevices:
    """Devices that the test plugs in and out."""

    there: list[MountedDevice] = field(default_factory=list)
    lying: list[BlockDevice] = field(default_factory=list)

    def mounted(self) -> list[MountedDevice]:
        return list(self.there)

    def unmounted(self) -> list[BlockDevice]:
        return list(self.lying)


@dataclass
class FileVisitor:
    """A stick is enrolled if ``SNEAKER/enrolled`` is there; a visit writes a file of ``size`` bytes and reads it back.

    ``fail`` may raise in place of a visit.  Counts how many visits run at once on one mount point.
    """

    seconds: float = 0.0
    size: int = 1000
    fail: Callable[[Path, int], None] | None = None
    visits: list[Path] = field(default_factory=list)
    most_at_once: int = 0
    _running: dict[Path, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def is_enrolled(self, device: MountedDevice) -> Enrolment:
        folder = device.mount_point / "SNEAKER"
        if not folder.is_dir():
            return Enrolment.NONE
        return Enrolment.ENROLLED if (folder / "enrolled").exists() else Enrolment.UNKNOWN

    def visit(self, device: MountedDevice) -> VisitSummary:
        mount_point = device.mount_point
        with self._lock:
            self.visits.append(mount_point)
            number = self.visits.count(mount_point)
            self._running[mount_point] = self._running.get(mount_point, 0) + 1
            self.most_at_once = max(self.most_at_once, *self._running.values())
        try:
            if self.fail is not None:
                self.fail(mount_point, number)
            folder = mount_point / "SNEAKER"
            before = len(list(folder.glob("bundle-*")))
            path = folder / f"bundle-{before}"
            end = time.monotonic() + self.seconds
            data = os.urandom(self.size)
            while True:
                with path.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                if path.read_bytes() != data:
                    raise StickError("what was read back is not what was written")
                if time.monotonic() >= end:
                    break
        finally:
            with self._lock:
                self._running[mount_point] -= 1
        return VisitSummary(before, min(before, 1), 1, safe_to_remove=True, complete=True, words=f"{before} in, 1 out")


class Told(list[WatchEvent]):
    """Everything a watcher told, and waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self.news = asyncio.Event()

    def __call__(self, event: WatchEvent) -> None:
        self.append(event)
        self.news.set()

    def of(self, *kinds: type) -> list[WatchEvent]:
        return [event for event in self if isinstance(event, kinds)]

    async def wait(self, kind: type, count: int = 1, timeout_s: float = 15) -> list[WatchEvent]:
        """Wait until ``count`` events of a kind were told."""
        try:
            async with asyncio.timeout(timeout_s):
                while len(self.of(kind)) < count:
                    self.news.clear()
                    await self.news.wait()
        except TimeoutError:
            raise AssertionError(f"waited in vain for {count} {kind.__name__}; told: {list(self)}") from None
        return self.of(kind)


class Running:
    """A watcher that runs while the block does."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Watcher:
        started = asyncio.Event()
        self.watcher.ready = started.set
        self.task = asyncio.create_task(self.watcher.run())
        await started.wait()
        return self.watcher

    async def __aexit__(self, *error: object) -> None:
        assert self.task is not None
        self.task.cancel()
        try:
            await self.task
        except asyncio.CancelledError:
            pass
