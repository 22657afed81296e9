"""Messages of our own feed that a peer shows and no stream can place: those before them did not come.

Dropped unseen, they would let us publish a fork.  In the store they wait for those before them, and the signature of one
is proof of how far our feed goes, whoever brought it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sneaker.limits import MAX_JSON_LINE_BYTES
from sneaker.net.intake import Offer, Outcome
from sneaker.wire.ebt.notes import MessageItem

if TYPE_CHECKING:
    from sneaker.net.meeting import Meeting

__all__ = ["OwnMessages"]


class OwnMessages:
    """Hands the furthest of them to the store, for one connection.

    One at a time, and none after the first that is refused: what a peer makes up costs one signature.
    """

    def __init__(self, meeting: Meeting) -> None:
        self.connection = meeting.connection
        self._node = meeting.node
        self._furthest = 0
        self._is_under_way = False
        self._next: Offer | None = None
        self._is_over = False

    def seen(self, item: MessageItem) -> None:
        """Take a message that was not placed: nothing happens unless it is ours, and further than any before."""
        me = self._node.me
        if item.author != me or self._is_over or len(item.raw) > MAX_JSON_LINE_BYTES:
            return
        if item.sequence <= max(self._furthest, self._node.replicator.sequence(me)):
            return
        self._furthest = item.sequence
        self._next = Offer(self, me, item.sequence, item.raw)
        if not self._is_under_way:
            self._offer()

    def _offer(self) -> None:
        offer, self._next = self._next, None
        self._is_under_way = offer is not None
        if offer is not None:
            self._node.intake.offer(offer)

    def settled(self, offers: list[Offer], outcome: Outcome) -> None:
        """Hear what became of one; that it is not in the feed says nothing, for it has to wait."""
        refused = {(refusal.feed, refusal.sequence) for refusal in outcome.refusals}
        if any((offer.feed, offer.sequence) in refused for offer in offers):
            self._is_over, self._next = True, None
        self._offer()
