"""What beacons can make us do, and what we announce: dials are few whatever is claimed, and only what can be reached is told."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sneaker.errors import NetworkError
from sneaker.net import dial_schedule
from sneaker.net.dial_schedule import DialSchedule
from sneaker.net.interfaces import is_own_address
from sneaker.net.lan_discovery import LanDiscovery
from sneaker.net.listener import Listener
from sneaker.net.node import Node
from sneaker.net.peer_addresses import EXPIRES_S, PeerAddresses
from sneaker.net.services.ebt import EbtService
from sneaker.wire.address import Address, net_address
from sneaker.wire.beacon import decode_legacy, encode_legacy, encode_normal
from tests.net.attackers import somebody
from tests.net.machines import Machine
from tests.net.nodes import running, until
from tests.net.test_netns import village

pytestmark = pytest.mark.timeout(120)


def discovery(node: Node, heard: Callable[[Address, bool], None]) -> LanDiscovery:
    """One that hears only what it is given, and announces nothing."""
    return LanDiscovery(node.context, lambda _: None, peer_heard=heard, own_key_heard=node.own_key.beacon_heard)


# ---------------------------------------------------------------------------------------------------- whom we dial


def test_beacons_from_ever_new_places_cost_few_dials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever can name a friend's key and send from many addresses, or name many ports, gets a handful of dials; and the friend
    itself, who signs, is sought where it says that it is at once."""
    monkeypatch.setattr(dial_schedule, "_POLITE_S", 0.0)
    monkeypatch.setattr(dial_schedule, "_FIRST_WAIT_S", 60.0)  # what is dialled is dialled because of a beacon
    machine, friend = Machine(tmp_path / "machine"), Machine(tmp_path / "friend")
    machine.follow(friend.id)
    key = friend.keypair.public
    dials: list[Address] = []

    async def no_answer(address: Address, *_: object) -> None:
        dials.append(address)
        raise NetworkError("nobody is there")

    async def main() -> None:
        monkeypatch.setattr(dial_schedule, "dial", no_answer)
        with machine.home() as home:
            node = Node(home)
            await node.start()
            dialler = DialSchedule(node)
            finder = discovery(node, dialler.beacon_heard)
            dialler.start()
            for number in range(486):
                place = net_address(f"10.9.{number % 200}.{number // 200 + 1}", 2000 + number, key)
                finder.packet_received(encode_legacy(place), place.host or "", decode_legacy)
                finder._packets.clear()
                await asyncio.sleep(0.002)
            await until(lambda: dials)
            assert len(dials) <= 3, f"{len(dials)} dials"
            before = len(dials)
            true = net_address("10.9.250.1", 8008, key)
            packet = encode_normal((true,), machine.caps.network_key, friend.keypair)
            finder.packet_received(packet, "10.66.6.6", finder._decode_normal)  # the same, repeated by another
            await asyncio.sleep(0.2)
            assert len(dials) == before
            finder.packet_received(packet, "10.9.250.1", finder._decode_normal)
            await until(lambda: len(dials) > before)
            assert dials[-1] == true
            for number in range(100):
                finder.packet_received(
                    encode_legacy(net_address("10.9.9.9", 1000 + number, key)), "10.9.9.9", decode_legacy
                )
                finder.packet_received(packet, "10.9.250.1", finder._decode_normal)
                finder._packets.clear()
            await asyncio.sleep(0.3)
            assert len(dials) == before + 1
            assert dialler._candidates[key].address_now(node.context.now()) == true
            await dialler.stop()
            await node.stop()

    asyncio.run(main())


def test_a_flood_from_one_address_silences_nobody_else(tmp_path: Path) -> None:
    """Neither packets in any number nor any number of keys keep a friend from being found."""
    machine, friend = Machine(tmp_path / "machine"), Machine(tmp_path / "friend")
    machine.follow(friend.id)

    async def main() -> None:
        with machine.home() as home:
            node = Node(home)
            await node.start()
            dialler = DialSchedule(node)
            finder = discovery(node, dialler.beacon_heard)
            for _ in range(2000):
                place = net_address("10.6.6.6", 8008, somebody().public)
                finder.packet_received(encode_legacy(place), "10.6.6.6", decode_legacy)
            for number in range(600):
                dialler.beacon_heard(net_address(f"10.7.{number // 250}.{number % 250}", 8008, somebody().public))
            true = net_address("10.0.0.7", 8008, friend.keypair.public)
            finder.packet_received(encode_legacy(true), "10.0.0.7", decode_legacy)
            assert list(dialler._candidates) == [friend.keypair.public]
            await node.stop()

    asyncio.run(main())


def test_a_beacon_sends_us_nowhere_but_to_its_sender(tmp_path: Path) -> None:
    machine, other = Machine(tmp_path / "machine"), somebody()
    heard: list[tuple[Address, bool]] = []

    async def main() -> None:
        with machine.home() as home:
            finder = discovery(Node(home), lambda *found: heard.append(found))
            named = net_address("192.0.2.80", 80, other.public)
            finder.packet_received(encode_legacy(named), "10.0.0.7", decode_legacy)
            signed = encode_normal((named, net_address("10.0.0.7", 9, other.public)), machine.caps.network_key, other)
            finder.packet_received(signed, "10.0.0.7", finder._decode_normal)
            finder.packet_received(signed, "10.0.0.8", finder._decode_normal)

    asyncio.run(main())
    assert heard == [
        (net_address("10.0.0.7", 80, other.public), False),
        (net_address("10.0.0.7", 9, other.public), True),
        (net_address("10.0.0.8", 80, other.public), False),
    ]


