"""Finding peers on the LAN, and being found: broadcasts of both kinds, sent every two seconds and listened for.

What a packet says is a rumour.  We dial the address that it came from, whatever host it names, so that nobody can send
us elsewhere; the handshake proves the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from sneaker.errors import AddressError, LocalProtocolError, RemoteProtocolError, SneakerError
from sneaker.net.interfaces import find_interfaces
from sneaker.net.node import Node
from sneaker.net.reasons import reason_of
from sneaker.wire.address import Address, net_address
from sneaker.wire.beacon import (
    LEGACY_PORT,
    NORMAL_PORT,
    Beacon,
    decode_legacy,
    decode_normal,
    encode_legacy,
    encode_normal,
)

__all__ = ["Discovery"]

# What ssb-lan has; it forgets a peer after 10 s.
_INTERVAL_S = 2.0
# Packets looked at in a second: a LAN of 200 peers sends as many.
_MAX_PACKETS = 400


class Discovery:
    """Announces ``port`` on all interfaces and reports the addresses of others."""

    def __init__(self, node: Node, port: int, on_found: Callable[[Address], None], *, announce: bool = True) -> None:
        """``port``: where we listen; ``on_found`` is called for every packet of somebody else."""
        self._node = node
        self._port = port
        self._on_found = on_found
        self._announce = announce
        self._transports: list[asyncio.DatagramTransport] = []
        self._task: asyncio.Task[None] | None = None
        self._packets = 0
        self._complained = False

    async def start(self) -> None:
        """Begin; a port that is taken exclusively by another program is done without."""
        loop = asyncio.get_running_loop()
        for port, decode in ((LEGACY_PORT, decode_legacy), (NORMAL_PORT, self._decode_normal)):
            try:
                sock = _listening_socket(port)
            except OSError as error:
                self._node.say(f"cannot listen for peers on UDP port {port}: {reason_of(error)}")
                continue
            transport, _ = await loop.create_datagram_endpoint(lambda decode=decode: _Listener(self, decode), sock=sock)  # type: ignore[misc]
            self._transports.append(transport)
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for transport in self._transports:
            transport.close()

    def _decode_normal(self, data: bytes) -> Beacon:
        return decode_normal(data, self._node.home.caps.network_key)

    async def _run(self) -> None:
        while True:
            self._packets = 0
            if self._announce:
                self._send_all()
            await asyncio.sleep(_INTERVAL_S)

    def _send_all(self) -> None:
        for interface in find_interfaces():
            try:
                address = net_address(interface.address, self._port, self._node.me)
                packets = (
                    (encode_legacy(address), LEGACY_PORT),
                    (encode_normal((address,), self._node.home.caps.network_key, self._node.home.keypair), NORMAL_PORT),
                )
            except (AddressError, LocalProtocolError):
                continue
            try:
                # From the very address that it names: go-ssb looks.
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                    sock.setblocking(False)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                    sock.bind((interface.address, 0))
                    for data, port in packets:
                        sock.sendto(data, (interface.broadcast, port))
            except OSError as error:
                if not self._complained:
                    self._complained = True
                    self._node.say(f"cannot announce this peer on {interface.name}: {reason_of(error)}")

    def packet_received(self, data: bytes, host: str, decode: Callable[[bytes], Beacon]) -> None:
        """Look at a packet."""
        self._packets += 1
        if self._packets > _MAX_PACKETS * _INTERVAL_S:
            return
        try:
            beacon = decode(data)
            if beacon.key == self._node.me:
                return
            for address in beacon.addresses:
                if address.transport.name == "net" and address.port is not None:
                    self._on_found(net_address(host, address.port, beacon.key))
                    return
        except (RemoteProtocolError, SneakerError):
            return


class _Listener(asyncio.DatagramProtocol):
    def __init__(self, discovery: Discovery, decode: Callable[[bytes], Beacon]) -> None:
        self._discovery = discovery
        self._decode = decode

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._discovery.packet_received(data, addr[0], self._decode)

    def error_received(self, exc: Exception) -> None:
        """Nothing that was sent from here can fail."""


def _listening_socket(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        # Other SSB programs on this machine listen to the same broadcasts.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind(("", port))
    except BaseException:
        sock.close()
        raise
    return sock
