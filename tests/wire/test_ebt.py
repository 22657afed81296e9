"""One EBT connection: the recorded sessions of two JavaScript peers, and what a hostile peer may try."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sneaker.errors import LocalProtocolError, RemoteProtocolError
from sneaker.limits import MAX_UNWANTED_FEEDS
from sneaker.refs import FeedRef
from sneaker.wire.ebt.connection import EbtConnection
from sneaker.wire.ebt.events import ClockReceived, Run
from sneaker.wire.ebt.notes import MessageItem, encode_note, format_notes
from sneaker.wire.ebt.replicator import Replicator
from tests.tries import amount, tries
from tests.wire.ebt_nodes import Node, described, message
from tests.wire.vectors import load, transcript

pytestmark = pytest.mark.timeout(300)

SESSIONS = load("ebt.json")["sessions"]
ALICE, BOB, CAROL, DAVE = PEOPLE = [FeedRef.classic(bytes([number]) * 32) for number in (1, 2, 3, 4)]
NAMES = dict(zip(("ALICE", "BOB", "CAROL", "DAVE"), PEOPLE, strict=True))

# ssb-ebt tells nobody that it dropped a feed and ignores what still comes. We say -1, as scuttlego does.
DROPPED = "request dropped during the session"


def refs(clock: dict[str, int]) -> dict[FeedRef, int]:
    return {NAMES[name]: sequence for name, sequence in clock.items()}


def make_side(case: dict[str, Any], side: str) -> tuple[Node, EbtConnection]:
    other = "server" if side == "client" else "client"
    follows = [NAMES[name] for name in case[f"{side}Follows"]]
    node = Node(NAMES[case[side]], refs(case["before"][side]), follows)
    saved = {ALICE: 2, BOB: 2} if "saved clocks" in case["name"] else {}
    withheld = [CAROL] if side == "server" and "carol blocked" in case["name"] else []
    connection = node.replicator.connect(
        NAMES[case[other]], client=side == "client", now=0, saved_clock=saved, withheld=withheld
    )
    return node, connection


def act(node: Node, side: str, step: str) -> None:
    """Do what a step of the transcript says, if it is about this side."""
    if not step.startswith(side) and side not in step.split("at the "):
        return
    what = step.removeprefix(side + " ")
    if what.startswith("publishes"):
        for _ in range(2 if "twice" in what else 1):
            node.append(node.name, node.clock.get(node.name, 0) + 1)
    elif what == "follows carol":
        node.replicator.follow(CAROL)
    elif what == "unfollows carol":
        node.replicator.unfollow(CAROL)
    elif step == "carol appears at the server":
        node.append(CAROL, node.clock[CAROL] + 1)
    else:
        raise AssertionError(f"unknown step {step!r}")


def summary(items: list[Any]) -> tuple[dict[FeedRef, int], dict[FeedRef, list[int]]]:
    """Notes merged and messages by feed: their order among each other is free."""
    notes: dict[FeedRef, int] = {}
    messages: dict[FeedRef, list[int]] = {}
    for item in items:
        if isinstance(item, dict):
            notes.update(item)
        else:
            messages.setdefault(item[0], []).append(item[1])
    return notes, messages


def split_by_steps(case: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    parts: list[tuple[str, list[dict[str, Any]]]] = [("", [])]
    for row in case["transcript"]:
        if "step" in row:
            parts.append((row["step"], []))
        elif "end" not in row:
            parts[-1][1].append(row)
    return parts


def item_of(row: dict[str, Any]) -> Any:
    return refs(row["notes"]) if "notes" in row else (NAMES[row["msg"][0]], row["msg"][1])


def raw_of(row: dict[str, Any]) -> bytes:
    if "notes" in row:
        (raw,) = format_notes(refs(row["notes"]))
        return raw
    return message(NAMES[row["msg"][0]], row["msg"][1])


def check_end(case: dict[str, Any], side: str, node: Node, connection: EbtConnection) -> None:
    other = "server" if side == "client" else "client"
    assert node.clock == {feed: sequence for feed, sequence in refs(case[f"{side}Clock"]).items() if sequence}
    assert summary(node.received) == summary([(NAMES[name], number) for name, number in case[f"{side}Received"]])
    saved = case[f"{side}SavesFor{other.capitalize()}"]
    assert set(connection.remote_clock) == {NAMES[name] for name in saved}
    for name, sequence in saved.items():
        if sequence is not None:  # NaN, by a mistake of ssb-ebt's
            assert connection.remote_clock[NAMES[name]] == sequence, name


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("case", SESSIONS, ids=lambda case: case["name"])
def test_recorded_peers_get_what_they_got_from_javascript(case: dict[str, Any], side: str) -> None:
    node, connection = make_side(case, side)
    if side == "client":
        assert not connection.wants_to_send
    for step, rows in split_by_steps(case):
        act(node, side, step)
        ours = [described(raw) for raw in node.outgoing(connection)]
        for row in rows:
            if row["from"] != side:
                node.take(connection, raw_of(row), 0)
                ours += [described(raw) for raw in node.outgoing(connection)]
        expected = summary([item_of(row) for row in rows if row["from"] == side])
        if case["name"] == DROPPED and side == "client" and step == "client unfollows carol":
            expected = ({CAROL: -1}, {})
        assert summary(ours) == expected
        if any("notes" in row and row["from"] == side for row in rows):
            assert any(isinstance(item, dict) for item in ours)  # even if empty
    check_end(case, side, node, connection)


@pytest.mark.parametrize("case", SESSIONS, ids=lambda case: case["name"])
def test_two_of_us_do_what_two_of_them_did(case: dict[str, Any]) -> None:
    sides = {side: make_side(case, side) for side in ("client", "server")}
    for step, rows in split_by_steps(case):
        sent: dict[str, list[Any]] = {"client": [], "server": []}
        for side, (node, _) in sides.items():
            act(node, side, step)
        busy = True
        while busy:
            busy = False
            for side, other in (("server", "client"), ("client", "server")):
                node, connection = sides[side]
                for raw in node.outgoing(connection):
                    busy = True
                    sent[side].append(described(raw))
                    sides[other][0].take(sides[other][1], raw, 0)
        if case["name"] == DROPPED and step:
            continue  # nothing of Carol's is sent then: checked above
        for side in sides:
            assert summary(sent[side]) == summary([item_of(row) for row in rows if row["from"] == side])
    for side, (node, connection) in sides.items():
        if case["name"] != DROPPED:
            check_end(case, side, node, connection)


def test_a_recorded_connection_of_two_programs() -> None:
    """ssb-db2 dials ssb-server; we take the server's place, then the client's."""
    rows = [row for row in transcript("db2-dials-ssb-server.seen-by-server.jsonl") if row.get("req") in (1, -1)]
    items = [
        (row["dir"], row["body"])
        for row in rows
        if isinstance(row["body"], dict)
        and not row["end"]
        and (row["dir"], row["req"]) in (("in", 1), ("out", -1))
        and "name" not in row["body"]
    ]
    for ours, theirs in (("out", "in"), ("in", "out")):
        clock: dict[FeedRef, int] = {}
        for direction, body in items:
            if direction == ours and "author" in body:
                clock[FeedRef.parse(body["author"])] = body["sequence"]
        (own,) = clock
        people = {FeedRef.parse(body["author"]) for _, body in items if "author" in body}
        (peer,) = people - {own}
        node = Node(own, clock, people)
        connection = node.replicator.connect(peer, client=ours == "in", now=0)
        sent = [described(raw) for raw in node.outgoing(connection)]
        for direction, body in items:
            if direction == theirs:
                node.take(connection, json.dumps(body).encode(), 0)
                sent += [described(raw) for raw in node.outgoing(connection)]
        assert summary(sent)[1] == {own: list(range(1, clock[own] + 1))}
        assert node.clock[peer] == max(body["sequence"] for way, body in items if way == theirs and "author" in body)


# ---------------------------------------------------------------------------------------------------- one connection


def connected(
    clock: dict[FeedRef, int] | None = None, wanted: list[FeedRef] | None = None, **options: Any
) -> tuple[Replicator, EbtConnection]:
    """A server with ALICE as its peer, whose first notes are out."""
    replicator = Replicator(clock or {}, PEOPLE if wanted is None else wanted)
    connection = replicator.connect(ALICE, client=False, now=0, **options)
    connection.notes_to_send()
    return replicator, connection


def notes(**sequences: int) -> bytes:
    (raw,) = format_notes({NAMES[name.upper()]: note for name, note in sequences.items()})
    return raw


def sent_notes(connection: EbtConnection) -> dict[FeedRef, int]:
    return summary([described(raw) for raw in connection.notes_to_send()])[0]


def test_runs_take_turns_and_may_be_taken_back() -> None:
    replicator, connection = connected({BOB: 5, CAROL: 3})
    connection.receive(notes(bob=0, carol=0), 0)
    assert connection.wants_to_send
    runs = [connection.next_run(2) for _ in range(3)]
    assert runs == [Run(BOB, 1, 2), Run(CAROL, 1, 2), Run(BOB, 3, 4)]
    connection.rewind(BOB, 2)
    assert [connection.next_run(), connection.next_run(), connection.next_run()] == [
        Run(CAROL, 3, 3),
        Run(BOB, 3, 5),
        None,
    ]
    replicator.appended(BOB, 7)
    assert connection.next_run() == Run(BOB, 6, 7)
    connection.stop_sending(BOB)
    replicator.appended(BOB, 8)
    assert connection.next_run() is None
    with pytest.raises(LocalProtocolError):
        connection.rewind(ALICE, 2)


def test_nothing_is_sent_before_the_peer_says_what_it_has() -> None:
    replicator, connection = connected({BOB: 5})
    replicator.appended(BOB, 6)
    assert connection.next_run() is None
    assert sent_notes(connection) == {}
    connection.receive(notes(bob=12), 0)
    assert connection.next_run() is None
    replicator.appended(BOB, 7)
    assert connection.next_run() == Run(BOB, 7, 7)


def test_one_who_is_behind_and_wants_nothing_is_told() -> None:
    replicator, connection = connected({BOB: 5})
    connection.receive(notes(bob=encode_note(3, False)), 0)
    assert sent_notes(connection) == {BOB: 10}
    replicator.appended(BOB, 6)
    assert sent_notes(connection) == {BOB: 12}
    connection.receive(notes(bob=encode_note(3, True)), 0)
    assert connection.next_run() == Run(BOB, 4, 6)


def test_messages_are_not_sent_back_to_where_they_came_from() -> None:
    replicator, connection = connected()
    connection.receive(notes(bob=2), 0)
    raw = message(BOB, 1)
    assert connection.receive(raw, 0) == MessageItem(BOB, 1, raw)
    replicator.appended(BOB, 1)
    assert not connection.wants_to_send
    assert connection.remote_clock == {BOB: 1}


def test_gaps_and_repetitions() -> None:
    replicator, connection = connected()
    connection.receive(notes(bob=10), 0)
    assert connection.receive(message(BOB, 2), 0) is None
    assert sent_notes(connection) == {BOB: 0}  # start again where we are
    assert connection.receive(message(BOB, 3), 0) is None
    assert sent_notes(connection) == {}  # once
    assert connection.receive(message(BOB, 1), 0) is not None
    assert connection.receive(message(BOB, 1), 0) is None
    assert connection.receive(message(BOB, 2), 0) is not None
    replicator.appended(BOB, 2)
    assert connection.receive(message(BOB, 3), 0) is not None
    assert connection.receive(message(BOB, 2**31 - 1), 0) is None
    assert connection.remote_clock[BOB] == 5


def test_what_came_another_way_makes_the_peer_skip() -> None:
    replicator, connection = connected()
    connection.receive(notes(bob=20), 0)
    connection.receive(message(BOB, 1), 0)
    replicator.appended(BOB, 8)  # a stick was plugged in
    assert sent_notes(connection) == {}
    assert connection.receive(message(BOB, 2), 0) is None
    assert sent_notes(connection) == {BOB: 16}  # the receiver goes on after what we have
    assert connection.receive(message(BOB, 3), 0) is None
    assert sent_notes(connection) == {}
    assert connection.receive(message(BOB, 9), 0) is not None


def test_messages_nobody_asked_for_are_dropped() -> None:
    _, connection = connected(wanted=[BOB])
    connection.receive(notes(carol=2), 0)
    assert sent_notes(connection) == {CAROL: -1}
    assert connection.receive(message(CAROL, 1), 0) is None
    assert connection.receive(message(DAVE, 1), 0) is None
    assert DAVE not in connection.remote_clock
    client = Replicator({}, PEOPLE).connect(BOB, client=True, now=0)
    assert client.receive(message(BOB, 1), 0) is None
    assert not client.wants_to_send


def test_a_feed_that_breaks_the_rules_is_refused_from_this_peer_alone() -> None:
    replicator, connection = connected({BOB: 1})
    other = replicator.connect(CAROL, client=False, now=0)
    for link in (connection, other):
        link.receive(notes(bob=8), 0)
    connection.refuse_feed(BOB)
    assert sent_notes(connection) == {BOB: -1}
    assert connection.receive(message(BOB, 2), 0) is None
    assert connection.receive(notes(bob=40), 0) == ClockReceived({BOB: 20})
    connection.receive(notes(bob=0), 0)
    assert not connection.wants_to_send
    assert sent_notes(other)[BOB] == 2  # asked instead
    assert other.receive(message(BOB, 2), 0) is not None


def test_an_author_that_blocks_the_peer() -> None:
    replicator, connection = connected({BOB: 3, CAROL: 3}, withheld=[BOB])
    connection.receive(notes(bob=0, carol=0), 0)
    assert sent_notes(connection) == {BOB: -1}
    assert connection.next_run(1) == Run(CAROL, 1, 1)
    connection.withhold(CAROL)
    assert connection.next_run() is None
    assert sent_notes(connection) == {CAROL: -1}
    replicator.appended(CAROL, 4)
    connection.receive(notes(carol=0), 0)
    assert not connection.wants_to_send
    connection.withhold(DAVE)


def test_a_follow_during_the_session_reaches_a_peer_that_mentioned_the_feed_before() -> None:
    replicator, connection = connected({BOB: 5}, wanted=[ALICE])
    connection.receive(notes(bob=2, carol=-1), 0)
    assert sent_notes(connection) == {BOB: -1, CAROL: -1}
    replicator.follow(BOB)
    replicator.follow(BOB)
    replicator.follow(CAROL)  # the peer does not replicate it: nothing to say
    assert sent_notes(connection) == {BOB: 10}
    assert connection.next_run() == Run(BOB, 2, 5)
    replicator.unfollow(BOB)
    replicator.unfollow(BOB)
    assert sent_notes(connection) == {BOB: -1}
    connection.receive(notes(carol=6), 0)
    assert sent_notes(connection) == {CAROL: 0}


def test_a_peer_that_lost_its_data_gets_it_again() -> None:
    _, connection = connected({BOB: 3}, saved_clock={BOB: 3})
    connection.receive(notes(bob=0), 0)
    assert sent_notes(connection) == {BOB: 7}
    assert connection.next_run() == Run(BOB, 1, 3)


def test_feeds_we_are_level_in_are_skipped_until_something_happens() -> None:
    replicator, connection = connected({BOB: 3}, saved_clock={BOB: 3, CAROL: 0, DAVE: -1})
    replicator.appended(BOB, 4)
    assert sent_notes(connection) == {BOB: 8}
    connection.receive(notes(bob=6), 0)
    assert connection.next_run() == Run(BOB, 4, 4)
    first = Replicator({BOB: 3}, PEOPLE).connect(ALICE, client=False, now=0, saved_clock={BOB: 3, CAROL: 0, DAVE: -1})
    assert sent_notes(first) == {ALICE: 0, CAROL: 0}


def test_notes_that_wait_are_kept_up_to_date() -> None:
    replicator = Replicator({BOB: 3}, [BOB])
    connection = replicator.connect(ALICE, client=False, now=0)
    replicator.appended(BOB, 9)
    replicator.appended(BOB, 8)  # never backwards
    assert sent_notes(connection) == {BOB: 18}


# ---------------------------------------------------------------------------------------------------- hostile peers


def test_what_is_no_item_ends_the_stream_for_good() -> None:
    _, connection = connected()
    for _ in range(2):
        with pytest.raises(RemoteProtocolError):
            connection.receive(b"[]" if _ == 0 else b"{}", 0)


def test_junk_in_notes_claims_nothing() -> None:
    _, connection = connected({BOB: 3})
    junk = {str(BOB): 2**40, str(CAROL): "x", "@x": 4, str(DAVE): None, "clock": 3}
    assert connection.receive(json.dumps(junk).encode(), 0) == ClockReceived({BOB: -1, CAROL: -1, DAVE: -1})
    assert not connection.wants_to_send
    assert connection.next_run() is None


def test_a_million_feeds_do_not_eat_the_memory() -> None:
    most = amount(quick=MAX_UNWANTED_FEEDS // 10, thorough=MAX_UNWANTED_FEEDS)
    replicator, connection = connected(wanted=[BOB], max_unwanted=most)
    a_batch = most // 10
    tracemalloc.start()
    for batch in range(20):
        claims = {FeedRef.classic((batch * a_batch + number).to_bytes(32, "big")): 8 for number in range(a_batch)}
        for raw in format_notes(claims):
            connection.receive(raw, 0)
        connection.notes_to_send()
    assert len(connection.remote_clock) == most
    connection.receive(notes(bob=2), 0)  # what we want still counts
    assert connection.remote_clock[BOB] == 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1200 * most
    # And what was remembered does not add up over sessions.
    replicator.disconnect(connection)
    again = replicator.connect(ALICE, client=False, now=0, saved_clock=connection.remote_clock, max_unwanted=most)
    again.receive(next(iter(format_notes({FeedRef.classic(bytes([255]) * 32): 2}))), 0)
    assert len(again.remote_clock) == most + 1


ITEMS = st.one_of(
    st.builds(message, st.sampled_from(PEOPLE), st.integers(1, 4)),
    st.builds(
        lambda clock: next(iter(format_notes(clock))),
        st.dictionaries(st.sampled_from(PEOPLE), st.integers(-3, 12) | st.just(2**35), max_size=3),
    ),
    st.binary(max_size=20),
)


@tries(300)
@given(st.lists(ITEMS, max_size=15), st.booleans())
def test_any_items_in_any_order(items: list[bytes], client: bool) -> None:
    node = Node(BOB, {BOB: 2, CAROL: 1}, [BOB, CAROL, ALICE])
    connection = node.replicator.connect(ALICE, client=client, now=0)
    for raw in items:
        try:
            node.take(connection, raw, 0)
        except RemoteProtocolError:
            break
        for item in node.outgoing(connection):
            found = described(item)
            assert isinstance(found, dict) or found[1] <= node.clock[found[0]]
