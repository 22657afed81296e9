"""The small calls: who we are, what we serve, whether we are alive; and what goes on, for programs with our own key."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

from sneaker.errors import CallRefused, NetworkError
from sneaker.net.connected_peer import ConnectedPeer, Service
from sneaker.net.keep_alive import SILENCE_S, KeepAlive
from sneaker.net.method_permissions import Handler
from sneaker.net.peer_session import PeerSession
from sneaker.wire.json_text import encode_json
from sneaker.wire.muxrpc.calls import CallKind, PeerError, RequestReceived
from sneaker.wire.muxrpc.manifest import Method, Permission
from sneaker.wire.muxrpc.packets import BodyKind

__all__ = ["MANIFEST", "AdminService", "ask_whoami"]

MANIFEST = Method(("manifest",), CallKind.ASYNC, Permission.STRANGER, sync=True)
_WHOAMI = Method(("whoami",), CallKind.ASYNC, Permission.STRANGER, sync=True)
_PING = Method(("gossip", "ping"), CallKind.DUPLEX, Permission.STRANGER)
_STATUS = Method(("status",), CallKind.ASYNC, Permission.OWN_KEY, sync=True)


async def ask_whoami(session: PeerSession, timeout_s: float) -> None:
    """Ask a peer who it is, only for a sign of life: an answer, even a refusal, shows that it reads what we send."""
    with contextlib.suppress(CallRefused, NetworkError):
        await session.call(_WHOAMI.name, timeout_s=timeout_s)


class AdminService(Service):
    """``manifest``, ``whoami``, ``gossip.ping`` and ``status``."""

    def __init__(self, peer: ConnectedPeer, status: Callable[[], dict[str, object]]) -> None:
        """``status`` says what goes on, as a JSON object."""
        super().__init__(peer)
        self._status = status
        self._keep_alive = KeepAlive(self.session, lambda: ask_whoami(self.session, SILENCE_S))

    def handlers(self) -> Mapping[Method, Handler]:
        """Return the methods that are served, and what serves each."""
        return {
            MANIFEST: self._serve_manifest,
            _WHOAMI: self._serve_whoami,
            _PING: self._serve_ping,
            _STATUS: self._serve_status,
        }

    def tick(self) -> None:
        """Ask a peer that has been silent for long whether it is there, and leave one that is not."""
        self._keep_alive.check(self.context.now())

    def _serve_manifest(self, request: RequestReceived) -> None:
        self.session.answer_call(request.call, encode_json(self.peer.served_methods.manifest(self.peer.permission)))

    def _serve_whoami(self, request: RequestReceived) -> None:
        self.session.answer_call(request.call, encode_json({"id": str(self.context.me)}))

    def _serve_status(self, request: RequestReceived) -> None:
        self.session.answer_call(request.call, encode_json(self._status()))

    def _serve_ping(self, request: RequestReceived) -> None:
        self.session.attach_receiver(request.call, _Ping(self.session, request.call, self.context.now_ms))


class _Ping:
    """``gossip.ping``: the caller sends its time now and then, and gets ours."""

    def __init__(self, session: PeerSession, call: int, now_ms: Callable[[], int]) -> None:
        self._session = session
        self._call = call
        self._now_ms = now_ms

    def item_received(self, kind: BodyKind, body: bytes) -> None:
        self._session.consumed(self._call, len(body))
        self._session.send_item(self._call, encode_json(self._now_ms()))

    def end_received(self, error: PeerError | None, *, still_open: bool) -> None:
        if still_open:
            self._session.end_call(self._call)
