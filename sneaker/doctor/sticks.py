"""Sticks that were not here for long."""

from __future__ import annotations

from collections.abc import Iterator

from sneaker.doctor.finding import DAY_MS, Finding, Level
from sneaker.home.home import Home

__all__ = ["find_missing_sticks"]

_LONG_AGO_DAYS = 60


def find_missing_sticks(home: Home, now_ms: int) -> Iterator[Finding]:
    """Yield the sticks that were not here for long."""
    for stick in home.store.sticks.sticks():
        last = stick.visited_at_ms or stick.enrolled_at_ms
        days = (now_ms - last) // DAY_MS
        if days > _LONG_AGO_DAYS:
            name = f"the stick {stick.label!r}" if stick.label else "a stick"
            yield Finding(
                "stick-long-ago",
                Level.NOTE,
                f"{name} was here {days} days ago for the last time",
                "'sneaker drive list' shows them, 'sneaker drive forget' forgets one",
            )
