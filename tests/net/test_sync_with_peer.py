"""When two machines are level, and how long it is waited for what may still come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from sneaker.net import sync_with_peer
from sneaker.net.services.admin import AdminService
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


def get_to_know(one: Machine, two: Machine) -> None:
    """Sync for the first time: what follows sends no contact message.  Nothing depends on how long that waits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sync_with_peer, "_QUIET_S", 0.5)
        assert sync(one, two).level


def test_nothing_is_waited_for_long_that_cannot_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = friends(tmp_path)
    get_to_know(one, two)
    monkeypatch.setattr(sync_with_peer, "_QUIET_S", 1000.0)
    for count in (1, 0):
        if count:
            one.publish({"type": "post", "text": "from one"})
            two.publish({"type": "post", "text": "from two"})
        report = sync(one, two)
        assert report.level, report.detail
        assert (report.counts.received, report.counts.sent) == (count, count)
    assert one.clock() == two.clock() == {one.id: 2, two.id: 2}


@pytest.mark.parametrize("what", ["contact", "blob", "box"])
def test_what_may_make_a_peer_ask_for_more_is_waited_for(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = friends(tmp_path)
    get_to_know(one, two)
    if what == "contact":
        two.follow(Machine(tmp_path / "three").id)
    elif what == "blob":
        two.publish({"type": "post", "text": "see", "mentions": [{"link": two.add_blob(b"it")}]})
    else:
        two.publish({"type": "post", "text": "for two alone", "recps": [two.id]})
    monkeypatch.setattr(sync_with_peer, "_QUIET_S", 1.5)
    report = sync(one, two)
    assert report.level, report.detail
    assert report.counts.sent == 1
    assert report.seconds >= 1.5


def test_a_slow_peer_gets_more_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes long for one answer takes as long for others."""
    one, two = friends(tmp_path)
    get_to_know(one, two)

    async def answer_late(service: AdminService, call: int) -> None:
        await asyncio.sleep(0.2)
        service.session.answer_call(call, b"{}")

    monkeypatch.setattr(
        AdminService, "_serve_whoami", lambda self, request: self.session.spawn(answer_late(self, request.call))
    )
    report = sync(one, two)
    assert report.level, report.detail
    assert report.seconds >= 1.0


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
