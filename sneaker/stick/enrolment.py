"""Enrolment: which sticks this machine writes to is decided by a person, once for each stick."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sneaker.errors import NetworkKeyMismatch, StickError
from sneaker.files.atomic_write import output_errors
from sneaker.home.home import Home
from sneaker.home.secret_guard import check_stick
from sneaker.stick.marker import Marker
from sneaker.stick.stick import Stick
from sneaker.store.sticks import StickRecord

__all__ = ["enrol", "forget", "is_enrolled", "require_enrolled", "trust"]


def require_enrolled(home: Home, stick: Stick) -> tuple[StickRecord, Marker]:
    """Return what is remembered of a stick; raises StickError if a person has not enrolled it on this machine."""
    marker = stick.marker()
    if marker is None:
        raise StickError(
            f"{stick.root} is not a sneaker stick", hint=f"run 'sneaker drive init {stick.root}' to make it one"
        )
    if marker.network_id != home.caps.network_id:
        raise NetworkKeyMismatch(f"the stick at {stick.root} belongs to another network")
    known = home.store.sticks.stick(marker.stick_id)
    if known is None:
        raise StickError(
            f"the stick at {stick.root} is not known on this machine, so nothing was read or written",
            hint=f"run 'sneaker drive trust {stick.root}' if you know whose it is",
        )
    return known, marker


def is_enrolled(home: Home, path: Path) -> bool | None:
    """Say whether the stick at ``path`` is enrolled here; None if there is no stick there."""
    with Stick(path) as stick:
        marker = stick.marker()
        if marker is None:
            return None
        return marker.network_id == home.caps.network_id and home.store.sticks.stick(marker.stick_id) is not None


def enrol(
    home: Home, path: Path, label: str, *, now_ms: int, random_bytes: Callable[[int], bytes]
) -> tuple[StickRecord, bool]:
    """Make the folder at ``path`` a stick and enrol it; return its record, and whether the stick was made now.

    A folder that is a stick already keeps its id.  Raises OutputError, NetworkKeyMismatch or StickError, also for a folder
    that has our home in it, or lies there.
    """
    with Stick(path) as stick:
        check_stick(stick.root, home)
        made = stick.marker() is None
        if made:
            with output_errors(stick.root):
                stick.create(Marker(random_bytes(16), home.caps.network_id, now_ms))
        return _remember(home, stick, label, now_ms), made


def trust(home: Home, path: Path, label: str, *, now_ms: int) -> StickRecord:
    """Enrol a stick that another machine made; raises StickError if it is none, or has our home on it, NetworkKeyMismatch."""
    with Stick(path) as stick:
        check_stick(stick.root, home)
        if stick.marker() is None:
            raise StickError(f"{path} is not a sneaker stick", hint=f"run 'sneaker drive init {path}' to make it one")
        return _remember(home, stick, label, now_ms)


def _remember(home: Home, stick: Stick, label: str, now_ms: int) -> StickRecord:
    marker = stick.marker()
    if marker is None:
        raise StickError(
            f"the stick at {stick.root} did not keep its marker", hint="it may be failing; try another one"
        )
    if marker.network_id != home.caps.network_id:
        raise NetworkKeyMismatch(f"the stick at {stick.root} belongs to another network")
    known = home.store.sticks.stick(marker.stick_id)
    record = StickRecord(
        marker.stick_id,
        label or (known.label if known else ""),
        known.enrolled_at_ms if known else now_ms,
        known.visited_at_ms if known else 0,
    )
    home.store.sticks.put_stick(record)
    return record


def forget(home: Home, stick_id: bytes) -> StickRecord:
    """Forget a stick on this machine; what is on it stays as it is.  Raises StickError if it is not known."""
    record = home.store.sticks.stick(stick_id)
    if record is None:
        raise StickError("that stick is not enrolled on this machine", hint="'sneaker drive list' shows those that are")
    home.store.sticks.forget_stick(stick_id)
    return record
