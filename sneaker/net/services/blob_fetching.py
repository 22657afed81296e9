"""Blobs that are wanted, by us or by peers, and fetched: what all connections of a node share of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import islice
from typing import Protocol

from sneaker.errors import ConnectionLost, RemoteProtocolError, SneakerError
from sneaker.net.connected_peer import ConnectedPeer
from sneaker.net.context import NetContext
from sneaker.net.stream_receivers import StreamReceiver
from sneaker.refs import BlobRef, FeedRef
from sneaker.store.blob_ledger import BlobLedger
from sneaker.store.store import Store
from sneaker.wire.blobs import BlobExchange, BlobReceiver, Fetch
from sneaker.wire.muxrpc.calls import PeerError
from sneaker.wire.muxrpc.packets import BodyKind

__all__ = ["BlobFetching", "BlobPeer"]

# Blobs being fetched at once, all peers together: each is held in memory until it is whole, 5 MB at most.
_MAX_FETCHES = 4
# A peer that sends nothing for so long does not have the blob after all.
_FETCH_TIMEOUT_S = 30.0
# Blobs of ours that peers are told we want; the rest have their turn when these came.
_MAX_OWN_WANTS = 1000
# How far back in each feed we look for blobs that are missing.
_LOOK_BACK = 200


class BlobPeer(Protocol):
    """A connected peer, as far as blobs go."""

    peer: ConnectedPeer

    def call_get(self, fetch: Fetch, receiver: StreamReceiver) -> int:
        """Call ``blobs.get`` and return the number of the call; raises ConnectionLost."""

    def send_wants(self) -> bool:
        """Send what is due of our wants and haves; return whether there was anything."""


class BlobFetching:
    """What all connections share: wants, haves and fetches."""

    def __init__(self, context: NetContext) -> None:
        self._context = context
        self.exchange = BlobExchange()
        self._peers: dict[FeedRef, BlobPeer] = {}
        self._fetches: set[_Download] = set()
        self._own: set[BlobRef] = set()
        # How many are looking for what is missing.
        self._looking = 0

    def peer_connected(self, peer: BlobPeer) -> None:
        """Begin with a peer."""
        self.exchange.connect(peer.peer.key)
        self._peers[peer.peer.key] = peer

    def peer_disconnected(self, peer: BlobPeer) -> None:
        """Forget a peer; what was being fetched from it is fetched from others."""
        if self._peers.get(peer.peer.key) is peer:
            del self._peers[peer.peer.key]
            self.exchange.disconnect(peer.peer.key)
        self.send_and_fetch()

    # ------------------------------------------------------------------------------------------ what we want

    def want_blobs(self, blobs: Iterable[BlobRef]) -> None:
        """Want those of the blobs that we lack for ourselves, up to a limit."""
        ledger = self._ledger(self._context.store)
        for blob in blobs:
            if len(self._own) >= _MAX_OWN_WANTS:
                break
            if blob not in self._own and ledger.must_fetch(blob):
                self._own.add(blob)
                self.exchange.want(blob)
        self.send_and_fetch()

    def want_missing(self) -> None:
        """Want, soon, what recent messages of the feeds we replicate mention; the nearest feeds come first."""
        if len(self._own) < _MAX_OWN_WANTS:
            self._looking += 1
            self._context.background.spawn(self._look_for_missing())

    async def _look_for_missing(self) -> None:
        hops = self._context.policy.hops
        feeds = sorted(hops, key=lambda feed: (hops[feed], feed))
        find = self._context.background.with_store
        try:
            self.want_blobs(await find(lambda store: self._find_missing(store, feeds)))
        finally:
            self._looking -= 1

    def want_linked(self, grown: Iterable[tuple[FeedRef, int, int]]) -> None:
        """Want what new messages mention: feeds, and how far each was and is."""
        near = self._context.policy.is_near
        ranges = ((feed, max(before, now - _LOOK_BACK) + 1, now) for feed, before, now in grown if near(feed))
        found = self._first_missing(self._context.store, ranges)
        if found:
            self.want_blobs(found)

    def _find_missing(self, store: Store, feeds: list[FeedRef]) -> list[BlobRef]:
        heads = ((feed, store.head(feed)) for feed in feeds)
        ranges = ((feed, head.sequence - _LOOK_BACK, head.sequence) for feed, head in heads if head is not None)
        return self._first_missing(store, ranges)

    def _first_missing(self, store: Store, ranges: Iterable[tuple[FeedRef, int, int]]) -> list[BlobRef]:
        missing = self._ledger(store).missing_links(ranges)
        return [link.blob for link in islice(missing, _MAX_OWN_WANTS - len(self._own))]

    def _ledger(self, store: Store) -> BlobLedger:
        return BlobLedger(store, self._context.blob_store)

    # ------------------------------------------------------------------------------------------ fetching

    @property
    def is_busy(self) -> bool:
        """Whether a blob is on its way, or is being looked for which are missing."""
        return bool(self._fetches) or self._looking > 0

    def send_and_fetch(self) -> None:
        """Tell peers what is due to them, and begin to fetch what somebody has."""
        for peer in self._peers.values():
            peer.send_wants()
        while len(self._fetches) < _MAX_FETCHES:
            fetch = self.exchange.next_fetch()
            if fetch is None:
                return
            source = self._peers.get(fetch.peer)
            if source is None or source.peer.session.closing:
                self.exchange.fetch_failed(fetch)
                continue
            self._fetches.add(_Download(self._context, self, source, fetch))

    def download_ended(self, download: _Download, size: int | None) -> None:
        """End a download: ``size`` if the blob is stored now."""
        self._fetches.discard(download)
        if size is None:
            self.exchange.fetch_failed(download.fetch)
        else:
            self._own.discard(download.fetch.blob)
            self.exchange.stored(download.fetch.blob, size)
        self.send_and_fetch()


class _Download:
    """One ``blobs.get``."""

    def __init__(self, context: NetContext, fetching: BlobFetching, source: BlobPeer, fetch: Fetch) -> None:
        self.fetch = fetch
        self._context = context
        self._fetching = fetching
        self._peer = source.peer
        self._receiver = BlobReceiver(fetch.blob)
        self._parts: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._over = False
        self._restart_timer()
        try:
            self._call = source.call_get(fetch, self)
        except ConnectionLost:
            self._call = 0
            asyncio.get_running_loop().call_soon(self._finish, None)

    def _restart_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(_FETCH_TIMEOUT_S, self._give_up)

    def _give_up(self) -> None:
        self._peer.session.end_call(self._call, "this takes too long")
        self._finish(None)

    def item_received(self, kind: BodyKind, body: bytes) -> None:
        self._peer.session.consumed(self._call, len(body))
        try:
            self._receiver.add_chunk(body)
        except RemoteProtocolError as error:
            self._peer.session.end_call(self._call, error.message)
            self._finish(None)
            return
        self._parts.append(body)
        self._restart_timer()
        self._peer.note_activity()

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
        self._context.background.spawn(self._store_blob())

    async def _store_blob(self) -> None:
        data = b"".join(self._parts)
        self._parts = []
        try:
            await asyncio.to_thread(self._context.blob_store.add_blob, data, self.fetch.blob)
        except SneakerError as error:
            self._context.remark(error.message)
            self._finish(None)
            return
        self._peer.counts.blobs_received += 1
        self._peer.note_activity()
        self._finish(len(data))

    def _finish(self, size: int | None) -> None:
        if not self._over:
            self._over = True
            self._parts = []
            if self._timer is not None:
                self._timer.cancel()
            self._fetching.download_ended(self, size)
