"""Whom we dial: friends on the LAN and peers that a person named."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sneaker.net import dial_schedule
from sneaker.net.dial_schedule import DialSchedule
from sneaker.net.node import Node
from sneaker.refs import FeedRef
from sneaker.wire.address import Address, net_address
from tests.net.attackers import somebody
from tests.net.machines import Machine
from tests.net.nodes import until


def test_whom_the_schedule_dials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Friends on the LAN and peers that a person named; a stranger never."""
    monkeypatch.setattr(dial_schedule, "_POLITE_S", 0.0)
    machine, friend = Machine(tmp_path / "machine"), Machine(tmp_path / "friend")
    machine.follow(friend.id)
    dialled: list[FeedRef] = []

    async def main() -> None:
        with machine.home() as home:
            node = Node(home)
            await node.start()
            server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            schedule = DialSchedule(node)
            original = schedule._dial

            async def dial(candidate: Any, address: Address) -> None:
                assert address.key is not None
                dialled.append(address.key)
                await original(candidate, address)

            schedule._dial = dial  # type: ignore[method-assign,assignment]
            schedule.start()
            named = somebody().public
            schedule.beacon_heard(net_address("127.0.0.1", port, somebody().public))
            schedule.beacon_heard(net_address("127.0.0.1", port, friend.keypair.public))
            schedule.beacon_heard(net_address("127.0.0.1", port, machine.keypair.public))
            schedule.keep_connected(net_address("127.0.0.1", port, named))
            for number in range(1000):
                schedule.beacon_heard(net_address("127.0.0.1", port, FeedRef.classic(number.to_bytes(32, "big"))))
            assert len(schedule._candidates) <= 500
            candidates = schedule._candidates
            await until(lambda: len(candidates) == 2 and all(other.failures for other in candidates.values()))
            assert set(dialled) == {friend.keypair.public, named}
            # Ever less eagerly: a peer that refused us is not asked twice in four seconds.
            assert dialled.count(named) == 1
            assert candidates[named].next_at - node.context.now() > 4
            await schedule.stop()
            server.close()
            await node.stop()

    asyncio.run(main())
