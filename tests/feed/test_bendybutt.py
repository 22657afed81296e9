"""Bendy butt: vectors of ssb-bendy-butt and ssb-bfe, each rule broken once, and whatever arrives."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sneaker.errors import InvalidMessage
from sneaker.feed.bencode import decode, encode
from sneaker.feed.bfe import decode_field, encode_field
from sneaker.feed.formats import format_of, format_of_value
from sneaker.feed.message import Compact, Message
from sneaker.refs import FeedRef
from tests.feed.bendy import BENDYBUTT, CONTENT, FEED, META, SUB, fields, log_line, make, metafeed
from tests.feed.bendy_vectors import make_vectors
from tests.feed.vectors import load

VECTORS = load("bendybutt.json")["messages"]
BAD = load("bendybutt-bad-messages.json")["Cases"]
LIFE = load("bendybutt-management.json")["Entries"]


def again(message: Message) -> None:
    """Every form of a message gives it back."""
    small = BENDYBUTT.compact(message)
    assert BENDYBUTT.expand(message.author, message.sequence, message.previous, small) == message
    assert BENDYBUTT.expand_run(message.author, message.sequence, message.previous, [small]) == [message]
    printed = json.loads(log_line(message))
    assert BENDYBUTT.read_log_value(printed["value"], printed, is_quick=False) == message


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["id"][-12:])
def test_vectors(case: dict[str, Any]) -> None:
    message = BENDYBUTT.parse(bytes.fromhex(case["hex"]))
    assert (str(message.key), str(message.author)) == (case["id"], case["author"])
    assert (message.sequence, message.timestamp) == (case["sequence"], case["timestamp"])
    assert (None if message.previous is None else str(message.previous)) == case["previous"]
    value = json.loads(log_line(message))["value"]
    assert (value["signature"], value["contentSignature"]) == (case["signature"], case["contentSignature"])
    nonce = case["content"].get("nonce")
    content = dict(case["content"])
    if nonce is not None:
        content["nonce"] = {"type": "Buffer", "data": list(bytes.fromhex(nonce["bytes"]))}
    assert message.content == content
    assert BENDYBUTT.is_signed(message, None)
    assert not BENDYBUTT.is_signed(message, bytes(32))
    again(message)
    # As ssb-db2 prints it, without the bytes beside it.
    assert BENDYBUTT.read_log_value(value, {}, is_quick=False) == message


def test_the_life_of_a_metafeed() -> None:
    for entry in LIFE:
        message = BENDYBUTT.parse(bytes.fromhex(entry["EncodedData"]))
        assert (str(message.key), message.sequence) == (entry["Key"], entry["Sequence"])
        assert BENDYBUTT.is_signed(message, None)
        again(message)


@pytest.mark.parametrize("case", BAD, ids=lambda case: case["Description"].split(":")[0])
def test_bad_messages(case: dict[str, Any]) -> None:
    """Those of which the chain decides are valid by themselves."""
    *good, bad = [bytes.fromhex(entry["EncodedData"]) for entry in case["Entries"]]
    for raw in good:
        assert BENDYBUTT.is_signed(BENDYBUTT.parse(raw), None)
    if case["Description"].startswith(("3.2", "5.1")):
        message = BENDYBUTT.parse(bad)
        assert (message.sequence, message.previous) != (2, BENDYBUTT.parse(good[0]).key)
        return
    with pytest.raises(InvalidMessage):
        BENDYBUTT.parse(bad)


@pytest.mark.parametrize("case", load("bfe.json")["cases"], ids=lambda case: case["hex"][:12])
def test_fields(case: dict[str, Any]) -> None:
    assert encode_field(case["value"]).hex() == case["hex"]
    assert decode_field(bytes.fromhex(case["hex"])) == case["decoded"]


REFUSED = load("bendybutt-refused.json")


def is_valid(raw: bytes) -> bool:
    try:
        return BENDYBUTT.is_signed(BENDYBUTT.parse(raw), None)
    except InvalidMessage:
        return False


def test_own_vectors_are_what_is_made_here() -> None:
    assert make_vectors() == REFUSED


def test_own_vectors() -> None:
    valid, refused, misplaced = (
        {case["name"]: bytes.fromhex(case["hex"]) for case in REFUSED[kind]}
        for kind in ("valid", "refused", "misplaced")
    )
    assert [name for name, raw in valid.items() if not is_valid(raw)] == []
    assert [name for name, raw in refused.items() if is_valid(raw)] == []
    first, second = (BENDYBUTT.parse(valid[name]) for name in ("first message", "second message"))
    assert (second.sequence, second.previous) == (2, first.key)
    for raw in misplaced.values():
        assert is_valid(raw)
        message = BENDYBUTT.parse(raw)
        assert (message.sequence, message.previous) != (2, first.key)


FIRST = BENDYBUTT.parse(make())
PAYLOAD = decode(FIRST.text)[0]  # type: ignore[index]
SIGNED = [fields(CONTENT), b"\4\0" + bytes(64)]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (make(author=SUB) + b"x", "bencode-invalid"),
        (b"le", "not-a-message"),
        (b"i1e", "not-a-message"),
        (encode([[b"x"] * 4, b"\4\0" + bytes(64)]), "fields-invalid"),
        (encode([[b"x"] * 6, b"\4\0" + bytes(64)]), "fields-invalid"),
        (make(replaced={"more": 1}), "fields-invalid"),
        (make(replaced={"author": b"\0\0" + bytes(32)}), "author-invalid"),
        (make(replaced={"author": b"\0\3" + bytes(31)}), "author-invalid"),
        (make(replaced={"author": 5}), "author-invalid"),
        (make(replaced={"sequence": 0}), "sequence-invalid"),
        (make(replaced={"sequence": -1}), "sequence-invalid"),
        (make(replaced={"sequence": 2**31}), "sequence-invalid"),
        (make(replaced={"sequence": b"\6\0001"}), "sequence-invalid"),
        (make(replaced={"previous": b"\1\4" + bytes(32)}), "previous-invalid"),
        (make(replaced={"previous": b"\6\2\0"}), "previous-invalid"),
        (make(FIRST, replaced={"previous": b"\6\2"}), "previous-invalid"),
        (make(FIRST, replaced={"previous": b"\1\0" + bytes(32)}), "previous-invalid"),
        (make(FIRST, replaced={"previous": b"\1\4" + bytes(33)}), "previous-invalid"),
        (make(FIRST, replaced={"previous": 7}), "previous-invalid"),
        (make(timestamp=-1), "timestamp-invalid"),
        (make(timestamp=2**53), "timestamp-invalid"),
        (make(timestamp=b"\6\2"), "timestamp-invalid"),
        (make(replaced={"section": fields(CONTENT)}), "content-invalid"),
        (make(replaced={"section": []}), "content-invalid"),
        (make(replaced={"section": [*SIGNED, 1]}), "content-invalid"),
        (make(replaced={"section": [5, SIGNED[1]]}), "content-invalid"),
        (make(replaced={"section": [b"\6\0text", SIGNED[1]]}), "content-invalid"),
        (make(replaced={"section": b"\6\0text"}), "content-invalid"),
        (make(replaced={"section": [SIGNED[0], b"\4\0" + bytes(63)]}), "content-signature-malformed"),
        (make(replaced={"section": [SIGNED[0], b"\4\1" + bytes(64)]}), "content-signature-malformed"),
        (make(replaced={"section": [SIGNED[0], 1]}), "content-signature-malformed"),
        (make(replaced={"section": [{b"type": b"\xff\xffx"}, SIGNED[1]]}), "content-invalid"),
        (make(replaced={"section": [{b"type": b"plain"}, SIGNED[1]]}), "content-invalid"),
        (make(replaced={"section": [{b"type": b"\6\1\2"}, SIGNED[1]]}), "content-invalid"),
        (make(replaced={"section": [{b"type": b"\0\0" + bytes(31)}, SIGNED[1]]}), "content-invalid"),
        (make(replaced={"section": [{b"type": b"\6\0\xff"}, SIGNED[1]]}), "content-invalid"),
        (make(replaced={"section": [{b"\xff": b"\6\2"}, SIGNED[1]]}), "content-invalid"),
        (make(replaced={"section": [{b"n": 2**53}, SIGNED[1]]}), "content-invalid"),
        (make(content=CONTENT | {"text": "x" * 8000}), "too-long"),
        (encode([PAYLOAD, b"\4\0" + bytes(63)]), "signature-malformed"),
        (encode([PAYLOAD, b"\4\1" + bytes(64)]), "signature-malformed"),
        (b"l" * 8000, "bencode-invalid"),
        (b"l" * 70 + b"e" * 70, "bencode-invalid"),
    ],
)
def test_each_rule(raw: bytes, reason: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        BENDYBUTT.parse(raw)
    assert caught.value.reason == reason


def test_signatures() -> None:
    key = bytes(range(32))
    assert BENDYBUTT.is_signed(FIRST, None)
    assert BENDYBUTT.is_signed(BENDYBUTT.parse(make(hmac_key=key)), key)
    assert not BENDYBUTT.is_signed(BENDYBUTT.parse(make(hmac_key=key)), None)
    # The subfeed did not sign; with no subfeed nobody can say who should have.
    assert not BENDYBUTT.is_signed(BENDYBUTT.parse(make(signer=META)), None)
    other = {name: item for name, item in CONTENT.items() if name != "subfeed"}
    assert BENDYBUTT.is_signed(BENDYBUTT.parse(make(content=other, signer=META)), None)
    assert BENDYBUTT.is_signed(BENDYBUTT.parse(make(content=CONTENT | {"subfeed": "nobody"}, signer=META)), None)
    at = FIRST.text.find(b"main")
    changed = BENDYBUTT.parse(FIRST.text[:at] + b"MAIN" + FIRST.text[at + 4 :])
    assert not BENDYBUTT.is_signed(changed, None)
    # Each of the two signatures by itself.
    for place in (-10, FIRST.text.rfind(b"ee66:") - 5):
        spoilt = bytearray(FIRST.text)
        spoilt[place] ^= 1
        assert not BENDYBUTT.is_signed(BENDYBUTT.parse(bytes(spoilt)), None)


@pytest.mark.parametrize("number", range(6))
def test_a_subfeed_of_any_format_signs_its_content(number: int) -> None:
    field = bytes((0, number)) + SUB.public.key
    for subfeed in (decode_field(field), {"type": "Buffer", "data": list(field)}):
        content = CONTENT | {"subfeed": subfeed}
        assert BENDYBUTT.is_signed(BENDYBUTT.parse(make(content=content)), None)
        assert not BENDYBUTT.is_signed(BENDYBUTT.parse(make(content=content, signer=META)), None)


@pytest.mark.parametrize(
    "subfeed",
    [
        {"type": "Buffer", "data": []},
        {"type": "Buffer", "data": [0]},
        {"type": "Buffer", "data": [0, 3, *range(31)]},
        {"type": "Buffer", "data": [0, 6, *range(32)]},
        str(FIRST.key),
        "",
        None,
        True,
        7,
        ["x"],
        {"a": None},
    ],
)
def test_what_names_no_feed_asks_for_no_signature_of_one(subfeed: object) -> None:
    assert BENDYBUTT.is_signed(BENDYBUTT.parse(make(content=CONTENT | {"subfeed": subfeed}, signer=META)), None)


def test_encrypted() -> None:
    for section in (b"\5\0" + bytes(100), [b"\5\1" + bytes(100), b"\4\0" + bytes(64)]):
        message = BENDYBUTT.parse(make(replaced={"section": section}))
        assert isinstance(message.content, str)
        assert message.content.endswith((".box", ".box2"))
        assert BENDYBUTT.is_signed(message, None)
        again(message)
        value = json.loads(log_line(message))["value"]
        assert BENDYBUTT.read_log_value(value, {}, is_quick=False) == message


def test_compact_forms_of_other_places_and_formats() -> None:
    one, two = metafeed(2)
    small = BENDYBUTT.compact(two)
    assert not BENDYBUTT.is_signed(BENDYBUTT.expand(FEED, 3, two.key, small), None)
    assert not BENDYBUTT.is_signed(BENDYBUTT.expand(FEED, 2, two.key, small), None)
    for author, sequence, previous, item in [
        (FEED, 0, None, small),
        (FEED, 1, one.key, small),
        (FEED, 2, None, small),
        (FeedRef.classic(FEED.key), 2, one.key, small),
        (FEED, 2, one.key, small._replace(form=14)),
        (FEED, 2, one.key, small._replace(timestamp=-1)),
        (FEED, 2, one.key, small._replace(signature=b"")),
        (FEED, 2, one.key, small._replace(content=small.content + b"i1e")),
        (FEED, 2, one.key, small._replace(content=small.content[:-1])),
        (FEED, 2, one.key, small._replace(content=b"9000:" + bytes(9000))),
        (FEED, 2, one.key, Compact(0, 0, bytes(64), b"")),
    ]:
        with pytest.raises(InvalidMessage):
            BENDYBUTT.expand(author, sequence, previous, item)
        assert BENDYBUTT.expand_run(author, sequence, previous, [item]) == []


@pytest.mark.parametrize(
    "data",
    [b"", b"i", b"ie", b"i01e", b"i-0e", b"i1", b"i1.5e", b"i+1e", b"i--1e", b"-1:", b"01:a", b"2:a", b"1a", b":", b"l", b"d",
     b"d1:ae", b"di1ei2ee", b"d1:bi1e1:ai2ee", b"d1:ai1e1:ai2ee", b"e", b"x", b"i1ei1e", b"i" + b"9" * 5000 + b"e", b"9" * 5000 + b":"],
)  # fmt: skip
def test_what_is_no_bencode(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        decode(data)


bencoded: st.SearchStrategy[Any] = st.recursive(
    st.integers(-(2**63), 2**63) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(bencoded)
def test_bencode_round_trip(value: Any) -> None:
    assert decode(encode(value)) == value


@given(st.binary(max_size=60))
def test_bencode_has_one_spelling(data: bytes) -> None:
    try:
        value = decode(data)
    except InvalidMessage:
        return
    assert encode(value) == data


@given(st.integers(0, len(FIRST.text) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_any_damage_gives_a_message_or_our_error(at: int, put: bytes, cut: int) -> None:
    raw = FIRST.text[:at] + put + FIRST.text[at + cut :]
    try:
        message = BENDYBUTT.parse(raw)
    except InvalidMessage:
        return
    assert message.text == raw
    again(message)
    assert BENDYBUTT.is_signed(message, None) == (raw == FIRST.text)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.sampled_from(["author", "sequence", "previous", "timestamp", "content", "contentSignature", "signature", "x"]),
    JSON_VALUES,
)
def test_any_value_in_a_log_gives_a_message_or_our_error(name: str, replaced: Any) -> None:
    value = json.loads(log_line(FIRST))["value"] | {name: replaced}
    try:
        message = BENDYBUTT.read_log_value(value, {}, is_quick=False)
    except InvalidMessage:
        return
    again(message)


def test_the_format_is_found_by_the_author() -> None:
    assert format_of(FEED) is BENDYBUTT
    assert format_of_value({"author": str(FEED)}) is BENDYBUTT
    classic = format_of(SUB.public)
    for author in (str(SUB.public), "ssb:feed/gabbygrove-v1/" + "A" * 43 + "=", "ssb:feed/bendybutt-v1/x", None, 5):
        assert format_of_value({"author": author}) is classic
