"""Our own key on another machine is noticed, proven, said, and stops publishing; what only says so stops nothing."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sneaker.errors import HandshakeError
from sneaker.keys import Keypair
from sneaker.net import dial as dial_module
from sneaker.net import lan_discovery, own_key_elsewhere
from sneaker.net.dial import dial
from sneaker.net.listener import Listener
from sneaker.net.node import Node
from sneaker.wire.address import net_address
from sneaker.wire.beacon import decode_legacy, encode_legacy, encode_normal
from tests.net.attackers import somebody
from tests.net.machines import Machine, wait_for
from tests.net.nodes import running, until
from tests.net.test_beacons import discovery
from tests.net.test_netns import village

pytestmark = pytest.mark.timeout(180)

#: An address that a test takes for another machine's.
ELSEWHERE = "127.0.0.2"


@pytest.fixture
def other_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (lan_discovery, own_key_elsewhere, dial_module):
        monkeypatch.setattr(module, "is_own_address", lambda host: host != ELSEWHERE)


def doctor(machine: Machine, *options: str) -> dict[str, Any]:
    return json.loads(machine.run("doctor", "--json", *options).stdout)


def codes(machine: Machine) -> set[str]:
    return {finding["code"] for finding in doctor(machine)["findings"]}


@pytest.mark.netns
@pytest.mark.root
def test_two_machines_with_one_secret_on_a_lan(tmp_path: Path) -> None:
    keypair = Keypair.from_seed(b"t" * 32)
    one, two = Machine(tmp_path / "one", keypair=keypair), Machine(tmp_path / "two", keypair=keypair)
    two.publish({"type": "post", "text": "written on the other machine"})
    with village(2) as names, ExitStack() as stack:
        peers = [
            stack.enter_context(
                machine.peer("--discovery", listen="0.0.0.0:8008", prefix=["ip", "netns", "exec", name])
            )
            for machine, name in zip((one, two), names, strict=True)
        ]
        for machine, peer, host in zip((one, two), peers, ("10.77.0.2", "10.77.0.1"), strict=True):
            wait_for(lambda machine=machine: "own-key-shared" in codes(machine), 60, "the discovery")
            wait_for(lambda peer=peer: any("ANOTHER MACHINE" in line for line in peer.errors), 20, "the warning")
            found = doctor(machine)["own_feed"]
            assert (found["state"], found["elsewhere"][0]["host"]) == ("shared", host)
            assert machine.run("publish", "no").returncode == 23
        wait_for(lambda: one.clock() == {one.id: 1}, 30, "the messages of the other machine")
    # The services have ended, and it is remembered until the person settles it.
    assert one.run("publish", "no").returncode == 23
    done = one.run("doctor", "--last", "1", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert one.run("publish", "yes").returncode == 0
    assert one.clock() == {one.id: 2}


@pytest.mark.usefixtures("other_machine")
@pytest.mark.parametrize("signed", [True, False])
def test_a_beacon_with_our_key_is_followed_up(signed: bool, tmp_path: Path) -> None:
    keypair = Keypair.from_seed(b"t" * 32)
    one, two = Machine(tmp_path / "one", keypair=keypair), Machine(tmp_path / "two", keypair=keypair)
    two.publish({"type": "post", "text": "elsewhere"})
    said: list[str] = []

    async def main() -> None:
        with one.home() as home, two.home() as twin_home:
            node, twin = Node(home, warn=said.append), Node(twin_home)
            await node.start()
            await twin.start()
            server = Listener(twin, ELSEWHERE, 0)
            await server.start_listening()
            finder = discovery(node, lambda *_: None)
            address = net_address(ELSEWHERE, server.port, node.me)
            if signed:
                packet = encode_normal((address,), one.caps.network_key, keypair)
                finder.packet_received(packet, ELSEWHERE, finder._decode_normal)
            else:
                finder.packet_received(encode_legacy(address), ELSEWHERE, decode_legacy)
            await until(lambda: home.store.own_keys.own_key_elsewhere(node.me), 30)
            # What it says by EBT of our feed is our own word, and its messages come.
            await until(lambda: home.store.own_sequence_seen(node.me).held == 1, 30)
            assert len(node.own_key_peers) == 1
            server.stop_listening()
            await node.stop()
            await twin.stop()

    asyncio.run(main())
    assert len([line for line in said if "ANOTHER MACHINE HAS YOUR SECRET" in line and ELSEWHERE in line]) == 1


@pytest.mark.usefixtures("other_machine")
def test_a_stranger_who_broadcasts_our_key_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The beacon is followed up once and then hardly ever, from wherever it comes; one line says so."""
    machine, said, dials = Machine(tmp_path / "machine"), [], 0

    async def counting(*arguments: Any, **more: Any) -> Any:
        nonlocal dials
        dials += 1
        return await dial_module.dial_from_home(*arguments, **more)

    async def main() -> None:
        monkeypatch.setattr(own_key_elsewhere, "dial_from_home", counting)
        async with running(Machine(tmp_path / "eve")) as (eve, _):
            server = Listener(eve, ELSEWHERE, 0)
            await server.start_listening()
            with machine.home() as home:
                node = Node(home, remark=said.append)
                await node.start()
                finder = discovery(node, lambda *_: None)
                for port in (server.port, 1, 2, 3) * 25:
                    packet = encode_legacy(net_address(ELSEWHERE, port, node.me))
                    finder.packet_received(packet, ELSEWHERE, decode_legacy)
                    finder._packets.clear()
                    await asyncio.sleep(0.005)
                await until(lambda: said, 30)
                await asyncio.sleep(0.2)
                assert home.store.own_keys.own_key_elsewhere(node.me) == []
                await node.stop()
            server.stop_listening()

    asyncio.run(main())
    assert dials == 1
    assert len(said) == 1
    assert "does not prove it" in said[0]
    assert doctor(machine)["own_feed"]["state"] == "fine"
    assert machine.run("publish", "as ever").returncode == 0


