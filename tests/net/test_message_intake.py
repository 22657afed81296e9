"""Messages are committed before anything is said about them, and taken only for what they are."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sneaker.errors import SneakerError
from sneaker.net.message_intake import MessageIntake, Offer, Outcome
from sneaker.refs import FeedRef
from tests.net.attackers import somebody, with_another_place
from tests.net.machines import Machine, chain, now_ms


class Sink:
    """Somebody who offers; the intake never calls it."""

    session: Any

    def offers_settled(self, offers: list[Offer], outcome: Outcome) -> None:
        raise AssertionError("the node calls this, not the intake")


def no_bug(offers: list[Offer], error: Exception) -> None:
    raise error


def anybody(feed: FeedRef) -> bool:
    return True


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
