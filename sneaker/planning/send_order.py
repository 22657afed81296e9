"""In which order to send what a reader lacks.

What is sent are ranges of feeds without gaps.  Near feeds come first; among equals the order is that of scuttlebutt
reconciliation (van Renesse, Dumitriu, Gough and Thomas, LADIS 2008): *depth* sends the feeds with the largest backlog
first and drains them, *breadth* deals a few messages of every feed in turn.  Both keep its invariant, that of one feed
nothing is sent before all that precedes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from hashlib import blake2b
from typing import NamedTuple

from sneaker.clock import VectorClock
from sneaker.refs import FeedRef

__all__ = ["BREADTH_CHUNK", "Order", "Range", "joined", "order_ranges", "slowest"]

# What breadth order deals of each feed in one round.  The paper deals single messages; ours cost 64 bytes more for each
# run that is not continued (author and previous), which for 16 ordinary messages is 2 %.
BREADTH_CHUNK = 16

_FAR = 1 << 30


class Order(StrEnum):
    """What goes first of equally near feeds."""

    DEPTH = "depth"
    BREADTH = "breadth"


class Range(NamedTuple):
    """Messages ``first`` to ``last`` of a feed, both included."""

    feed: FeedRef
    first: int
    last: int

    @property
    def messages(self) -> int:
        """How many messages these are."""
        return self.last - self.first + 1


def slowest(clocks: Iterable[VectorClock], feeds: Iterable[FeedRef]) -> VectorClock:
    """Return for each of ``feeds`` the lowest sequence that any of ``clocks`` has; 0 if there are no clocks.

    What serves the slowest reader serves all of them.
    """
    given = list(clocks)
    return VectorClock({feed: min((clock.get(feed, 0) for clock in given), default=0) for feed in feeds})


def order_ranges(
    ours: VectorClock,
    theirs: VectorClock,
    *,
    wanted: Callable[[FeedRef], bool] | None = None,
    hops: Mapping[FeedRef, int] | None = None,
    given: VectorClock | None = None,
    order: Order = Order.DEPTH,
) -> list[Range]:
    """Return what a reader at ``theirs`` lacks of ``ours``, the most important first.

    ``theirs`` is a hint and may claim anything; a feed of which they say to have more than we do is left out.
    ``hops`` is the distance of feeds from us (feeds that are not in it come last); of equally near feeds those come last of
    which everything was ``given`` to the reader before.  In depth order each feed is one range.
    In breadth order it is dealt out in ranges of BREADTH_CHUNK messages: of equally near feeds the first range of each,
    then the second of each, and so on.  Within a round the order is a shuffle that differs from plan to plan, or the same
    feeds would come too late in every round that a budget cuts short.
    """
    ranges = [
        Range(feed, theirs.get(feed, 0) + 1, last)
        for feed, last in theirs.lacking(ours).items()
        if wanted is None or wanted(feed)
    ]

    def rank(feed: FeedRef) -> tuple[int, bool]:
        distance = hops.get(feed, _FAR) if hops is not None else 0
        return distance if distance >= 0 else _FAR, given is not None and given.get(feed, 0) >= ours[feed]

    if order is Order.DEPTH:
        return sorted(ranges, key=lambda item: (rank(item.feed), -item.messages, item.feed))
    salt = sum(item.messages for item in ranges).to_bytes(8, "big")
    dealt: list[tuple[tuple[int, bool], int, bytes, Range]] = []
    for item in ranges:
        near, shuffled = rank(item.feed), blake2b(salt + item.feed, digest_size=16).digest()
        for first in range(item.first, item.last + 1, BREADTH_CHUNK):
            piece = Range(item.feed, first, min(first + BREADTH_CHUNK - 1, item.last))
            dealt.append((near, first - item.first, shuffled, piece))
    dealt.sort()
    return [piece for _, _, _, piece in dealt]


def joined(ranges: Iterable[Range]) -> list[Range]:
    """Return the ranges with those joined that continue an earlier one of the same feed."""
    found: list[Range] = []
    newest: dict[FeedRef, int] = {}
    for item in ranges:
        place = newest.get(item.feed)
        if place is not None and found[place].last + 1 == item.first:
            found[place] = found[place]._replace(last=item.last)
        else:
            newest[item.feed] = len(found)
            found.append(item)
    return found
