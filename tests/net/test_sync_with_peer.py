"""When two machines are level: what follows from what came is there, too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from sneaker.net import sync_with_peer
from sneaker.net.sync_with_peer import SyncReport
from tests.net.machines import Machine
from tests.net.nodes import running

pytestmark = pytest.mark.timeout(60)


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


def test_less_is_waited_for_if_nothing_has_happened(tmp_path: Path) -> None:
    one, two = friends(tmp_path)
    first, second = sync(one, two), sync(one, two)
    for report, least, count in ((first, sync_with_peer._QUIET_S, 1), (second, sync_with_peer._NOTHING_S, 0)):
        assert report.level, report.detail
        assert (report.counts.received, report.counts.sent) == (count, count)
        assert report.seconds >= least
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
