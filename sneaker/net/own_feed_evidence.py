"""What a peer shows or says of our own feed beyond what we hold: noted, so that we never publish a fork.

Messages that no stream can place, because those before them did not come, would be dropped unseen.  In the store they wait
for those before them, and the signature of one is proof of how far our feed goes, whoever brought it.  A peer's mere word is
a claim: it is written down if the peer is somebody to believe.
"""

from __future__ import annotations

from sneaker.limits import MAX_JSON_LINE_BYTES
from sneaker.net.context import NetContext
from sneaker.net.message_intake import Offer, Outcome
from sneaker.net.peer_session import PeerSession
from sneaker.wire.ebt.notes import MessageItem

__all__ = ["OwnFeedClaims", "OwnMessagesBeyondGap"]


class OwnMessagesBeyondGap:
    """Hands the furthest of such messages of our own feed to the store, for one connection.

    One at a time, and none after the first that is refused: what a peer makes up costs one signature.
    """

    def __init__(self, context: NetContext, session: PeerSession) -> None:
        self.session = session
        self._context = context
        self._furthest = 0
        self._is_under_way = False
        self._next: Offer | None = None
        self._is_over = False

    def unplaced_message_seen(self, item: MessageItem) -> None:
        """Take a message that was not placed: nothing happens unless it is ours, and further than any before."""
        me = self._context.me
        if item.author != me or self._is_over or len(item.raw) > MAX_JSON_LINE_BYTES:
            return
        if item.sequence <= max(self._furthest, self._context.replicator.sequence(me)):
            return
        self._furthest = item.sequence
        self._next = Offer(self, me, item.sequence, item.raw)
        if not self._is_under_way:
            self._offer_next()

    def _offer_next(self) -> None:
        offer, self._next = self._next, None
        self._is_under_way = offer is not None
        if offer is not None:
            self._context.intake.offer_message(offer)

    def offers_settled(self, offers: list[Offer], outcome: Outcome) -> None:
        """Hear what became of one; that it is not in the feed says nothing, for it has to wait."""
        refused = {(refusal.feed, refusal.sequence) for refusal in outcome.refusals}
        if any((offer.feed, offer.sequence) in refused for offer in offers):
            self._is_over, self._next = True, None
        self._offer_next()


class OwnFeedClaims:
    """Writes down how far one peer says that our own feed goes, at once."""

    def __init__(self, context: NetContext, session: PeerSession) -> None:
        self._context = context
        self._peer = session.peer
        self._claimed = 0
        self._is_saving = False

    def claim_heard(self, sequence: int) -> None:
        """Hear how far the peer says that our feed goes."""
        context = self._context
        if sequence > max(context.replicator.sequence(context.me), self._claimed):
            self._claimed = sequence
            if not self._is_saving:
                self._is_saving = True
                context.background.spawn(self._save())

    async def _save(self) -> None:
        """Write it down; one at a time, however often the peer says something else."""
        saved = 0
        try:
            while saved < self._claimed:
                saved = self._claimed
                await self._context.peer_clocks.save_claim(self._peer, saved)
        finally:
            self._is_saving = False
