"""The secret handshake over a byte stream: both sides prove their keys, and a session comes of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from sneaker.caps import Caps
from sneaker.errors import AddressError, HandshakeError, LocalProtocolError, NetworkError
from sneaker.keys import Keypair
from sneaker.net.peer_session import PeerSession
from sneaker.net.socket_errors import socket_error_words
from sneaker.net.transports.transport import ByteStream
from sneaker.refs import FeedRef
from sneaker.wire.handshake import ClientAuthenticated, ClientHandshake, HandshakeDone, ServerHandshake
from sneaker.wire.muxrpc.session import Session
from sneaker.wire.stream_reader import NEED_DATA

__all__ = ["HANDSHAKE_TIMEOUT_S", "OnOpening", "client_handshake", "shake_hands_as_client", "shake_hands_as_server"]

# What JavaScript peers allow for the whole handshake (PROTOCOL.md, section 18).
HANDSHAKE_TIMEOUT_S = 5.0

# Limits for those who are nobody to us: anybody can make keys and connect, so what each may make us hold is little.
# The longest body is a clock: ssb-server sends all of its own as one, some 70 bytes for each of up to ten thousand feeds.
_STRANGER_MAX_BODY = 1024 * 1024
_STRANGER_PAUSE_BYTES = 512 * 1024
_STRANGER_CALLS = 512
_PEER_PAUSE_BYTES = 2 * 1024 * 1024

#: Called with an IP address and with what a handshake opens with.
OnOpening = Callable[[str, bytes], None]


def _limited_muxrpc(is_known: bool) -> Session:
    if is_known:
        return Session(pause_bytes=_PEER_PAUSE_BYTES)
    return Session(max_body=_STRANGER_MAX_BODY, pause_bytes=_STRANGER_PAUSE_BYTES, max_open_calls=_STRANGER_CALLS)


def client_handshake(key: FeedRef, keypair: Keypair, caps: Caps) -> ClientHandshake:
    """Return a fresh handshake with the peer that has ``key``; raises AddressError if that is no key at all."""
    try:
        return ClientHandshake(caps.network_key, keypair, key, os.urandom(32))
    except LocalProtocolError as error:
        raise AddressError(error.message) from None


async def shake_hands_as_client(
    handshake: ClientHandshake, stream: ByteStream, *, on_opening: OnOpening = lambda host, opening: None
) -> PeerSession:
    """Prove our key to a peer that we have dialled; closes the stream if that fails.

    ``on_opening`` is told the IP address of the other end, and what our handshake opens with, before that begins.
    Raises HandshakeError or NetworkError.
    """
    try:
        on_opening(stream.host, handshake.opening)
        done = await _run_handshake(handshake, stream)
        return _session(done, handshake.trailing_data, stream, dialled=True, is_known=True)
    except BaseException:
        stream.abort()
        raise


async def shake_hands_as_server(
    stream: ByteStream,
    keypair: Keypair,
    caps: Caps,
    *,
    is_welcome: Callable[[FeedRef], bool],
    is_known: Callable[[FeedRef], bool],
    is_ours: Callable[[bytes], bool] = lambda opening: False,
) -> PeerSession:
    """Answer somebody who dialled; raises HandshakeError or NetworkError, and closes the stream then.

    ``is_welcome`` decides about keys once they are proven; ``is_known`` says who gets the limits of a friend; ``is_ours``
    whether this very home opened a handshake with our own key: then somebody has passed our bytes back to us.
    """

    def may_enter(client: ClientAuthenticated) -> bool:
        return is_welcome(client.peer) and not (client.peer == keypair.public and is_ours(client.opening))

    handshake = ServerHandshake(caps.network_key, keypair, os.urandom(32))
    try:
        done = await _run_handshake(handshake, stream, may_enter)
        return _session(done, handshake.trailing_data, stream, dialled=False, is_known=is_known(done.peer))
    except BaseException:
        stream.abort()
        raise


async def _run_handshake(
    handshake: ClientHandshake | ServerHandshake,
    stream: ByteStream,
    may_enter: Callable[[ClientAuthenticated], bool] | None = None,
) -> HandshakeDone:
    reader, writer = stream.reader, stream.writer
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            writer.write(handshake.data_to_send())
            while True:
                event = handshake.next_event()
                if isinstance(event, ClientAuthenticated) and isinstance(handshake, ServerHandshake):
                    if may_enter is None or may_enter(event):
                        handshake.accept_client()
                        continue
                    handshake.refuse_client()
                    raise HandshakeError(3, "refused", f"{event.peer} is not welcome here")
                writer.write(handshake.data_to_send())
                if isinstance(event, HandshakeDone):
                    return event
                if event is NEED_DATA:
                    handshake.receive_data(await reader.read(4096))
    except TimeoutError:
        raise NetworkError("the peer did not finish the handshake in time") from None
    except OSError as error:
        raise NetworkError(f"the connection broke during the handshake: {socket_error_words(error)}") from None


def _session(
    done: HandshakeDone, trailing_data: bytes, stream: ByteStream, *, dialled: bool, is_known: bool
) -> PeerSession:
    muxrpc = _limited_muxrpc(is_known)
    return PeerSession(done.peer, done.keys, trailing_data, stream, dialled=dialled, muxrpc=muxrpc)
