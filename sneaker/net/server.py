"""Listening for peers that dial us."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket

from sneaker.errors import NetworkError, SneakerError
from sneaker.net.admission import Handshakes
from sneaker.net.greeting import STREAM_LIMIT_BYTES, accept
from sneaker.net.node import Node
from sneaker.net.reasons import reason_of

__all__ = ["DEFAULT_PORT", "Server", "parse_listen"]

DEFAULT_PORT = 8008

_BACKLOG = 128


def parse_listen(text: str) -> tuple[str, int]:
    """Read ``HOST:PORT``, ``HOST``, ``:PORT`` or ``[IPv6]:PORT``; raises NetworkError."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(DEFAULT_PORT)
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise NetworkError(f"{text!r} is not HOST:PORT to listen on")
    return host.removeprefix("[").removesuffix("]"), int(port)


class Server:
    """Accepts connections for a node; limits what those who have not proven a key yet can cost."""

    def __init__(self, node: Node, host: str, port: int | None) -> None:
        """``host``: "" for all interfaces; ``port``: 0 for a free one, None for the usual one if that is free."""
        self._node = node
        self._host = host
        self._port = port
        self._handshakes = Handshakes()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begin to listen; raises NetworkError."""
        try:
            await self._listen(DEFAULT_PORT if self._port is None else self._port)
        except OSError as error:
            if self._port is None and error.errno == errno.EADDRINUSE:
                # Another SSB program runs on this machine. Beacons say our port, so peers find us all the same.
                with contextlib.suppress(OSError):
                    await self._listen(0)
                    return
            raise NetworkError(
                f"cannot listen on {self._host or '*'}:{self._port or DEFAULT_PORT}: {reason_of(error)}",
                hint="another SSB program may be running; give another port with --listen HOST:PORT"
                if error.errno == errno.EADDRINUSE
                else "give an address of this machine and a free port with --listen HOST:PORT",
            ) from None

    async def _listen(self, port: int) -> None:
        self._server = await asyncio.start_server(
            self._accepted, self._host or None, port, limit=STREAM_LIMIT_BYTES, backlog=_BACKLOG
        )

    @property
    def port(self) -> int:
        """The port that is listened on."""
        if self._server is None or not self._server.sockets:
            return self._port or DEFAULT_PORT
        return int(self._server.sockets[0].getsockname()[1])

    def port_at(self, address: str) -> int | None:
        """Return the port at which an IPv4 address of this machine is listened on, None if it is not."""
        for sock in self._server.sockets if self._server is not None else ():
            host, port = sock.getsockname()[:2]
            if sock.family is socket.AF_INET and host in (address, "0.0.0.0"):  # noqa: S104 (compared, not bound)
                return int(port)
        return None

    async def stop(self) -> None:
        """Listen no longer; connections go on."""
        if self._server is not None:
            self._server.close()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = str((writer.get_extra_info("peername") or ("",))[0])
        node = self._node
        abort = writer.transport.abort
        self._handshakes.begin(host, abort)
        try:
            connection = await accept(
                reader,
                writer,
                node.home.keypair,
                node.home.caps,
                is_welcome=lambda peer: node.is_welcome(peer, host),
                is_known=lambda peer: node.policy.is_near(peer) or peer == node.me,
                is_ours=node.store.own_keys.has_opened,
            )
        except SneakerError:
            return  # whoever scans ports is no news
        finally:
            self._handshakes.end(abort)
        # asyncio would complain about a task that is cancelled here when the program ends.
        node.keep(asyncio.create_task(node.meet(connection)))
