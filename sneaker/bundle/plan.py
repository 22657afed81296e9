"""The planner: what to send, computed from clocks in one place for sticks and peers alike.

A plan is ranges of feeds without gaps.  Near feeds come first; among equals the order is that of scuttlebutt
reconciliation (van Renesse, Dumitriu, Gough and Thomas, LADIS 2008): *depth* sends the feeds with the largest backlog
first and drains them, *breadth* sends the next message of every feed in turn.  Both keep its invariant, that of one
feed nothing is sent before all that precedes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from sneaker.refs import FeedRef

__all__ = ["Order", "Range", "plan", "slowest"]


class Order(StrEnum):
    """Which of two equally near feeds goes first."""

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


def slowest(clocks: Iterable[Mapping[FeedRef, int]], feeds: Iterable[FeedRef]) -> dict[FeedRef, int]:
    """Return for each of ``feeds`` the lowest sequence that any of ``clocks`` has; 0 if there are no clocks.

    What serves the slowest reader serves all of them.
    """
    given = list(clocks)
    return {feed: min((clock.get(feed, 0) for clock in given), default=0) for feed in feeds}


def plan(
    ours: Mapping[FeedRef, int],
    theirs: Mapping[FeedRef, int],
    *,
    wanted: Callable[[FeedRef], bool] | None = None,
    hops: Mapping[FeedRef, int] | None = None,
    order: Order = Order.DEPTH,
) -> list[Range]:
    """Return what a reader at ``theirs`` lacks of ``ours``, the most important first.

    ``theirs`` is a hint and may claim anything; a feed of which they say to have more than we do is left out.
    ``hops`` is the distance of feeds from us (feeds that are not in it come last).  Breadth order between messages is up
    to whoever cuts the plan to a budget; between whole ranges it puts the smallest backlog first.
    """
    ranges = [
        Range(feed, theirs.get(feed, 0) + 1, last)
        for feed, last in ours.items()
        if last > theirs.get(feed, 0) and (wanted is None or wanted(feed))
    ]
    far = 1 << 30
    sign = -1 if order is Order.DEPTH else 1

    def rank(item: Range) -> tuple[int, int, FeedRef]:
        distance = hops.get(item.feed, far) if hops is not None else 0
        return (distance if distance >= 0 else far, sign * item.messages, item.feed)

    return sorted(ranges, key=rank)
