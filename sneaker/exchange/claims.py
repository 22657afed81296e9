"""Claims about the own feed: who says that it goes further than this machine knows, or otherwise.

A restored backup does not know what it has forgotten, and a second machine with the same key does not know of the first.
Others do, and their cards, bundles and notes say so.  What they say is hearsay, but enough to stop publishing until the
messages themselves are here, or the person decides that there are none (``sneaker doctor --dismiss``).
"""

from __future__ import annotations

from collections.abc import Mapping

from sneaker.bundle.card import Card
from sneaker.refs import FeedRef
from sneaker.store.base import Claim, Store

__all__ = ["contradicting", "note_card", "note_clock"]


def note_clock(store: Store, me: FeedRef, source: FeedRef | None, clock: Mapping[FeedRef, int]) -> None:
    """Remember what a clock says of our own feed, if that is more than we hold."""
    store.note_claim(me, source, clock.get(me, 0))


def note_card(store: Store, me: FeedRef, card: Card) -> None:
    """Remember what a card says of our own feed, if that is more than we hold or, with our own signature, something else."""
    store.note_claim(me, card.machine, card.clock.get(me, 0), card.head if card.machine == me else None)


def contradicting(store: Store, me: FeedRef) -> list[Claim]:
    """Return the claims that carry our own signature and name another message than the one we hold: forks, that is.

    Nobody without our secret can make one up; the other message itself may never have come here.
    """
    return [
        claim
        for claim in store.claims(me)
        if claim.key is not None
        and not claim.dismissed
        and (ours := store.key_at(me, claim.sequence)) is not None
        and ours != claim.key
    ]
