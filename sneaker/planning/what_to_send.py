"""The planner: what readers lack of what we have, and could not get from what lies there already; in which order to send it.

Sticks and exports plan here.  EBT sends what a peer asks for; what it need not ask for again comes from the same clocks
(``planning.what_others_have``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from sneaker.clock import VectorClock
from sneaker.planning.coverage import Coverage, reach
from sneaker.planning.send_order import Order, Range, order_ranges, slowest
from sneaker.refs import FeedRef

__all__ = ["Plan", "make_plan"]


class Plan(NamedTuple):
    """What to send, the most important first.

    ``lowest`` is how far the slowest reader is in each of our feeds, ``reached`` how far it gets with what lies there in
    those in which it is behind.
    """

    ranges: list[Range]
    lowest: VectorClock
    reached: VectorClock


def make_plan(
    ours: VectorClock,
    readers: Sequence[VectorClock],
    *,
    lying_there: Iterable[Coverage] = (),
    given: Sequence[VectorClock] = (),
    wanted: Callable[[FeedRef], bool] | None = None,
    hops: Callable[[int], Mapping[FeedRef, int] | None] | None = None,
    order: Order = Order.DEPTH,
) -> Plan:
    """Return what some of ``readers`` lack; without any, everything, for whoever comes.

    ``readers`` are what each is taken to have, ``given`` what each was sent and has not confirmed: that goes last among what
    is equally near.  ``hops`` is asked for distances if anything is to be sent, with the number of those messages.
    """
    lowest = slowest(readers, ours)
    behind = VectorClock({feed: held for feed, held in lowest.items() if held < ours[feed]})
    reached = reach(behind, lying_there)
    lacked = VectorClock({feed: ours[feed] for feed, held in reached.items() if held < ours[feed]})
    if not lacked:
        return Plan([], lowest, reached)
    ranges = order_ranges(
        lacked,
        reached,
        wanted=wanted,
        hops=hops(sum(last - reached[feed] for feed, last in lacked.items())) if hops is not None else None,
        given=slowest(given, lacked) if given else None,
        order=order,
    )
    return Plan(ranges, lowest, reached)
