"""From a socket to a connection: dialling, the secret handshake, and who is let in."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
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
from sneaker.wire.muxrpc.session import Session
from sneaker.wire.stream_reader import NEED_DATA

__all__ = ["HANDSHAKE_TIMEOUT_S", "STREAM_LIMIT_BYTES", "accept", "dial"]

# What JavaScript peers allow for the whole handshake (PROTOCOL.md, section 18).
HANDSHAKE_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 10.0
# While a name has more addresses to try, the next one's turn comes sooner.
_NEXT_HOST_S = 4.0
_MAX_HOSTS = 8

# asyncio stops reading a socket when twice this waits to be taken.
STREAM_LIMIT_BYTES = 128 * 1024

# Limits for those who are nobody to us: anybody can make keys and connect, so what each may make us hold is little.
# The longest body is a clock: ssb-server sends all of its own as one, some 70 bytes for each of up to ten thousand feeds.
_STRANGER_MAX_BODY = 1024 * 1024
_STRANGER_PAUSE_BYTES = 512 * 1024
_STRANGER_CALLS = 512
_PEER_PAUSE_BYTES = 2 * 1024 * 1024


#: Called with an IP address and with what a handshake opens with.
OnOpening = Callable[[str, bytes], None]


def _session(known: bool) -> Session:
    if known:
        return Session(pause_bytes=_PEER_PAUSE_BYTES)
    return Session(max_body=_STRANGER_MAX_BODY, pause_bytes=_STRANGER_PAUSE_BYTES, max_open_calls=_STRANGER_CALLS)


async def dial(
    address: Address, keypair: Keypair, caps: Caps, *, on_opening: OnOpening = lambda host, opening: None
) -> Connection:
    """Connect to a peer, in each of the ways that the address gives until one works, and prove both sides.

    ``on_opening`` is told the IP address that answers, and what our handshake opens with, before that begins.
    Raises AddressError, NetworkError or HandshakeError.
    """
    failures = []
    for way in (address, *address.others):
        try:
            return await _dial_way(way, keypair, caps, on_opening)
        except (AddressError, NetworkError, HandshakeError) as error:
            failures.append(error)
    told = next((failure for failure in failures if isinstance(failure, HandshakeError)), failures[0])
    if len(failures) > 1 and type(told) is NetworkError:
        raise NetworkError("; ".join(dict.fromkeys(failure.message for failure in failures)))
    raise told


async def _dial_way(way: Address, keypair: Keypair, caps: Caps, on_opening: OnOpening) -> Connection:
    """Connect to one host: a name may stand for several, each of which may be another machine or not answer."""
    if way.key is None:
        raise AddressError("the address does not say the peer's key")
    if way.transport.name != "net" or way.host is None or way.port is None:
        raise AddressError(
            f"{way.transport.name} addresses are not supported", hint="net:HOST:PORT~shs:KEY addresses are"
        )
    where = f"{way.host}:{way.port}"
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            hosts = await _find_hosts(way.host)
    except TimeoutError:
        raise NetworkError(f"cannot find {way.host}: nobody knows in time where it is") from None
    except OSError as error:
        raise NetworkError(f"cannot connect to {where}: {reason_of(error)}") from None
    failure: SneakerError | None = None
    for host in hosts:
        patience_s = CONNECT_TIMEOUT_S if host == hosts[-1] else _NEXT_HOST_S
        try:
            return await _dial_host(host, way.port, where, patience_s, way.key, keypair, caps, on_opening)
        except (NetworkError, HandshakeError) as error:
            if failure is None or isinstance(error, HandshakeError):
                failure = error
    raise failure or NetworkError(f"cannot connect to {where}: it has no address")


async def _find_hosts(host: str) -> list[str]:
    """Return the IP addresses of a host."""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host.partition("%")[0])
        return [host]
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    hosts = [_with_interface(str(at[0]), at[3] if len(at) > 3 else 0) for *_, at in found]
    # Not every system knows that this machine has two addresses for itself.
    loopback = ["127.0.0.1", "::1"] if host.lower() == "localhost" else []
    return list(dict.fromkeys([*hosts, *loopback]))[:_MAX_HOSTS]


def _with_interface(host: str, interface: int) -> str:
    """A link-local IPv6 address means nothing without the interface."""
    return f"{host}%{interface}" if interface and "%" not in host else host


async def _dial_host(
    host: str,
    port: int,
    where: str,
    patience_s: float,
    key: FeedRef,
    keypair: Keypair,
    caps: Caps,
    on_opening: OnOpening,
) -> Connection:
    try:
        handshake = ClientHandshake(caps.network_key, keypair, key, os.urandom(32))
    except LocalProtocolError as error:
        raise AddressError(error.message) from None
    try:
        async with asyncio.timeout(patience_s):
            reader, writer = await asyncio.open_connection(host, port, limit=STREAM_LIMIT_BYTES)
    except TimeoutError:
        raise NetworkError(f"{where} does not answer") from None
    except OSError as error:
        raise NetworkError(f"cannot connect to {where}: {reason_of(error)}") from None
    try:
        on_opening(str((writer.get_extra_info("peername") or ("",))[0]), handshake.opening)
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
    is_ours: Callable[[bytes], bool] = lambda opening: False,
) -> Connection:
    """Answer somebody who dialled; raises HandshakeError or NetworkError, and closes the socket then.

    ``is_welcome`` decides about keys once they are proven; ``is_known`` says who gets the limits of a friend; ``is_ours``
    whether a handshake with our own key was opened by this very home, which somebody led in a circle then.
    """

    def may_enter(client: ClientAuthenticated) -> bool:
        return is_welcome(client.peer) and not (client.peer == keypair.public and is_ours(client.opening))

    handshake = ServerHandshake(caps.network_key, keypair, os.urandom(32))
    try:
        done = await _shake_hands(handshake, reader, writer, may_enter)
    except BaseException:
        writer.transport.abort()
        raise
    return _connected(done, handshake.trailing_data, reader, writer, dialled=False, known=is_known(done.peer))


async def _shake_hands(
    handshake: ClientHandshake | ServerHandshake,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    may_enter: Callable[[ClientAuthenticated], bool] | None = None,
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
                    if may_enter is None or may_enter(event):
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
