"""Claims about the own feed: who says that it goes further than this machine knows, or otherwise.

A restored backup does not know what it has forgotten, and a second machine with the same key does not know of the first.
Others do, and their cards, bundles and notes say so.  What near machines say is hearsay, but enough to stop publishing until
the messages themselves are here, or the person decides that there are none (``sneaker doctor --dismiss``).  What carries
our own signature, or this home noted itself, is no hearsay, and nobody can dismiss it.  What strangers
say stops nothing (``store.claims``).
"""

from __future__ import annotations

from collections.abc import Callable

from sneaker.bundle.card import Card
from sneaker.clock import VectorClock
from sneaker.home.home import Home
from sneaker.planning.others import ClockSource, Statement
from sneaker.refs import FeedRef
from sneaker.store.rows import Claim
from sneaker.store.store import Store

__all__ = ["Hearsay", "NamedPlaces", "card_statement", "contradicting", "note_card"]


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


class Hearsay:
    """What bundles and cards say that others have.

    The next bundle for them need not carry it: a hint, like what a peer says over EBT.  With ``dry_run`` nothing is
    remembered.
    """

    def __init__(self, home: Home, *, now_ms: Callable[[], int], dry_run: bool) -> None:
        self._home = home
        self._store = home.store
        self._me = home.keypair.public
        self._now_ms = now_ms
        self._dry_run = dry_run

    def learn_sequence(self, source: FeedRef | None, sequence: int) -> None:
        """Remember how far somebody says that our own feed goes, 0 if they do not."""
        if sequence and not self._dry_run:
            self._store.claims.note_claim(self._me, source, sequence)

    def learn_bundle(self, exporter: FeedRef, clock: VectorClock) -> None:
        """Remember what the exporter of a signed bundle had; our own old words say only how far our own feed went."""
        if clock and not self._dry_run:
            self._store.known_clocks.learn_clocks(
                [Statement(exporter, ClockSource.BUNDLE, clock)], now_ms=self._now_ms()
            )

    def learn_card(self, card: Card, signed: bytes) -> None:
        """Remember what a card says that was handed to us; our own says what this machine once knew."""
        self.learn_old_card(card)
        if card.machine != self._me and not self._dry_run:
            self._store.known_clocks.learn_clocks([card_statement(card, signed)], now_ms=self._now_ms())

    def learn_old_card(self, card: Card) -> None:
        """Note what an outdated card says of our own feed: it may have seen more of it than its machine does now."""
        if not self._dry_run:
            note_card(self._home, card)


class NamedPlaces:
    """The places in our own feed that a log names, taken or not: refused, torn off or unsigned, there is, or was, such a message.

    Of those that are refused, the first one in a part of the log is in the store at once, so that nobody publishes beside it;
    those that lie further, before the next part is read.
    """

    def __init__(self, hearsay: Hearsay, store: Store, me: FeedRef) -> None:
        self._hearsay = hearsay
        self._store = store
        self._me = me
        self._last = self._refused = self._noted = 0
        self._is_new_part = True
        # How far the feed goes with what is taken of the log, and what of it lies behind a gap.
        self._reach = store.own_sequence_seen(me).proven
        self._beyond: set[int] = set()

    def add(self, sequence: int | None, *, is_refused: bool) -> None:
        """Meet a place; None if it is torn off before its number: the next one at least."""
        place = sequence or self._last + 1
        self._last = max(self._last, place)
        if is_refused:
            self._refused = max(self._refused, place)
            if self._is_new_part:
                self._is_new_part = False
                self.note()
        elif place > self._reach:
            self._beyond.add(place)
            while self._reach + 1 in self._beyond:
                self._reach += 1
                self._beyond.remove(self._reach)

    def note(self) -> None:
        """Remember in the store which places were refused; necessary before our feed gets further."""
        if self._refused > self._noted:
            self._noted = self._refused
            self._hearsay.learn_sequence(None, self._noted)

    def end_part(self) -> None:
        """Remember it before more of the log is read."""
        self.note()
        self._is_new_part = True

    def end(self) -> None:
        """Remember all places, also those that were taken, and dropped again."""
        self._hearsay.learn_sequence(None, self._last)

    def overtaken(self) -> str:
        """Say, for people, whether a message from elsewhere came to stand where the log says that there was one; "" if not."""
        head, place = self._store.head(self._me), self._reach + 1
        if head is None or not place <= min(head.sequence, self._refused):
            return ""
        return (
            f"it names messages of yours up to {self._refused:,}, and while it was read, another message {place:,} was published"
            " here or came from elsewhere: your feed may be forked"
        )
