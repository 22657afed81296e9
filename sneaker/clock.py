"""Vector clocks: for each feed the last sequence that somebody has.

Feeds have no gaps, so one number says it all; this is the digest of scuttlebutt reconciliation (PROTOCOL.md,
section 16).  A clock that somebody sent is a hint: it decides what to send, never what to believe or delete.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from sneaker.errors import ClockError, RefError
from sneaker.limits import MAX_CLOCK_FEEDS, MAX_SEQUENCE
from sneaker.refs import FeedRef

__all__ = ["Clock", "covers", "format_clock", "merge", "missing", "parse_clock"]

#: Feed -> last sequence held, 0 or more; a feed that is not in it is the same as one at 0.
Clock = dict[FeedRef, int]

# A feed takes 70 bytes or so in JSON; this leaves room for ``ssb:`` URIs and indentation.
_MAX_CLOCK_BYTES = MAX_CLOCK_FEEDS * 128


def merge(*clocks: Mapping[FeedRef, int]) -> Clock:
    """Return the clock of somebody who has all that the given ones have."""
    merged: Clock = {}
    for clock in clocks:
        for feed, sequence in clock.items():
            if sequence > merged.get(feed, -1):
                merged[feed] = sequence
    return merged


def missing(mine: Mapping[FeedRef, int], theirs: Mapping[FeedRef, int]) -> dict[FeedRef, tuple[int, int]]:
    """Return what I have and they lack: for each feed the first and last sequence; the other way round, swap them."""
    ranges: dict[FeedRef, tuple[int, int]] = {}
    for feed, sequence in mine.items():
        known = theirs.get(feed, 0)
        if sequence > known:
            ranges[feed] = (known + 1, sequence)
    return ranges


def covers(mine: Mapping[FeedRef, int], theirs: Mapping[FeedRef, int]) -> bool:
    """Say whether I have everything that they have."""
    return all(mine.get(feed, 0) >= sequence for feed, sequence in theirs.items())


def format_clock(clock: Mapping[FeedRef, int]) -> str:
    """Return ``{feed: sequence}`` as JSON text on one line, sorted by feed."""
    return orjson.dumps({str(feed): sequence for feed, sequence in sorted(clock.items())}).decode("ascii")


def parse_clock(text: bytes | str) -> Clock:
    """Read a clock from JSON ``{feed: sequence}``; raises ClockError.

    Feeds may be sigil ids or ``ssb:`` URIs (the same feed in both spellings counts once, with the higher sequence);
    feeds of formats that sneaker does not hold are left out.  Sequences are whole numbers from 0; ``5.0`` is one.
    """
    if len(text) > _MAX_CLOCK_BYTES:
        raise ClockError(f"a clock of more than {_MAX_CLOCK_BYTES} bytes")
    try:
        value = orjson.loads(text)
    except ValueError:
        raise ClockError("a clock has to be JSON, {feed: sequence}") from None
    if not isinstance(value, dict):
        raise ClockError("a clock has to be a JSON object, {feed: sequence}")
    if len(value) > MAX_CLOCK_FEEDS:
        raise ClockError(f"a clock of more than {MAX_CLOCK_FEEDS} feeds")
    clock: Clock = {}
    for name, number in value.items():
        if _is_other_format(name):
            continue
        try:
            feed = FeedRef.parse(name)
        except RefError as error:
            raise ClockError(f"{error.message} in a clock") from None
        sequence = _parse_sequence(feed, number)
        clock[feed] = max(sequence, clock.get(feed, 0))
    return clock


def _is_other_format(name: str) -> bool:
    parts = name.removeprefix("ssb:").removeprefix("//").replace(":", "/").split("/")
    return name.startswith("ssb:") and parts[0] == "feed" and len(parts) > 2 and parts[1] not in FeedRef.uri_formats


def _parse_sequence(feed: FeedRef, number: Any) -> int:
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int):
        raise ClockError(f"the sequence of {feed} in a clock is not a whole number")
    if number < 0:
        raise ClockError(
            f"the sequence of {feed} in a clock is {number}",
            hint="this looks like the notes of an EBT session, in which -1 means 'do not send'; a clock has sequences",
        )
    if number > MAX_SEQUENCE:
        raise ClockError(f"the sequence of {feed} in a clock is {number}, more than a feed can have")
    return int(number)
