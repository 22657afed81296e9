from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sneaker.errors import CallRefused, LocalProtocolError, RemoteProtocolError
from sneaker.limits import MAX_BLOB_BYTES, MAX_BLOB_CHUNK_BYTES
from sneaker.refs import BlobRef, FeedRef
from sneaker.wire.blobs import (
    EMPTY_BLOB,
    BlobExchange,
    BlobQuery,
    BlobReceiver,
    Fetch,
    Want,
    format_get_arguments,
    parse_get_arguments,
    parse_has_arguments,
)
from tests.tries import tries
from tests.wire.vectors import transcript

DATA = b"hello blob"
BLOB, OTHER = BlobRef.of(DATA), BlobRef.of(b"other")
ANN, BEN, CLEO = (FeedRef.classic(bytes([number]) * 32) for number in (1, 2, 3))


def say(exchange: BlobExchange, peer: FeedRef, **numbers: int) -> list[Want]:
    blobs = {"blob": BLOB, "other": OTHER}
    return exchange.receive(peer, json.dumps({str(blobs[name]): number for name, number in numbers.items()}).encode())


def due(exchange: BlobExchange, peer: FeedRef) -> list[dict[str, int]]:
    return [json.loads(item) for item in exchange.items_to_send(peer)]


def connected(*peers: FeedRef, **options: int) -> BlobExchange:
    exchange = BlobExchange(**options)
    for peer in peers:
        exchange.connect(peer)
        exchange.items_to_send(peer)
    return exchange


def test_the_first_item_comes_at_once_even_if_empty() -> None:
    exchange = BlobExchange()
    exchange.connect(ANN)
    assert due(exchange, ANN) == [{}]
    assert due(exchange, ANN) == []
    exchange.want(BLOB)
    exchange.connect(BEN)
    assert due(exchange, ANN) == due(exchange, BEN) == [{str(BLOB): -1}]


def test_want_have_fetch() -> None:
    exchange = connected(ANN, BEN)
    exchange.want(BLOB)
    assert exchange.next_fetch() is None
    assert say(exchange, ANN, blob=10) == []
    say(exchange, BEN, blob=10)
    fetch = exchange.next_fetch()
    assert fetch == Fetch(ANN, BLOB, 10)
    assert exchange.next_fetch() is None
    exchange.fetch_failed(fetch)
    second = exchange.next_fetch()
    assert second == Fetch(BEN, BLOB, 10)
    exchange.fetch_failed(second)
    assert exchange.next_fetch() is None
    say(exchange, ANN, blob=10)  # offered anew
    assert exchange.next_fetch() == Fetch(ANN, BLOB, 10)
    exchange.stored(BLOB, 10)
    assert exchange.wanted == []
    assert exchange.next_fetch() is None
    exchange.fetch_failed(fetch)


def test_a_peer_that_goes_while_it_sends() -> None:
    exchange = connected(ANN, BEN)
    exchange.want(BLOB)
    say(exchange, ANN, blob=10)
    assert exchange.next_fetch() == Fetch(ANN, BLOB, 10)
    say(exchange, BEN, blob=10)
    assert exchange.next_fetch() is None
    exchange.disconnect(ANN)
    exchange.disconnect(ANN)
    assert exchange.next_fetch() == Fetch(BEN, BLOB, 10)


def test_wants_of_others_are_answered_or_become_ours() -> None:
    exchange = connected(ANN, BEN)
    (want,) = say(exchange, ANN, blob=-1)
    assert want == Want(ANN, BLOB, 1)
    exchange.answer(want, 10)
    assert due(exchange, ANN) == [{str(BLOB): 10}]
    (want,) = say(exchange, ANN, other=-2)
    exchange.answer(want, None)
    assert exchange.wanted == [OTHER]
    assert due(exchange, BEN) == [{str(OTHER): -3}]
    (nearer,) = say(exchange, BEN, other=-1)
    exchange.answer(nearer, None)
    assert due(exchange, ANN) == [{str(OTHER): -2}]
    say(exchange, BEN, other=77)
    assert exchange.next_fetch() == Fetch(BEN, OTHER, 77)
    exchange.stored(OTHER, 77)
    assert due(exchange, ANN) == due(exchange, BEN) == [{str(OTHER): 77}]


