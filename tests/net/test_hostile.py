"""Hostile peers: each ends its own connection or its own request, in bounded memory, and nobody else notices."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sneaker.caps import Caps
from sneaker.errors import CallRefused, HandshakeError, NetworkError
from sneaker.feed.classic.message import create_message
from sneaker.feed.message import Head, Message
from sneaker.ingest.ingest import Ingest
from sneaker.keys import Keypair
from sneaker.net.dial import dial
from sneaker.net.peer_session import PeerSession
from sneaker.refs import BlobRef
from sneaker.wire.address import net_address, parse_address
from sneaker.wire.boxstream import Boxer
from sneaker.wire.handshake import ClientHandshake
from sneaker.wire.muxrpc.calls import CallKind
from sneaker.wire.muxrpc.packets import BodyKind, encode_packet
from tests.net import quick
from tests.net.attackers import Collector, guest, plain_socket, reads_end, shake_hands, somebody, with_another_place
from tests.net.machines import Machine, RunningPeer, now_ms, wait_for
from tests.net.settled import ask_settled
from tests.tries import amount

pytestmark = pytest.mark.timeout(100)

MB = 1_000_000


class Victim:
    """A running peer, a friend of it, and an enemy that it follows too."""

    def __init__(self, machine: Machine, friend: Machine, enemy: Keypair, peer: RunningPeer) -> None:
        self.machine, self.friend, self.enemy, self.peer = machine, friend, enemy, peer
        self.address = peer.address

    def has_seen_all(self) -> None:
        """Wait until it has seen what was written to its store, and keeps to it."""

        async def ask() -> bool:
            async with guest(self.address) as connection:
                return await ask_settled(connection)

        assert asyncio.run(ask())

    def is_well(self) -> None:
        """A friend is served as ever."""
        count = self.machine.clock()[self.machine.id]
        text = f"message {count + 1}"
        self.machine.publish({"type": "post", "text": text})
        report = self.friend.connect(self.address)
        assert report["level"], report
        assert self.friend.clock()[self.machine.id] == count + 1
        assert self.peer.process.poll() is None
        assert not [line for line in self.peer.errors if "bug" in line or "Error" in line], self.peer.errors


@pytest.fixture
def victim(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Victim]:
    """With a function of ``tests.net.quick`` as its parameter, if the usual one is not the right one."""
    machine, friend, enemy = Machine(tmp_path / "victim"), Machine(tmp_path / "friend"), somebody()
    machine.follow(friend.id, str(enemy.public))
    friend.follow(machine.id)
    with machine.peer(prepare=getattr(request, "param", quick.peer)) as peer:
        yield Victim(machine, friend, enemy, peer)


# ---------------------------------------------------------------------------------------------------- before the handshake


def test_wrong_keys_and_wrong_networks(victim: Victim) -> None:
    right = parse_address(victim.address)
    assert right.host is not None
    assert right.port is not None

    async def attempts() -> None:
        with pytest.raises(HandshakeError) as wrong_key:
            await dial(net_address(right.host, right.port, somebody().public), somebody(), Caps())
        assert wrong_key.value.message_number == 4
        with pytest.raises((HandshakeError, NetworkError)):
            await dial(right, somebody(), Caps(network_key=os.urandom(32)))

    asyncio.run(attempts())
    victim.is_well()


def test_flipped_and_replayed_handshakes(victim: Victim) -> None:
    key = parse_address(victim.address).key
    assert key is not None
    recorded: list[bytes] = []

    def attempt(flip: int | None, replay: bool = False) -> bool:
        """Returns whether the server hung up."""
        handshake = ClientHandshake(Caps().network_key, somebody(), key, os.urandom(32))
        hello = bytearray(recorded[0] if replay else handshake.data_to_send())
        if flip is not None and flip < 64 * 8:
            hello[flip // 8] ^= 1 << flip % 8
        with plain_socket(victim.address) as sock:
            sock.sendall(hello)
            try:
                challenge = sock.recv(64)
            except ConnectionError:
                return True
            if not challenge:
                return True
            if replay:
                sock.sendall(recorded[1])
                return reads_end(sock)
            handshake.receive_data(challenge)
            handshake.next_event()
            proof = bytearray(handshake.data_to_send())
            if not recorded:
                recorded.extend((bytes(hello), bytes(proof)))
            if flip is not None and flip >= 64 * 8:
                proof[flip // 8 - 64] ^= 1 << flip % 8
            sock.sendall(proof)
            sock.settimeout(0.3 if flip is None else 15)
            return reads_end(sock)

    assert not attempt(None)
    assert attempt(None, replay=True)
    for flip in range(0, 176 * 8, 37):
        assert attempt(flip), flip
    victim.is_well()


@pytest.mark.parametrize("victim", [quick.handshakes], indirect=True, ids=["1.5-s"])
def test_those_who_never_finish(victim: Victim) -> None:
    before = victim.peer.memory()
    sockets = [plain_socket(victim.address) for _ in range(150)]
    started = time.monotonic()
    dripping = sockets[-1]  # the older ones have made place
    hello = os.urandom(64)
    at = 0
    while time.monotonic() - started < 6:
        try:
            dripping.send(hello[at : at + 1])
        except ConnectionError:
            break
        at += 1
        time.sleep(0.1)
    assert 1 < time.monotonic() - started < 6, "a slow handshake is not ended in time"
    assert victim.peer.memory() - before < 20 * MB
    for sock in sockets:
        sock.settimeout(5)
        assert reads_end(sock)
        sock.close()
    victim.is_well()


# ---------------------------------------------------------------------------------------------------- behind it


def test_damaged_boxes_and_frames(victim: Victim) -> None:
    def attack(data: bytes, *, flip: bool = False, boxed: bool = True) -> None:
        with plain_socket(victim.address) as sock:
            boxer = shake_hands(sock, victim.address, victim.enemy)
            wire = bytearray(boxer.box(data) if boxed else data)
            if flip:
                wire[len(wire) // 2] ^= 4
            sock.sendall(wire)
            assert reads_end(sock)

    call = encode_packet(1, b'{"name":["whoami"],"args":[]}')
    attack(call, flip=True)
    attack(os.urandom(500), boxed=False)
    attack(b"\x02" + (1 << 30).to_bytes(4, "big") + (1).to_bytes(4, "big"))  # a frame of a gigabyte
    attack(b"\x03" + (10).to_bytes(4, "big") + (1).to_bytes(4, "big") + bytes(10))  # an unknown kind of body
    attack(os.urandom(20_000))
    victim.is_well()


def test_a_frame_that_never_ends(victim: Victim) -> None:
    before = victim.peer.memory()
    sockets = []
    for _ in range(20):
        sock = plain_socket(victim.address)
        boxer = shake_hands(sock, victim.address, somebody())
        sock.sendall(boxer.box(b"\x02" + (1_000_000).to_bytes(4, "big") + (1).to_bytes(4, "big") + bytes(900_000)))
        sockets.append(sock)
    victim.is_well()  # it has had a turn for each of them
    assert victim.peer.memory() - before < 40 * MB
    for sock in sockets:
        sock.close()


@pytest.mark.parametrize(
    "kind", [pytest.param("async", marks=pytest.mark.slow), "source", pytest.param("unknown", marks=pytest.mark.slow)]
)
def test_a_flood_of_requests_by_one_who_does_not_listen(kind: str, victim: Victim) -> None:
    before = victim.peer.memory()
    bodies = {
        "async": b'{"name":["manifest"],"args":[]}',
        "source": b'{"name":["createHistoryStream"],"args":[{"id":"'
        + victim.machine.id.encode()
        + b'","live":true}],"type":"source"}',
        "unknown": b'{"name":["no","such","thing"],"args":[1,2,3]}',
    }
    highest = 0
    with plain_socket(victim.address, 2) as sock:
        boxer = shake_hands(sock, victim.address, somebody())
        number = 0
        try:
            for _ in range(1000):
                packets = []
                for _ in range(1000):
                    number += 1
                    packets.append(encode_packet(number, bodies[kind], stream=kind == "source"))
                sock.sendall(boxer.box(b"".join(packets)))
                highest = max(highest, victim.peer.memory())
        except (TimeoutError, ConnectionError):
            pass  # it reads no more of this: good
        highest = max(highest, victim.peer.memory())
        assert highest - before < 40 * MB, (highest - before) / MB
        victim.is_well()


def test_unknown_methods_end_only_themselves(victim: Victim) -> None:
    async def attempt(connection: PeerSession, name: list[str], kind: str) -> None:
        if kind == "async":
            await connection.call(name)
        else:
            listener = Collector(connection)
            listener.call = connection.open_stream(name, CallKind.SOURCE, [], listener)
            error = await listener.ended
            assert error is not None
            raise CallRefused(error.message)

    async def attempts() -> None:
        async with guest(victim.address) as connection:
            for name in (
                "publish",
                "get",
                "createLogStream",
                "friends.hops",
                "blobs.size",
                "ebt.clock",
                "status",
                "x" * 150,
            ):
                for kind in ("async", "source"):
                    with pytest.raises(CallRefused, match=r"is not in list of allowed methods|^no "):
                        await attempt(connection, name.split("."), kind)
            answer = await connection.call(["whoami"])
            assert answer.value() == {"id": victim.machine.id}
            manifest = (await connection.call(["manifest"])).value()
            assert "publish" not in manifest
            assert manifest["ebt"] == {"replicate": "duplex"}

    asyncio.run(attempts())
    victim.is_well()


def test_strange_arguments(victim: Victim) -> None:
    junk: list[Any] = [
        None,
        1,
        -1,
        1.5,
        "x",
        [],
        {},
        [[]],
        {"id": 5},
        {"id": "@x"},
        {"id": victim.machine.id, "seq": "x"},
        "&x.sha256",
        {"key": [1]},
        "\0" * 1000,
    ]

    async def attempts() -> None:
        async with guest(victim.address) as connection:
            for value in junk:
                for name, kind in (
                    ("blobs.has", CallKind.ASYNC),
                    ("blobs.get", CallKind.SOURCE),
                    ("blobs.getSlice", CallKind.SOURCE),
                    ("createHistoryStream", CallKind.SOURCE),
                    ("ebt.replicate", CallKind.DUPLEX),
                    ("gossip.ping", CallKind.DUPLEX),
                ):
                    if kind is CallKind.ASYNC:
                        try:
                            await connection.call(name.split("."), [value])
                        except CallRefused:
                            pass
                    else:
                        listener = Collector(connection)
                        listener.call = connection.open_stream(name.split("."), kind, [value], listener)
                        connection.end_call(listener.call)
                        async with asyncio.timeout(5):
                            await listener.ended
            assert (await connection.call(["whoami"])).value() == {"id": victim.machine.id}

    asyncio.run(attempts())
    victim.is_well()


# ---------------------------------------------------------------------------------------------------- replication


@pytest.mark.parametrize(
    "known", [pytest.param(True, id="followed", marks=pytest.mark.slow), pytest.param(False, id="stranger")]
)
def test_notes_for_a_million_feeds(known: bool, victim: Victim) -> None:
    """Or for a seventh of them: were they remembered, that would still be 65 MB."""
    before = victim.peer.memory()
    highest = 0

    async def attack() -> None:
        nonlocal highest
        async with guest(victim.address, victim.enemy if known else None) as connection:
            listener = Collector(connection)
            listener.call = connection.open_stream(["ebt", "replicate"], CallKind.DUPLEX, [{"version": 3}], listener)
            await listener.wait(1)
            for _ in range(amount(quick=30, thorough=200)):
                keys = (base64.b64encode(os.urandom(32)) for _ in range(5000))
                body = b"{" + b",".join(b'"@%b.ed25519":2000000' % key for key in keys) + b"}"
                connection.send_item(listener.call, body)
                try:
                    await connection.wait_for_room()
                except NetworkError:
                    return
                highest = max(highest, victim.peer.memory())
                listener.items.clear()
            await ask_settled(connection)

    asyncio.run(attack())
    highest = max(highest, victim.peer.memory())
    assert highest - before < (70 if known else 40) * MB, (highest - before) / MB
    victim.is_well()


def test_junk_in_notes(victim: Victim) -> None:
    me = victim.machine.id
    junk: list[bytes] = [
        b"{}",
        b'{"@x":1}',
        f'{{"{me}":null}}'.encode(),
        f'{{"{me}":"7"}}'.encode(),
        f'{{"{me}":1e99}}'.encode(),
        f'{{"{me}":-5}}'.encode(),
        f'{{"{me}":9007199254740993}}'.encode(),
        f'{{"{me}":[]}}'.encode(),
        f'{{"clock":{{"{me}":{{}}}}}}'.encode(),
        b'{"author":5,"sequence":1,"content":{}}',
        b'{"__proto__":{"a":1}}',
    ]

    async def attack() -> None:
        for item in [*junk, b"[]", b"5", b"not json", b'"text"', b"{" * 5000]:
            async with guest(victim.address, victim.enemy) as connection:
                listener = Collector(connection)
                listener.call = connection.open_stream(
                    ["ebt", "replicate"], CallKind.DUPLEX, [{"version": 3}], listener
                )
                await listener.wait(1)
                connection.send_item(listener.call, item)
                if item in junk:
                    assert (await connection.call(["whoami"])).value()
                else:
                    async with asyncio.timeout(5):
                        await listener.ended

    asyncio.run(attack())
    victim.is_well()


def chain(keypair: Keypair, count: int) -> list[Message]:
    messages: list[Message] = []
    head: Head | None = None
    for number in range(count):
        message = create_message(
            keypair, head, 1_700_000_000_000 + number, {"type": "post", "text": f"number {number}"}
        )
        messages.append(message)
        head = Head(message.sequence, message.key)
    return messages


async def replicate(address: str, keypair: Keypair, items: list[bytes], *, note: int | None = None) -> list[bytes]:
    """Offer messages over EBT as an honest peer would, and return what the other side said after them."""
    async with guest(address, keypair) as connection:
        listener = Collector(connection)
        listener.call = connection.open_stream(["ebt", "replicate"], CallKind.DUPLEX, [{"version": 3}], listener)
        await listener.wait(1)
        count = 2 * len(items) if note is None else note
        connection.send_item(listener.call, json.dumps({str(keypair.public): count}).encode())
        for item in items:
            connection.send_item(listener.call, item)
            await connection.wait_for_room()
        await ask_settled(connection)  # which takes a second if fewer came than the note said
        return listener.items


def spoiled(messages: list[Message]) -> dict[str, list[bytes]]:
    """Ways to spoil the third of five messages."""
    texts = [message.text for message in messages]
    third = json.loads(texts[2])

    def with_third(**changes: Any) -> list[bytes]:
        return [*texts[:2], json.dumps({**third, **changes}).encode(), *texts[3:]]

    signature = third["signature"]
    turned = ("B" if signature[0] == "A" else "A") + signature[1:]
    return {
        "signature": with_third(signature=turned),
        "text": with_third(content={"type": "post", "text": "not what was signed"}),
        "timestamp": with_third(timestamp=5),
        "previous": with_third(previous=json.loads(texts[0])["previous"]),
        "previous-of-another": with_third(previous="%" + "A" * 43 + "=.sha256"),
        "hash": with_third(hash="sha512"),
        "field": with_third(extra=1),
        "no-signature": with_third(signature=None),
        "long": with_third(content={"type": "post", "text": "x" * 9000}),
        "content": with_third(content=["post"]),
        "no-type": with_third(content={"text": "no type"}),
        "sequence": with_third(sequence=3.5),
        "gap": [*texts[:2], *texts[3:]],
        "order": [*texts[:2], texts[3], texts[2], texts[4]],
        "nested": [
            *texts[:2],
            texts[2].replace(b'"text"', b'"a":' + b"[" * 4000 + b"]" * 4000 + b',"text"'),
            *texts[3:],
        ],
        "huge": [*texts[:2], texts[2].replace(b'"number 2"', b'"' + b"y" * 300_000 + b'"'), *texts[3:]],
    }


def test_messages_that_are_wrong_in_each_way(victim: Victim) -> None:
    names = list(spoiled(chain(victim.enemy, 5)))
    enemies = {name: somebody() for name in names}
    chains = {name: chain(enemy, 5) for name, enemy in enemies.items()}
    victim.machine.follow_all(str(enemy.public) for enemy in enemies.values())
    victim.has_seen_all()

    async def offer(ways: dict[str, list[bytes]]) -> None:
        await asyncio.gather(
            *(replicate(victim.address, enemies[name], items, note=10) for name, items in ways.items())
        )

    asyncio.run(offer({name: spoiled(chains[name])[name] for name in names}))
    held = {name: victim.machine.messages(str(enemies[name].public)) for name in names}
    for name in names:
        # Nothing but what the author signed, in order, is ever in the store.
        assert held[name] == chains[name][: len(held[name])], name
    # A message that came before its turn has only to wait.
    whole = {name for name in names if len(held[name]) == 5}
    assert whole <= {"order"}
    assert all(len(held[name]) == 2 for name in set(names) - whole), {name: len(held[name]) for name in names}
    victim.is_well()
    asyncio.run(offer({name: [message.text for message in chains[name]] for name in names}))
    for name in names:
        wait_for(lambda name=name: victim.machine.messages(str(enemies[name].public)) == chains[name], 5, name)
    assert victim.machine.run("check").returncode == 0


@pytest.mark.parametrize("way", ["ebt", "history"])
def test_items_that_name_one_feed_and_are_messages_of_another(way: str, victim: Victim) -> None:
    """With its keys twice an item says first what is asked for, and is what nobody asked for, or a blocked author's."""
    nobody, blocked = somebody(), somebody()
    enemy = victim.enemy.public
    own = chain(victim.enemy, 6)
    others = [chain(nobody, 3), chain(blocked, 3)]
    with (
        victim.machine.home() as home,
        Ingest(home.store, caps=victim.machine.caps, now_ms=now_ms, workers=1) as ingest,
    ):
        for first, *_ in others:  # a stick brought them
            ingest.add_message(first)
    victim.machine.block(str(blocked.public))
    victim.has_seen_all()
    rest = [message.text for messages in others for message in messages[1:]]
    disguised = [own[0].text, *(with_another_place(text, enemy, sequence) for sequence, text in enumerate(rest, 2))]

    async def by_history() -> None:
        """Serve createHistoryStream, and have no EBT."""
        async with guest(victim.address, victim.enemy) as connection:

            def serve(request: Any) -> None:
                if request.name != ("createHistoryStream",) or request.arguments[0]["id"] != str(enemy):
                    raise CallRefused(f"method:{','.join(request.name)} is not in list of allowed methods")
                connection.attach_receiver(request.call, Collector(connection))
                for item in disguised:
                    connection.send_item(request.call, item)
                served.set()

            served = asyncio.Event()
            connection.on_request = serve
            async with asyncio.timeout(20):
                await served.wait()
            assert await ask_settled(connection)

    if way == "ebt":
        asyncio.run(replicate(victim.address, victim.enemy, disguised, note=20))
    else:
        asyncio.run(by_history())
    victim.is_well()
    held = victim.machine.clock()
    assert held[str(nobody.public)] == held[str(blocked.public)] == held[str(enemy)] == 1
    asyncio.run(replicate(victim.address, victim.enemy, [message.text for message in own]))
    wait_for(lambda: victim.machine.clock()[str(enemy)] == 6, 10)


