"""What the watcher needs to know of visits and of mounting, and what it tells about them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from sneaker.devices.device import MountedDevice
from sneaker.devices.udev import BlockDevice

__all__ = [
    "Enrolment",
    "Mounter",
    "StickRemoved",
    "Trouble",
    "UnknownStick",
    "VisitDone",
    "VisitFailed",
    "VisitStarted",
    "VisitSummary",
    "Visitor",
    "WatchEvent",
]


class Enrolment(StrEnum):
    """What a device is to us."""

    ENROLLED = "enrolled"
    UNKNOWN = "unknown"  # has a sneaker folder, but no person enrolled or trusted it here
    NONE = "none"  # no sneaker folder


@dataclass(frozen=True, slots=True)
class VisitSummary:
    """What a visit did.

    ``complete`` is false if something was refused, damaged or did not fit.  Not ``safe_to_remove`` means that the device
    failed on the way: it will be visited again.  ``damaged`` says that the system found its file system broken meanwhile
    and made it read-only.  ``words`` is one sentence for a person.
    """

    messages_in: int
    people: int
    messages_out: int
    safe_to_remove: bool
    complete: bool
    words: str
    damaged: bool = False


class Visitor(Protocol):
    """What can be done with a device; both block and are called in threads of their own, never two on one filesystem."""

    def is_enrolled(self, device: MountedDevice) -> Enrolment:
        """Look, without writing anything, at what is mounted there; raises SneakerError or OSError."""
        ...

    def visit(self, device: MountedDevice) -> VisitSummary:
        """Sync with the stick mounted there; raises SneakerError or OSError."""
        ...


class Mounter(Protocol):
    """What mounts sticks where nothing else does; both block."""

    def mount(self, device: BlockDevice) -> bool:
        """Mount a device; return False if it is not one that people plug in. Raises StickError."""
        ...

    def release(self, device: MountedDevice, switch_off: bool) -> bool:
        """Unmount a device if so configured, or if it is to be switched off; say whether it was. Raises StickError."""
        ...

    def switch_off(self, device: MountedDevice) -> None:
        """Switch off a device that was unmounted, if so configured. Raises StickError."""
        ...

    def repair(self, device: MountedDevice) -> None:
        """Unmount a device, have its file system checked and repaired, and mount it again. Raises StickError."""
        ...


@dataclass(frozen=True, slots=True)
class VisitStarted:
    """The device must not be pulled out now."""

    device: MountedDevice
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class VisitDone:
    """The visit ended and has a summary; ``released`` says that the device has been unmounted since."""

    device: MountedDevice
    summary: VisitSummary
    seconds: float
    released: bool = False


@dataclass(frozen=True, slots=True)
class VisitFailed:
    """A visit failed; ``retry_in_s`` is None if it will not be tried again before the next insert."""

    device: MountedDevice
    error: Exception
    retry_in_s: float | None


@dataclass(frozen=True, slots=True)
class StickRemoved:
    """An enrolled device is gone; ``during_visit``: too early, with what was done until then if that is known."""

    device: MountedDevice
    during_visit: bool
    summary: VisitSummary | None = None


@dataclass(frozen=True, slots=True)
class UnknownStick:
    """A stick with a sneaker folder that nobody enrolled here; it was not touched."""

    device: MountedDevice


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something else went wrong with a device, or with looking for devices (``node`` is empty then); ``words`` are ours."""

    node: str
    words: str


WatchEvent = VisitStarted | VisitDone | VisitFailed | StickRemoved | UnknownStick | Trouble
