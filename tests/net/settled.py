"""A call for tests, ``test.settled``: answered once all that the caller sent before it has had its effect in the peer.

So a test knows what became of an attack without waiting whether something still happens.  Only peers that tests prepare serve
it: sneaker itself has no methods that other peers do not have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from sneaker.errors import CallRefused, NetworkError
from sneaker.net.connected_peer import ConnectedPeer, Service
from sneaker.net.method_permissions import Handler
from sneaker.net.node import Node
from sneaker.net.peer_session import PeerSession
from sneaker.net.services.ebt import EbtService
from sneaker.wire.muxrpc.calls import CallKind, RequestReceived
from sneaker.wire.muxrpc.manifest import Method, Permission

__all__ = ["SettledService", "ask_settled", "serve_settled"]

_SETTLED = Method(("test", "settled"), CallKind.ASYNC, Permission.STRANGER)

_LOOK_S = 0.02
# A peer that announced more than it sends keeps us busy for so long.
_PATIENCE_S = 1.0
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
    """Answers when its node has seen all that is in the store, has committed what came, and has said what follows from it."""

    def __init__(self, peer: ConnectedPeer, node: Node) -> None:
        super().__init__(peer)
        self._node = node

    def handlers(self) -> Mapping[Method, Handler]:
        return {_SETTLED: self._serve_settled}

    def _serve_settled(self, request: RequestReceived) -> None:
        self.session.spawn(self._answer_when_settled(request.call))

    def _is_settled(self) -> bool:
        node = self._node
        return node.is_settled and node._seen_version == self.context.store.data_version()

    async def _answer_when_settled(self, call: int) -> None:
        replication = self.peer.service(EbtService)
        deadline = self.context.now() + _PATIENCE_S
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


def serve_settled() -> None:
    """Have all nodes of this process serve the call."""
    make = Node.__init__

    def make_with_service(node: Node, *arguments: Any, **options: Any) -> None:
        make(node, *arguments, **options)
        node.services = (*node.services, partial(SettledService, node=node))

    Node.__init__ = make_with_service  # type: ignore[assignment, method-assign]
