"""``ebt.replicate``: who opens the stream, what is done with peers that have none, and what is noted of what they say.

A peer without EBT is asked for every feed by createHistoryStream instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from sneaker.clock import VectorClock
from sneaker.errors import CallRefused
from sneaker.limits import MAX_SEQUENCE
from sneaker.net.connected_peer import ConnectedPeer, Service
from sneaker.net.method_permissions import Handler
from sneaker.net.own_feed_evidence import OwnFeedClaims
from sneaker.net.services.ebt_stream import EbtStream
from sneaker.net.services.history_fetch import HistoryFetcher, Unplaced
from sneaker.planning.what_others_have import ClockSource, Statement
from sneaker.refs import FeedRef
from sneaker.wire.ebt.notes import parse_replicate_arguments
from sneaker.wire.json_text import encode_json
from sneaker.wire.muxrpc.calls import CallKind, PeerError, RequestReceived
from sneaker.wire.muxrpc.manifest import Method, Permission, is_unknown_method

__all__ = ["EbtService"]

# JavaScript peers serve this to every key; what a stranger gets is decided feed by feed, as for everybody.
_REPLICATE = Method(("ebt", "replicate"), CallKind.DUPLEX, Permission.STRANGER)
# Our whole vector clock tells whom we know.
_CLOCK = Method(("ebt", "clock"), CallKind.ASYNC, Permission.REPLICATED_PEER)

# A peer that dialled us calls ebt.replicate at once; one that does not for so long has none.
_EBT_WAIT_S = 3.0
# After such a pause, a peer is told what is committed of what it sent.
_ACKNOWLEDGE_S = 1.0


class EbtService(Service):
    """Replicates with one peer."""

    def __init__(self, peer: ConnectedPeer) -> None:
        super().__init__(peer)
        self.stream: EbtStream | None = None
        self.fetcher: HistoryFetcher | None = None
        self._claims = OwnFeedClaims(self.context, self.session)
        # Feeds whose authors block this peer.
        self._withheld = self.context.policy.withheld(peer.key)
        # Feeds of which the peer said or showed something that is not in the clock store yet.
        self._changed: set[FeedRef] = set()

    def handlers(self) -> Mapping[Method, Handler]:
        """Return the methods that are served, and what serves each."""
        return {_REPLICATE: self._serve_replicate, _CLOCK: self._serve_clock}

    # ------------------------------------------------------------------------------------------ life

    def start(self) -> None:
        """Call ``ebt.replicate`` if we dialled, else wait for the peer to call it."""
        if self.session.dialled:
            if not self.peer.has_our_key or self.peer.key not in self.context.replicator.connections:
                self._open_stream()
        elif not self.peer.has_our_key:
            self.session.spawn(self._wait_for_call())

    def _open_stream(self) -> None:
        self.stream = EbtStream(self.peer, self, _REPLICATE)

    async def _wait_for_call(self) -> None:
        await asyncio.sleep(_EBT_WAIT_S)
        if self.stream is None and self.peer.is_near and not self.session.closing:
            self._fetch_histories()

    def _fetch_histories(self) -> None:
        self.fetcher = HistoryFetcher(self.peer)
        self._fetch_wanted()

    def _fetch_wanted(self) -> None:
        if self.fetcher is not None:
            for feed in self.context.replicator.wanted:
                self.fetcher.fetch_feed(feed)

    def stop(self) -> None:
        """Forget the stream."""
        if self.stream is not None:
            self.stream.finish()

    def acknowledge(self, pause_s: float = 0.0) -> None:
        """Tell the peer what is committed of what it sent, if it has paused for so long."""
        if self.stream is not None:
            self.stream.acknowledge_after_pause(pause_s)

    def tick(self) -> None:
        """Acknowledge what came before a pause, and ask in another way for what does not come."""
        self.acknowledge(_ACKNOWLEDGE_S)
        if self.stream is not None:
            self.stream.fetch_overdue()

    def policy_changed(self) -> None:
        """Stop sending what is withheld from this peer now; without EBT, ask for what is wanted now."""
        withheld = self.context.policy.withheld(self.peer.key)
        if self.stream is not None:
            for feed in withheld - self._withheld:
                self.stream.connection.withhold(feed)
        self._withheld = withheld
        self._fetch_wanted()

    def wake(self) -> None:
        """Look whether there is something to send."""
        if self.stream is not None:
            self.stream.wake()

    # ------------------------------------------------------------------------------------------ calls

    def _serve_replicate(self, request: RequestReceived) -> None:
        parse_replicate_arguments(request.arguments)
        if self.stream is not None:
            self.stream.replace()
        elif self.peer.key in self.context.replicator.connections:
            raise CallRefused("this peer is being replicated over another connection")
        self.stream = EbtStream(self.peer, self, _REPLICATE, request.call)

    def _serve_clock(self, request: RequestReceived) -> None:
        replicator = self.context.replicator
        clock = {str(feed): replicator.sequence(feed) for feed in replicator.wanted if replicator.sequence(feed)}
        self.session.answer_call(request.call, encode_json(clock))

    # ------------------------------------------------------------------------------------------ from the stream

    def clock_received(self, changes: dict[FeedRef, int]) -> None:
        """Take down what the peer says it has; what it says about our own feed at once, so that we publish no fork."""
        self._changed.update(changes)
        claimed = changes.get(self.context.me, 0)
        if claimed > 0 and self._is_believed:
            self._claims.claim_heard(claimed)

    def message_shown(self, feed: FeedRef) -> None:
        """Note that the peer has shown a message of a feed."""
        self._changed.add(feed)

    def stream_ended(self, stream: EbtStream, error: PeerError | None) -> None:
        """Hear that EBT is over; without it, feeds are fetched one by one."""
        if self.stream is not stream:
            return
        self._changed.update(stream.connection.remote_clock)
        if error is not None and is_unknown_method(error, _REPLICATE.name) and not self.session.closing:
            self.stream = None
            self._fetch_histories()

    # ------------------------------------------------------------------------------------------ the account

    @property
    def _is_believed(self) -> bool:
        """Whether the peer's word goes into the clock store: anybody can make a key and claim anything."""
        context = self.context
        return self.peer.is_near or self.session.dialled or context.replicator.sequence(context.me) == 0

    def take_unsaved_notes(self) -> Statement:
        """Return, once, what the peer said or showed and is not in the store yet."""
        notes: dict[FeedRef, int] = {}
        if self.stream is not None and not self.peer.has_our_key and self._is_believed:
            clock = self.stream.connection.remote_clock
            changed, self._changed = self._changed, set()
            notes = {feed: clock[feed] for feed in changed if feed in clock}
        held = VectorClock({feed: min(last, MAX_SEQUENCE) for feed, last in notes.items() if last >= 0})
        return Statement(self.peer.key, ClockSource.EBT, held, frozenset(notes.keys() - held.keys()))

    @property
    def has_worked(self) -> bool:
        """Whether the peer said what it has, or was asked for it: whether anything could be done here at all."""
        return self.fetcher is not None or (self.stream is not None and self.stream.heard)

    @property
    def is_busy(self) -> bool:
        """Whether something is still to be sent, or is promised to come."""
        return self.fetcher is None if self.stream is None else self.stream.is_busy

    def unplaced(self) -> list[Unplaced]:
        """Return what the peer sent and we could not take because it did not send what comes before it."""
        if self.fetcher is not None:
            return self.fetcher.unplaced()
        streamed = self.stream.connection.unplaced() if self.stream is not None else {}
        return [Unplaced(feed, sequence, 1) for feed, sequence in streamed.items()]

    def shortcoming(self) -> str:
        """Say what the peer did not give although it is done, "" if nothing is missing."""
        if self.unplaced():
            return "the peer sent messages without those that come before them"
        return self.fetcher.problem if self.fetcher is not None else ""

    def count_unplaced(self) -> None:
        """Count as refused what cannot be taken, now that nothing more is waited for."""
        for feed, first, count in self.unplaced():
            self.peer.counts.refused += count
            missing = self.context.replicator.sequence(feed) + 1
            more = f" ({count:,} messages from here on)" if count > 1 else ""
            reason = f"message {missing}, which comes before it, did not come{more}"
            self.peer.counts.name_refusal(feed, first, reason)
