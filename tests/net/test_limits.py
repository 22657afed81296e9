"""How many connections there are, how often others are dialled, and how long one may say or take nothing."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import random
import socket
import time
from pathlib import Path

import pytest

from sneaker.errors import NetworkError
from sneaker.net import dial_schedule, keep_alive
from sneaker.net import node as node_module
from sneaker.net.dial import dial
from sneaker.net.dial_schedule import DialSchedule
from sneaker.net.node import Node
from sneaker.wire.address import Address, net_address
from sneaker.wire.muxrpc.packets import encode_packet
from tests.net.attackers import guest, plain_socket, reads_end, shake_hands, somebody
from tests.net.machines import Machine
from tests.net.nodes import running, until

pytestmark = pytest.mark.timeout(300)


def test_two_who_dial_each_other_at_once_keep_one_connection(tmp_path: Path) -> None:
    one, two = Machine(tmp_path / "one"), Machine(tmp_path / "two")
    one.follow(two.id)
    two.follow(one.id)

    async def meet(node: Node, address: Address, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        await node.run_session(await dial(address, node.context.home.keypair, node.context.home.caps))

    async def main() -> None:
        async with running(one) as (left, left_address), running(two) as (right, right_address):
            chooser = random.Random(6)
            for _ in range(12):
                tasks = [
                    asyncio.create_task(meet(left, right_address, chooser.choice([0, 0.001, 0.003]))),
                    asyncio.create_task(meet(right, left_address, chooser.choice([0, 0.001, 0.003]))),
                ]
                await until(lambda: left.peers and right.peers)
                # The one that the lower key dialled stays, at both ends; the other one ends by itself.
                lower = left.me < right.me
                await until(
                    lambda lower=lower, tasks=tasks: (
                        [peer.session.dialled for peer in left.peers.values()] == [lower]
                        and [peer.session.dialled for peer in right.peers.values()] == [not lower]
                        and sum(task.done() for task in tasks) == 1
                    )
                )
                await asyncio.sleep(0.1)
                assert len(left.peers) == len(right.peers) == 1
                ends = [next(iter(node.peers.values())).session for node in (left, right)]
                assert not any(end.closing for end in ends)
                assert (await ends[0].call(["whoami"])).value() == {"id": two.id}
                await until(
                    lambda: (
                        left.context.replicator.sequence(right.me) == right.context.replicator.sequence(left.me) == 1
                    )
                )
                await ends[0].hang_up()
                await asyncio.wait(tasks)
                await until(lambda: not left.peers and not right.peers)

    asyncio.run(main())


def test_whoever_does_not_answer_is_dialled_ever_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial_schedule, "_FIRST_WAIT_S", 0.1)
    monkeypatch.setattr(dial_schedule, "_LONGEST_WAIT_S", 0.8)
    machine, other = Machine(tmp_path / "machine"), somebody()
    times: list[float] = []
    said: list[str] = []

    async def no_answer(*_: object) -> None:
        times.append(asyncio.get_running_loop().time())
        raise NetworkError("nobody is there")

    async def main() -> None:
        monkeypatch.setattr(dial_schedule, "dial", no_answer)
        with machine.home() as home:
            node = Node(home, remark=said.append)
            await node.start()
            dialler = DialSchedule(node)
            dialler.start()
            dialler.keep_connected(net_address("127.0.0.1", 1, other.public))
            await until(lambda: len(times) >= 7, 20)
            await dialler.stop()
            await node.stop()

    asyncio.run(main())
    waits = [after - before for before, after in itertools.pairwise(times)]
    for wait, usual in zip(waits, (0.1, 0.2, 0.4, 0.8, 0.8, 0.8), strict=False):
        assert wait >= 0.75 * usual, waits
    assert said == ["127.0.0.1:1: nobody is there"], "said once, not every time"


def test_the_silent_and_the_stuck_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One says nothing when it is asked for a sign of life, one asks for much and takes nothing; a third just listens."""
    monkeypatch.setattr(node_module, "_TICK_S", 0.1)
    monkeypatch.setattr(keep_alive, "KEEPALIVE_S", 0.3)
    monkeypatch.setattr(keep_alive, "SILENCE_S", 1.2)
    monkeypatch.setattr(keep_alive, "STUCK_S", 1.2)
    machine = Machine(tmp_path / "machine")
    blob = machine.add_blob(bytes(4_000_000))

    def silent(address: str) -> bool:
        with plain_socket(address) as sock:
            shake_hands(sock, address, somebody())
            return reads_end(sock)

    def stuck(address: str) -> bool:
        with plain_socket(address) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            boxer = shake_hands(sock, address, somebody())
            body = b'{"name":["blobs","get"],"args":["' + blob.encode() + b'"],"type":"source"}'
            for number in range(1, 8):
                sock.sendall(boxer.box(encode_packet(number, body, stream=True)))
            # It goes on talking, so it is not silent, but it never reads.
            for number in range(100, 160):
                try:
                    sock.sendall(boxer.box(encode_packet(number, b'{"name":["no"],"args":[]}')))
                except ConnectionError:
                    return True
                time.sleep(0.1)
            return False

    async def main() -> None:
        async with running(machine) as (node, address), guest(address) as polite:
            started = node.context.now()
            assert await asyncio.to_thread(silent, str(address))
            assert 1 < node.context.now() - started < 10
            assert await asyncio.to_thread(stuck, str(address))
            await until(lambda: len(node.peers) == 1)
            assert (await polite.call(["whoami"])).value() == {"id": machine.id}

    asyncio.run(main())


def test_work_that_ends_before_it_has_begun_is_dropped_without_a_word(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    begun = []

    async def work() -> None:
        begun.append(1)

    async def scenario() -> None:
        async with running(machine) as (_, address), guest(address) as guests:
            for_nothing = work()
            guests.spawn(for_nothing).cancel()
            guests.spawn(work())
            await until(lambda: begun)
            assert inspect.getcoroutinestate(for_nothing) == inspect.CORO_CLOSED

    asyncio.run(scenario())
    assert begun == [1]


def test_who_connects_while_the_node_stops_is_let_go(tmp_path: Path) -> None:
    """A dial that ends only then begins nothing for which the store would have to be open."""
    one, two = Machine(tmp_path / "one"), Machine(tmp_path / "two")
    one.follow(two.id)
    said: list[str] = []

    async def main() -> None:
        async with running(two) as (_, address):
            async with running(one, said.append) as (node, _):
                session = await dial(address, one.keypair, one.caps)
            begun = asyncio.create_task(node.run_session(session))
            async with asyncio.timeout(10):
                assert await begun is None
            assert not node.peers
            assert session.closing

    asyncio.run(main())
    assert said == []
