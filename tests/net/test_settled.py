"""Two sneakers are level when they say so, not when nothing has come for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from sneaker.net import sync_with_peer
from sneaker.net.services import settled
from sneaker.net.sync_with_peer import SyncReport
from tests.net.attackers import guest
from tests.net.machines import Machine
from tests.net.nodes import running, until

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def _quiet_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_with_peer, "_QUIET_S", 1000.0)
    monkeypatch.setattr(sync_with_peer, "_NOTHING_S", 1000.0)


def friends(tmp_path: Path) -> tuple[Machine, Machine]:
    one, two = Machine(tmp_path / "one"), Machine(tmp_path / "two")
    one.follow(two.id)
    two.follow(one.id)
    return one, two


def sync(one: Machine, two: Machine, *, then: Callable[[], object] = lambda: None) -> SyncReport:
    """Have two dial one, which runs as a peer, sync, and say ``then`` in the moment in which that is over."""

    async def main() -> SyncReport:
        async with running(one) as (_, address):
            with two.home() as home:
                report = await sync_with_peer.sync_with_peer(home, address, remark=print)
            then()
            return report

    return asyncio.run(main())


def test_nothing_is_waited_for(tmp_path: Path) -> None:
    one, two = friends(tmp_path)
    for count in (1, 0):
        report = sync(one, two, then=lambda: None)
        assert report.level, report.detail
        assert (report.counts.received, report.counts.sent) == (count, count)
    assert one.clock() == two.clock() == {one.id: 1, two.id: 1}


def test_whom_the_peer_comes_to_follow_by_what_we_sent(tmp_path: Path) -> None:
    """Our contact messages widen what the peer asks for; it has all of it when we are level, and so for what comes back."""
    one, two = friends(tmp_path)
    three, four = Machine(tmp_path / "three"), Machine(tmp_path / "four")
    for machine in (three, four):
        for number in range(20):
            machine.publish({"type": "post", "text": f"{number}"})
        log = tmp_path / "log.ndjson"
        log.write_text(machine.run("log", "--json").stdout)
        assert (two if machine is three else one).take(log) == 20
    two.follow(three.id)
    one.follow(four.id)
    seen: list[dict[str, int]] = []
    report = sync(one, two, then=lambda: seen.append(one.clock()))
    assert report.level, report.detail
    assert seen[0] == two.clock() == {one.id: 2, two.id: 2, three.id: 20, four.id: 20}


def test_blobs_of_what_has_just_come(tmp_path: Path) -> None:
    one, two = friends(tmp_path)
    blobs = {}
    for machine in (one, two):
        blobs[machine.id] = machine.add_blob(machine.id.encode() * 20_000)
        machine.publish({"type": "post", "text": "see", "mentions": [{"link": blobs[machine.id], "name": "it"}]})
    seen: list[bool] = []
    report = sync(one, two, then=lambda: seen.append(one.has_blob(blobs[two.id])))
    assert report.level, report.detail
    assert (report.counts.blobs_received, report.counts.blobs_sent) == (1, 1)
    assert seen == [True]
    assert two.has_blob(blobs[one.id])


def test_what_was_published_a_moment_ago_comes(tmp_path: Path) -> None:
    """The peer has not looked at its store since; it does before it says that it is done."""
    one, two = friends(tmp_path)

    async def main() -> None:
        async with running(one) as (_, address):
            for number in range(3):
                one.publish({"type": "post", "text": f"{number}"})
                with two.home() as home:
                    report = await sync_with_peer.sync_with_peer(home, address, remark=print)
                assert report.level, report.detail
                assert two.clock()[one.id] == 2 + number

    asyncio.run(main())


@pytest.mark.parametrize("knows", [True, False], ids=["is-kept-busy", "does-not-know-the-call"])
def test_who_cannot_say_it_is_left_after_a_quiet_time(
    knows: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = friends(tmp_path)
    monkeypatch.setattr(sync_with_peer, "_QUIET_S", 0.5)
    monkeypatch.setattr(settled, "_PATIENCE_S", 0.2)

    async def main() -> SyncReport:
        async with running(one) as (node, address):
            if knows:
                node.context.intake.waiting_bytes += 1  # others send without end
            else:
                node.services = tuple(service for service in node.services if service is not settle(node.services))
            with two.home() as home:
                report = await sync_with_peer.sync_with_peer(home, address, remark=print)
            if knows:
                node.context.intake.waiting_bytes -= 1
            return report

    report = asyncio.run(main())
    assert report.level, report.detail
    assert report.seconds >= 0.5
    assert one.clock() == two.clock() == {one.id: 1, two.id: 1}


def settle(services: tuple[object, ...]) -> object:
    """The factory of the service that this is about."""
    return next(service for service in services if getattr(service, "func", None) is settled.SettledService)


def test_one_call_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "_PATIENCE_S", 0.3)

    async def main() -> None:
        async with running(Machine(tmp_path / "one")) as (node, address), guest(address) as connection:
            node.context.intake.waiting_bytes += 1
            calls = [asyncio.create_task(settled.ask_settled(connection)) for _ in range(100)]
            await until(lambda: sum(call.done() for call in calls) == 99)
            assert not any(await asyncio.gather(*calls))
            node.context.intake.waiting_bytes -= 1

    asyncio.run(main())