def test_a_fork_stops_its_feed_alone(victim: Victim) -> None:
    messages = chain(victim.enemy, 5)
    other = create_message(victim.enemy, Head(3, messages[2].key), 5, {"type": "post", "text": "another fourth"})
    fifth = create_message(victim.enemy, Head(4, other.key), 6, {"type": "post", "text": "another fifth"})
    asyncio.run(replicate(victim.address, victim.enemy, [message.text for message in messages[:4]]))
    wait_for(lambda: len(victim.machine.messages(str(victim.enemy.public))) == 4, 5)
    asyncio.run(replicate(victim.address, victim.enemy, [fifth.text], note=10))
    with victim.machine.home() as home:
        wait_for(home.store.forked, 10)
        assert home.store.forked() == {victim.enemy.public}
        assert [fork.key for fork in home.store.forks()] == [fifth.key]
    asyncio.run(replicate(victim.address, victim.enemy, [messages[4].text], note=10))
    assert victim.machine.messages(str(victim.enemy.public)) == messages[:4]
    assert any("forked" in line for line in victim.peer.errors)
    victim.is_well()


def test_what_is_nobodys_business(victim: Victim, tmp_path: Path) -> None:
    """A stranger gets nothing of those who block it, or whom we block; a blocked peer nothing at all."""
    stranger, blocked = somebody(), somebody()
    victim.machine.block(str(blocked.public))
    asyncio.run(
        replicate(
            victim.address,
            victim.enemy,
            [
                create_message(
                    victim.enemy, None, 5, {"type": "contact", "contact": str(stranger.public), "blocking": True}
                ).text
            ],
        )
    )
    wait_for(lambda: victim.machine.messages(str(victim.enemy.public)), 5)
    victim.has_seen_all()

    async def history(keypair: Keypair, feed: str) -> int:
        async with guest(victim.address, keypair) as connection:
            listener = Collector(connection)
            listener.call = connection.open_stream(["createHistoryStream"], CallKind.SOURCE, [{"id": feed}], listener)
            await listener.ended
            return len(listener.items)

    assert asyncio.run(history(somebody(), str(victim.enemy.public))) == 1
    assert asyncio.run(history(stranger, str(victim.enemy.public))) == 0
    assert asyncio.run(history(stranger, victim.machine.id)) > 0

    async def ebt(keypair: Keypair) -> list[bytes]:
        async with guest(victim.address, keypair) as connection:
            listener = Collector(connection)
            listener.call = connection.open_stream(["ebt", "replicate"], CallKind.DUPLEX, [{"version": 3}], listener)
            await listener.wait(1)
            connection.send_item(listener.call, json.dumps({str(victim.enemy.public): 0}).encode())
            assert await ask_settled(connection)
            return [item for item in listener.items if b'"content"' in item]

    assert len(asyncio.run(ebt(somebody()))) == 1
    assert asyncio.run(ebt(stranger)) == []
    with pytest.raises(HandshakeError):
        asyncio.run(history(blocked, victim.machine.id))
    victim.is_well()


