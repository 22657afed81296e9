"""The parts of a peer that decide things, each by itself."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sneaker.errors import NetworkError, SneakerError
from sneaker.feed.classic.message import create_message
from sneaker.feed.message import Head
from sneaker.ingest.ingest import Ingest
from sneaker.keys import Keypair
from sneaker.net.dial_schedule import DialSchedule
from sneaker.net.feeds_to_replicate import read_replication_policy
from sneaker.net.interfaces import find_interfaces
from sneaker.net.message_intake import MessageIntake, Offer, Outcome
from sneaker.net.node import Node
from sneaker.net.transports.tcp import parse_listen
from sneaker.refs import FeedRef
from sneaker.wire.address import Address, net_address
from tests.net.attackers import somebody, with_another_place
from tests.net.machines import Machine, now_ms


def test_what_can_be_typed_to_listen_on() -> None:
    assert parse_listen("127.0.0.1:9000") == ("127.0.0.1", 9000)
    assert parse_listen(":9000") == ("", 9000)
    assert parse_listen("10.0.0.1") == ("10.0.0.1", 8008)
    assert parse_listen("[::1]:7") == ("::1", 7)
    assert parse_listen("[::1]") == ("::1", 8008)
    for text in ("x:y", "x:70000", "x:-1"):
        with pytest.raises(NetworkError):
            parse_listen(text)


def test_interfaces_have_addresses() -> None:
    for interface in find_interfaces():
        assert interface.name != "lo"
        assert interface.address.count(".") == interface.broadcast.count(".") == 3


def test_policy(tmp_path: Path) -> None:
    me, friend, far, farther, enemy = (Machine(tmp_path / name) for name in ("me", "friend", "far", "farther", "enemy"))
    me.follow(friend.id)
    me.block(enemy.id)
    friend.follow(far.id, enemy.id)
    friend.block(farther.id)
    far.follow(farther.id)
    with me.home() as home:
        for other in (friend, far):
            with Ingest(home.store, caps=me.caps, now_ms=now_ms, workers=1) as ingest:
                for message in other.messages(other.id):
                    ingest.add_message(message)
        policy = read_replication_policy(home.store, me.keypair.public, 2)
        assert policy.wanted == {machine.keypair.public for machine in (me, friend, far)}
        assert policy.blocked == {enemy.keypair.public}
        assert not policy.is_welcome(enemy.keypair.public)
        assert policy.is_welcome(farther.keypair.public)
        assert policy.withheld(farther.keypair.public) == {friend.keypair.public}
        assert read_replication_policy(home.store, me.keypair.public, 0).wanted == {
            me.keypair.public,
            friend.keypair.public,
        }
        assert farther.keypair.public not in read_replication_policy(home.store, me.keypair.public, 3).wanted


class Sink:
    """Somebody who offers; the intake never calls it."""

    session: Any

    def offers_settled(self, offers: list[Offer], outcome: Outcome) -> None:
        raise AssertionError("the node calls this, not the intake")


def no_bug(offers: list[Offer], error: Exception) -> None:
    raise error


def anybody(feed: FeedRef) -> bool:
    return True


def chain(keypair: Keypair, count: int) -> list[bytes]:
    texts, head = [], None
    for number in range(count):
        message = create_message(keypair, head, 1_700_000_000_000 + number, {"type": "post", "text": f"{number}"})
        texts.append(message.text)
        head = Head(message.sequence, message.key)
    return texts


def test_intake_commits_before_it_reports_and_lets_others_write(tmp_path: Path) -> None:
    machine, author = Machine(tmp_path / "machine"), somebody()
    outcomes: list[Outcome] = []
    failures: list[SneakerError] = []
    texts = chain(author, 300)

    async def main() -> None:
        with machine.home() as home:

            def report(outcome: Outcome) -> None:
                for feed, head in outcome.heads.items():
                    found = home.store.head(feed)
                    assert found is not None
                    assert found.sequence >= head, "reported before it was on the disk"
                outcomes.append(outcome)

            intake = MessageIntake(
                home.store,
                machine.caps,
                now_ms=now_ms,
                wanted=anybody,
                on_outcome=report,
                on_bug=no_bug,
                on_failure=failures.append,
            )
            intake.start()
            source = Sink()
            for sequence, text in enumerate(texts[:200], 1):
                intake.offer_message(Offer(source, author.public, sequence, text))
            while sum(len(outcome.offers) for outcome in outcomes) < 200:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            # Nothing to do: the lock is free at once.
            started = time.monotonic()
            home.store.writer(timeout_s=0.5).close()
            assert time.monotonic() - started < 0.3
            # Somebody else writes for a while: what comes meanwhile waits.
            with home.store.writer():
                for sequence, text in enumerate(texts[200:], 201):
                    intake.offer_message(Offer(source, author.public, sequence, text))
                await asyncio.sleep(0.3)
                assert sum(len(outcome.offers) for outcome in outcomes) == 200
            await asyncio.to_thread(intake.stop)
            for outcome in outcomes:
                intake.outcome_dealt_with(outcome)
            assert intake.is_idle

    asyncio.run(main())
    assert not failures
    assert sum(outcome.heads[author.public] - outcome.before[author.public] for outcome in outcomes) == 300
    assert [message.text for message in machine.messages(str(author.public))] == texts
    assert not [thread for thread in threading.enumerate() if thread.name == "intake"]


def test_intake_says_why_and_goes_on(tmp_path: Path) -> None:
    machine, good, bad = Machine(tmp_path / "machine"), somebody(), somebody()
    outcomes: list[Outcome] = []
    goods, bads = chain(good, 20), chain(bad, 20)
    bads[9] = bads[9].replace(b'"text": "9"', b'"text": "8"')

    async def main() -> None:
        with machine.home() as home:
            intake = MessageIntake(
                home.store,
                machine.caps,
                now_ms=now_ms,
                wanted=anybody,
                on_outcome=outcomes.append,
                on_bug=no_bug,
                on_failure=pytest.fail,
            )
            intake.start()
            for sequence in range(1, 21):
                intake.offer_message(Offer(Sink(), bad.public, sequence, bads[sequence - 1]))
                intake.offer_message(Offer(Sink(), good.public, sequence, goods[sequence - 1]))
            await asyncio.to_thread(intake.stop)

    asyncio.run(main())
    assert machine.clock() == {str(good.public): 20, str(bad.public): 9}
    last = outcomes[-1]
    assert last.heads == {good.public: 20, bad.public: 9}
    assert last.reason(bad.public).startswith("signature-invalid")
    assert last.reason(good.public) == ""


def take(machine: Machine, offers: list[tuple[FeedRef, int, bytes]], wanted: Callable[[FeedRef], bool]) -> Outcome:
    outcomes: list[Outcome] = []

    async def main() -> None:
        with machine.home() as home:
            intake = MessageIntake(
                home.store,
                machine.caps,
                now_ms=now_ms,
                wanted=wanted,
                on_outcome=outcomes.append,
                on_bug=no_bug,
                on_failure=pytest.fail,
            )
            intake.start()
            for feed, sequence, raw in offers:
                intake.offer_message(Offer(Sink(), feed, sequence, raw))
            await asyncio.to_thread(intake.stop)

    asyncio.run(main())
    return outcomes[-1]


@pytest.mark.parametrize("first", [1, 2], ids=["spelled-oddly", "looked-at-quickly"])
def test_a_message_is_taken_for_what_it_is_and_not_for_what_it_says_first(first: int, tmp_path: Path) -> None:
    machine, friend, other = Machine(tmp_path / "machine"), somebody(), somebody()
    texts = chain(other, 3)
    if first == 2:  # the first message is there already
        take(machine, [(other.public, 1, texts[0])], anybody)
    before = machine.clock()
    offers = [(friend.public, n, with_another_place(texts[n - 1], friend.public, n)) for n in range(first, 4)]
    offers += [(friend.public, n, texts[n - 1]) for n in range(first, 4)]
    outcome = take(machine, offers, anybody)
    assert machine.clock() == before
    assert outcome.heads == {friend.public: 0}
    assert outcome.reason(friend.public).startswith("place-mismatch")
    # What is what it says comes in, by the same way.
    take(machine, [(other.public, n, texts[n - 1]) for n in range(1, 4)], anybody)
    assert machine.clock() == {str(other.public): 3}


def test_a_message_is_taken_under_its_own_sequence_only(tmp_path: Path) -> None:
    machine, other = Machine(tmp_path / "machine"), somebody()
    texts = chain(other, 2)
    outcome = take(machine, [(other.public, 1, texts[0]), (other.public, 3, texts[1])], anybody)
    assert outcome.heads == {other.public: 1}
    assert outcome.reason(other.public).startswith("place-mismatch")


def test_what_is_not_wanted_is_not_taken_whoever_offers_it(tmp_path: Path) -> None:
    machine, good, blocked = Machine(tmp_path / "machine"), somebody(), somebody()
    offers = [(author.public, n, text) for author in (good, blocked) for n, text in enumerate(chain(author, 3), 1)]
    take(machine, offers, lambda feed: feed != blocked.public)
    assert machine.clock() == {str(good.public): 3}


def test_whom_the_schedule_dials(tmp_path: Path) -> None:
    """Friends on the LAN and peers that a person named; a stranger never."""
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
            await asyncio.sleep(4)
            assert set(dialled) == {friend.keypair.public, named}
            # Ever less eagerly: a peer that refused us is not asked twice in four seconds.
            assert dialled.count(named) == 1
            await schedule.stop()
            server.close()
            await node.stop()

    asyncio.run(main())
