"""Who gets in while others want all the places: sockets that say nothing, and strangers who say a little now and then."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sneaker.keys import Keypair
from sneaker.net import admission
from sneaker.net.admission import MAX_HANDSHAKES, MAX_STRANGERS, PendingHandshakes, find_place, source_of
from sneaker.wire.boxstream import Boxer
from sneaker.wire.muxrpc.packets import encode_packet
from tests.net.attackers import plain_socket, reads_end, shake_hands, somebody
from tests.net.machines import Machine
from tests.net.nodes import running, until

pytestmark = pytest.mark.timeout(100)


def test_an_address_stands_for_whoever_has_it() -> None:
    assert source_of("10.0.0.1") != source_of("10.0.0.2")
    assert source_of("::ffff:10.0.0.1") == source_of("10.0.0.1")
    assert source_of("2001:db8:1:2:3::4") == source_of("2001:db8:1:2:ffff::") != source_of("2001:db8:1:3::4")
    assert source_of("fe80::1%eth0") == source_of("fe80::1")
    assert source_of("") == ""


def test_the_oldest_handshake_goes_first() -> None:
    gone: list[int] = []

    def begin(handshakes: PendingHandshakes, number: int, host: str) -> Any:
        def abort() -> None:
            gone.append(number)

        handshakes.handshake_begun(host, abort)
        return abort

    handshakes = PendingHandshakes(most=6, most_each=3)
    begin(handshakes, 0, "10.0.0.1")
    finished = begin(handshakes, 1, "10.0.0.1")
    begin(handshakes, 2, "10.0.0.2")
    handshakes.handshake_over(finished)
    for number in range(3, 10):
        begin(handshakes, number, "10.0.0.1")
    assert gone == [0, 3, 4, 5, 6], "one source drives out its own"
    begin(handshakes, 10, "10.0.0.3")
    begin(handshakes, 11, "10.0.0.4")
    assert len(handshakes) == 6
    begin(handshakes, 12, "10.0.0.5")
    assert gone == [0, 3, 4, 5, 6, 2], "then the oldest of all goes"
    for number in range(100, 200):
        begin(handshakes, number, f"2001:db8::{number:x}")
    assert len(handshakes) == 6
    handshakes.handshake_over(finished)
    assert len(handshakes) == 6


def peer_from(host: str, *, near: bool = False, since: float = 0.0, active: float = 0.0) -> Any:
    return SimpleNamespace(
        is_near=near, active_at=active, session=SimpleNamespace(host=host, started_at=since), host=host
    )


def test_places_of_strangers_go_round() -> None:
    here = [peer_from("10.0.0.1", since=100 + number, active=1000) for number in range(MAX_STRANGERS)]
    assert find_place(here[1:], False, "10.0.0.9", 101) is True
    assert find_place(here, False, "10.0.0.9", 101) is here[0], "another address than the one that has them all"
    assert find_place(here, False, "10.0.0.1", 101) is False, "everybody has a turn"
    assert find_place(here, False, "10.0.0.1", 131) is here[0], "but nobody stays for ever, whatever it does"
    each = [peer_from(f"10.0.1.{number}", since=100 + number) for number in range(MAX_STRANGERS)]
    assert find_place(each, False, "10.0.0.9", 101) is False
    assert find_place(each, False, "10.0.0.9", 131) is each[0]
    assert find_place(each, True, "10.0.0.9", 101) is True


def test_those_we_know_never_wait_for_strangers() -> None:
    friends = [peer_from("10.0.0.1", near=True, since=50, active=100 + number) for number in range(99)]
    stranger = peer_from("10.0.0.2", since=120)
    assert find_place([*friends, stranger], True, "10.0.0.1", 121) is stranger
    assert find_place([*friends, friends[5]], False, "10.0.0.1", 999) is False
    assert find_place([*friends, friends[5]], True, "10.0.0.1", 129) is False
    assert find_place([*friends, friends[5]], True, "10.0.0.1", 130) is friends[0]


@contextmanager
def sockets() -> Iterator[list[socket.socket]]:
    held: list[socket.socket] = []
    try:
        yield held
    finally:
        for sock in held:
            sock.close()


@pytest.mark.parametrize("sources", [0, 1, 4, 100], ids=["the-friends-own", "one", "four", "a-hundred"])
def test_silent_sockets_keep_nobody_out(sources: int, tmp_path: Path) -> None:
    machine, friend = Machine(tmp_path / "machine"), Machine(tmp_path / "friend")
    machine.follow(friend.id)
    friend.follow(machine.id)

    async def flood(address: str, held: list[socket.socket]) -> None:
        """Twice as many as there are places, and ten new ones a second."""
        while True:
            source = f"127.0.1.{1 + len(held) % sources}" if sources else "127.0.0.1"
            held.append(await asyncio.to_thread(plain_socket, address, 15, source=source))
            if len(held) >= 2 * MAX_HANDSHAKES:
                await asyncio.sleep(0.1)

    async def main() -> None:
        async with running(machine) as (node, address):
            with sockets() as held:
                flooding = asyncio.create_task(flood(str(address), held))
                await until(lambda: len(held) >= 2 * MAX_HANDSHAKES, 30)
                report = await asyncio.to_thread(friend.connect, str(address))
                assert report["level"], report
                assert report["messages"]["accepted"] == 1
                assert not flooding.done()
                flooding.cancel()
                await asyncio.wait([flooding])
            assert not node.peers

    asyncio.run(main())
    assert friend.clock() == machine.clock() == {machine.id: 1, friend.id: 1}


class Stranger:
    """Somebody who sends a note for one feed now and then, so that it never is idle."""

    def __init__(self, address: str, source: str, keypair: Keypair | None = None) -> None:
        self.sock = plain_socket(address, 5, source=source)
        self.boxer: Boxer = shake_hands(self.sock, address, keypair or somebody())
        call = b'{"name":["ebt","replicate"],"args":[{"version":3}],"type":"duplex"}'
        self.sock.sendall(self.boxer.box(encode_packet(1, call, stream=True)))

    def note(self) -> None:
        item = json.dumps({str(somebody().public): 2}).encode()
        self.sock.sendall(self.boxer.box(encode_packet(1, item, stream=True)))

    def is_let_go(self) -> bool:
        return reads_end(self.sock)


def test_strangers_who_say_a_little_keep_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_TURN_S", 1.5)
    machine, friend = Machine(tmp_path / "machine"), Machine(tmp_path / "friend")
    machine.follow(friend.id)
    friend.follow(machine.id)

    async def main() -> None:
        async with running(machine) as (node, address):
            strangers = [await asyncio.to_thread(Stranger, str(address), "127.0.1.1") for _ in range(MAX_STRANGERS)]

            async def keep_talking() -> None:
                while True:
                    for stranger in strangers:
                        try:
                            stranger.note()
                        except OSError:
                            pass
                    await asyncio.sleep(0.2)

            talking = asyncio.create_task(keep_talking())
            with sockets() as held:
                held += [stranger.sock for stranger in strangers]
                await until(lambda: len(node.peers) == MAX_STRANGERS)
                # A friend, and a stranger from elsewhere, at once.
                report = await asyncio.to_thread(friend.connect, str(address))
                assert report["level"], report
                elsewhere = await asyncio.to_thread(Stranger, str(address), "127.0.1.2")
                held.append(elsewhere.sock)
                await until(lambda: len(node.peers) == MAX_STRANGERS)
                assert await asyncio.to_thread(strangers[0].is_let_go)
                # One from the same address when the turn of the next one is over.
                await until(lambda: node.context.now() - min(m.session.started_at for m in node.peers.values()) > 1.5)
                late = await asyncio.to_thread(Stranger, str(address), "127.0.1.1")
                held.append(late.sock)
                assert await asyncio.to_thread(strangers[1].is_let_go)
                await until(lambda: len(node.peers) == MAX_STRANGERS)
                talking.cancel()
                await asyncio.wait([talking])

    asyncio.run(main())
    assert friend.clock() == machine.clock()
