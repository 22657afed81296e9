"""What the doctor says: a finding, which is a problem or a note.

A *problem* is what the person should do something about, a *note* is good to know.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from sneaker.errors import SneakerError

__all__ = ["DAY_MS", "MAX_LISTED", "Finding", "Level", "day", "error_finding"]

DAY_MS = 24 * 60 * 60 * 1000

# So many places or feeds are named in one finding, or have one of their own.
MAX_LISTED = 20


class Level(StrEnum):
    """Whether somebody should do something."""

    PROBLEM = "problem"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found; ``code`` is stable, ``message`` and ``hint`` are for people."""

    code: str
    level: Level
    message: str
    hint: str | None = None


def error_finding(error: SneakerError) -> Finding:
    """Return the finding for what kept the home from being opened."""
    return Finding(error.code, Level.PROBLEM, error.message, error.hint)


def day(time_ms: float) -> str:
    """Return the day of a time as people read it; messages may carry any."""
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return "no day that there is"