def test_sympathy_has_an_end() -> None:
    exchange = connected(ANN, BEN)
    (want,) = say(exchange, ANN, blob=-3)
    exchange.answer(want, None)
    assert exchange.wanted == []
    exchange.stored(BLOB, 10)  # but if we come by it, it is offered
    assert due(exchange, ANN) == [{str(BLOB): 10}]
    assert due(exchange, BEN) == []
    stingy = connected(ANN, sympathy=0)
    stingy.answer(say(stingy, ANN, blob=-1)[0], None)
    assert stingy.wanted == []


def test_what_only_one_who_left_wanted_is_dropped() -> None:
    exchange = connected(ANN, BEN)
    for want in say(exchange, ANN, blob=-1, other=-1):
        exchange.answer(want, None)
    exchange.want(OTHER)
    assert due(exchange, BEN) == [{str(BLOB): -2, str(OTHER): -1}]
    exchange.disconnect(ANN)
    assert exchange.wanted == [OTHER]
    exchange.answer(Want(ANN, BLOB, 1), None)  # found too late
    assert exchange.unwant(OTHER)
    assert exchange.unwant(OTHER)
    assert exchange.wanted == []


def test_what_is_offered_or_wanted_by_others_stays() -> None:
    exchange = connected(ANN, BEN)
    exchange.want(BLOB)
    exchange.want(OTHER)
    exchange.answer(say(exchange, BEN, other=-1)[0], None)
    say(exchange, ANN, blob=10)
    assert not exchange.unwant(BLOB)
    fetch = exchange.next_fetch()
    assert not exchange.unwant(BLOB)
    exchange.fetch_failed(fetch)
    assert exchange.unwant(BLOB)
    assert exchange.unwant(OTHER)
    assert exchange.wanted == [OTHER]


def test_too_large_and_empty_blobs_are_left_alone() -> None:
    exchange = connected(ANN)
    exchange.want(BLOB)
    exchange.want(EMPTY_BLOB)
    assert exchange.wanted == [BLOB]
    say(exchange, ANN, blob=MAX_BLOB_BYTES + 1)
    assert exchange.next_fetch() is None
    say(exchange, ANN, blob=MAX_BLOB_BYTES)
    assert exchange.next_fetch() is not None
    exchange.answer(Want(ANN, EMPTY_BLOB, 1), None)
    exchange.answer(Want(ANN, OTHER, 1), 0)
    assert exchange.wanted == [BLOB]


def test_memory_is_bounded() -> None:
    exchange = connected(ANN, max_wants=50)
    for start in range(0, 1000, 100):
        numbers = {str(BlobRef(number.to_bytes(32, "big"))): -1 for number in range(start, start + 100)}
        for want in exchange.receive(ANN, json.dumps(numbers).encode()):
            exchange.answer(want, None)
        exchange.receive(ANN, json.dumps(dict.fromkeys(numbers, 5)).encode())
    assert len(exchange.wanted) == 50
    assert sum(map(len, due(exchange, ANN))) == 50


@pytest.mark.parametrize("junk", [b"", b"[]", b"1", b"null", b"\xff", b"[" * 100_000])
def test_junk_items_are_errors(junk: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        connected(ANN).receive(ANN, junk)


def test_junk_entries_are_passed_over() -> None:
    junk = {"&x": -1, str(BLOB): 1.5, str(OTHER): "5", str(ANN): -1, "": 0}
    assert connected(ANN).receive(ANN, json.dumps(junk).encode()) == []


def test_peers_are_connected_once() -> None:
    exchange = connected(ANN)
    with pytest.raises(LocalProtocolError):
        exchange.connect(ANN)
    with pytest.raises(LocalProtocolError):
        exchange.receive(BEN, b"{}")


def test_the_recorded_items() -> None:
    rows = [row for row in transcript("db2-dials-ssb-server.seen-by-server.jsonl") if row.get("req") == -1]
    bodies = [row["body"] for row in rows if row["dir"] == "in" and not row["end"]]
    exchange = connected(ANN)
    for body in bodies:
        for text in body:
            exchange.want(BlobRef.parse(text))
        assert exchange.receive(ANN, json.dumps(body).encode()) == []
    fetch = exchange.next_fetch()
    assert fetch is not None
    assert fetch.size == 10


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        ([str(BLOB)], BlobQuery(BLOB)),
        ([str(BLOB) + "?unbox=xyz.boxs"], BlobQuery(BLOB)),
        ([{"key": str(BLOB), "max": 5}], BlobQuery(BLOB, max_size=5)),
        ([{"hash": str(BLOB), "size": 5.0}], BlobQuery(BLOB, size=5)),
        ([{"id": str(BLOB), "start": 2, "end": 4}], BlobQuery(BLOB, 2, 4)),
    ],
)
def test_get_arguments(arguments: list[object], query: BlobQuery) -> None:
    assert parse_get_arguments(arguments) == query


