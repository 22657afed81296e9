"""The small calls that peers may make: who we are, what we serve, pings; and a few for programs with our own key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from sneaker.errors import CallRefused, RefError, SneakerError
from sneaker.refs import BlobRef
from sneaker.wire.blobs import parse_has_arguments
from sneaker.wire.json_text import encode_json
from sneaker.wire.muxrpc.calls import PeerError, RequestReceived
from sneaker.wire.muxrpc.manifest import manifest
from sneaker.wire.muxrpc.packets import BodyKind

if TYPE_CHECKING:
    from sneaker.net.meeting import Meeting

__all__ = ["Methods"]


class Methods:
    """The calls of one peer that are answered at once."""

    #: All that a meeting serves, here and elsewhere.
    SERVED: ClassVar[frozenset[tuple[str, ...]]] = frozenset(
        {
            ("manifest",),
            ("whoami",),
            ("gossip", "ping"),
            ("createHistoryStream",),
            ("ebt", "replicate"),
            ("ebt", "clock"),
            ("blobs", "get"),
            ("blobs", "getSlice"),
            ("blobs", "has"),
            ("blobs", "createWants"),
            ("blobs", "size"),
            ("blobs", "want"),
            ("status",),
        }
    )

    def __init__(self, meeting: Meeting) -> None:
        self._meeting = meeting
        self._node = meeting.node
        self._connection = meeting.connection

    def serve(self, request: RequestReceived) -> None:
        """Answer a call; raises CallRefused."""
        if request.name == ("gossip", "ping"):
            self._connection.attach(request.call, _Ping(self._meeting, request.call))
            return
        answers: dict[tuple[str, ...], Callable[[list[object]], object]] = {
            ("manifest",): lambda _: manifest(self._meeting.permission, self.SERVED),
            ("whoami",): lambda _: {"id": str(self._node.me)},
            ("ebt", "clock"): self._clock,
            ("blobs", "has"): self._has,
            ("blobs", "size"): lambda arguments: self._node.blobs.store.size(_blob(arguments)),
            ("status",): lambda _: self._node.status(),
        }
        if request.name == ("blobs", "want"):
            self._connection.spawn(self._want(request))
            return
        answer = answers.get(request.name)
        if answer is None:
            raise CallRefused(f"method:{','.join(request.name)} is not in list of allowed methods")
        self._connection.answer(request.call, encode_json(answer(request.arguments)))

    def _clock(self, _: list[object]) -> dict[str, int]:
        replicator = self._node.replicator
        return {str(feed): replicator.sequence(feed) for feed in replicator.wanted if replicator.sequence(feed)}

    def _has(self, arguments: list[object]) -> object:
        blobs, many = parse_has_arguments(arguments)
        found = [self._node.blobs.store.has(blob) for blob in blobs]
        return found if many else found[0]

    async def _want(self, request: RequestReceived) -> None:
        """Answer true once the blob is here, as ssb-blobs does."""
        try:
            blob = _blob(request.arguments)
        except CallRefused as error:
            self._connection.end(request.call, error.message)
            return
        self._node.blobs.want([blob])
        while not self._node.blobs.store.has(blob):
            await asyncio.sleep(0.25)
        self._connection.answer(request.call, b"true")


def _blob(arguments: list[object]) -> BlobRef:
    first = arguments[0] if arguments else None
    try:
        return BlobRef.parse(first if isinstance(first, str) else "")
    except (RefError, SneakerError):
        raise CallRefused("invalid hash") from None


class _Ping:
    """``gossip.ping``: the caller sends its time now and then, and gets ours."""

    def __init__(self, meeting: Meeting, call: int) -> None:
        self._meeting = meeting
        self._call = call

    def item_received(self, kind: BodyKind, body: bytes) -> None:
        connection = self._meeting.connection
        connection.consumed(self._call, len(body))
        connection.send(self._call, encode_json(self._meeting.node.now_ms()))

    def end_received(self, error: PeerError | None, *, still_open: bool) -> None:
        if still_open:
            self._meeting.connection.end(self._call)
