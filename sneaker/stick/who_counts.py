"""The round of a stick: which other machines count, and what they have.

What the others have decides what is written for them and what may be removed.  A machine counts as long as its card changes
now and then; one that we block never does.  What a machine blocks, it will never take from us, and counts as if it had it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sneaker.bundle.card import Card
from sneaker.clock import VectorClock
from sneaker.home.home import Home
from sneaker.limits import MAX_SEQUENCE
from sneaker.own_feed.claims import card_statement
from sneaker.planning.what_others_have import ClockSource, Kept, counted_on, learn
from sneaker.refs import BlobRef, FeedRef
from sneaker.stick.report import DAY_MS
from sneaker.store.store import Store

__all__ = ["Round", "find_round"]


@dataclass(frozen=True, slots=True)
class Round:
    """The other machines that count.

    ``confirmed`` is what each card says: only what that confirms is taken away.  ``clocks`` are what each machine is taken to
    have (``planning.what_others_have``): for these is planned; none if there are no cards, for whoever comes.  ``given`` is the same with
    what exports gave to a machine, empty if they gave nothing.  ``unconfirmed`` are the machines that are taken to have more
    than their cards say.
    """

    cards: list[Card]
    confirmed: list[VectorClock]
    clocks: list[VectorClock]
    given: list[VectorClock]
    wants: frozenset[BlobRef]
    unconfirmed: list[FeedRef]


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
    beside = store.known_clocks.known_beside_cards()
    known = [
        _known(card, store) if card.machine in beside else {ClockSource.CARD: Kept(card.clock)} for card in counted
    ]
    unwanted = [VectorClock(dict.fromkeys(store.blocked(card.machine), MAX_SEQUENCE)) for card in counted]
    clocks = [counted_on(item).merged(blocks) for item, blocks in zip(known, unwanted, strict=True)]
    given = [item.get(ClockSource.EXPORT) for item in known]
    return Round(
        counted,
        confirmed=[card.clock.merged(blocks) for card, blocks in zip(counted, unwanted, strict=True)],
        clocks=clocks,
        given=[
            clock.merged(sent.clock) if sent is not None else clock for clock, sent in zip(clocks, given, strict=True)
        ]
        if any(given)
        else [],
        wants=frozenset(blob for card in counted for blob in card.wants),
        unconfirmed=[card.machine for card in counted if card.machine in beside],
    )


def _known(card: Card, store: Store) -> dict[ClockSource, Kept]:
    """Return what is known of a machine, its card with it: a dry run has not put that into the store."""
    known = store.known_clocks.known(card.machine)
    changed = {**known, **learn(known, card_statement(card, b""))}
    return {source: kept for source, kept in changed.items() if kept is not None}
