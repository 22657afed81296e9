"""Those who mean no good: sockets that speak as much of the protocols as an attack needs."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson

from sneaker.caps import Caps
from sneaker.keys import Keypair
from sneaker.net.dial import dial
from sneaker.net.peer_session import PeerSession
from sneaker.refs import FeedRef
from sneaker.wire.address import Address, parse_address
from sneaker.wire.boxstream import Boxer
from sneaker.wire.handshake import ClientHandshake, HandshakeDone
from sneaker.wire.muxrpc.calls import PeerError
from sneaker.wire.muxrpc.packets import BodyKind
from sneaker.wire.stream_reader import NEED_DATA


def somebody() -> Keypair:
    return Keypair.from_seed(os.urandom(32))


def with_another_place(raw: bytes, author: FeedRef, sequence: int) -> bytes:
    """Say another author and sequence first; of keys that come twice the last one counts, and is what was signed."""
    value = orjson.loads(raw)
    fields = [(key, value[key]) for key in value if key not in ("author", "sequence")]
    fields[1:1] = [("sequence", sequence), ("author", str(author))]
    fields[-1:-1] = [("author", value["author"]), ("sequence", value["sequence"])]
    return b"{" + b",".join(b'"%b":%b' % (key.encode(), orjson.dumps(part)) for key, part in fields) + b"}"


def plain_socket(address: str, timeout_s: float = 15, *, source: str = "127.0.0.1") -> socket.socket:
    """Connect from ``source``: every address in 127.0.0.0/8 is this machine's."""
    target = parse_address(address)
    assert target.host is not None
    assert target.port is not None
    return socket.create_connection((target.host, target.port), timeout_s, (source, 0))


def reads_end(sock: socket.socket) -> bool:
    """Whether the other side hangs up before the socket's timeout."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def shake_hands(sock: socket.socket, address: str, keypair: Keypair, caps: Caps | None = None) -> Boxer:
    """Do an honest handshake and return what encrypts after it."""
    key = parse_address(address).key
    assert key is not None
    handshake = ClientHandshake((caps or Caps()).network_key, keypair, key, os.urandom(32))
    sock.sendall(handshake.data_to_send())
    while True:
        event = handshake.next_event()
        sock.sendall(handshake.data_to_send())
        if isinstance(event, HandshakeDone):
            return Boxer(event.keys.encrypt_key, event.keys.encrypt_nonce)
        assert event is NEED_DATA
        handshake.receive_data(sock.recv(4096))


@asynccontextmanager
async def guest(address: str | Address, keypair: Keypair | None = None) -> AsyncIterator[PeerSession]:
    """A connection of somebody who serves nothing."""
    target = parse_address(address) if isinstance(address, str) else address
    connection = await dial(target, keypair or somebody(), Caps())
    running = asyncio.create_task(connection.run())
    try:
        yield connection
    finally:
        connection.abort()
        await running


class Collector:
    """Keeps what comes for a call."""

    def __init__(self, connection: PeerSession) -> None:
        self.connection = connection
        self.items: list[bytes] = []
        self.ended: asyncio.Future[PeerError | None] = asyncio.get_running_loop().create_future()
        self.call = 0

    def item_received(self, kind: BodyKind, body: bytes) -> None:
        self.items.append(body)
        self.connection.consumed(self.call, len(body))

    def end_received(self, error: PeerError | None, *, still_open: bool) -> None:
        if not self.ended.done():
            self.ended.set_result(error)

    async def wait(self, count: int, timeout_s: float = 10) -> list[bytes]:
        async with asyncio.timeout(timeout_s):
            while len(self.items) < count:
                await asyncio.sleep(0.01)
        return self.items
