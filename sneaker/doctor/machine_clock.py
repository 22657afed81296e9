"""This machine's clock: is the date one that can be, and do messages and other machines agree?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from sneaker.doctor.finding import DAY_MS, Finding, Level, day
from sneaker.errors import StoreDamaged
from sneaker.home.home import Home

__all__ = ["find_clock_problems"]

# sneaker did not exist before 2020, and a clock beyond 2100 is as wrong.
_EARLIEST_MS = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp() * 1000)
_LATEST_MS = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp() * 1000)


def find_clock_problems(home: Home, now_ms: int) -> Iterator[Finding]:
    """Yield what is wrong with this machine's clock, ``now_ms``: no date that can be, or one that others are ahead of."""
    hint = "set the date; messages carry it, and people sort by it"
    if not _EARLIEST_MS <= now_ms < _LATEST_MS:
        yield Finding("clock-wrong", Level.PROBLEM, f"this machine's clock says {day(now_ms)}", hint)
        return
    head = home.store.head(home.keypair.public)
    try:
        last = home.store.message(home.keypair.public, head.sequence) if head is not None else None
    except StoreDamaged:
        last = None
    if last is not None and isinstance(last.timestamp, int | float) and last.timestamp > now_ms + DAY_MS:
        yield Finding(
            "clock-behind",
            Level.PROBLEM,
            f"your last message is of {day(last.timestamp)}, and this machine's clock says {day(now_ms)}",
            f"one of them is wrong; {hint}",
        )
    ahead = [peer for peer in home.store.known_clocks.known_peers() if now_ms + DAY_MS < peer.time_ms < _LATEST_MS]
    known = [peer for peer in home.store.known_clocks.known_peers() if peer.time_ms]
    # One other machine with another time proves nothing: its clock may be wrong.
    if len(ahead) >= 2 and 2 * len(ahead) > len(known):
        yield Finding(
            "clock-behind", Level.PROBLEM, f"most machines met have later clocks than this one ({day(now_ms)})", hint
        )
