from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sneaker.errors import CallRefused, LocalProtocolError, RemoteProtocolError
from sneaker.limits import MAX_NOTES_PER_PACKET
from sneaker.refs import FeedRef
from sneaker.wire.ebt.notes import (
    MAX_NOTE_SEQUENCE,
    MessageItem,
    Note,
    NotesItem,
    decode_note,
    encode_note,
    format_notes,
    parse_item,
    parse_replicate_arguments,
)
from sneaker.wire.json_text import parse_json
from tests.tries import tries
from tests.wire.vectors import load

VECTORS = load("ebt.json")
FEED = FeedRef.classic(bytes(range(32)))


@pytest.mark.parametrize("case", VECTORS["notes"], ids=str)
def test_encode(case: dict[str, Any]) -> None:
    assert encode_note(case["seq"], case["receive"]) == case["note"]


@pytest.mark.parametrize("case", VECTORS["decode"], ids=str)
def test_decode(case: dict[str, Any]) -> None:
    assert decode_note(case["note"]) == Note(case["seq"], case["replicate"], case["receive"])


@pytest.mark.parametrize(
    "junk", [2**31, -(2**31) - 1, 2**53, 10**400, 1e300, float("inf"), float("nan"), True, [], {}, "5", 0.5, -0.5]
)
def test_junk_claims_nothing(junk: object) -> None:
    assert decode_note(junk).sequence == -1


def test_whole_numbers_may_be_written_as_fractions() -> None:
    assert decode_note(84.0) == Note(42, True, True)


@pytest.mark.parametrize("sequence", [-2, MAX_NOTE_SEQUENCE + 1])
def test_what_cannot_be_said_is_not_said(sequence: int) -> None:
    with pytest.raises(LocalProtocolError):
        encode_note(sequence, True)


def test_big_clocks_go_out_in_parts() -> None:
    notes = {FeedRef.classic(number.to_bytes(32, "big")): number for number in range(MAX_NOTES_PER_PACKET + 1)}
    items = list(format_notes(notes))
    assert [len(json.loads(item)) for item in items] == [MAX_NOTES_PER_PACKET, 1]
    assert list(format_notes({})) == [b"{}"]
    (first, second) = (parse_item(item) for item in items)
    assert isinstance(first, NotesItem)
    assert isinstance(second, NotesItem)
    assert {feed: encode_note(note.sequence, note.receive) for feed, note in {**first[0], **second[0]}.items()} == notes


def test_messages_and_notes_are_told_apart() -> None:
    message = b'{"previous":null,"sequence":1,"author":"%s","content":{"type":"x"}}\n' % str(FEED).encode()
    assert parse_item(message) == MessageItem(FEED, 1, message)
    boxed = message.replace(b'{"type":"x"}', b'"\\ud800.box"').replace(b":1,", b":1.0,")
    assert parse_item(boxed) == MessageItem(FEED, 1, boxed)
    for change in ((b":1,", b":0,"), (b'{"type":"x"}', b"null"), (b'"sequence":1', b'"sequence":"1"')):
        assert parse_item(message.replace(*change)) == NotesItem({})
    other = message.replace(str(FEED).encode(), b"ssb:feed/bendybutt-v1/xyz=")
    assert parse_item(other) is None
    assert parse_item(message.replace(b":1,", b":2147483648,")) is None
    wrapped = {"clock": {str(FEED): 3}, str(FEED): 4}
    assert parse_item(json.dumps(wrapped).encode()) == NotesItem({FEED: Note(1, True, False)})
    junk = {str(FEED): "x", "@short": 2, "%no": 1, "": 0}
    assert parse_item(json.dumps(junk).encode()) == NotesItem({FEED: Note(-1, True, True)})


@pytest.mark.parametrize("junk", [b"", b"1", b"[]", b'"@"', b"null", b"{", b"\xff", b"[" * 100_000, b'{"clock":'])
def test_what_is_neither_is_an_error(junk: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_item(junk)


@pytest.mark.parametrize("arguments", [[{"version": 3}], [{"version": 3, "format": "classic"}], [{"version": 3.0}, 1]])
def test_arguments(arguments: list[object]) -> None:
    parse_replicate_arguments(arguments)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "expected ebt.replicate({version: 3})"),
        ([3], "expected ebt.replicate({version: 3})"),
        ([{"version": 2}], "expected ebt.replicate({version: 3})"),
        ([{"version": 3, "format": "bendybutt-v1"}], "Unknown format: bendybutt-v1"),
        ([{"version": 3, "format": "x" * 5000}], f"Unknown format: {'x' * 100}"),
        ([{"version": 3, "format": [["classic"]]}], "Unknown format: a list"),
    ],
)
def test_other_versions_and_formats_are_refused(arguments: list[object], text: str) -> None:
    with pytest.raises(CallRefused) as caught:
        parse_replicate_arguments(arguments)
    assert caught.value.message == text


@tries(200)
@given(
    st.dictionaries(
        st.sampled_from([str(FEED), "clock", "author", "sequence", "content", "@"]),
        st.none()
        | st.integers()
        | st.floats()
        | st.text(max_size=3)
        | st.booleans()
        | st.dictionaries(st.just(str(FEED)), st.integers(), max_size=1),
    )
)
def test_any_object_is_an_item(value: dict[str, object]) -> None:
    raw = json.dumps(value).encode()
    try:
        parse_json(raw)
    except ValueError:
        return  # NaN and Infinity are no JSON
    parse_item(raw)