def places(count: int) -> Iterator[Address]:
    key = somebody().public
    return (net_address(f"10.0.0.{number}", 8008, key) for number in range(count))


def test_the_best_addresses_are_kept() -> None:
    """What the peer signed, then where it was met, then where it was sought least; what is not heard any more is not tried."""
    signed, met, *others = places(50)
    known = PeerAddresses()
    assert not known.beacon_heard(met, False, 0.0)
    known.reached_at(met)
    assert known.beacon_heard(signed, True, 0.0)
    assert not known.beacon_heard(signed, True, 0.0)
    for other in others:
        known.beacon_heard(other, False, 1.0)
    assert known.best_address(1.0) == signed
    assert known.best_address(1.0, frozenset({signed})) == met
    known.not_reached_at(met)
    first = known.best_address(1.0, frozenset({signed}))
    assert first in others
    known.not_reached_at(first)
    assert known.best_address(1.0, frozenset({signed})) not in (first, met, None)
    assert known.best_address(EXPIRES_S + 2.0) is None
    known.beacon_heard(met, False, EXPIRES_S + 2.0)
    assert known.best_address(EXPIRES_S + 2.0) == met


def test_a_connection_that_did_its_work_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ssb-server ends each connection once nothing happens for a while; the next one comes as soon as the first did."""
    monkeypatch.setattr(dial_schedule, "_FIRST_WAIT_S", 0.1)
    monkeypatch.setattr(dial_schedule, "_WORKED_S", 0.05)
    one, two = Machine(tmp_path / "one"), Machine(tmp_path / "two")
    one.follow(two.id)
    two.follow(one.id)

    async def main() -> None:
        async with running(one) as (node, _), running(two) as (other, address):
            dialler = DialSchedule(node)
            dialler.start()
            dialler.keep_connected(address)
            for _ in range(6):
                await until(lambda: node.me in other.peers and other.me in node.peers, 20)
                peer = other.peers[node.me]
                mine = node.peers[other.me]
                await until(lambda mine=mine: mine.service(EbtService).has_worked, 20)
                await asyncio.sleep(0.1)
                await peer.session.hang_up()
                await until(lambda mine=mine: node.peers.get(other.me) is not mine, 20)
                assert dialler._candidates[other.me].failures == 0
            await dialler.stop()

    asyncio.run(main())


def test_a_connection_that_ends_at_once_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial_schedule, "_FIRST_WAIT_S", 0.05)
    one, two = Machine(tmp_path / "one"), Machine(tmp_path / "two")
    one.follow(two.id)

    async def main() -> None:
        async with running(one) as (node, _), running(two) as (other, address):
            dialler = DialSchedule(node)

            def hang_up() -> None:
                for peer in other.peers.values():
                    peer.session.abort()

            other.listeners.append(hang_up)
            dialler.start()
            dialler.keep_connected(address)
            await until(lambda: dialler._candidates[other.me].failures >= 3, 20)
            await dialler.stop()

    asyncio.run(main())


# ---------------------------------------------------------------------------------------------------- what we announce


@pytest.mark.parametrize(
    ("host", "loopback", "elsewhere"),
    [
        ("127.0.0.1", True, False),
        ("::1", False, False),
        ("0.0.0.0", True, True),
        ("", True, True),
        ("::", False, False),
    ],
)
def test_a_port_is_told_only_where_it_can_be_reached(
    host: str, loopback: bool, elsewhere: bool, tmp_path: Path
) -> None:
    async def main() -> None:
        with Machine(tmp_path / "machine").home() as home:
            node = Node(home)
            server = Listener(node, host, 0)
            assert server.port_at("127.0.0.1") is None, "it does not listen yet"
            await server.start_listening()
            assert (server.port_at("127.0.0.1") is not None, server.port_at("10.1.2.3") is not None) == (
                loopback,
                elsewhere,
            )
            if loopback:
                _, writer = await asyncio.open_connection("127.0.0.1", server.port_at("127.0.0.1"))
                writer.close()
            server.stop_listening()

    asyncio.run(main())


_HEAR = """
import socket, sys, time
sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
for sock, port in zip(sockets, (8008, 26830)):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("", port))
    sock.settimeout(0.1)
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    for sock in sockets:
        try:
            print(len(sock.recvfrom(2000)[0]), flush=True)
            sys.exit()
        except TimeoutError:
            pass
"""


@pytest.mark.netns
@pytest.mark.root
@pytest.mark.parametrize("told", [False, True])
def test_who_listens_on_loopback_tells_the_lan_nothing(told: bool, tmp_path: Path) -> None:
    places = ["10.77.0.1:8008"] if told else ["127.0.0.1:8008", "[::1]:8008"]
    with village(2) as names, ExitStack() as stack:
        for number, listen in enumerate(places):
            machine = Machine(tmp_path / f"machine-{number}")
            stack.enter_context(machine.peer("--discovery", listen=listen, prefix=["ip", "netns", "exec", names[0]]))
        command = ["ip", "netns", "exec", names[1], sys.executable, "-c", _HEAR, "60" if told else "5"]
        heard = subprocess.run(command, capture_output=True, text=True, timeout=70, check=True).stdout.split()
    assert bool(heard) == told, heard


def test_own_addresses() -> None:
    assert is_own_address("127.0.0.1")
    assert is_own_address("127.9.9.9")
    assert is_own_address("::1")
    assert not is_own_address("192.0.2.1")
    assert not is_own_address("2001:db8::1")
    assert is_own_address("not an address"), "no alarm where nothing is known"
