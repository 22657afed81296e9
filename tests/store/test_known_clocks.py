"""What is known of other machines: in the store, from an older file, and how it is found there."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from sneaker.bundle.card import Card, encode_card
from sneaker.clock import VectorClock
from sneaker.own_feed.claims import card_statement
from sneaker.planning.what_others_have import ClockSource, counted_on
from sneaker.refs import FeedRef
from sneaker.store import what_others_said as known_clocks
from sneaker.store.migrations import APPLICATION_ID, MIGRATIONS, migrate
from sneaker.store.rows import Peer
from sneaker.store.store import Store
from tests.known_clocks import has, tell
from tests.store.worlds import keypair

ME, BOB, CAROL, DAVE = (keypair(number).public for number in range(4))


def card_of(number: int, counter: int, clock: dict[FeedRef, int]) -> tuple[Card, bytes]:
    card = Card(keypair(number).public, bytes(32), counter, 5000, VectorClock(clock))
    return card, encode_card(card, keypair(number))


def learn_card(store: Store, number: int, counter: int, clock: dict[FeedRef, int], now_ms: int = 9) -> bytes:
    card, data = card_of(number, counter, clock)
    store.known_clocks.learn_clocks([card_statement(card, data)], now_ms=now_ms)
    return data


def test_who_is_known(store: Store) -> None:
    tell(store, BOB, {}, met_at_ms=2000)
    learn_card(store, 1, 7, {})
    tell(store, CAROL, {}, met_at_ms=3000)
    tell(store, BOB, {}, met_at_ms=2500)
    assert store.known_clocks.known_peers() == [
        Peer(CAROL, ClockSource.EBT, 0, 0, 3000),
        Peer(BOB, ClockSource.EBT, 7, 5000, 2500),
    ]
    assert store.counts().peers == 2
    assert has(store, CAROL) == {}


def test_a_card_is_kept_as_it_was_signed_and_older_ones_change_nothing(store: Store) -> None:
    data = learn_card(store, 1, 7, {ME: 5})
    learn_card(store, 1, 6, {ME: 9})
    assert has(store, BOB) == {ME: 5}
    known = store.known_clocks.card(BOB)
    assert known is not None
    assert (known.counter, known.seen_at_ms, known.data) == (7, 9, data)
    assert store.known_clocks.cards() == {BOB: known}


def test_what_each_source_says_is_in_one_table(store: Store) -> None:
    learn_card(store, 1, 7, {ME: 5})
    tell(store, BOB, {CAROL: 2}, declined=[DAVE])
    tell(store, BOB, {DAVE: 3}, ClockSource.BUNDLE)
    tell(store, BOB, {DAVE: 4}, ClockSource.EXPORT)
    known = store.known_clocks.known(BOB)
    assert set(known) == set(ClockSource)
    assert known[ClockSource.EBT].declined == {DAVE}
    assert counted_on(known) == {ME: 5, CAROL: 2, DAVE: 3}
    assert store.known_clocks.known_beside_cards() == {BOB}


def test_notes_keep_what_they_do_not_mention(store: Store) -> None:
    tell(store, BOB, {ME: 5, CAROL: 2})
    tell(store, BOB, {ME: 4 + 2})
    assert has(store, BOB) == {ME: 6, CAROL: 2}


def test_a_clock_has_an_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_clocks, "MAX_CLOCK_FEEDS", 2)
    tell(store, BOB, {keypair(number).public: 1 for number in range(5)})
    assert len(has(store, BOB)) == 2


def test_a_visit_counts_what_no_card_confirms(store: Store) -> None:
    tell(store, BOB, {ME: 9})
    learn_card(store, 1, 1, {})
    ours = VectorClock({ME: 9})
    for _ in range(3):
        assert has(store, BOB) == {ME: 9}
        store.known_clocks.count_visit([BOB], ours)
    assert has(store, BOB) == {}


def test_what_the_disk_has_spoiled_is_as_if_it_had_not_been_said(store: Store) -> None:
    tell(store, BOB, {ME: 9})
    learn_card(store, 1, 1, {CAROL: 1})
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE known_clock SET statement = x'ff'")
    connection.close()
    assert has(store, BOB) == {}
    learn_card(store, 1, 2, {CAROL: 1})
    assert has(store, BOB) == {CAROL: 1}


def test_sessions_are_counted(store: Store) -> None:
    assert store.known_clocks.resumed_sessions(BOB) == 0
    tell(store, BOB, {}, met_at_ms=1)
    for resumed, expected in ((True, 1), (True, 2), (False, 0), (True, 1)):
        store.known_clocks.count_session(BOB, resumed=resumed)
        assert store.known_clocks.resumed_sessions(BOB) == expected


def test_of_this_machine_only_the_card_is_kept(tmp_path: Path) -> None:
    with Store(tmp_path / "own.sqlite", own=ME) as store:
        tell(store, ME, {BOB: 3})
        assert has(store, ME) == {}
        learn_card(store, 0, 4, {BOB: 3})
        known = store.known_clocks.card(ME)
        assert known is not None
        assert known.counter == 4
        assert store.known_clocks.known_peers() == []


def test_an_older_file_keeps_its_cards_sticks_and_what_is_on_them(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    _, data = card_of(1, 7, {ME: 5})
    with sqlite3.connect(path, isolation_level=None) as connection:
        migrate(connection, MIGRATIONS[:5])
        connection.execute("INSERT INTO card VALUES (?, 7, 9, ?)", (BOB.key, data))
        connection.execute("INSERT INTO drive VALUES (x'01', 'blue', 2, 3)")
        connection.execute("INSERT INTO drive_file VALUES (x'01', 'a', 5, 6, 'partly', x'', x'')")
        assert connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
    connection.close()
    with Store(path) as store:
        assert has(store, BOB) == {ME: 5}
        known = store.known_clocks.card(BOB)
        assert known is not None
        assert (known.counter, known.seen_at_ms) == (7, 9)
        (stick,) = store.sticks.sticks()
        assert (stick.label, stick.visited_at_ms) == ("blue", 3)
        assert list(store.sticks.files(stick.id)) == ["a"]
        assert store.sticks.unusable_files(9) == ["a"]
