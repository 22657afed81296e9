from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sneaker.errors import CallRefused, LocalProtocolError, RemoteProtocolError
from sneaker.limits import MAX_SEQUENCE
from sneaker.refs import FeedRef
from sneaker.wire.history import (
    HistoryQuery,
    ReorderBuffer,
    ReorderRoom,
    encode_history_item,
    format_history_arguments,
    history_message,
    parse_history_arguments,
)
from sneaker.wire.json_text import parse_json
from tests.tries import tries
from tests.wire.vectors import transcript

FEED = FeedRef.classic(bytes(range(32)))
ID = str(FEED)


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        ([{"id": ID}], HistoryQuery(FEED)),
        ([{"id": ID, "seq": 5, "live": True, "keys": False}], HistoryQuery(FEED, 5, live=True, keys=False)),
        ([{"id": ID, "sequence": 5, "seq": 5.0}], HistoryQuery(FEED, 5)),
        ([{"id": ID, "sequence": 2, "seq": 4}], HistoryQuery(FEED, 2)),
        ([{"id": ID, "sequence": 0, "seq": 4}], HistoryQuery(FEED, 4)),
        ([{"id": ID, "seq": -1}], HistoryQuery(FEED)),
        ([{"id": ID, "seq": -2.5}], HistoryQuery(FEED)),
        ([{"id": ID, "seq": 2.5}], HistoryQuery(FEED, 3)),
        ([{"id": ID, "seq": 1e300}], HistoryQuery(FEED, MAX_SEQUENCE + 1)),
        ([{"id": ID, "seq": float("inf")}], HistoryQuery(FEED, MAX_SEQUENCE + 1)),
        ([{"id": ID, "seq": 0, "limit": -1}], HistoryQuery(FEED, 1)),
        ([{"id": ID, "limit": 3, "values": False, "reverse": None}], HistoryQuery(FEED, limit=3, values=False)),
        ([{"id": ID, "limit": 0}], HistoryQuery(FEED, limit=0)),
        ([{"id": ID, "limit": 2.5}], HistoryQuery(FEED, limit=2)),
        ([{"id": ID, "limit": False}], HistoryQuery(FEED)),
        ([{"id": ID, "keys": False, "values": False}], HistoryQuery(FEED, keys=False)),
        ([{"id": ID, "keys": 0, "values": 0}], HistoryQuery(FEED)),
        ([{"id": ID, "live": 1}], HistoryQuery(FEED)),
        ([{"id": ID, "old": False}], HistoryQuery(FEED, old=False, live=True)),
        ([{"id": ID, "old": 0}], HistoryQuery(FEED)),
        ([{"id": FEED.uri, "seq": None}], HistoryQuery(FEED)),
    ],
)
def test_arguments_of_all_peers(arguments: list[object], query: HistoryQuery) -> None:
    assert parse_history_arguments(arguments) == query


@pytest.mark.parametrize(
    "arguments", [[], [None], [5], [[]], [{}], [{"id": 5}], [{"id": "@x"}], ["@x"], [ID], [ID, 7, True]], ids=str
)
def test_arguments_that_name_no_feed(arguments: list[object]) -> None:
    assert parse_history_arguments(arguments) is None


@pytest.mark.parametrize(
    "options",
    [{"seq": "1"}, {"seq": True}, {"sequence": []}, {"limit": "all"}, {"limit": True}, {"live": "yes"}, {"keys": {}}],
    ids=str,
)
def test_bad_arguments_refuse_the_call(options: dict[str, object]) -> None:
    with pytest.raises(CallRefused):
        parse_history_arguments([{"id": ID, **options}])


@given(
    st.builds(
        HistoryQuery,
        st.just(FEED),
        st.integers(1, 2**31 - 1),
        st.none() | st.integers(1, 1000),
        st.booleans(),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    )
)
def test_what_we_ask_means_what_we_want(query: HistoryQuery) -> None:
    # "Neither keys nor values" and "neither old nor live" mean something else to JavaScript peers.
    query = replace(query, values=query.values or not query.keys, live=query.live or not query.old)
    assert parse_history_arguments(format_history_arguments(query)) == query


