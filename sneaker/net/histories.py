"""``createHistoryStream``, served to anybody who may have the feed."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sneaker.errors import StoreDamaged
from sneaker.net.receivers import Silent
from sneaker.net.replication import read_run
from sneaker.refs import FeedRef
from sneaker.wire.history import (
    HistoryQuery,
    encode_history_item,
    parse_history_arguments,
)
from sneaker.wire.muxrpc.calls import PeerError, RequestReceived

if TYPE_CHECKING:
    from sneaker.net.meeting import Meeting

__all__ = ["HistoryServer"]

_RUN_MESSAGES = 100


@dataclass(eq=False)
class _Served(Silent):
    """A call of the peer's: ``next`` is due, up to ``stop`` or without end; then ``live`` goes on from there, if at all."""

    server: HistoryServer
    call: int
    query: HistoryQuery
    next: int
    stop: int | None
    live: int | None

    def end_received(self, error: PeerError | None, *, still_open: bool) -> None:
        """The peer has lost interest."""
        self.server.ended(self)


class HistoryServer:
    """Serves all calls of one peer, in turn; a live call that waits costs a few hundred bytes."""

    def __init__(self, meeting: Meeting) -> None:
        self._meeting = meeting
        self._node = meeting.node
        self._connection = meeting.connection
        self._due: deque[_Served] = deque()
        self._live: dict[FeedRef, list[_Served]] = {}
        self._working = False

    def serve(self, request: RequestReceived) -> None:
        """Take a call; raises CallRefused if its arguments make no sense."""
        query = parse_history_arguments(request.arguments)
        if query is None:
            self._connection.end(request.call)
            return
        held = self._node.replicator.sequence(query.feed)
        stop = held if query.limit is None else min(held, query.first + query.limit - 1)
        live = max(query.first, held + 1) if query.live else None
        served = _Served(self, request.call, query, query.first, stop if query.old else 0, live)
        self._connection.attach(request.call, served)
        self._due.append(served)
        self._work()

    def appended(self, feed: FeedRef) -> None:
        """Hear that a feed has grown."""
        waiting = self._live.pop(feed, None) if self._live else None
        if waiting:
            self._due.extend(waiting)
            self._work()

    def ended(self, served: _Served) -> None:
        """Forget a call that waits: a peer may ask for feeds that nobody ever heard of, again and again."""
        waiting = self._live.get(served.query.feed, [])
        if served in waiting:
            waiting.remove(served)
            if not waiting:
                del self._live[served.query.feed]

    def _work(self) -> None:
        if not self._working:
            self._working = True
            self._connection.spawn(self._serve_all())

    async def _serve_all(self) -> None:
        try:
            while self._due:
                served = self._due.popleft()
                if self._connection.is_open(served.call):
                    await self._connection.room()
                    self._serve_some(served)
                    await asyncio.sleep(0)
        finally:
            self._working = False

    def _serve_some(self, served: _Served) -> None:
        query, connection, node = served.query, self._connection, self._node
        if not self._may_have(query.feed):
            connection.end(served.call)  # as JavaScript peers do: no word about the reason
            return
        held = node.replicator.sequence(query.feed)
        last = min(held if served.stop is None else served.stop, served.next + _RUN_MESSAGES - 1)
        if served.next > last:
            self._turn_live(served)
            return
        try:
            messages = read_run(node.store, query.feed, served.next, last)
        except StoreDamaged as error:
            node.say(error.message)
            connection.end(served.call, "this feed cannot be read")
            return
        for message in messages:
            timestamp = message.timestamp if type(message.timestamp) in (int, float) else 0
            connection.send(served.call, encode_history_item(query, str(message.key), message.text, timestamp))
        self._meeting.count_sent(len(messages))
        served.next = last + 1
        self._due.append(served)

    def _may_have(self, feed: FeedRef) -> bool:
        """Whether the peer may have a feed, now or once there is something of it."""
        replicator = self._node.replicator
        if feed in replicator.closed or feed in self._node.policy.withheld(self._connection.peer):
            return False
        return replicator.shares(feed) or not replicator.sequence(feed)

    def _turn_live(self, served: _Served) -> None:
        """What was there is sent: end the call, or wait for what comes."""
        if served.live is None:
            self._connection.end(served.call)
            return
        if served.stop is not None:
            served.next, served.stop = served.live, None
        if served.next <= self._node.replicator.sequence(served.query.feed):
            self._due.append(served)  # it has come meanwhile
            return
        self._live.setdefault(served.query.feed, []).append(served)
