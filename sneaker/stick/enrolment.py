"""Enrolment: which sticks this machine writes to is decided by a person, once for each stick."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sneaker.caps import Caps
from sneaker.errors import DriveError, NetworkKeyMismatch
from sneaker.files.atomic_write import output_errors
from sneaker.home.home import STORE_NAME, Home
from sneaker.home.secret_guard import check_stick
from sneaker.stick.layout import Marker, Stick
from sneaker.store.sticks import Drive, DriveTables

__all__ = ["enrol", "forget", "is_enrolled", "require_enrolled", "trust"]


def require_enrolled(stick: Stick, tables: DriveTables, caps: Caps) -> tuple[Drive, Marker]:
    """Return the drive that a stick is; raises DriveError if a person has not enrolled it on this machine."""
    marker = stick.marker()
    if marker is None:
        raise DriveError(
            f"{stick.root} is not a sneaker stick", hint=f"run 'sneaker drive init {stick.root}' to make it one"
        )
    if marker.network_id != caps.network_id:
        raise NetworkKeyMismatch(f"the stick at {stick.root} belongs to another network")
    drive = tables.drive(marker.drive_id)
    if drive is None:
        raise DriveError(
            f"the stick at {stick.root} is not known on this machine, so nothing was read or written",
            hint=f"run 'sneaker drive trust {stick.root}' if you know whose it is",
        )
    return drive, marker


def is_enrolled(home: Home, path: Path) -> bool | None:
    """Say whether the stick at ``path`` is enrolled here; None if there is no stick there."""
    with Stick(path) as stick, DriveTables.open(home.path / STORE_NAME) as tables:
        marker = stick.marker()
        if marker is None:
            return None
        return marker.network_id == home.caps.network_id and tables.drive(marker.drive_id) is not None


def enrol(
    home: Home, path: Path, label: str, *, now_ms: int, random_bytes: Callable[[int], bytes]
) -> tuple[Drive, bool]:
    """Make the folder at ``path`` a stick and enrol it; return the drive, and whether the stick was made now.

    A folder that is a stick already keeps its id.  Raises OutputError, NetworkKeyMismatch or DriveError, also for a folder
    that has our home in it, or lies there.
    """
    with Stick(path) as stick:
        check_stick(stick.root, home)
        made = stick.marker() is None
        if made:
            with output_errors(stick.root):
                stick.create(Marker(random_bytes(16), home.caps.network_id, now_ms))
        return _remember(home, stick, label, now_ms), made


def trust(home: Home, path: Path, label: str, *, now_ms: int) -> Drive:
    """Enrol a stick that another machine made; raises DriveError if it is none, or has our home on it, NetworkKeyMismatch."""
    with Stick(path) as stick:
        check_stick(stick.root, home)
        if stick.marker() is None:
            raise DriveError(f"{path} is not a sneaker stick", hint=f"run 'sneaker drive init {path}' to make it one")
        return _remember(home, stick, label, now_ms)


def _remember(home: Home, stick: Stick, label: str, now_ms: int) -> Drive:
    marker = stick.marker()
    if marker is None:
        raise DriveError(
            f"the stick at {stick.root} did not keep its marker", hint="it may be failing; try another one"
        )
    if marker.network_id != home.caps.network_id:
        raise NetworkKeyMismatch(f"the stick at {stick.root} belongs to another network")
    with DriveTables.open(home.path / STORE_NAME) as tables:
        known = tables.drive(marker.drive_id)
        drive = Drive(
            marker.drive_id,
            label or (known.label if known else ""),
            known.enrolled_at_ms if known else now_ms,
            known.visited_at_ms if known else 0,
        )
        tables.put_drive(drive)
    return drive


def forget(home: Home, drive_id: bytes) -> Drive:
    """Forget a drive on this machine; what is on it stays as it is.  Raises DriveError if it is not known."""
    with DriveTables.open(home.path / STORE_NAME) as tables:
        drive = tables.drive(drive_id)
        if drive is None:
            raise DriveError(
                "that drive is not enrolled on this machine", hint="'sneaker drive list' shows those that are"
            )
        tables.forget_drive(drive_id)
    return drive
