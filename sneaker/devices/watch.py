"""Plug in and forget: every enrolled device that appears is visited, and somebody is told.

Events may be lost, doubled or out of order.  Each event of the mount table or of udev, and a slow timer, only means "look
again", and a look compares what is there with what has been done.

The ``Visitor`` knows what a visit is and which devices are enrolled; ``tell`` knows what is said to whom.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sneaker.bugs import what_went_wrong
from sneaker.devices.device import Devices, MediumKey, MountedDevice
from sneaker.devices.events import (
    Enrolment,
    Mounter,
    StickRemoved,
    Trouble,
    UnknownStick,
    VisitDone,
    VisitFailed,
    Visitor,
    VisitStarted,
    VisitSummary,
    WatchEvent,
)
from sneaker.devices.mounts import MountWatch
from sneaker.devices.run_in_thread import run_in_thread
from sneaker.devices.udev import BlockDevice, UdevWatch
from sneaker.errors import SneakerError, StickError, StoreLocked

__all__ = ["WatchSettings", "Watcher"]


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """Times in seconds, and how often a failed visit is tried."""

    # A stick that wobbles in its socket comes and goes within this time.
    settle_s: float = 0.25
    # A hub full of sticks gives hundreds of events in a second; looking takes some milliseconds.
    look_interval_s: float = 0.2
    # For changes of which no event came.
    heal_s: float = 60
    # A desktop mounts within a second of the event; only after this do we ask udisks ourselves.
    mount_grace_s: float = 3
    attempts: int = 5
    first_retry_s: float = 1
    longest_retry_s: float = 60
    # Between an error and the question whether the device is still there.
    removal_grace_s: float = 0.5
    # How long a running visit may go on when the service is told to stop; the unit's TimeoutStopSec is longer.
    stop_grace_s: float = 20


@dataclass(slots=True, eq=False)
class _Attendance:
    """What has been done about one appearance of a device."""

    device: MountedDevice
    task: asyncio.Task[None] | None = None
    enrolled: bool = False
    visiting: bool = False
    #: A visit has failed, and will be tried again.
    unfinished: bool = False
    #: Visited, and waiting for what else is on the same stick.
    visited: bool = False
    #: Visited, and unmounted if that was ours to do.
    released: bool = False
    told_removed: bool = False


@dataclass(slots=True)
class Watcher:
    """Visits devices as they appear; ``tell`` is called in the event loop with everything a person may want to know."""

    visitor: Visitor
    devices: Devices
    tell: Callable[[WatchEvent], None]
    mounter: Mounter | None = None
    settings: WatchSettings = field(default_factory=WatchSettings)
    #: Called once everything is being watched.
    ready: Callable[[], None] | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _attended: dict[tuple[MediumKey, int], _Attendance] = field(default_factory=dict)
    _locks: dict[object, asyncio.Lock] = field(default_factory=dict)
    _visits: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    #: What we asked to be mounted, or found mounted: once it is unmounted, it stays so until it is plugged in again.
    _offered: dict[MediumKey, asyncio.Task[None] | None] = field(default_factory=dict)
    _mounted_here: set[MediumKey] = field(default_factory=set)
    _repaired: set[MediumKey] = field(default_factory=set)
    _stopping: bool = False

    def look(self) -> None:
        """Look again soon at what is there; any event may call this, as often as it likes."""
        self._changed.set()

    def look_anew(self) -> None:
        """Forget which devices have been attended to, except those being visited, and look again."""
        for key, attendance in list(self._attended.items()):
            if attendance.task is None or attendance.task.done():
                del self._attended[key]
        self.look()

    @property
    def visiting(self) -> list[MountedDevice]:
        """The devices that must not be pulled out now."""
        return [attendance.device for attendance in self._attended.values() if attendance.visiting]

    async def run(self) -> None:
        """Watch until cancelled; then let running visits finish, within reason."""
        with MountWatch(self.look), UdevWatch(self.look):
            try:
                if self.ready is not None:
                    self.ready()
                while True:
                    self._changed.clear()
                    self._look()
                    try:
                        async with asyncio.timeout(self.settings.heal_s):
                            await self._changed.wait()
                    except TimeoutError:
                        pass
                    else:
                        # The first event is acted upon at once; those that follow closely are taken together.
                        await asyncio.sleep(self.settings.look_interval_s)
            finally:
                await self._stop()

    async def once(self) -> None:
        """Attend to what is plugged in now, and return when that is done."""
        self._look()
        if self.mounter is not None:
            await asyncio.gather(*(task for task in self._offered.values() if task is not None))
            self._look()
        try:
            await asyncio.gather(*(found.task for found in self._attended.values() if found.task is not None))
        finally:
            await self._stop()

    async def _stop(self) -> None:
        self._stopping = True
        tasks = [found.task for found in self._attended.values() if found.task is not None and not found.task.done()]
        waiting = [found.task for found in self._attended.values() if found.task is not None and not found.visiting]
        for task in [*waiting, *(task for task in self._offered.values() if task is not None)]:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=self.settings.stop_grace_s)
        for task in tasks:
            task.cancel()

    # ------------------------------------------------------------------------------------------------ looking

    def _look(self) -> None:
        """Begin what there is to do; an error in looking is reported, and the next look comes."""
        try:
            self._compare()
        except Exception as error:
            self.tell(Trouble("", what_went_wrong(error)))

    def _compare(self) -> None:
        present = {(device.medium, device.mount_id): device for device in self.devices.mounted()}
        for key, attendance in list(self._attended.items()):
            if key not in present:
                self._gone(attendance)
                if attendance.task is None or attendance.task.done():
                    del self._attended[key]
        for key, device in present.items():
            if key not in self._attended:
                attendance = self._attended[key] = _Attendance(device)
                attendance.task = asyncio.create_task(self._attend(attendance))
        if self.mounter is not None:
            self._look_for_unmounted(self.mounter, {medium for medium, _ in present})

    def _gone(self, attendance: _Attendance) -> None:
        if attendance.visiting:
            return  # the visit notices, and is reported with what it did until then
        if attendance.enrolled and not attendance.told_removed:
            attendance.told_removed = True
            self.tell(StickRemoved(attendance.device, during_visit=attendance.unfinished))

    def _is_present(self, device: MountedDevice) -> bool:
        try:
            return any(
                found.medium == device.medium and found.mount_id == device.mount_id for found in self.devices.mounted()
            )
        except Exception:  # the next look says why
            return False

    # ------------------------------------------------------------------------------------------------ visiting

    async def _attend(self, attendance: _Attendance) -> None:
        device = attendance.device
        try:
            await asyncio.sleep(self.settings.settle_s)
            lock = self._locks.setdefault(device.filesystem, asyncio.Lock())
            async with lock:
                if not self._is_present(device):
                    return
                enrolment = await run_in_thread(lambda: self.visitor.is_enrolled(device))
                if enrolment is Enrolment.ENROLLED:
                    attendance.enrolled = True
                    await self._visit(attendance)
                elif enrolment is Enrolment.UNKNOWN:
                    self.tell(UnknownStick(device))
                elif device.medium in self._mounted_here:
                    await self._release(device, switch_off=False)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if self._is_present(device):
                self.tell(VisitFailed(device, error, None))
        finally:
            # A device that has gone meanwhile is forgotten by the next look.
            self.look()

    async def _visit(self, attendance: _Attendance) -> None:
        device = attendance.device
        attempt = 0
        while not self._stopping:
            async with self._visits:
                if not self._is_present(device):
                    return
                attendance.visiting = True
                try:
                    attempt += 1
                    started = time.monotonic()
                    outcome = await self._try(attendance, attempt)
                    seconds = time.monotonic() - started
                finally:
                    attendance.visiting = False
            if isinstance(outcome, VisitSummary):
                await self._finish(attendance, outcome, seconds)
            if not isinstance(outcome, float):
                return
            await asyncio.sleep(outcome)

    async def _try(self, attendance: _Attendance, attempt: int) -> VisitSummary | float | None:
        """Visit once; return what it did, the seconds until it should be tried again, or None if that was all."""
        device = attendance.device
        self.tell(VisitStarted(device, attempt))
        summary: VisitSummary | None = None
        try:
            summary = await run_in_thread(lambda: self.visitor.visit(device))
            if not summary.safe_to_remove:
                raise StickError(summary.words)
        except (SneakerError, OSError) as error:
            # A kernel that lost a stick fails reads at once, but takes the device away a moment later.
            await asyncio.sleep(self.settings.removal_grace_s)
            if not self._is_present(device):
                attendance.told_removed = True
                self.tell(StickRemoved(device, during_visit=True, summary=summary))
                return None
            delay = self._retry_delay(error, attempt)
            attendance.unfinished = delay is not None
            self.tell(VisitFailed(device, error, delay))
            return delay
        attendance.unfinished = False
        return None if summary.damaged and await self._repair(attendance) else summary

    async def _finish(self, attendance: _Attendance, summary: VisitSummary, seconds: float) -> None:
        """Release what was visited and say so, once nothing else on the same stick is being attended to."""
        device = attendance.device
        attendance.visited = True
        while self._beside(device, visited=False):
            await asyncio.sleep(self.settings.look_interval_s)
            if not self._is_present(device):
                return
        # If somebody else mounted it, somebody may be using it.
        released = False
        if device.medium in self._mounted_here:
            attendance.told_removed = True  # for what the mount table says meanwhile
            # One after the other: of two that are released at once, each would leave it to the other to switch off.
            async with self._locks.setdefault(("release", device.sequence), asyncio.Lock()):
                released = await self._release(device, switch_off=not self._beside(device, visited=True))
                attendance.released = True
            attendance.told_removed = released
        self.tell(VisitDone(device, summary, seconds, released))

    def _beside(self, device: MountedDevice, *, visited: bool) -> bool:
        """Whether another partition of the same stick is unfinished; with ``visited``, one that is only not released yet counts."""
        number, sequence = device.medium
        if sequence == 0:
            return False  # this kernel does not say what is on one stick
        attended = (found for found in self._attended.values() if found.task is not None and not found.task.done())
        busy = {found.device.medium for found in attended if not (found.released if visited else found.visited)}
        busy |= {medium for medium, task in self._offered.items() if task is not None and not task.done()}
        return any(found[0] != number and found[1] == sequence for found in busy)

    def _retry_delay(self, error: Exception, attempt: int) -> float | None:
        """Return the seconds to wait before another attempt, or None if waiting does not help."""
        if not isinstance(error, StickError | OSError | StoreLocked):
            return None
        # Another sneaker may hold the store for any length of time.
        if attempt >= self.settings.attempts and not isinstance(error, StoreLocked):
            return None
        return float(min(self.settings.first_retry_s * 2 ** (attempt - 1), self.settings.longest_retry_s))

    # ------------------------------------------------------------------------------------------------ mounting

    def _look_for_unmounted(self, mounter: Mounter, mounted: set[MediumKey]) -> None:
        there = {(device.number, device.sequence): device for device in self.devices.unmounted()}
        for key in [key for key in self._offered if key not in there and key not in mounted]:
            task = self._offered.pop(key)
            self._mounted_here.discard(key)
            self._repaired.discard(key)
            if task is not None:
                task.cancel()
        for key in mounted:
            self._offered.setdefault(key, None)
        for key, device in there.items():
            if key not in self._offered:
                self._offered[key] = asyncio.create_task(self._try_to_mount(mounter, device, key))

    async def _try_to_mount(self, mounter: Mounter, device: BlockDevice, key: MediumKey) -> None:
        try:
            await self._mount(mounter, device, key)
        except Exception as error:
            self.tell(Trouble(device.node, what_went_wrong(error)))

    async def _mount(self, mounter: Mounter, device: BlockDevice, key: MediumKey) -> None:
        for attempt in range(1, self.settings.attempts + 1):
            await asyncio.sleep(self.settings.mount_grace_s)
            if device not in self.devices.unmounted():
                return
            try:
                self._mounted_here.add(key)
                if not await run_in_thread(lambda: mounter.mount(device)):
                    self._mounted_here.discard(key)
                self.look()
                return
            except StickError as error:
                self._mounted_here.discard(key)
                if attempt == self.settings.attempts:
                    self.tell(Trouble(device.node, error.message))

    async def _repair(self, attendance: _Attendance) -> bool:
        """Have a damaged file system repaired, once for each medium; it is visited anew then. Only what we mounted."""
        device, mounter = attendance.device, self.mounter
        if mounter is None or device.medium not in self._mounted_here or device.medium in self._repaired:
            return False
        self._repaired.add(device.medium)
        self.tell(Trouble(device.node, "the file system on it is damaged; having it repaired"))
        try:
            await run_in_thread(lambda: mounter.repair(device))
        except Exception as error:
            self.tell(Trouble(device.node, what_went_wrong(error)))
            return False
        # It may come back with the same mount id, and must count as new.
        self._attended.pop((device.medium, device.mount_id), None)
        self.look()
        return True

    async def _release(self, device: MountedDevice, *, switch_off: bool) -> bool:
        mounter = self.mounter
        if mounter is None:
            return False
        # It stays in _offered, so that it is not mounted again before it was pulled out.
        released = False
        try:
            released = await run_in_thread(lambda: mounter.release(device, switch_off))
            if released and switch_off:
                await run_in_thread(lambda: mounter.switch_off(device))
        except Exception as error:  # it is unmounted, so it may be pulled out even if it stays on
            self.tell(Trouble(device.node, what_went_wrong(error)))
        return released
