"""Claims about the own feed: who says that it goes further than this machine knows, or otherwise.

A restored backup does not know what it has forgotten, and a second machine with the same key does not know of the first.
Others do, and their cards, bundles and notes say so.  What near machines say is no proof, but enough to stop publishing until
the messages themselves are here, or the person decides that there are none (``sneaker doctor --dismiss``).  What carries
our own signature, or this home noted itself, counts as proof, and nobody can dismiss it.  What strangers
say stops nothing (``store.own_feed_claims``).
"""

from __future__ import annotations

from collections.abc import Callable

from sneaker.bundle.card import Card
from sneaker.clock import VectorClock
from sneaker.home.home import Home
from sneaker.planning.what_others_have import ClockSource, Statement
from sneaker.refs import FeedRef
from sneaker.store.rows import Claim
from sneaker.store.store import Store

__all__ = ["ImportedStatements", "card_statement", "contradicting", "note_card"]


def note_card(home: Home, card: Card) -> None:
    """Remember what a card says of our own feed, if that is more than we hold or, with our own signature, something else.

    A card of our own that this home did not make says that it has forgotten something, even if it names no messages.
    """
    store, me = home.store, home.keypair.public
    sequence = card.clock.get(me, 0)
    store.claims.note_claim(me, card.machine, sequence, card.head if card.machine == me else None)
    if card.machine == me:
        held = store.head(me)
        store.sticks.meet_own_card(me, card.counter, ahead=sequence > (held.sequence if held is not None else 0))


def card_statement(card: Card, signed: bytes) -> Statement:
    """Return what a card says of its machine; ``signed`` is the card itself."""
    return Statement(
        card.machine, ClockSource.CARD, card.clock, counter=card.counter, time_ms=card.time_ms, signed=signed
    )


def contradicting(store: Store, me: FeedRef) -> list[Claim]:
    """Return the claims that carry our own signature and name another message than the one we hold: forks, that is.

    Nobody without our secret can make one up; the other message itself may never have come here.
    """
    return [
        claim
        for claim in store.claims.claims_about(me)
        if claim.key is not None and (ours := store.key_at(me, claim.sequence)) is not None and ours != claim.key
    ]


class ImportedStatements:
    """What bundles, cards and logs that are imported say that others have, or how far our own feed goes.

    The next bundle for them need not carry it: a hint, like what a peer says over EBT.  With ``dry_run`` nothing is
    remembered.
    """

    def __init__(self, home: Home, *, now_ms: Callable[[], int], dry_run: bool) -> None:
        self._home = home
        self._store = home.store
        self._me = home.keypair.public
        self._now_ms = now_ms
        self._dry_run = dry_run

    def note_own_sequence(self, source: FeedRef | None, sequence: int) -> None:
        """Remember how far somebody says that our own feed goes, 0 if they do not."""
        if sequence and not self._dry_run:
            self._store.claims.note_claim(self._me, source, sequence)

    def note_bundle_clock(self, exporter: FeedRef, clock: VectorClock) -> None:
        """Remember what the exporter of a signed bundle had; our own old words say only how far our own feed went."""
        if clock and not self._dry_run:
            self._store.known_clocks.learn_clocks(
                [Statement(exporter, ClockSource.BUNDLE, clock)], now_ms=self._now_ms()
            )

    def note_card(self, card: Card, signed: bytes) -> None:
        """Remember what a card says that was handed to us; our own says what this machine once knew."""
        self.note_old_card(card)
        if card.machine != self._me and not self._dry_run:
            self._store.known_clocks.learn_clocks([card_statement(card, signed)], now_ms=self._now_ms())

    def note_old_card(self, card: Card) -> None:
        """Note what an outdated card says of our own feed: it may have seen more of it than its machine does now."""
        if not self._dry_run:
            note_card(self._home, card)