def test_our_own_get_is_understood() -> None:
    assert parse_get_arguments(format_get_arguments(Fetch(ANN, BLOB, 5))) == BlobQuery(BLOB, max_size=MAX_BLOB_BYTES)


@pytest.mark.parametrize(
    "arguments",
    [[], [None], [5], ["%x"], [{}], [{"key": 5}], [{"key": str(BLOB), "start": -1}], [{"key": str(BLOB), "max": "5"}]],
    ids=str,
)
def test_bad_get_arguments_refuse_the_call(arguments: list[object]) -> None:
    with pytest.raises(CallRefused):
        parse_get_arguments(arguments)


def test_parts_and_expected_sizes() -> None:
    assert BlobQuery(BLOB).check(10) == range(10)
    assert BlobQuery(BLOB, 2, 4).check(10) == range(2, 4)
    assert BlobQuery(BLOB, 12, 14).check(10) == range(10, 10)
    for query in (BlobQuery(BLOB, size=9), BlobQuery(BLOB, max_size=9)):
        with pytest.raises(CallRefused):
            query.check(10)


def test_has_arguments() -> None:
    assert parse_has_arguments([str(BLOB)]) == ([BLOB], False)
    assert parse_has_arguments([[str(BLOB), str(OTHER)]]) == ([BLOB, OTHER], True)
    assert parse_has_arguments([[]]) == ([], True)
    for junk in ([], [5], [["&x"]], [[str(BLOB)] * 20_000], [{"a": 1}], ["\ud800"]):
        with pytest.raises(CallRefused):
            parse_has_arguments(junk)


@tries(20)
@given(st.integers(0, 3 * MAX_BLOB_CHUNK_BYTES + 1))
def test_blobs_in_parts_are_checked(size: int) -> None:
    data = random.Random(size).randbytes(size)
    parts = [data[at : at + MAX_BLOB_CHUNK_BYTES] for at in range(0, size, MAX_BLOB_CHUNK_BYTES)]
    receiver = BlobReceiver(BlobRef.of(data))
    for part in parts:
        receiver.add_chunk(part)
    receiver.finish()
    assert receiver.size == size


def test_wrong_and_too_large_blobs_are_noticed() -> None:
    receiver = BlobReceiver(BLOB)
    receiver.add_chunk(b"something else")
    with pytest.raises(RemoteProtocolError):
        receiver.finish()
    receiver = BlobReceiver(BLOB, max_size=9)
    receiver.add_chunk(DATA[:9])
    with pytest.raises(RemoteProtocolError):
        receiver.add_chunk(DATA[9:])


@tries(100)
@given(st.lists(st.dictionaries(st.sampled_from([str(BLOB), str(OTHER), "&"]), st.integers(-5, 5) | st.none())))
def test_any_items_keep_it_consistent(items: list[dict[str, int | None]]) -> None:
    exchange = connected(ANN, BEN)
    for item in items:
        for want in exchange.receive(ANN, json.dumps(item).encode()):
            exchange.answer(want, None)
        fetch = exchange.next_fetch()
        if fetch is not None:
            exchange.fetch_failed(fetch)
        exchange.items_to_send(BEN)
    exchange.disconnect(ANN)
    assert exchange.wanted == []
