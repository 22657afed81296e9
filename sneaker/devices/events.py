"""What the watcher needs to know of visits and of mounting, and what it tells about them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from sneaker.devices.device import MountedDrive
from sneaker.devices.udev import BlockDevice

__all__ = [
    "DriveRemoved",
    "Enrolment",
    "Mounter",
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
    """What a drive is to us."""

    ENROLLED = "enrolled"
    UNKNOWN = "unknown"  # has a sneaker folder, but no person enrolled or trusted it here
    NONE = "none"  # no sneaker folder


@dataclass(frozen=True, slots=True)
class VisitSummary:
    """What a visit did.

    ``complete`` is false if something was refused, damaged or did not fit.  Not ``safe_to_remove`` means that the drive
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
    """What can be done with a drive; both block and are called in threads of their own, never two on one filesystem."""

    def is_enrolled(self, drive: MountedDrive) -> Enrolment:
        """Look, without writing anything, at what is mounted there; raises SneakerError or OSError."""
        ...

    def visit(self, drive: MountedDrive) -> VisitSummary:
        """Sync with the stick mounted there; raises SneakerError or OSError."""
        ...


class Mounter(Protocol):
    """What mounts sticks where nothing else does; both block."""

    def mount(self, device: BlockDevice) -> bool:
        """Mount a device; return False if it is not one that people plug in. Raises DriveError."""
        ...

    def release(self, drive: MountedDrive, switch_off: bool) -> bool:
        """Unmount a drive if so configured, or if it is to be switched off; say whether it was. Raises DriveError."""
        ...

    def switch_off(self, drive: MountedDrive) -> None:
        """Switch off a drive that was unmounted, if so configured. Raises DriveError."""
        ...

    def repair(self, drive: MountedDrive) -> None:
        """Unmount a drive, have its file system checked and repaired, and mount it again. Raises DriveError."""
        ...


@dataclass(frozen=True, slots=True)
class VisitStarted:
    """The drive must not be pulled out now."""

    drive: MountedDrive
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class VisitDone:
    """The visit ended well enough for a summary; ``released`` says that the drive has been unmounted since."""

    drive: MountedDrive
    summary: VisitSummary
    seconds: float
    released: bool = False


@dataclass(frozen=True, slots=True)
class VisitFailed:
    """A visit failed; ``retry_in_s`` is None if it will not be tried again before the next insert."""

    drive: MountedDrive
    error: Exception
    retry_in_s: float | None


@dataclass(frozen=True, slots=True)
class DriveRemoved:
    """An enrolled drive has gone; ``during_visit`` if that was too early, with what had been done, where that is known."""

    drive: MountedDrive
    during_visit: bool
    summary: VisitSummary | None = None


@dataclass(frozen=True, slots=True)
class UnknownStick:
    """A stick with a sneaker folder that nobody enrolled here; it was not touched."""

    drive: MountedDrive


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something else went wrong with a device; ``words`` are ours."""

    device: str
    words: str


WatchEvent = VisitStarted | VisitDone | VisitFailed | DriveRemoved | UnknownStick | Trouble
