"""What is asked for every message, feed, blob or visit is found by a key, whatever else the store holds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sneaker.clock import VectorClock
from sneaker.feed.classic.compact import compact
from sneaker.refs import BlobRef
from sneaker.store.rows import SEQUENCE_BITS, Batch, ForkRow, WaitingRow
from sneaker.store.store import Store
from tests.known_clocks import tell
from tests.store.worlds import NOW_MS, batch, feed, keypair

ME = keypair(0).public

READS: dict[str, Callable[[Store], object]] = {
    "head": lambda store: store.head(ME),
    "rows": lambda store: list(store.rows(ME, 3, 7)),
    "key at": lambda store: store.key_at(ME, 4),
    "messages": lambda store: list(store.messages(ME, 2)),
    "log": lambda store: list(store.log(feeds=[ME])),
    "log backwards": lambda store: list(store.log(feeds=[ME], reverse=True)),
    "edges of one": lambda store: list(store.edges(ME)),
    "blocked": lambda store: store.blocked(ME),
    "names": lambda store: store.names(ME),
    "blob links of one": lambda store: list(store.blob_links(ME, 2, 9)),
    "blob is linked": lambda store: store.blob_is_linked(BlobRef.of(b"x")),
    "own sequence seen": lambda store: store.own_sequence_seen(ME),
    "forks": lambda store: list(store.forks()),
    "what a machine has": lambda store: store.known_clocks.known(ME),
    "of whom more is known": lambda store: store.known_clocks.known_beside_cards(),
    "a card": lambda store: store.known_clocks.card(ME),
    "all cards": lambda store: store.known_clocks.cards(),
    "sessions": lambda store: store.known_clocks.resumed_sessions(ME),
    "a word of a machine": lambda store: tell(store, keypair(1).public, {ME: 1}),
    "a visit is counted": lambda store: store.known_clocks.count_visit([ME], VectorClock()),
    "a stick": lambda store: store.sticks.stick(b"1"),
    "files on a stick": lambda store: store.sticks.files(b"1"),
}


def waiting(feed_id: int, number: int, start: int, end: int) -> list[WaitingRow]:
    return [
        (feed_id << SEQUENCE_BITS | item.sequence, item.key, item.previous or b"", *compact(item))
        for item in feed(number, 40)[start:end]
    ]


def scans(connection: object, statements: list[str]) -> list[str]:
    """Return the steps of these statements that go through a whole table; that of the forks is always small."""
    found = []
    for statement in statements:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")):
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()  # type: ignore[attr-defined]
            found += [
                f"{step[3]}: {statement}"
                for step in plan
                if step[3].startswith("SCAN") and not step[3].startswith("SCAN fork")
            ]
    return found


@pytest.fixture
def filled(store: Store) -> Store:
    with store.writer() as writer:
        writer.commit(batch((writer.next_feed_id(), feed(number, 40)) for number in range(5)))
    return store


@pytest.mark.parametrize("name", READS)
def test_reading_goes_through_no_table(filled: Store, name: str) -> None:
    said: list[str] = []
    connection = filled._database.connection
    connection.set_trace_callback(said.append)
    READS[name](filled)
    connection.set_trace_callback(None)
    assert said
    assert scans(connection, said) == []


def test_writing_goes_through_no_table(filled: Store) -> None:
    said: list[str] = []
    fork = feed(0, 41, shared=3, branch="b")[10]
    with filled.writer() as writer:
        connection = writer._connection
        connection.set_trace_callback(said.append)
        state = writer.feed_state(keypair(6).public)
        new = writer.next_feed_id()
        assert state.id == 0
        writer.commit(Batch(feeds=[(new, keypair(6).public)], waiting=waiting(new, 6, 5, 9), now_ms=NOW_MS))
        writer.commit(batch([(new, feed(6, 40)[:5])], known=[new]))
        writer.row(new << SEQUENCE_BITS | 3)
        writer.waiting_row(new << SEQUENCE_BITS | 12)
        first = writer.feed_state(ME)
        row = (first.id << SEQUENCE_BITS | fork.sequence, fork.key, fork.previous or b"", *compact(fork))
        writer.commit(Batch(forks=[ForkRow(row, feed(0, 40)[10].key, NOW_MS)], now_ms=NOW_MS))
        connection.set_trace_callback(None)
        assert len(said) > 20
        assert scans(connection, said) == []
    assert filled.clock()[keypair(6).public] == 9


def test_a_scan_is_seen(filled: Store) -> None:
    connection = filled._database.connection
    assert scans(connection, ["SELECT id FROM message WHERE timestamp = 7"]) != []


@pytest.mark.parametrize(
    ("read", "index"),
    [
        (lambda store: store.sticks.unusable_files(9), "stick_file_unusable"),
        (lambda store: store.forked(), "feed_forked"),
    ],
    ids=["files that are no use", "forked feeds"],
)
def test_what_is_rare_has_an_index_of_its_own(filled: Store, read: Callable[[Store], object], index: str) -> None:
    said: list[str] = []
    connection = filled._database.connection
    connection.set_trace_callback(said.append)
    assert not read(filled)
    connection.set_trace_callback(None)
    (step,) = connection.execute(f"EXPLAIN QUERY PLAN {said[0]}")
    assert step[3].startswith("SCAN ")
    assert step[3].endswith(f" INDEX {index}"), "nothing else is in it"
