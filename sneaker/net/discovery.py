"""Finding peers on the LAN, and being found: broadcasts of both kinds, sent every two seconds and listened for.

What a packet says is a rumour.  We dial the address that it came from, whatever host it names, so that nobody can send
us elsewhere; the handshake proves the rest.  A packet counts as signed if its author's key names that very address: whoever
repeats it from another one has nothing to show.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Callable

from sneaker.errors import AddressError, LocalProtocolError, RemoteProtocolError, SneakerError
from sneaker.net.interfaces import find_interfaces, is_own_address
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
# Those of one address between two announcements: two kinds from each of some programs, for some networks each.
_MAX_PACKETS_EACH = 24


class Discovery:
    """Announces this peer where it can be reached, and reports the addresses of others."""

    def __init__(
        self, node: Node, port_at: Callable[[str], int | None], on_found: Callable[[Address, bool], None]
    ) -> None:
        """``port_at``: where an address of ours is listened on, None if it is not.

        ``on_found`` is called for every packet of somebody else: with the address, and whether its owner signed it.
        """
        self._node = node
        self._port_at = port_at
        self._on_found = on_found
        self._transports: list[asyncio.DatagramTransport] = []
        self._task: asyncio.Task[None] | None = None
        self._packets: Counter[str] = Counter()
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
        self._task = asyncio.create_task(self._node.go_on(self._run))

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
            self._packets.clear()
            self._send_all()
            await asyncio.sleep(_INTERVAL_S)

    def _send_all(self) -> None:
        for interface in find_interfaces():
            port = self._port_at(interface.address)
            if port is None:
                continue  # nobody there could connect
            try:
                address = net_address(interface.address, port, self._node.me)
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
                    for data, beacon_port in packets:
                        sock.sendto(data, (interface.broadcast, beacon_port))
            except OSError as error:
                if not self._complained:
                    self._complained = True
                    self._node.say(f"cannot announce this peer on {interface.name}: {reason_of(error)}")

    def packet_received(self, data: bytes, host: str, decode: Callable[[bytes], Beacon]) -> None:
        """Look at a packet."""
        if self._packets[host] >= _MAX_PACKETS_EACH or self._packets.total() >= _MAX_PACKETS * _INTERVAL_S:
            return
        self._packets[host] += 1
        try:
            beacon = decode(data)
            places = [place for place in beacon.addresses if place.transport.name == "net" and place.port is not None]
            here = [place for place in places if place.host == host]
            if not places or (beacon.key == self._node.me and is_own_address(host)):
                return
            address = net_address(host, (here or places)[0].port or 0, beacon.key)
            heard = self._node.own_key.heard if beacon.key == self._node.me else self._on_found
            heard(address, beacon.verified and bool(here))
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
