"""Blobs over the wire: who wants what is ``wire.blobs``; here is the store, and who may fetch for whom."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sneaker.errors import CallRefused, ConnectionLost, RemoteProtocolError, SneakerError
from sneaker.limits import MAX_BLOB_CHUNK_BYTES
from sneaker.net.receivers import Silent
from sneaker.refs import BlobRef, FeedRef
from sneaker.store.blobs import BlobStore
from sneaker.store.store import Store
from sneaker.wire.blobs import (
    NO_BLOB_TEXT,
    BlobExchange,
    BlobQuery,
    BlobReceiver,
    Fetch,
    format_get_arguments,
    parse_get_arguments,
)
from sneaker.wire.muxrpc.calls import CallKind, PeerError, RequestReceived
from sneaker.wire.muxrpc.packets import BodyKind

if TYPE_CHECKING:
    from sneaker.net.meeting import Meeting
    from sneaker.net.node import Node

__all__ = ["BlobTalk", "Blobs"]

# Blobs being fetched at once, all peers together: each is held in memory until it is whole, 5 MB at most.
_MAX_FETCHES = 4
# A peer that sends nothing for so long does not have the blob after all.
_FETCH_TIMEOUT_S = 30.0
# Blobs of ours that peers are told we want; the rest have their turn when these came.
_MAX_OWN_WANTS = 1000
# How far back in each feed we look for blobs that are missing.
_LOOK_BACK = 200
# Files that one peer may be reading at once.
_MAX_READS = 8


class Blobs:
    """What all connections share: wants, haves and fetches."""

    def __init__(self, node: Node, store: BlobStore) -> None:
        self._node = node
        self.store = store
        self.exchange = BlobExchange()
        self._talks: dict[FeedRef, BlobTalk] = {}
        self._fetches: set[_Download] = set()
        self._own: set[BlobRef] = set()

    def connect(self, talk: BlobTalk) -> None:
        """Begin with a peer."""
        self.exchange.connect(talk.peer)
        self._talks[talk.peer] = talk

    def disconnect(self, talk: BlobTalk) -> None:
        """Forget a peer."""
        if self._talks.get(talk.peer) is talk:
            del self._talks[talk.peer]
            self.exchange.disconnect(talk.peer)

    def want(self, blobs: Iterable[BlobRef]) -> None:
        """Want blobs for ourselves, those we lack, as many as is decent."""
        for blob in blobs:
            if len(self._own) >= _MAX_OWN_WANTS:
                break
            if blob not in self._own and not self.store.has(blob) and not self.store.take_early(blob):
                self._own.add(blob)
                self.exchange.want(blob)
        self.pump()

    async def want_missing(self) -> None:
        """Want what recent messages of the feeds we replicate mention; the nearest feeds come first."""
        hops = self._node.policy.hops
        feeds = sorted(hops, key=lambda feed: (hops[feed], feed))
        if len(self._own) < _MAX_OWN_WANTS:
            self.want(await self._node.in_background(lambda store: self._find_missing(store, feeds)))

    def want_linked(self, grown: Iterable[tuple[FeedRef, int, int]]) -> None:
        """Want what new messages mention: feeds, and how far each was and is."""
        near, links = self._node.policy.is_near, self._node.store.blob_links
        found: list[BlobRef] = []
        for feed, before, now in grown:
            if len(self._own) + len(found) >= _MAX_OWN_WANTS:
                break
            if near(feed):
                found += [link.blob for link in links(feed, max(before, now - _LOOK_BACK) + 1, now)]
        if found:
            self.want(found)

    def _find_missing(self, store: Store, feeds: list[FeedRef]) -> list[BlobRef]:
        found: dict[BlobRef, None] = {}
        for feed in feeds:
            head = store.head(feed)
            if head is None:
                continue
            for link in store.blob_links(feed, head.sequence - _LOOK_BACK, head.sequence):
                if not self.store.has(link.blob):
                    found[link.blob] = None
            if len(found) >= _MAX_OWN_WANTS:
                break
        return list(found)

    @property
    def is_fetching(self) -> bool:
        """Whether a blob is on its way."""
        return bool(self._fetches)

    def pump(self) -> None:
        """Tell peers what is due to them, and begin to fetch what somebody has."""
        for talk in self._talks.values():
            talk.send_items()
        while len(self._fetches) < _MAX_FETCHES:
            fetch = self.exchange.next_fetch()
            if fetch is None:
                return
            talk_ = self._talks.get(fetch.peer)
            if talk_ is None or talk_.connection.closing:
                self.exchange.fetch_failed(fetch)
                continue
            self._fetches.add(_Download(self, talk_, fetch))

    def done(self, download: _Download, size: int | None) -> None:
        """End a download: ``size`` if the blob is stored now."""
        self._fetches.discard(download)
        if size is None:
            self.exchange.fetch_failed(download.fetch)
        else:
            self._own.discard(download.fetch.blob)
            self.exchange.stored(download.fetch.blob, size)
        self.pump()


class _Download:
    """One ``blobs.get``."""

    def __init__(self, blobs: Blobs, talk: BlobTalk, fetch: Fetch) -> None:
        self.fetch = fetch
        self._blobs = blobs
        self._talk = talk
        self._receiver = BlobReceiver(fetch.blob)
        self._parts: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._over = False
        self._restart_timer()
        try:
            self._call = talk.connection.open(["blobs", "get"], CallKind.SOURCE, format_get_arguments(fetch), self)
        except ConnectionLost:
            self._call = 0
            asyncio.get_running_loop().call_soon(self._finish, None)

    def _restart_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(_FETCH_TIMEOUT_S, self._give_up)

    def _give_up(self) -> None:
        self._talk.connection.end(self._call, "this takes too long")
        self._finish(None)

    def item_received(self, kind: BodyKind, body: bytes) -> None:
        self._talk.connection.consumed(self._call, len(body))
        try:
            self._receiver.add(body)
        except RemoteProtocolError as error:
            self._talk.connection.end(self._call, error.message)
            self._finish(None)
            return
        self._parts.append(body)
        self._restart_timer()
        self._talk.meeting.touch()

    def end_received(self, error: PeerError | None, *, still_open: bool) -> None:
        if self._over:
            return
        try:
            if error is not None:
                raise RemoteProtocolError(error.message)
            self._receiver.finish()
        except RemoteProtocolError:
            self._finish(None)
            return
        if self._timer is not None:
            self._timer.cancel()
        # The connection may end meanwhile; the blob is good all the same.
        task = asyncio.get_running_loop().create_task(self._store())
        self._blobs._node.keep(task)

    async def _store(self) -> None:
        data = b"".join(self._parts)
        self._parts = []
        try:
            await asyncio.to_thread(self._blobs.store.add, data, self.fetch.blob)
        except SneakerError as error:
            self._blobs._node.say(error.message)
            self._finish(None)
            return
        self._talk.meeting.tally.blobs_received += 1
        self._talk.meeting.touch()
        self._finish(len(data))

    def _finish(self, size: int | None) -> None:
        if not self._over:
            self._over = True
            self._parts = []
            if self._timer is not None:
                self._timer.cancel()
            self._blobs.done(self, size)


class BlobTalk:
    """Blobs between us and one connected peer."""

    def __init__(self, meeting: Meeting) -> None:
        self.meeting = meeting
        self.connection = meeting.connection
        self.peer = meeting.connection.peer
        self._blobs = meeting.node.blobs
        #: Whether the peer has said what it wants.
        self.heard = False
        self._stream: int | None = None
        self._wants_call = 0
        self._reads = 0
        self._blobs.connect(self)

    def start(self) -> None:
        """Ask what the peer wants and has."""
        with contextlib.suppress(ConnectionLost):
            self._wants_call = self.connection.open(["blobs", "createWants"], CallKind.SOURCE, [], self)

    def finish(self) -> None:
        """The connection has ended."""
        self._blobs.disconnect(self)
        self._blobs.pump()

    # -- what the peer says

    def item_received(self, kind: BodyKind, body: bytes) -> None:
        """Take wants and haves; a stranger's wants do not become ours."""
        self.heard = True
        self.connection.consumed(self._wants_call, len(body))
        exchange, store = self._blobs.exchange, self._blobs.store
        near = self.meeting.is_near
        for want in exchange.receive(self.peer, body):
            size = store.size(want.blob)
            if size is not None or near:
                exchange.answer(want, size)
        self._blobs.pump()

    def end_received(self, error: PeerError | None, *, still_open: bool) -> None:
        """The peer has no blobs, or tells no more about them."""
        self.heard = True

    # -- what the peer asks

    def serve_wants(self, request: RequestReceived) -> None:
        """Serve ``blobs.createWants``: the first item goes at once."""
        if self._stream is not None and self.connection.is_open(self._stream):
            self.connection.end(self._stream, "called again")
        self._stream = request.call
        self.connection.attach(request.call, Silent())
        self.send_items(force=True)

    def send_items(self, *, force: bool = False) -> None:
        """Send what is due on the stream that the peer opened."""
        if self._stream is None or not self.connection.is_open(self._stream):
            return
        items = self._blobs.exchange.items_to_send(self.peer)
        if not items and force:
            items = [b"{}"]
        for item in items:
            self.connection.send(self._stream, item)

    def serve_get(self, request: RequestReceived) -> None:
        """Serve ``blobs.get`` and ``blobs.getSlice``; raises CallRefused."""
        query = parse_get_arguments(request.arguments)
        size = self._blobs.store.size(query.blob)
        if size is None:
            raise CallRefused(NO_BLOB_TEXT)
        part = query.check(size)
        if self._reads >= _MAX_READS:
            raise CallRefused("too many blobs at once")
        self._reads += 1
        self.connection.attach(request.call, Silent())
        self.connection.spawn(self._send_blob(request.call, query, part))

    async def _send_blob(self, call: int, query: BlobQuery, part: range) -> None:
        try:
            path = self._blobs.store.path_of(query.blob)
            at = part.start
            if len(part):
                with path.open("rb") as file:
                    file.seek(at)
                    while at < part.stop and self.connection.is_open(call):
                        await self.connection.room()
                        chunk = file.read(min(MAX_BLOB_CHUNK_BYTES, part.stop - at))
                        if not chunk:
                            raise OSError("the file is shorter than it was")
                        at += len(chunk)
                        self.connection.send(call, chunk, BodyKind.BINARY)
            self.meeting.tally.blobs_sent += 1
            self.meeting.touch()
            self.connection.end(call)
        except OSError:
            self.connection.end(call, NO_BLOB_TEXT)
        finally:
            self._reads -= 1
