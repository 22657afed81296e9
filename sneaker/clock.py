"""Vector clocks: for each feed the last sequence that somebody has.

Feeds have no gaps, so one number says it all; this is the digest of scuttlebutt reconciliation (PROTOCOL.md,
section 16).  A clock that somebody sent is a hint: it decides what to send, never what to believe or delete.
"""

from __future__ import annotations

from typing import Any, Self

import orjson

from sneaker.errors import ClockError, RefError
from sneaker.limits import MAX_CLOCK_FEEDS, MAX_SEQUENCE
from sneaker.refs import FeedRef

__all__ = ["VectorClock"]

# A feed takes 70 bytes or so in JSON; this leaves room for ``ssb:`` URIs and indentation.
_MAX_CLOCK_BYTES = MAX_CLOCK_FEEDS * 128


class VectorClock(dict[FeedRef, int]):
    """Feed -> last sequence held, 0 or more; a feed that is not in it is the same as one at 0.

    A value: nobody changes one that is made.  (It is a ``dict`` because a visit looks up some hundred thousand feeds.)
    """

    __slots__ = ()

    def covers(self, other: VectorClock) -> bool:
        """Say whether who is here has everything that ``other`` has."""
        have = self.get
        return all(have(feed, 0) >= sequence for feed, sequence in other.items())

    def lacking(self, ours: VectorClock) -> VectorClock:
        """Return the part of ``ours`` in which who is here is behind us."""
        have = self.get
        return VectorClock({feed: last for feed, last in ours.items() if last > have(feed, 0)})

    def merged(self, other: VectorClock) -> VectorClock:
        """Return the clock of somebody who has all that either has."""
        if not other or not self:
            return self or other
        merged = VectorClock(self)
        for feed, sequence in other.items():
            if sequence > merged.get(feed, -1):
                merged[feed] = sequence
        return merged

    def as_json(self) -> dict[str, int]:
        """Return ``{feed: sequence}`` in text, by feed: what ``clock --json`` prints and ``parse`` reads."""
        return {str(feed): sequence for feed, sequence in sorted(self.items())}

    @classmethod
    def parse(cls, text: bytes | str) -> Self:
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
        clock = cls()
        for name, number in value.items():
            try:
                feed = FeedRef.parse(name)
            except RefError as error:
                if _is_other_format(name):
                    continue
                raise ClockError(f"{error.message} in a clock") from None
            sequence = _parse_sequence(feed, number)
            clock[feed] = max(sequence, clock.get(feed, 0))
        return clock

    def classic(self) -> Self:
        """Return the part of the clock that is about classic feeds: what bundles, cards and peers can speak of so far."""
        return type(self)({feed: sequence for feed, sequence in self.items() if feed.is_classic})


def _is_other_format(name: str) -> bool:
    parts = name.removeprefix("ssb:").removeprefix("//").replace(":", "/").split("/")
    return name.startswith("ssb:") and parts[0] == "feed" and len(parts) > 2 and parts[1] not in ("classic", "ed25519")


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