def test_wants_of_strangers_are_not_ours(victim: Victim) -> None:
    before = victim.peer.memory()

    async def attack() -> None:
        async with guest(victim.address) as connection:
            served: list[int] = []

            def serve(request: Any) -> None:
                if request.name != ("blobs", "createWants"):
                    raise CallRefused("no")
                connection.attach_receiver(request.call, Collector(connection))
                served.append(request.call)

            connection.on_request = serve
            wants = Collector(connection)
            wants.call = connection.open_stream(["blobs", "createWants"], CallKind.SOURCE, [], wants)
            await wants.wait(1)
            assert wants.items == [b"{}"]
            while not served:
                await asyncio.sleep(0.01)
            for _ in range(50):
                body = json.dumps({str(BlobRef(os.urandom(32))): -1 for _ in range(4000)}).encode()
                connection.send_item(served[0], body)
                await connection.wait_for_room()
            assert await ask_settled(connection)
            assert wants.items == [b"{}"]

    asyncio.run(attack())
    assert victim.peer.memory() - before < 30 * MB
    victim.is_well()


def test_a_blob_that_is_another(victim: Victim) -> None:
    """What was mentioned is fetched from whoever claims it, and what comes is thrown away if it is not that."""
    data = b"x" * 100_000
    blob = BlobRef.of(data)
    victim.machine.publish({"type": "post", "text": "see", "mentions": [{"link": str(blob), "name": "it"}]})

    async def attack(answer: bytes, repeat: int) -> int:
        asked = 0
        served = asyncio.Event()
        async with guest(victim.address, victim.enemy) as connection:

            def serve(request: Any) -> None:
                nonlocal asked
                if request.name == ("blobs", "createWants"):
                    connection.attach_receiver(request.call, Collector(connection))
                    connection.send_item(request.call, json.dumps({str(blob): len(data)}).encode())
                elif request.name == ("blobs", "get"):
                    asked += 1
                    connection.attach_receiver(request.call, Collector(connection))

                    async def send() -> None:
                        for _ in range(repeat):
                            await connection.wait_for_room()
                            if not connection.is_open(request.call):
                                break
                            connection.send_item(request.call, answer, BodyKind.BINARY)
                        connection.end_call(request.call)
                        served.set()

                    connection.spawn(send())
                else:
                    raise CallRefused("no")

            connection.on_request = serve
            async with asyncio.timeout(20):
                await served.wait()
            assert await ask_settled(connection)
        return asked

    victim.has_seen_all()
    assert asyncio.run(attack(b"y" * 50_000, 2)) == 1
    assert not victim.machine.has_blob(str(blob))
    before = victim.peer.memory()
    assert asyncio.run(attack(b"z" * 60_000, 10_000)) == 1
    assert victim.peer.memory() - before < 30 * MB
    assert not victim.machine.has_blob(str(blob))
    assert asyncio.run(attack(data[:50_000], 2)) == 1
    assert victim.machine.has_blob(str(blob))
    victim.is_well()


def test_junk_on_the_beacon_ports(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    with machine.peer("--discovery") as peer, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for port in (8008, 26830):
            for number in range(300):
                sock.sendto(os.urandom(number), ("127.0.0.1", port))
            sock.sendto(b"net:1.2.3.4:5~shs:" + b"A" * 43 + b"=", ("127.0.0.1", port))
            sock.sendto(b";".join([b"net:x:1~noauth"] * 60), ("127.0.0.1", port))
        time.sleep(0.5)
        assert peer.process.poll() is None
        assert now_ms()


def test_boxers_are_what_we_think() -> None:
    """The attackers use the same code as the victim: hold one of their tools against its definition."""
    boxer = Boxer(bytes(32), bytes(24))
    assert len(boxer.box(b"x" * 5000)) == 5000 + 2 * 34
