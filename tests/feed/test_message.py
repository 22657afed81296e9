from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sneaker.caps import auth, parse_cap
from sneaker.errors import FeedError, PublishUnsafe
from sneaker.feed.classic.message import create_message, message_key
from sneaker.feed.classic.validate import parse_message
from sneaker.feed.message import Head
from sneaker.keys import Keypair, verify_signature
from sneaker.limits import MAX_SEQUENCE
from sneaker.refs import FeedRef, MessageRef, decode_base64, encode_base64
from tests.feed.forge import seeded
from tests.feed.vectors import head, judge, keypair, load
from tests.js_oracle import Case, Oracle, available
from tests.tries import amount, tries

KEYS = load("keys.json")
ME = seeded(1)


@pytest.mark.parametrize("case", KEYS["hashes"], ids=lambda case: repr(case["text"]))
def test_hash_vectors(case: dict[str, Any]) -> None:
    try:
        text = case["text"].encode("utf-8")
    except UnicodeEncodeError:
        # Canonical text never holds a lone surrogate itself; ssb-keys hashes any string.
        return
    assert encode_base64(message_key(text)) + ".sha256" == case["hash"]


@pytest.mark.parametrize("case", KEYS["signatures"], ids=lambda case: repr(case["text"][:20]))
def test_signature_vectors(case: dict[str, Any]) -> None:
    text = bytes.fromhex(case["utf8"])
    signed = text if case["hmacKey"] is None else auth(text, parse_cap(case["hmacKey"]))
    signature = decode_base64(case["signature"].removesuffix(".sig.ed25519"), 64)
    assert verify_signature(FeedRef.parse(case["key"]).key, signature, signed)
    assert not verify_signature(FeedRef.parse(case["key"]).key, signature, signed + b"x")


@pytest.mark.parametrize("keys", KEYS["keys"], ids=lambda keys: keys["id"])
def test_key_vectors(keys: dict[str, str]) -> None:
    pair = Keypair.from_seed(bytes.fromhex(keys["seed"]))
    assert str(pair.public) == keys["id"]
    assert encode_base64(pair.secret) + ".ed25519" == keys["private"]
    assert keypair(keys) == pair


def test_first_and_next_message() -> None:
    first = create_message(ME, None, 1_600_000_000_000, {"type": "post", "text": "hello"})
    assert first.text.decode() == (
        "{\n"
        '  "previous": null,\n'
        '  "sequence": 1,\n'
        f'  "author": "{ME.public}",\n'
        '  "timestamp": 1600000000000,\n'
        '  "hash": "sha256",\n'
        '  "content": {\n'
        '    "type": "post",\n'
        '    "text": "hello"\n'
        "  },\n"
        f'  "signature": "{encode_base64(first.signature)}.sig.ed25519"\n'
        "}"
    )
    assert parse_message(first.text) == first
    assert judge(first.text, None, None) == first
    second = create_message(
        ME, Head(1, first.key), 1_600_000_000_000.5, encode_base64(bytes(24) + b"\t" + bytes(160)) + ".box"
    )
    assert (second.sequence, second.previous, second.timestamp) == (2, first.key, 1_600_000_000_000.5)
    assert judge(second.text, {"sequence": 1, "id": str(first.key)}, None) == second


def test_hmac() -> None:
    key = bytes(range(32))
    message = create_message(ME, None, 1, {"type": "post"}, key)
    assert judge(message.text, None, encode_base64(key)) == message


UNSAFE: list[Any] = [
    None,
    [],
    5,
    {},
    {"text": "x"},
    {"type": "ab"},
    {"type": 5},
    {"type": "x" * 53},
    {"type": "é" * 27},  # 52 bytes is the most for go-ssb
    {"type": "post", "a": {}},
    {"type": "post", "a": [{"b": {}}]},
    {"type": "post", "a": "\ud800"},
    {"type": "post", "\udfff": 1},
    {"type": "post", "a": ["\ud83d\ude80"]},
    {"type": "post", "__proto__": {"a": 1}},
    {"type": "post", "a": {"__proto__": 1}},
    {"type": "post", "a": math.inf},
    {"type": "post", "a": math.nan},
    {"type": "post", "a": 2**53 + 1},
    {"type": "post", "a": 10**400},
    {"type": "post", "a": b"bytes"},
    {"type": "post", "a": {1: 2}},
    {"type": "post", "text": "x" * 8000},
    {"type": "post", "a": list(range(20_000))},
    "text",
    ".box",
    "AAAA.box3",
    # Whatever opens it has to find 56 bytes of head, a slot and a MAC, and a one-time key that is one.
    "AAAA.box",
    encode_base64(bytes(24) + b"\t" + bytes(95)) + ".box",
    encode_base64(bytes(200)) + ".box",
    encode_base64(bytes(24) + b"\1" + bytes(175)) + ".box",
    encode_base64(
        bytes(24) + bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f") + bytes(144)
    )
    + ".box",
    encode_base64(bytes(79)) + ".box2",
    "AAAA.box\n",
    "AAA.box",
    "AAA=.box2?unbox=x",
    "AB==.box",
    "A" * 8000 + ".box",
]


