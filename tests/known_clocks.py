"""What machines say, put into a store without cards and connections; and what is known of them then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sneaker.clock import VectorClock
from sneaker.planning.what_others_have import ClockSource, Statement, counted_on
from sneaker.refs import FeedRef
from sneaker.store.store import Store


def tell(
    store: Store,
    machine: FeedRef,
    clock: Mapping[FeedRef, int],
    source: ClockSource = ClockSource.EBT,
    *,
    declined: Iterable[FeedRef] = (),
    counter: int = 0,
    time_ms: int = 0,
    met_at_ms: int = 0,
) -> None:
    """Let ``machine`` say what it has; ``counter`` and ``time_ms`` are those of a card."""
    said = Statement(machine, source, VectorClock(clock), frozenset(declined), counter, time_ms)
    store.known_clocks.learn_clocks([said], now_ms=met_at_ms, met=met_at_ms > 0)


def has(store: Store, machine: FeedRef) -> VectorClock:
    """Return what ``machine`` is taken to have."""
    return counted_on(store.known_clocks.known(machine))
