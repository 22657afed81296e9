"""Blobs that are wanted, by us or by peers, and fetched: what all connections of a node share of them."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable
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
# Blobs of ours that peers are told we want. If more are missing, so many of the oldest wants that nobody has anything for
# give way to others at each look, and have their turn again when all others had theirs.
_MAX_OWN_WANTS = 1000
_TURN = 100
_MAX_GIVEN_UP = 100_000
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
        # What we want for ourselves; the oldest wants come first.
        self._own: dict[BlobRef, None] = {}
        self._given_up: set[BlobRef] = set()
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
                self._own[blob] = None
                self.exchange.want(blob)
        self.send_and_fetch()

    def want_missing(self) -> None:
        """Want, soon, what recent messages of the feeds we replicate mention; the nearest feeds come first.

        What came in another way (on a stick) is wanted no more, and peers that asked for it are told.
        """
        self._looking += 1
        self._context.background.spawn(self._look_for_missing())

    async def _look_for_missing(self) -> None:
        hops = self._context.policy.hops
        feeds = sorted(hops, key=lambda feed: (hops[feed], feed))
        wanted, without = list(self._own), self._given_up.union(self._own)
        find = self._context.background.with_store
        try:
            here, missing = await find(
                lambda store: (self._find_here(wanted), self._find_missing(store, feeds, without))
            )
            for blob, size in here:
                if blob in self._own:
                    del self._own[blob]
                    self.exchange.stored(blob, size)
            self._make_room(len(missing))
            self.want_blobs(missing)
            if len(self._own) < _MAX_OWN_WANTS or not missing or len(self._given_up) > _MAX_GIVEN_UP:
                self._given_up.clear()
        finally:
            self._looking -= 1

    def _find_here(self, wanted: Iterable[BlobRef]) -> list[tuple[BlobRef, int]]:
        sizes = ((blob, self._context.blob_store.size(blob)) for blob in wanted)
        return [(blob, size) for blob, size in sizes if size is not None]

    def _make_room(self, count: int) -> None:
        """Give up some of the oldest wants for ``count`` others, if there is no room for all."""
        lacking = len(self._own) + count - _MAX_OWN_WANTS
        for blob in list(islice(self._own, max(0, min(_TURN, lacking)))):
            if self.exchange.unwant(blob):
                del self._own[blob]
                self._given_up.add(blob)

    def want_linked(self, grown: Iterable[tuple[FeedRef, int, int]]) -> None:
        """Want what new messages mention: feeds, and how far each was and is."""
        if len(self._own) >= _MAX_OWN_WANTS:
            return
        near = self._context.policy.is_near
        ranges = ((feed, max(before, now - _LOOK_BACK) + 1, now) for feed, before, now in grown if near(feed))
        found = self._first_missing(self._context.store, ranges, self._own)
        if found:
            self.want_blobs(found)

    def _find_missing(self, store: Store, feeds: list[FeedRef], without: Container[BlobRef]) -> list[BlobRef]:
        heads = ((feed, store.head(feed)) for feed in feeds)
        ranges = ((feed, head.sequence - _LOOK_BACK, head.sequence) for feed, head in heads if head is not None)
        return self._first_missing(store, ranges, without)

    def _first_missing(
        self, store: Store, ranges: Iterable[tuple[FeedRef, int, int]], without: Container[BlobRef]
    ) -> list[BlobRef]:
        """Return missing blobs that messages in ``ranges`` mention, but those in ``without``: as many as we may want."""
        missing = (link.blob for link in self._ledger(store).missing_links(ranges))
        return list(islice((blob for blob in missing if blob not in without), _MAX_OWN_WANTS))

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
            self._own.pop(download.fetch.blob, None)
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