def test_what_some_peers_fail_on_is_never_asked() -> None:
    assert format_history_arguments(HistoryQuery(FEED, 4, live=True, keys=False)) == [
        {"id": ID, "seq": 4, "live": True, "keys": False}  # exactly as JavaScript peers spell it
    ]
    for query in (HistoryQuery(FEED, 0), HistoryQuery(FEED, limit=0)):
        with pytest.raises(LocalProtocolError):
            format_history_arguments(query)


def test_real_requests_are_understood() -> None:
    calls = [
        row["body"]["args"]
        for row in transcript("ssb-server-dials-server-without-ebt.jsonl")
        if isinstance(row.get("body"), dict) and row["body"].get("name") == ["createHistoryStream"]
    ]
    assert len(calls) == 5
    for arguments in calls:
        query = parse_history_arguments(arguments)
        assert (query.live, query.keys, query.limit) == (True, False, None)
        assert format_history_arguments(query) == arguments


RAW = b'{"previous": null, "author":"@x", "n": 1.0, "content": "\\ud800"}'


def test_items_keep_the_text_of_messages() -> None:
    assert history_message(RAW + b"\n") == RAW
    assert history_message(b'{"key":"%x","value":' + RAW + b',"timestamp":1.5}') == RAW
    assert history_message(b'{"sync":true}') is None
    for query, expected in (
        (HistoryQuery(FEED), b'{"key":"%k","value":' + RAW + b',"timestamp":5}'),
        (HistoryQuery(FEED, keys=False), RAW),
        (HistoryQuery(FEED, values=False), b'"%k"'),
    ):
        item = encode_history_item(query, "%k", RAW, 5.0)
        assert item == expected
        parse_json(item)
        if query.values:
            assert history_message(item) == RAW


@pytest.mark.parametrize("junk", [b"", b"{}", b"[]", b"5", b'"%x"', b"{", b'{"key":1}', b"[" * 100_000])
def test_other_items_are_errors(junk: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        history_message(junk)


def numbered(sequence: int) -> bytes:
    return b"%d" % sequence


@tries(100)
@given(st.integers(1, 50), st.integers(0, 40), st.randoms(use_true_random=False))
def test_any_order_comes_out_in_order(first: int, count: int, chooser: random.Random) -> None:
    sequences = list(range(first, first + count))
    mixed = sequences + chooser.sample(sequences, count // 3) + list(range(max(1, first - 3), first))
    chooser.shuffle(mixed)
    buffer = ReorderBuffer(first)
    out = [raw for sequence in mixed for raw in buffer.add_message(sequence, numbered(sequence))]
    assert out == [numbered(sequence) for sequence in sequences]
    assert (list(buffer.waiting), buffer.next_sequence) == ([], first + count)


def test_the_order_measured_from_ssb_db2() -> None:
    buffer = ReorderBuffer(1)
    steps = [len(buffer.add_message(sequence, b"x")) for sequence in (1, 2, 4, 3, 7, 9, 5, 8, 6, 10)]
    assert steps == [1, 1, 0, 2, 0, 0, 1, 0, 4, 1]


@pytest.mark.parametrize("bounds", [{"max_messages": 2}, {"max_bytes": 25}], ids=str)
def test_holding_back_is_bounded(bounds: dict[str, Any]) -> None:
    room = ReorderRoom(**bounds)
    buffer, other = ReorderBuffer(1, room), ReorderBuffer(1, room)
    for sequence in (3, 4, 4):
        assert buffer.add_message(sequence, bytes(10)) == []
    for each in (buffer, other):
        with pytest.raises(RemoteProtocolError):
            each.add_message(5, bytes(10))
    assert len(buffer.waiting) == 2
    assert len(buffer.add_message(1, b"")) == 1
    assert len(buffer.add_message(2, b"")) == 3
    assert buffer.add_message(7, bytes(20)) == []  # the bytes of what left are free again
    buffer.clear()
    assert other.add_message(7, bytes(20)) == []
