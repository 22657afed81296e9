"""``blobs.*``: a peer's wants and haves, and the blobs that it asks for.

Who wants what is ``wire.blobs``; what is fetched, and from whom, is ``blob_fetching``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from sneaker.errors import CallRefused, ConnectionLost, RefError
from sneaker.limits import MAX_BLOB_CHUNK_BYTES
from sneaker.net.connected_peer import ConnectedPeer, Service
from sneaker.net.method_permissions import Handler
from sneaker.net.services.blob_fetching import BlobFetching
from sneaker.net.stream_receivers import SendOnly, StreamReceiver
from sneaker.refs import BlobRef
from sneaker.wire.blobs import (
    NO_BLOB_TEXT,
    BlobQuery,
    Fetch,
    format_get_arguments,
    parse_get_arguments,
    parse_has_arguments,
)
from sneaker.wire.json_text import encode_json
from sneaker.wire.muxrpc.calls import CallKind, PeerError, RequestReceived
from sneaker.wire.muxrpc.manifest import Method, Permission
from sneaker.wire.muxrpc.packets import BodyKind

__all__ = ["BlobService"]

_GET = Method(("blobs", "get"), CallKind.SOURCE, Permission.STRANGER)
_GET_SLICE = Method(("blobs", "getSlice"), CallKind.SOURCE, Permission.STRANGER)
_HAS = Method(("blobs", "has"), CallKind.ASYNC, Permission.STRANGER)
_CREATE_WANTS = Method(("blobs", "createWants"), CallKind.SOURCE, Permission.STRANGER)
_SIZE = Method(("blobs", "size"), CallKind.ASYNC, Permission.OWN_KEY)
_WANT = Method(("blobs", "want"), CallKind.ASYNC, Permission.OWN_KEY)

# Files that one peer may be reading at once.
_MAX_READS = 8
# How often we look whether a blob is here that a program of ours waits for.
_WANT_LOOK_S = 0.25


class BlobService(Service):
    """Blobs between us and one connected peer."""

    def __init__(self, peer: ConnectedPeer, fetching: BlobFetching) -> None:
        """``fetching`` is what all connections share."""
        super().__init__(peer)
        self._fetching = fetching
        # Whether the peer has said what it wants.
        self._heard = False
        # The call on which the peer hears what we want, and ours on which we hear it of the peer.
        self._wants_stream: int | None = None
        self._wants_call = 0
        self._reads = 0

    def handlers(self) -> Mapping[Method, Handler]:
        """Return the methods that are served, and what serves each."""
        return {
            _GET: self._serve_get,
            _GET_SLICE: self._serve_get,
            _HAS: self._serve_has,
            _CREATE_WANTS: self._serve_wants,
            _SIZE: self._serve_size,
            _WANT: self._serve_want,
        }

    def start(self) -> None:
        """Ask what the peer wants and has; programs of ours want nothing in this way."""
        if self.peer.has_our_key:
            self._heard = True
            return
        self._fetching.peer_connected(self)
        with contextlib.suppress(ConnectionLost):
            self._wants_call = self.session.open_stream(_CREATE_WANTS.name, _CREATE_WANTS.kind, [], self)

    def stop(self) -> None:
        """Take the peer out of what all connections share."""
        self._fetching.peer_disconnected(self)

    @property
    def is_busy(self) -> bool:
        """Whether the peer has not said yet what it wants, or is being sent a blob."""
        return not self._heard or self._reads > 0

    # ------------------------------------------------------------------------------------------ wants and haves

    def item_received(self, kind: BodyKind, body: bytes) -> None:
        """Take the peer's wants and haves; a stranger's wants do not become ours."""
        self._heard = True
        self.session.consumed(self._wants_call, len(body))
        exchange, store = self._fetching.exchange, self.context.blob_store
        near = self.peer.is_near
        for want in exchange.receive(self.peer.key, body):
            size = store.size(want.blob)
            if size is not None or near:
                exchange.answer(want, size)
        self._fetching.send_and_fetch()

    def end_received(self, error: PeerError | None, *, still_open: bool) -> None:
        """Hear that the peer has no blobs, or tells no more about them."""
        self._heard = True

    def _serve_wants(self, request: RequestReceived) -> None:
        """Serve ``blobs.createWants``; the first item goes at once."""
        if self._wants_stream is not None and self.session.is_open(self._wants_stream):
            self.session.end_call(self._wants_stream, "called again")
        self._wants_stream = request.call
        self.session.attach_receiver(request.call, SendOnly())
        if not self.send_wants():
            self.session.send_item(request.call, b"{}")

    def send_wants(self) -> bool:
        """Send what is due on the stream that the peer opened; return whether there was anything."""
        if self._wants_stream is None or not self.session.is_open(self._wants_stream) or self.peer.has_our_key:
            return False
        items = self._fetching.exchange.items_to_send(self.peer.key)
        for item in items:
            self.session.send_item(self._wants_stream, item)
        return bool(items)

    # ------------------------------------------------------------------------------------------ blobs themselves

    def call_get(self, fetch: Fetch, receiver: StreamReceiver) -> int:
        """Call ``blobs.get`` and return the number of the call; raises ConnectionLost."""
        return self.session.open_stream(_GET.name, _GET.kind, format_get_arguments(fetch), receiver)

    def _serve_get(self, request: RequestReceived) -> None:
        query = parse_get_arguments(request.arguments)
        size = self.context.blob_store.size(query.blob)
        if size is None:
            raise CallRefused(NO_BLOB_TEXT)
        part = query.check(size)
        if self._reads >= _MAX_READS:
            raise CallRefused("too many blobs at once")
        self._reads += 1
        self.session.attach_receiver(request.call, SendOnly())
        self.session.spawn(self._send_blob(request.call, query, part))

    async def _send_blob(self, call: int, query: BlobQuery, part: range) -> None:
        session = self.session
        try:
            path = self.context.blob_store.path_of(query.blob)
            at = part.start
            if len(part):
                with path.open("rb") as file:
                    file.seek(at)
                    while at < part.stop and session.is_open(call):
                        await session.wait_for_room()
                        chunk = file.read(min(MAX_BLOB_CHUNK_BYTES, part.stop - at))
                        if not chunk:
                            raise OSError("the file is shorter than it was")
                        at += len(chunk)
                        session.send_item(call, chunk, BodyKind.BINARY)
            self.peer.counts.blobs_sent += 1
            self.peer.note_activity()
            session.end_call(call)
        except OSError:
            session.end_call(call, NO_BLOB_TEXT)
        finally:
            self._reads -= 1

    def _serve_has(self, request: RequestReceived) -> None:
        blobs, many = parse_has_arguments(request.arguments)
        found = [self.context.blob_store.has(blob) for blob in blobs]
        self.session.answer_call(request.call, encode_json(found if many else found[0]))

    def _serve_size(self, request: RequestReceived) -> None:
        blob = _parse_blob(request.arguments)
        self.session.answer_call(request.call, encode_json(self.context.blob_store.size(blob)))

    def _serve_want(self, request: RequestReceived) -> None:
        self.session.spawn(self._answer_when_here(request.call, _parse_blob(request.arguments)))

    async def _answer_when_here(self, call: int, blob: BlobRef) -> None:
        """Answer true once the blob is here, as ssb-blobs does."""
        self._fetching.want_blobs([blob])
        while not self.context.blob_store.has(blob):
            await asyncio.sleep(_WANT_LOOK_S)
        self.session.answer_call(call, b"true")


def _parse_blob(arguments: list[object]) -> BlobRef:
    first = arguments[0] if arguments else None
    try:
        return BlobRef.parse(first if isinstance(first, str) else "")
    except RefError:
        raise CallRefused("invalid hash") from None
