"""``sneaker.settled``: a call of our own, answered once all that the caller sent before it has had its effect here.

Peers of other kinds refuse it, and whoever syncs with them has to wait and see whether something still comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from sneaker.errors import CallRefused, NetworkError
from sneaker.net.connected_peer import ConnectedPeer, Service
from sneaker.net.method_permissions import Handler
from sneaker.net.peer_session import PeerSession
from sneaker.net.services.ebt import EbtService
from sneaker.wire.muxrpc.calls import CallKind, RequestReceived
from sneaker.wire.muxrpc.manifest import Method, Permission

__all__ = ["SettledService", "ask_settled"]

_SETTLED = Method(("sneaker", "settled"), CallKind.ASYNC, Permission.STRANGER)

_LOOK_S = 0.02
# A hub that others keep busy is not done within this time, and says so.
_PATIENCE_S = 5.0
# A peer that neither answers nor refuses.
_TIMEOUT_S = 10.0


async def ask_settled(session: PeerSession) -> bool:
    """Ask a peer to say when it is done with all that we sent; False if it cannot say, or others keep it busy.

    Whatever the answer, the peer has read all that was sent before the question.
    """
    try:
        answer = await session.call(_SETTLED.name, timeout_s=_TIMEOUT_S)
    except (CallRefused, NetworkError):
        return False
    return answer.body == b"true"


class SettledService(Service):
    """Answers one call at a time."""

    def __init__(self, peer: ConnectedPeer, is_settled: Callable[[], bool]) -> None:
        """``is_settled``: whether all that came is committed, and what follows from it has been said to peers."""
        super().__init__(peer)
        self._is_settled = is_settled
        self._answering = False

    def handlers(self) -> Mapping[Method, Handler]:
        """Return the methods that are served, and what serves each."""
        return {_SETTLED: self._serve_settled}

    def _serve_settled(self, request: RequestReceived) -> None:
        if self._answering:
            raise CallRefused("one call at a time")
        self._answering = True
        self.session.spawn(self._answer_when_settled(request.call))

    async def _answer_when_settled(self, call: int) -> None:
        replication = self.peer.service(EbtService)
        deadline = self.context.now() + _PATIENCE_S
        try:
            settled = False
            while not settled and self.context.now() < deadline:
                # What came is committed in one turn of the loop, and what it mentions is wanted in the next one.
                await asyncio.sleep(_LOOK_S)
                if self._is_settled():
                    replication.acknowledge()
                    await asyncio.sleep(0)
                    stream = replication.stream
                    settled = self._is_settled() and (stream is None or not stream.is_busy)
            self.session.answer_call(call, b"true" if settled else b"false")
        finally:
            self._answering = False
