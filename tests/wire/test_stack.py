"""The whole stack, as a driver puts it together: two peers replicate over bytes that are cut anywhere."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from sneaker.errors import RemoteProtocolError
from sneaker.keys import Keypair
from sneaker.refs import FeedRef
from sneaker.wire.boxstream import Boxer, Unboxer
from sneaker.wire.ebt.connection import EbtConnection
from sneaker.wire.ebt.notes import parse_replicate_arguments
from sneaker.wire.handshake import ClientAuthenticated, ClientHandshake, HandshakeDone, ServerHandshake
from sneaker.wire.muxrpc.calls import CallKind, EndReceived, ItemReceived, RequestReceived, SessionEnded
from sneaker.wire.muxrpc.session import Session
from sneaker.wire.stream_reader import GOODBYE, NEED_DATA
from tests.wire.ebt_nodes import Node
from tests.wire.vectors import seeded

NETWORK_KEY = bytes(range(32))


class Peer:
    """What sneaker's own driver does, without a socket."""

    def __init__(self, node: Node, keypair: Keypair, server: FeedRef | None, seed: bytes) -> None:
        self.node = node
        self.handshake: ClientHandshake | ServerHandshake
        if server is not None:
            self.handshake = ClientHandshake(NETWORK_KEY, keypair, server, seed)
        else:
            self.handshake = ServerHandshake(NETWORK_KEY, keypair, seed)
        self.dials = server is not None
        self.boxer: Boxer | None = None
        self.unboxer: Unboxer | None = None
        self.session = Session()
        self.peer: FeedRef | None = None
        self.ebt: EbtConnection | None = None
        self.call = 0
        self.ended = False
        self._out = bytearray()

    def receive(self, data: bytes) -> None:
        if self.unboxer is None:
            self.handshake.receive_data(data)
            self._shake()
        else:
            self.unboxer.receive_data(data)
        self._read_boxes()

    def _shake(self) -> None:
        while (event := self.handshake.next_event()) is not NEED_DATA:
            if isinstance(event, ClientAuthenticated):
                assert isinstance(self.handshake, ServerHandshake)
                self.handshake.accept_client()
            elif isinstance(event, HandshakeDone):
                self._out += self.handshake.data_to_send()
                self.peer = event.peer
                self.boxer = Boxer(event.keys.encrypt_key, event.keys.encrypt_nonce)
                self.unboxer = Unboxer(event.keys.decrypt_key, event.keys.decrypt_nonce)
                if rest := self.handshake.trailing_data:
                    self.unboxer.receive_data(rest)
                if self.dials:
                    self.call = self.session.request(["ebt", "replicate"], CallKind.DUPLEX, [{"version": 3}])
                    self._replicate()
                return

    def _read_boxes(self) -> None:
        while self.unboxer is not None and (plain := self.unboxer.next_event()) is not NEED_DATA:
            self.session.receive_data(b"" if plain is GOODBYE else plain)
            while (event := self.session.next_event()) is not NEED_DATA:
                self._dispatch(event)

    def _dispatch(self, event: Any) -> None:
        if isinstance(event, RequestReceived):
            assert (event.name, event.kind) == (("ebt", "replicate"), CallKind.DUPLEX)
            parse_replicate_arguments(event.arguments)
            self.call = event.call
            self._replicate()
        elif isinstance(event, ItemReceived):
            assert self.ebt is not None
            self.node.take(self.ebt, event.body, 0)
            self.session.consumed(event.call, len(event.body))
        elif isinstance(event, (EndReceived, SessionEnded)):
            self.ended = self.ended or isinstance(event, SessionEnded)

    def _replicate(self) -> None:
        assert self.peer is not None
        self.ebt = self.node.replicator.connect(self.peer, client=self.dials, now=0)

    def data_to_send(self) -> bytes:
        self._out += self.handshake.data_to_send()
        if self.ebt is not None and not self.ended:
            for item in self.node.outgoing(self.ebt):
                self.session.send(self.call, item)
        if self.boxer is not None and self.session.outgoing_bytes:
            self._out += self.boxer.box(self.session.data_to_send())
        data = bytes(self._out)
        self._out.clear()
        return data


def make_pair(seed: int) -> tuple[Peer, Peer]:
    chooser = random.Random(seed)
    client, server = seeded(1), seeded(2)
    feeds = [client.public, server.public, seeded(3).public]
    return (
        Peer(Node(client.public, {feeds[0]: 40, feeds[2]: 7}, feeds), client, server.public, chooser.randbytes(32)),
        Peer(Node(server.public, {feeds[1]: 25, feeds[2]: 30}, feeds), server, None, chooser.randbytes(32)),
    )


def run(left: Peer, right: Peer, chooser: random.Random, damage: Callable[[bytes], bytes] = bytes) -> None:
    wires = (bytearray(), bytearray())
    peers = (left, right)
    while True:
        for index in (0, 1):
            wires[index].extend(peers[index].data_to_send())
        ready = [index for index in (0, 1) if wires[index]]
        if not ready:
            return
        index = chooser.choice(ready)
        size = chooser.randrange(1, min(len(wires[index]), 2000) + 1)
        piece = bytes(wires[index][:size])
        del wires[index][:size]
        peers[1 - index].receive(damage(piece))


@pytest.mark.parametrize("seed", range(8))
def test_two_peers_end_up_with_the_same(seed: int) -> None:
    left, right = make_pair(seed)
    chooser = random.Random(seed)
    run(left, right, chooser)
    assert left.node.clock == right.node.clock == {seeded(1).public: 40, seeded(2).public: 25, seeded(3).public: 30}
    left.node.append(seeded(1).public, 41)
    run(left, right, chooser)
    assert right.node.clock[seeded(1).public] == 41
    assert left.node.twice == right.node.twice == 0
    left.session.goodbye()
    run(left, right, chooser)
    assert left.ended
    assert right.ended


@pytest.mark.parametrize("seed", range(8))
def test_a_flipped_bit_anywhere_ends_the_connection_and_nothing_else(seed: int) -> None:
    left, right = make_pair(seed)
    chooser = random.Random(seed)
    countdown = chooser.randrange(20)

    def damage(piece: bytes) -> bytes:
        nonlocal countdown
        countdown -= 1
        if countdown != -1:
            return piece
        spoiled = bytearray(piece)
        spoiled[chooser.randrange(len(piece))] ^= 1 << chooser.randrange(8)
        return bytes(spoiled)

    with pytest.raises(RemoteProtocolError):
        run(left, right, chooser, damage)
