"""``createHistoryStream``, served to anybody who may have the feed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sneaker.errors import StoreDamaged
from sneaker.net.connected_peer import ConnectedPeer, Service
from sneaker.net.method_permissions import Handler
from sneaker.net.services.read_messages import read_messages
from sneaker.net.stream_receivers import SendOnly
from sneaker.refs import FeedRef
from sneaker.wire.history import (
    HistoryQuery,
    encode_history_item,
    parse_history_arguments,
)
from sneaker.wire.muxrpc.calls import CallKind, PeerError, RequestReceived
from sneaker.wire.muxrpc.manifest import Method, Permission

__all__ = ["CREATE_HISTORY_STREAM", "HistoryService"]

# JavaScript peers serve this to every key; what a stranger gets is decided feed by feed, as for everybody.
CREATE_HISTORY_STREAM = Method(("createHistoryStream",), CallKind.SOURCE, Permission.STRANGER)

_RUN_MESSAGES = 100


@dataclass(eq=False)
class _Served(SendOnly):
    """A call of the peer's: ``next`` is due, up to ``stop`` or without end; then ``live`` goes on from there, if at all."""

    service: HistoryService
    call: int
    query: HistoryQuery
    next: int
    stop: int | None
    live: int | None

    def end_received(self, error: PeerError | None, *, still_open: bool) -> None:
        """Hear that the peer has lost interest."""
        self.service.call_ended(self)


class HistoryService(Service):
    """Serves all calls of one peer, in turn; a live call that waits costs a few hundred bytes."""

    def __init__(self, peer: ConnectedPeer) -> None:
        super().__init__(peer)
        self._due: deque[_Served] = deque()
        self._live: dict[FeedRef, list[_Served]] = {}
        self._working = False

    def handlers(self) -> Mapping[Method, Handler]:
        """Return the methods that are served, and what serves each."""
        return {CREATE_HISTORY_STREAM: self._serve_history}

    def _serve_history(self, request: RequestReceived) -> None:
        query = parse_history_arguments(request.arguments)
        if query is None:
            self.session.end_call(request.call)
            return
        held = self.context.replicator.sequence(query.feed)
        stop = held if query.limit is None else min(held, query.first + query.limit - 1)
        live = max(query.first, held + 1) if query.live else None
        served = _Served(self, request.call, query, query.first, stop if query.old else 0, live)
        self.session.attach_receiver(request.call, served)
        self._due.append(served)
        self._work()

    def feeds_grown(self, grown: Sequence[tuple[FeedRef, int, int]]) -> None:
        """Let live calls go on whose feeds have grown."""
        if self._live:
            for feed, _, _ in grown:
                waiting = self._live.pop(feed, None)
                if waiting:
                    self._due.extend(waiting)
                    self._work()

    def call_ended(self, served: _Served) -> None:
        """Forget a call that waits: a peer may ask for feeds that nobody ever heard of, again and again."""
        waiting = self._live.get(served.query.feed, [])
        if served in waiting:
            waiting.remove(served)
            if not waiting:
                del self._live[served.query.feed]

    def _work(self) -> None:
        if not self._working:
            self._working = True
            self.session.spawn(self._serve_all())

    async def _serve_all(self) -> None:
        try:
            while self._due:
                served = self._due.popleft()
                if self.session.is_open(served.call):
                    await self.session.wait_for_room()
                    self._serve_some(served)
                    await asyncio.sleep(0)
        finally:
            self._working = False

    def _serve_some(self, served: _Served) -> None:
        query, session, context = served.query, self.session, self.context
        if not self._may_have(query.feed):
            session.end_call(served.call)  # as JavaScript peers do: no word about the reason
            return
        held = context.replicator.sequence(query.feed)
        last = min(held if served.stop is None else served.stop, served.next + _RUN_MESSAGES - 1)
        if served.next > last:
            self._turn_live(served)
            return
        try:
            messages = read_messages(context.store, query.feed, served.next, last)
        except StoreDamaged as error:
            context.remark(error.message)
            session.end_call(served.call, "this feed cannot be read")
            return
        for message in messages:
            timestamp = message.timestamp if type(message.timestamp) in (int, float) else 0
            session.send_item(served.call, encode_history_item(query, str(message.key), message.text, timestamp))
        self.peer.count_sent(len(messages))
        served.next = last + 1
        self._due.append(served)

    def _may_have(self, feed: FeedRef) -> bool:
        """Whether the peer may have a feed, now or once there is something of it."""
        replicator = self.context.replicator
        if feed in replicator.closed or feed in self.context.policy.withheld(self.peer.key):
            return False
        return replicator.shares(feed) or not replicator.sequence(feed)

    def _turn_live(self, served: _Served) -> None:
        """End a call for which all that was there is sent, or let it wait for what comes."""
        if served.live is None:
            self.session.end_call(served.call)
            return
        if served.stop is not None:
            served.next, served.stop = served.live, None
        if served.next <= self.context.replicator.sequence(served.query.feed):
            self._due.append(served)  # it has come meanwhile
            return
        self._live.setdefault(served.query.feed, []).append(served)
