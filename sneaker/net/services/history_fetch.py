"""Feeds fetched by ``createHistoryStream``: from peers without EBT, and what the others announced and do not send."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sneaker.errors import RemoteProtocolError
from sneaker.net.connected_peer import ConnectedPeer
from sneaker.net.message_intake import Offer, Outcome
from sneaker.net.services.history import CREATE_HISTORY_STREAM
from sneaker.refs import FeedRef
from sneaker.wire.ebt.connection import EbtConnection
from sneaker.wire.ebt.notes import MessageItem, parse_item
from sneaker.wire.history import HistoryQuery, ReorderBuffer, format_history_arguments, history_message
from sneaker.wire.muxrpc.calls import PeerError
from sneaker.wire.muxrpc.manifest import is_unknown_method
from sneaker.wire.muxrpc.packets import BodyKind

__all__ = ["HistoryFetcher", "OverdueFetcher", "Unplaced"]

# A call for which nothing comes for so long is ended.
_SILENT_S = 10.0


class Unplaced(NamedTuple):
    """Messages of a feed, ``first`` and others after it, that came without those before them."""

    feed: FeedRef
    first: int
    messages: int


class HistoryFetcher:
    """Asks a peer without EBT for every feed we replicate, live, from where we are."""

    def __init__(self, peer: ConnectedPeer) -> None:
        self._peer = peer
        self._fetches: dict[FeedRef, _Fetch] = {}

    def fetch_feed(self, feed: FeedRef) -> None:
        """Ask for a feed, unless it is being asked for."""
        if feed not in self._fetches and not self._peer.session.closing:
            self._fetches[feed] = _Fetch(self._peer, feed)

    def unplaced(self) -> list[Unplaced]:
        """Return what came and could not be taken because messages before it did not come."""
        return [unplaced for fetch in self._fetches.values() if (unplaced := fetch.unplaced()) is not None]

    @property
    def problem(self) -> str:
        """Why a feed could not be fetched at all, or not to its end; "" if nothing went wrong."""
        return next((fetch.problem for fetch in self._fetches.values() if fetch.problem), "")


class OverdueFetcher:
    """Asks a peer with EBT for what it announced and does not send; ``look_for_overdue`` is to be called every second."""

    def __init__(self, peer: ConnectedPeer, stream: EbtConnection, refuse_feed: Callable[[FeedRef], None]) -> None:
        """``refuse_feed`` is told of feeds of which the peer gave messages that are not valid."""
        self._peer = peer
        self._context = peer.context
        self._stream = stream
        self._refuse_feed = refuse_feed
        self._fetches: dict[FeedRef, _OverdueFetch] = {}

    def look_for_overdue(self) -> None:
        """End the calls for which nothing comes, and begin those that are due."""
        now = self._context.now()
        for fetch in list(self._fetches.values()):
            fetch.give_up_if_silent(now)
        self._begin_due()

    def _begin_due(self) -> None:
        session = self._peer.session
        while not session.closing and (feed := self._stream.next_fetch(self._context.now())) is not None:
            self._fetches[feed] = _OverdueFetch(self._peer, feed, self._ended, self._refuse_feed)

    def _ended(self, feed: FeedRef, error: PeerError | None) -> None:
        del self._fetches[feed]
        refused = error is not None and is_unknown_method(error, CREATE_HISTORY_STREAM.name)
        self._stream.fetch_ended(feed, self._context.now(), error=error is not None, refused=refused)
        self._peer.wake()
        self._begin_due()


class _Fetch:
    """One feed from one peer, from where we are."""

    def __init__(self, peer: ConnectedPeer, feed: FeedRef, *, live: bool = True) -> None:
        self._peer = peer
        self._context = peer.context
        self.session = peer.session
        self._feed = feed
        first = self._context.replicator.sequence(feed) + 1
        self._buffer = ReorderBuffer(first, peer.reordering)
        # Sequences of what was held back, and dropped when the call was over.
        self._dropped: list[int] = []
        #: Why the call ended before it gave everything, "" if it did not.
        self.problem = ""
        query = HistoryQuery(feed, first=first, live=live, keys=False)
        self._call = peer.session.open_stream(
            CREATE_HISTORY_STREAM.name, CREATE_HISTORY_STREAM.kind, format_history_arguments(query), self
        )

    def item_received(self, kind: BodyKind, body: bytes) -> None:
        session = self._peer.session
        self._peer.note_activity()
        try:
            raw = history_message(body)
            item = parse_item(raw) if raw is not None else None
        except RemoteProtocolError as error:
            session.consumed(self._call, len(body))
            self._stop(error.message)
            return
        ready: list[bytes] = []
        if isinstance(item, MessageItem):
            try:
                if item.author == self._feed:
                    ready = self._buffer.add_message(item.sequence, item.raw)
            except RemoteProtocolError as error:
                self._dropped.append(item.sequence)
                self._stop(error.message)
            if not ready:
                self._peer.own_messages.unplaced_message_seen(item)
        session.consumed(self._call, len(body))
        first = self._buffer.next_sequence - len(ready)
        for sequence, message in enumerate(ready, first):
            self._offer(Offer(self, self._feed, sequence, message))

    def _offer(self, offer: Offer) -> None:
        self._context.intake.offer_message(offer)

    def offers_settled(self, offers: list[Offer], outcome: Outcome) -> None:
        if self._peer.count_settled(offers, outcome):
            self._stop("some of its messages are not valid")

    def unplaced(self) -> Unplaced | None:
        """Return what is or was held back, as far as it has not come in another way."""
        ours = self._context.replicator.sequence(self._feed)
        sequences = [sequence for sequence in (*self._dropped, *self._buffer.waiting) if sequence > ours]
        return Unplaced(self._feed, min(sequences), len(sequences)) if sequences else None

    def _stop(self, error: str) -> None:
        self.problem = error
        self._peer.session.end_call(self._call, error)
        self._drop()

    def _drop(self) -> None:
        self._dropped += self._buffer.waiting
        self._buffer.clear()

    def end_received(self, error: PeerError | None, *, still_open: bool) -> None:
        """Hear that there is nothing more; a later connection asks again."""
        if error is not None and is_unknown_method(error, CREATE_HISTORY_STREAM.name):
            self.problem = "the peer does not replicate with us"
        self._drop()


class _OverdueFetch(_Fetch):
    """What a peer has of a feed now; says when it is over and all that came is in the store."""

    def __init__(
        self,
        peer: ConnectedPeer,
        feed: FeedRef,
        ended: Callable[[FeedRef, PeerError | None], None],
        refuse_feed: Callable[[FeedRef], None],
    ) -> None:
        super().__init__(peer, feed, live=False)
        self._ended = ended
        self._refuse_feed = refuse_feed
        self._heard_at = self._context.now()
        self._unsettled = 0
        self._over = False
        self._error: PeerError | None = None

    def item_received(self, kind: BodyKind, body: bytes) -> None:
        self._heard_at = self._context.now()
        if self._over:
            self._peer.session.consumed(self._call, len(body))
        else:
            super().item_received(kind, body)

    def _offer(self, offer: Offer) -> None:
        self._unsettled += 1
        super()._offer(offer)

    def offers_settled(self, offers: list[Offer], outcome: Outcome) -> None:
        self._heard_at = self._context.now()
        self._unsettled -= len(offers)
        if self._peer.count_settled(offers, outcome):
            self._refuse_feed(self._feed)
            self._stop("some of its messages are not valid")
        elif self._over:
            self._finish(self._error)

    def give_up_if_silent(self, now: float) -> None:
        """End the call if nothing has come for long and nothing is on its way into the store."""
        if not self._over and not self._unsettled and now - self._heard_at > _SILENT_S:
            self._peer.session.end_call(self._call)
            self._finish(None)

    def _stop(self, error: str) -> None:
        if not self._over:
            super()._stop(error)
        self._finish(PeerError(error))

    def end_received(self, error: PeerError | None, *, still_open: bool) -> None:
        if not self._over:
            self._finish(error)

    def _finish(self, error: PeerError | None) -> None:
        self._over, self._error = True, error
        self._drop()
        if not self._unsettled:
            self._ended(self._feed, error)
