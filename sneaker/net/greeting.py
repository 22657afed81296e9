"""From a socket to a connection: dialling, the secret handshake, and who is let in."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable

from sneaker.caps import Caps
from sneaker.errors import AddressError, HandshakeError, LocalProtocolError, NetworkError, SneakerError
from sneaker.keys import Keypair
from sneaker.net.connection import Connection
from sneaker.net.reasons import reason_of
from sneaker.refs import FeedRef
from sneaker.wire.address import Address
from sneaker.wire.handshake import ClientAuthenticated, ClientHandshake, HandshakeDone, ServerHandshake
from sneaker.wire.muxrpc import Session
from sneaker.wire.reader import NEED_DATA

__all__ = ["HANDSHAKE_TIMEOUT_S", "STREAM_LIMIT_BYTES", "accept", "dial"]

# What JavaScript peers allow for the whole handshake (protocol reference, section 18).
HANDSHAKE_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 10.0

# asyncio stops reading a socket when twice this waits to be taken.
STREAM_LIMIT_BYTES = 128 * 1024

# Limits for those who are nobody to us: anybody can make keys and connect, so what each may make us hold is little.
_STRANGER_MAX_BODY = 512 * 1024
_STRANGER_PAUSE_BYTES = 512 * 1024
_STRANGER_CALLS = 512
_PEER_PAUSE_BYTES = 2 * 1024 * 1024


def _session(known: bool) -> Session:
    if known:
        return Session(pause_bytes=_PEER_PAUSE_BYTES)
    return Session(max_body=_STRANGER_MAX_BODY, pause_bytes=_STRANGER_PAUSE_BYTES, max_open_calls=_STRANGER_CALLS)


async def dial(address: Address, keypair: Keypair, caps: Caps) -> Connection:
    """Connect to a peer and prove both sides; raises AddressError, NetworkError or HandshakeError."""
    key = address.key
    if key is None:
        raise AddressError("the address does not say the peer's key")
    if address.transport.name != "net" or address.host is None or address.port is None:
        raise AddressError(
            f"{address.transport.name} addresses are not supported", hint="net:HOST:PORT~shs:KEY addresses are"
        )
    try:
        handshake = ClientHandshake(caps.network_key, keypair, key, os.urandom(32))
    except LocalProtocolError as error:
        raise AddressError(error.message) from None
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(address.host, address.port, limit=STREAM_LIMIT_BYTES)
    except TimeoutError:
        raise NetworkError(f"{address.host}:{address.port} does not answer") from None
    except OSError as error:
        raise NetworkError(f"cannot connect to {address.host}:{address.port}: {reason_of(error)}") from None
    try:
        done = await _shake_hands(handshake, reader, writer)
    except BaseException:
        writer.transport.abort()
        raise
    return _connected(done, handshake.trailing_data, reader, writer, dialled=True, known=True)


async def accept(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    keypair: Keypair,
    caps: Caps,
    *,
    is_welcome: Callable[[FeedRef], bool],
    is_known: Callable[[FeedRef], bool],
) -> Connection:
    """Answer somebody who dialled; raises HandshakeError or NetworkError, and closes the socket then.

    ``is_welcome`` decides about keys once they are proven; ``is_known`` says who gets the limits of a friend.
    """
    handshake = ServerHandshake(caps.network_key, keypair, os.urandom(32))
    try:
        done = await _shake_hands(handshake, reader, writer, is_welcome)
    except BaseException:
        writer.transport.abort()
        raise
    return _connected(done, handshake.trailing_data, reader, writer, dialled=False, known=is_known(done.peer))


async def _shake_hands(
    handshake: ClientHandshake | ServerHandshake,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    is_welcome: Callable[[FeedRef], bool] | None = None,
) -> HandshakeDone:
    # What waits for the kernel to fill a packet would wait for our next word.
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            writer.write(handshake.data_to_send())
            while True:
                event = handshake.next_event()
                if isinstance(event, ClientAuthenticated) and isinstance(handshake, ServerHandshake):
                    if is_welcome is None or is_welcome(event.peer):
                        handshake.accept()
                        continue
                    handshake.refuse()
                    raise HandshakeError(3, "refused", f"{event.peer} is not welcome here")
                writer.write(handshake.data_to_send())
                if isinstance(event, HandshakeDone):
                    return event
                if event is NEED_DATA:
                    handshake.receive_data(await reader.read(4096))
    except TimeoutError:
        raise NetworkError("the peer did not finish the handshake in time") from None
    except OSError as error:
        raise NetworkError(f"the connection broke during the handshake: {reason_of(error)}") from None


def _connected(
    done: HandshakeDone,
    trailing_data: bytes,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    dialled: bool,
    known: bool,
) -> Connection:
    try:
        return Connection(done.peer, done.keys, trailing_data, reader, writer, dialled=dialled, session=_session(known))
    except SneakerError:
        writer.transport.abort()
        raise