@pytest.mark.parametrize("where", ["the service", "another process"])
def test_a_stranger_who_leads_us_in_a_circle_proves_nothing(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eve broadcasts our key and passes all that we send to her on to ourselves: both ends of the handshake hold our secret."""
    back = "127.0.0.3"
    for module in (lan_discovery, own_key_elsewhere, dial_module):
        monkeypatch.setattr(module, "is_own_address", lambda host: host not in (ELSEWHERE, back))
    machine, said, relayed = Machine(tmp_path / "machine"), [], 0

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            writer.write(data)
        writer.close()

    async def main() -> None:
        async with running(machine) as (node, address):
            node.context.warn = said.append

            async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                nonlocal relayed
                relayed += 1
                there = await asyncio.open_connection(address.host, address.port, local_addr=(back, 0))
                await asyncio.gather(pass_on(reader, there[1]), pass_on(there[0], writer))

            eve = await asyncio.start_server(relay, ELSEWHERE, 0)
            lie = net_address(ELSEWHERE, eve.sockets[0].getsockname()[1], node.me)
            if where == "the service":
                finder = discovery(node, lambda *_: None)
                finder.packet_received(encode_legacy(lie), ELSEWHERE, decode_legacy)
                await until(lambda: node.own_key._patience[False].failures, 30)
            else:
                with machine.home() as again, pytest.raises(HandshakeError):
                    await dial_module.dial_from_home(again, lie)
            assert relayed == 1
            assert (said, node.own_key_peers, node.context.store.own_keys.own_key_elsewhere(node.me)) == ([], set(), [])
            eve.close()

    asyncio.run(main())
    assert doctor(machine)["own_feed"]["state"] == "fine"


def test_programs_on_this_machine_may_use_our_key(tmp_path: Path) -> None:
    """Over loopback, whatever they do there; and from a stranger nothing is learnt about our key."""
    machine = Machine(tmp_path / "machine")

    async def main() -> None:
        async with running(machine) as (node, address):
            for keypair in (machine.keypair, somebody()):
                connection = await dial(address, keypair, machine.caps)
                task = asyncio.create_task(connection.run())
                assert (await connection.call(["whoami"])).value() == {"id": machine.id}
                await connection.hang_up()
                await task
            assert node.context.store.own_keys.own_key_elsewhere(node.me) == []

    asyncio.run(main())
    with machine.peer() as peer:
        assert machine.run("call", peer.address, "whoami").returncode == 0
    assert doctor(machine)["own_feed"]["state"] == "fine"


@pytest.mark.usefixtures("other_machine")
def test_whoever_dials_us_with_our_key_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path / "machine")
    monkeypatch.setattr(own_key_elsewhere, "is_own_address", lambda host: False)  # 127.0.0.1 is the other machine's now

    async def main() -> None:
        async with running(machine) as (node, address):
            connection = await dial(address, machine.keypair, machine.caps)
            task = asyncio.create_task(connection.run())
            await until(lambda: node.context.store.own_keys.own_key_elsewhere(node.me), 30)
            # The person says that it is settled while the other machine is still there: it is not.
            monkeypatch.setattr(own_key_elsewhere, "_FIRST_WAIT_S", 0.1)
            await connection.hang_up()
            await task
            again = await dial(address, machine.keypair, machine.caps)
            task = asyncio.create_task(again.run())
            await asyncio.sleep(0.3)
            node.context.store.own_keys.settle_own_key(node.me)
            await until(lambda: node.context.store.own_keys.own_key_elsewhere(node.me), 30)
            await again.hang_up()
            await task

    asyncio.run(main())


def test_a_bounded_number_of_addresses_is_kept(tmp_path: Path) -> None:
    with Machine(tmp_path / "machine").home() as home:
        me = home.keypair.public
        for number in range(50):
            home.store.own_keys.note_own_key(me, f"10.0.0.{number}")
        assert len(home.store.own_keys.own_key_elsewhere(me)) == 20
        home.store.own_keys.settle_own_key(me)
        assert home.store.own_keys.own_key_elsewhere(me) == []
