"""How peers on the LAN find each other: broadcasts of both kinds, ours every two seconds and those of others.

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
from sneaker.net.context import NetContext
from sneaker.net.interfaces import find_interfaces, is_own_address
from sneaker.net.socket_errors import socket_error_words
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

__all__ = ["LanDiscovery"]

# What ssb-lan has; it forgets a peer after 10 s.
_INTERVAL_S = 2.0
# Packets looked at in a second: a LAN of 200 peers sends as many.
_MAX_PACKETS = 400
# Those of one address between two announcements of ours: some programs on it may send both kinds, for some networks each.
_MAX_PACKETS_EACH = 24


class LanDiscovery:
    """Announces this peer where it can be reached, and reports the addresses of others."""

    def __init__(
        self,
        context: NetContext,
        port_at: Callable[[str], int | None],
        *,
        peer_heard: Callable[[Address, bool], None],
        own_key_heard: Callable[[Address, bool], None],
    ) -> None:
        """``port_at``: where an address of ours is listened on, None if it is not.

        ``peer_heard`` is called for every packet of somebody else: with the address, and whether its owner signed it.
        ``own_key_heard`` for those that name our own key at another machine.
        """
        self._context = context
        self._port_at = port_at
        self._peer_heard = peer_heard
        self._own_key_heard = own_key_heard
        self._transports: list[asyncio.DatagramTransport] = []
        self._task: asyncio.Task[None] | None = None
        self._packets: Counter[str] = Counter()
        self._complained = False

    async def start(self) -> None:
        """Begin; where another program has a port for itself alone, do without it."""
        loop = asyncio.get_running_loop()
        for port, decode in ((LEGACY_PORT, decode_legacy), (NORMAL_PORT, self._decode_normal)):
            try:
                sock = _listening_socket(port)
            except OSError as error:
                self._context.remark(f"cannot listen for peers on UDP port {port}: {socket_error_words(error)}")
                continue
            transport, _ = await loop.create_datagram_endpoint(lambda decode=decode: _Listener(self, decode), sock=sock)  # type: ignore[misc]
            self._transports.append(transport)
        self._task = asyncio.create_task(self._context.background.repeat_for_ever(self._run))

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for transport in self._transports:
            transport.close()

    def _decode_normal(self, data: bytes) -> Beacon:
        return decode_normal(data, self._context.home.caps.network_key)

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
                address = net_address(interface.address, port, self._context.me)
                packets = (
                    (encode_legacy(address), LEGACY_PORT),
                    (
                        encode_normal((address,), self._context.home.caps.network_key, self._context.home.keypair),
                        NORMAL_PORT,
                    ),
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
                    self._context.remark(f"cannot announce this peer on {interface.name}: {socket_error_words(error)}")

    def packet_received(self, data: bytes, host: str, decode: Callable[[bytes], Beacon]) -> None:
        """Look at a packet."""
        if self._packets[host] >= _MAX_PACKETS_EACH or self._packets.total() >= _MAX_PACKETS * _INTERVAL_S:
            return
        self._packets[host] += 1
        try:
            beacon = decode(data)
            named = [each for each in beacon.addresses if each.transport.name == "net" and each.port is not None]
            here = [each for each in named if each.host == host]
            if not named or (beacon.key == self._context.me and is_own_address(host)):
                return
            address = net_address(host, (here or named)[0].port or 0, beacon.key)
            heard = self._own_key_heard if beacon.key == self._context.me else self._peer_heard
            heard(address, beacon.verified and bool(here))
        except (RemoteProtocolError, SneakerError):
            return


class _Listener(asyncio.DatagramProtocol):
    def __init__(self, discovery: LanDiscovery, decode: Callable[[bytes], Beacon]) -> None:
        self._discovery = discovery
        self._decode = decode

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._discovery.packet_received(data, addr[0], self._decode)

    def error_received(self, exc: Exception) -> None:
        """Do nothing: these sockets only listen."""


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
