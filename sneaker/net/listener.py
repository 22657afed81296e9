"""Peers that dial us: who finishes the handshake and is welcome becomes a connection of the node."""

from __future__ import annotations

from sneaker.errors import SneakerError
from sneaker.net.admission import PendingHandshakes
from sneaker.net.node import Node
from sneaker.net.secret_handshake import shake_hands_as_server
from sneaker.net.transports.tcp import DEFAULT_PORT, TcpListening, TcpTransport
from sneaker.net.transports.transport import ByteStream
from sneaker.refs import FeedRef
from sneaker.wire.address import Address

__all__ = ["Listener"]


class Listener:
    """Accepts connections for a node; limits what those who have not proven a key yet can cost."""

    def __init__(self, node: Node, host: str, port: int | None) -> None:
        """``host``: "" for all interfaces; ``port``: 0 for a free one, None for the usual one if that is free."""
        self._node = node
        self._context = node.context
        self._host = host
        self._port = port
        self._pending = PendingHandshakes()
        self._listening: TcpListening | None = None

    async def start_listening(self) -> None:
        """Begin; raises NetworkError."""
        self._listening = await TcpTransport().listen(self._host, self._port, self._accepted)

    def stop_listening(self) -> None:
        """Listen no longer; connections go on."""
        if self._listening is not None:
            self._listening.stop_listening()
            self._listening = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._listening.port if self._listening is not None else self._port or DEFAULT_PORT

    def port_at(self, address: str) -> int | None:
        """Return the port at which an IPv4 address of this machine is listened on, None if it is not."""
        return self._listening.port_at(address) if self._listening is not None else None

    def addresses(self) -> list[Address]:
        """Return the addresses at which this peer can be reached, none if it does not listen."""
        return self._listening.addresses(self._context.me) if self._listening is not None else []

    async def _accepted(self, stream: ByteStream) -> None:
        node, context = self._node, self._context
        abort = stream.abort
        self._pending.handshake_begun(stream.host, abort)

        def is_known(peer: FeedRef) -> bool:
            return context.policy.is_near(peer) or peer == context.me

        try:
            session = await shake_hands_as_server(
                stream,
                context.home.keypair,
                context.home.caps,
                is_welcome=lambda peer: node.is_welcome(peer, stream.host),
                is_known=is_known,
                is_ours=context.store.own_keys.has_opened,
            )
        except SneakerError:
            return  # whoever scans ports is no news
        finally:
            self._pending.handshake_over(abort)
        # asyncio would complain about a task that is cancelled here when the program ends.
        context.background.spawn(node.run_session(session))