@pytest.mark.parametrize("content", UNSAFE, ids=lambda content: repr(content)[:40])
def test_unsafe_content_is_not_signed(content: Any) -> None:
    with pytest.raises(PublishUnsafe) as caught:
        create_message(ME, None, 1, content)
    assert caught.value.code == "publish-unsafe"


def test_content_that_holds_itself_is_not_signed() -> None:
    content: dict[str, Any] = {"type": "post"}
    content["self"] = content
    with pytest.raises(PublishUnsafe):
        create_message(ME, None, 1, content)
    deep: list[Any] = []
    for _ in range(3000):
        deep = [deep]
    with pytest.raises(PublishUnsafe):
        create_message(ME, None, 1, {"type": "post", "deep": deep})


@pytest.mark.parametrize("timestamp", [math.inf, math.nan, True, "1", None])
def test_unsafe_timestamp_is_not_signed(timestamp: Any) -> None:
    with pytest.raises(PublishUnsafe):
        create_message(ME, None, timestamp, {"type": "post"})


def test_a_full_feed_takes_no_more() -> None:
    with pytest.raises(FeedError):
        create_message(ME, Head(MAX_SEQUENCE, MessageRef(bytes(32))), 1, {"type": "post"})


def test_the_largest_message() -> None:
    size = len(create_message(ME, None, 1, {"type": "post", "text": ""}).text)
    assert len(create_message(ME, None, 1, {"type": "post", "text": "x" * (8192 - size)}).text) == 8192
    with pytest.raises(PublishUnsafe) as caught:
        create_message(ME, None, 1, {"type": "post", "text": "x" * (8193 - size)})
    assert "8193" in caught.value.message
    rockets = create_message(ME, None, 1, {"type": "post", "text": "🚀" * ((8192 - size) // 2)})
    assert len(rockets.text) > 8192


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**60), 2**60),
        st.floats(),
        st.text(max_size=20),
        st.sampled_from(["\ud800", "🚀", "\u2028", "&x.sha256"]),
    ),
    lambda children: st.one_of(
        st.lists(children, max_size=4),
        st.dictionaries(
            st.one_of(st.text(max_size=6), st.sampled_from(["0", "7", "01", "__proto__"])), children, max_size=4
        ),
    ),
    max_leaves=12,
)
CONTENTS = st.builds(
    lambda kind, rest: {"type": kind, **rest},
    st.sampled_from(["post", "abc", "vote", "é" * 26, "ab", "🚀🚀"]),
    st.dictionaries(st.text(max_size=6), VALUES, max_size=4),
)


@tries(300)
@given(CONTENTS)
def test_what_is_made_is_valid(content: dict[str, Any]) -> None:
    try:
        message = create_message(ME, None, 1, content)
    except PublishUnsafe:
        return
    assert parse_message(message.text) == message
    assert judge(message.text, None, None) == message


@pytest.mark.node
@pytest.mark.skipif(available() is not None, reason=str(available()))
@pytest.mark.timeout(120)
def test_both_javascript_validators_accept_what_is_made() -> None:
    collected: list[dict[str, Any]] = []

    count = amount(quick=100, thorough=500)

    @settings(max_examples=count, deadline=None, database=None, derandomize=True)
    @given(CONTENTS)
    def collect(content: dict[str, Any]) -> None:
        collected.append(content)

    collect()
    state: Head | None = None
    cases, messages = [], []
    for number, content in enumerate(collected):
        try:
            message = create_message(
                seeded(number % 7), state, number * 1.5, content, bytes(32) if number % 3 == 0 else None
            )
        except PublishUnsafe:
            continue
        stated = {"id": str(state.key), "sequence": state.sequence} if state else None
        cases.append(Case(message.text.decode(), stated, encode_base64(bytes(32)) if number % 3 == 0 else None))
        messages.append(message)
        state = Head(message.sequence, message.key) if number % 5 else None
    assert len(messages) > count / 5
    with Oracle() as oracle:
        for message, verdict in zip(messages, oracle.ask_all(cases), strict=True):
            assert (verdict.valid, verdict.classic_valid) == (True, True), (verdict, message)
            assert verdict.key == str(message.key)
            assert verdict.canonical == message.text.decode()


def test_go_ssb_accepts_the_kinds_of_content_that_are_published() -> None:
    """go-ssb's own verdicts: whatever it refused of the feed vector, we would not publish either."""
    verdicts = load("go-ssb-verdicts.json")["feed"]
    refused = 0
    for case in load("feed.json")["messages"]:
        message = parse_message(case["text"])
        try:
            create_message(ME, None, 1, message.content)
        except PublishUnsafe:
            refused += 1
        else:
            assert verdicts[str(message.sequence)], json.dumps(message.content)
    assert refused >= sum(not verdict for verdict in verdicts.values())


def test_vector_heads_are_refs() -> None:
    first = create_message(ME, None, 1, {"type": "post"})
    assert head({"id": str(first.key), "sequence": 1}) == Head(1, first.key)
    assert isinstance(first.author, FeedRef)
    assert isinstance(first.key, MessageRef)
