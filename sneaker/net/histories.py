"""``createHistoryStream``: served to anybody who may have the feed, and used with peers that have no EBT."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sneaker.errors import RemoteProtocolError, StoreDamaged
from sneaker.net.intake import Offer, Outcome
from sneaker.net.receivers import Silent
from sneaker.net.replication import read_run
from sneaker.refs import FeedRef
from sneaker.wire.calls import CallKind, PeerError, RequestReceived
from sneaker.wire.history import (
    HistoryQuery,
    ReorderBuffer,
    encode_history_item,
    format_history_arguments,
    history_message,
    parse_history_arguments,
)
from sneaker.wire.notes import MessageItem, parse_item
from sneaker.wire.packets import BodyKind

if TYPE_CHECKING:
    from sneaker.net.meeting import Meeting

__all__ = ["HistoryFetcher", "HistoryServer"]

_RUN_MESSAGES = 100


@dataclass
class _Served(Silent):
    """A call of the peer's: where it stands, and how many messages it may still get."""

    call: int
    query: HistoryQuery
    next: int
    left: int | None


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
        first = query.first if query.old else max(query.first, self._node.replicator.sequence(query.feed) + 1)
        served = _Served(request.call, query, first, query.limit)
        self._connection.attach(request.call, served)
        self._due.append(served)
        self._work()

    def appended(self, feed: FeedRef) -> None:
        """Hear that a feed has grown."""
        waiting = self._live.pop(feed, None) if self._live else None
        if waiting:
            self._due.extend(waiting)
            self._work()

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
        held = node.replicator.sequence(query.feed)
        may = node.replicator.shares(query.feed) and query.feed not in node.policy.withheld(connection.peer)
        if not may or served.left == 0:
            connection.end(served.call)  # as JavaScript peers do: no word about the reason
            return
        if served.next > held:
            self._wait(served)
            return
        last = min(held, served.next + _RUN_MESSAGES - 1)
        if served.left is not None:
            last = min(last, served.next + served.left - 1)
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
        if served.left is not None:
            served.left -= len(messages)
        self._due.append(served)

    def _wait(self, served: _Served) -> None:
        if not served.query.live:
            self._connection.end(served.call)
            return
        waiting = self._live.setdefault(served.query.feed, [])
        if len(waiting) > 8:  # those that ended meanwhile
            waiting[:] = [other for other in waiting if self._connection.is_open(other.call)]
        waiting.append(served)


class HistoryFetcher:
    """Asks a peer without EBT for every feed we replicate, live, from where we are."""

    def __init__(self, meeting: Meeting) -> None:
        self._meeting = meeting
        self._fetches: dict[FeedRef, _Fetch] = {}

    def fetch(self, feed: FeedRef) -> None:
        """Ask for a feed, unless it is being asked for."""
        if feed not in self._fetches and not self._meeting.connection.closing:
            self._fetches[feed] = _Fetch(self._meeting, feed)


class _Fetch:
    """One feed from one peer."""

    def __init__(self, meeting: Meeting, feed: FeedRef) -> None:
        self._meeting = meeting
        self._node = meeting.node
        self._feed = feed
        first = self._node.replicator.sequence(feed) + 1
        self._buffer = ReorderBuffer(first)
        query = HistoryQuery(feed, first=first, live=True, keys=False)
        self._call = meeting.connection.open(
            ["createHistoryStream"], CallKind.SOURCE, format_history_arguments(query), self
        )

    def item_received(self, kind: BodyKind, body: bytes) -> None:
        connection = self._meeting.connection
        self._meeting.touch()
        try:
            raw = history_message(body)
            item = parse_item(raw) if raw is not None else None
        except RemoteProtocolError as error:
            connection.consumed(self._call, len(body))
            connection.end(self._call, error.message)
            return
        ready: list[bytes] = []
        if isinstance(item, MessageItem) and item.author == self._feed:
            try:
                ready = self._buffer.add(item.sequence, item.raw)
            except RemoteProtocolError as error:
                connection.end(self._call, error.message)
        connection.consumed(self._call, len(body))
        first = self._buffer.next_sequence - len(ready)
        for sequence, message in enumerate(ready, first):
            self._node.intake.offer(Offer(self, self._feed, sequence, message))

    def settled(self, offers: list[Offer], outcome: Outcome) -> None:
        if self._meeting.count_settled(offers, outcome):
            self._meeting.connection.end(self._call, "these messages are not valid")

    def end_received(self, error: PeerError | None, *, still_open: bool) -> None:
        """There is nothing more; a later connection asks again."""
