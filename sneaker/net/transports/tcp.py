"""TCP: ``net:HOST:PORT`` addresses.  Host names are looked up; each address of a name is a place of its own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from sneaker.errors import AddressError, NetworkError
from sneaker.net.interfaces import find_interfaces
from sneaker.net.socket_errors import socket_error_words
from sneaker.net.transports.transport import STREAM_LIMIT_BYTES, ByteStream, Endpoint
from sneaker.refs import FeedRef
from sneaker.wire.address import Address, net_address

__all__ = ["DEFAULT_PORT", "TcpListening", "TcpTransport", "parse_listen"]

DEFAULT_PORT = 8008

_CONNECT_TIMEOUT_S = 10.0
# While a name has more addresses to try, the next one's turn comes sooner.
_NEXT_HOST_S = 4.0
_MAX_HOSTS = 8

_BACKLOG = 128


def parse_listen(text: str) -> tuple[str, int]:
    """Read ``HOST:PORT``, ``HOST``, ``:PORT`` or ``[IPv6]:PORT``; raises NetworkError."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(DEFAULT_PORT)
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise NetworkError(f"{text!r} is not HOST:PORT to listen on")
    return host.removeprefix("[").removesuffix("]"), int(port)


class TcpTransport:
    """TCP, over IPv4 and IPv6."""

    name = "net"

    async def endpoints(self, address: Address) -> Sequence[Endpoint]:
        """Return the IP addresses that a host name stands for; raises AddressError or NetworkError."""
        host, port = address.host, address.port
        if host is None or port is None:
            raise AddressError("the address does not say a host and a port", hint="net:HOST:PORT~shs:KEY addresses do")
        where = f"{host}:{port}"
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                hosts = await _find_hosts(host)
        except TimeoutError:
            raise NetworkError(f"cannot find {host}: nobody knows in time where it is") from None
        except OSError as error:
            raise NetworkError(f"cannot connect to {where}: {socket_error_words(error)}") from None
        if not hosts:
            raise NetworkError(f"cannot connect to {where}: it has no address")
        return [
            _TcpEndpoint(each, port, where, _CONNECT_TIMEOUT_S if each == hosts[-1] else _NEXT_HOST_S) for each in hosts
        ]

    async def listen(
        self, host: str, port: int | None, accepted: Callable[[ByteStream], Awaitable[None]]
    ) -> TcpListening:
        """Listen on ``host`` ("" for all interfaces) and ``port``: 0 for a free one, None for the usual one if that is free.

        Raises NetworkError.
        """
        try:
            return await _listen(host, DEFAULT_PORT if port is None else port, accepted)
        except OSError as error:
            if port is None and error.errno == errno.EADDRINUSE:
                # Another SSB program runs on this machine. Beacons say our port, so peers find us all the same.
                with contextlib.suppress(OSError):
                    return await _listen(host, 0, accepted)
            raise NetworkError(
                f"cannot listen on {host or '*'}:{port or DEFAULT_PORT}: {socket_error_words(error)}",
                hint="another SSB program may be running; give another port with --listen HOST:PORT"
                if error.errno == errno.EADDRINUSE
                else "give an address of this machine and a free port with --listen HOST:PORT",
            ) from None


@dataclass(frozen=True, slots=True)
class _TcpEndpoint:
    """One IP address; ``where`` is what the person wrote."""

    host: str
    port: int
    where: str
    patience_s: float

    async def connect(self) -> ByteStream:
        try:
            async with asyncio.timeout(self.patience_s):
                reader, writer = await asyncio.open_connection(self.host, self.port, limit=STREAM_LIMIT_BYTES)
        except TimeoutError:
            raise NetworkError(f"{self.where} does not answer") from None
        except OSError as error:
            raise NetworkError(f"cannot connect to {self.where}: {socket_error_words(error)}") from None
        return _stream(reader, writer)


class TcpListening:
    """The sockets that are listened on."""

    def __init__(self, server: asyncio.Server, host: str) -> None:
        self._server = server
        self._host = host

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.sockets[0].getsockname()[1])

    def port_at(self, address: str) -> int | None:
        """Return the port at which an IPv4 address of this machine is listened on, None if it is not."""
        for sock in self._server.sockets:
            host, port = sock.getsockname()[:2]
            if sock.family is socket.AF_INET and host in (address, "0.0.0.0"):  # noqa: S104 (compared, not bound)
                return int(port)
        return None

    def addresses(self, key: FeedRef) -> list[Address]:
        """Return the addresses of this machine at which we listen, at least one."""
        if self._host and self._host not in ("0.0.0.0", "::"):  # noqa: S104 (compared, not bound)
            return [net_address(self._host, self.port, key)]
        ports = {interface.address: self.port_at(interface.address) for interface in find_interfaces()}
        found = [net_address(address, port, key) for address, port in ports.items() if port is not None]
        return found or [net_address("::1" if self._host == "::" else "127.0.0.1", self.port, key)]

    def stop_listening(self) -> None:
        """Listen no longer; the streams go on."""
        self._server.close()


async def _listen(host: str, port: int, accepted: Callable[[ByteStream], Awaitable[None]]) -> TcpListening:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accepted(_stream(reader, writer))

    server = await asyncio.start_server(connected, host or None, port, limit=STREAM_LIMIT_BYTES, backlog=_BACKLOG)
    return TcpListening(server, host)


def _stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> ByteStream:
    # Short packets go at once: else the kernel would keep them until there is more.
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    name = writer.get_extra_info("peername")
    if not isinstance(name, tuple):  # it has gone already
        return ByteStream(reader, writer)
    return ByteStream(reader, writer, str(name[0]), f"{name[0]}:{name[1]}")


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
    """Return an address with its interface, without which a link-local IPv6 address means nothing."""
    return f"{host}%{interface}" if interface and "%" not in host else host
