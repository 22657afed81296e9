"""The round of a stick: which other machines count, and what they have.

What the others have decides what is written for them and what may be removed.  A machine counts as long as its card changes
now and then; one that we block never does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sneaker.bundle.card import Card
from sneaker.clock import VectorClock
from sneaker.home.home import Home
from sneaker.limits import MAX_SEQUENCE
from sneaker.refs import BlobRef, FeedRef
from sneaker.stick.report import DAY_MS
from sneaker.store.store import Store

__all__ = ["Round", "find_round"]


@dataclass(frozen=True, slots=True)
class Round:
    """The other machines that count.

    ``clocks`` are those that are planned for: of each card, or of somebody who has nothing if there is no card.
    """

    cards: list[Card]
    clocks: list[VectorClock]
    wants: frozenset[BlobRef]


def find_round(
    home: Home, cards: Mapping[FeedRef, Card], unchanged_since: Mapping[FeedRef, int], *, stale_days: int, now_ms: int
) -> Round:
    """Return who counts of the machines that have ``cards`` on a stick.

    ``unchanged_since`` says when cards that brought nothing new were seen for the first time; those of more than
    ``stale_days`` ago count no more.
    """
    store, me = home.store, home.keypair.public
    blocked = store.blocked(me)
    oldest = now_ms - stale_days * DAY_MS
    counted = [
        card
        for machine, card in cards.items()
        if machine != me and machine not in blocked and unchanged_since.get(machine, now_ms) >= oldest
    ]
    # Without any card this is a stick for whoever comes: they have nothing.
    clocks = [_clock_of(card, store) for card in counted] or [VectorClock()]
    return Round(counted, clocks, frozenset(blob for card in counted for blob in card.wants))


def _clock_of(card: Card, store: Store) -> VectorClock:
    """Return what a machine has, or does not want: whom it blocks, it will never take from us."""
    return card.clock.merged(VectorClock(dict.fromkeys(store.blocked(card.machine), MAX_SEQUENCE)))
