from __future__ import annotations

import json
import tracemalloc
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sneaker.errors import InvalidMessage
from sneaker.feed.classic.compact import (
    AUTHOR_FIRST,
    KIND_BOX,
    KIND_BOX2,
    KIND_JSON,
    KIND_RAW,
    compact,
    expand,
    expand_run,
    kind_of,
)
from sneaker.feed.classic.javascript_json import format_json
from sneaker.feed.classic.validate import parse_message
from sneaker.feed.formats import CLASSIC_FORMAT
from sneaker.feed.message import Compact, Message
from sneaker.refs import FeedRef, MessageRef, encode_base64
from tests.feed.forge import Pairs, any_content, forge_many, seeded, sign, spell
from tests.feed.test_canonical import JSON
from tests.feed.vectors import judge, load
from tests.tries import amount, tries

AUTHOR = seeded(3)
KEY = MessageRef(bytes(range(32)))
SIGNATURE = bytes(range(64))


def make(content: Any, *, timestamp: Any = 1_600_000_000_000, author_first: bool = False, sequence: int = 2) -> Message:
    """Return a signed message with any content, without the rules for publishing."""
    rng = Random(1)
    head = [("sequence", sequence), ("author", str(AUTHOR.public))]
    pairs = Pairs(
        [
            ("previous", str(KEY) if sequence > 1 else None),
            *(head[::-1] if author_first else head),
            ("timestamp", timestamp),
            ("hash", "sha256"),
            ("content", content),
        ]
    )
    pairs.append(("signature", sign(pairs, AUTHOR, None, rng)))
    return parse_message(spell(pairs, rng))


def again(message: Message) -> Compact:
    """Check that a message comes back whole, in both ways; return its compact form."""
    small = compact(message)
    assert expand(message.author, message.sequence, message.previous, small) == message
    assert expand_run(message.author, message.sequence, message.previous, [small]) == [message]
    return small


@pytest.mark.parametrize("author_first", [False, True])
@pytest.mark.parametrize(
    ("content", "kind", "kept"),
    [
        ({"type": "post", "text": "héllo 🦀"}, KIND_JSON, '{"type":"post","text":"héllo 🦀"}'.encode()),
        ({"type": "post", "n": 1.5}, KIND_JSON, b'{"type":"post","n":1.5}'),
        ({"type": "post", "n": [1e21, 1e-7]}, KIND_JSON, None),
        ({"type": "post", "a": {}, "b": [], "c": [{}]}, KIND_JSON, None),
        ({"type": "post", "7": {"1": 2}, "a": "\ud800"}, KIND_JSON, None),
        ({"type": "post", "n": 2**70}, KIND_JSON, None),
        ("AAAA.box", KIND_BOX, b"\0\0\0"),
        ("AA==.box2", KIND_BOX2, b"\0"),
        (".box", KIND_BOX, b""),
        ("AAAA.box3", KIND_RAW, None),
        ("AAAA.box.box", KIND_RAW, None),
        ("AAAA.box🦀", KIND_RAW, None),
    ],
)
def test_kinds(content: Any, kind: int, kept: bytes | None, author_first: bool) -> None:
    message = make(content, author_first=author_first)
    small = again(message)
    assert kind_of(small.form) == kind
    if kind == KIND_RAW:
        assert small == Compact(KIND_RAW << 1, 0, b"", message.text)
    else:
        assert small.form == kind << 1 | (AUTHOR_FIRST if author_first else 0)
        assert (small.timestamp, small.signature) == (message.timestamp, message.signature)
        assert kept is None or small.content == kept


@pytest.mark.parametrize(
    ("timestamp", "raw"),
    [(0, False), (-5, False), (2**53 - 1, False), (2**53, True), (1.5, True), (1e21, True), ("x", True), (None, True)],
)
def test_odd_timestamps_are_kept_raw(timestamp: Any, raw: bool) -> None:
    assert (kind_of(again(make({"type": "post"}, timestamp=timestamp)).form) == KIND_RAW) == raw


def test_vectors_come_back() -> None:
    messages = [parse_message(case["text"]) for case in load("feed.json")["messages"]]
    messages += [parse_message(case["text"]) for case in load("go-ssb-legacy-dev.jsonl")]
    for case in load("messages.json")["cases"]:
        result = judge(case["raw"], case["state"], case["hmacKey"])
        if isinstance(result, Message):
            messages.append(result)
    for message in messages:
        again(message)


def test_whole_feeds_in_one_run() -> None:
    for name in ("feed.json", "go-ssb-legacy-dev.jsonl"):
        cases = load(name)
        messages = [parse_message(case["text"]) for case in (cases["messages"] if name == "feed.json" else cases)]
        smalls = [compact(message) for message in messages]
        author = messages[0].author
        assert expand_run(author, 1, None, smalls) == messages
        assert expand_run(author, 5, messages[3].key, smalls[4:]) == messages[4:]
        assert expand_run(author, 1, None, smalls[:1]) == messages[:1]
        assert expand_run(author, 1, None, []) == []
        assert expand_run(author, 9, KEY, []) == []


def test_a_run_ends_before_the_first_invalid_one() -> None:
    messages = [parse_message(case["text"]) for case in load("go-ssb-legacy-dev.jsonl")[:10]]
    smalls = [compact(message) for message in messages]
    author = messages[0].author
    for broken in (
        smalls[5]._replace(content=b"{"),
        smalls[5]._replace(content=b"[]"),
        smalls[5]._replace(content=b'{"type":"ab"}'),
        smalls[5]._replace(content=b'{"type":["abc"]}'),
        smalls[5]._replace(content=b'{"type":{"a":"abc"}}'),
        smalls[5]._replace(content=b'{"type":"abc","x":"' + b"x" * 8100 + b'"}'),
        smalls[5]._replace(signature=b""),
        smalls[5]._replace(timestamp=2**60),
        smalls[5]._replace(form=99),
        Compact(KIND_RAW << 1, 0, b"", b"{}"),
        Compact(KIND_RAW << 1, 0, b"", messages[6].text),
    ):
        run = [*smalls[:5], broken, *smalls[6:]]
        assert expand_run(author, 1, None, run) == messages[:5]
        assert expand_run(author, 4, messages[2].key, run[3:]) == messages[3:5]
        with pytest.raises(InvalidMessage):
            expand(author, 6, messages[4].key, broken)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"signature": b"x" * 63}, "compact-invalid"),
        ({"timestamp": 2**53}, "compact-invalid"),
        ({"timestamp": -(2**53)}, "compact-invalid"),
        ({"form": 3 << 1}, "compact-invalid"),
        ({"form": KIND_RAW << 1 | 1}, "compact-invalid"),
        ({"form": 16}, "compact-invalid"),
        ({"form": -1}, "compact-invalid"),
        ({"form": 255}, "compact-invalid"),
        ({"content": b"x" * 30_000}, "compact-invalid"),
        ({"content": b""}, "json-invalid"),
        ({"content": b"\xff"}, "json-invalid"),
        ({"content": b'{"type":"abc"}x'}, "json-invalid"),
        ({"content": b'{"type":"abc"},{"type":"abc"}'}, "json-invalid"),
        ({"content": b'"AAAA.box"'}, "content-invalid"),
        ({"content": b"null"}, "content-invalid"),
        ({"content": b"1.0"}, "content-invalid"),
        ({"content": b"[1.0]"}, "content-invalid"),
        ({"content": b"{}"}, "content-type"),
        ({"content": b'{"type":"ab"}'}, "content-type"),
        ({"content": b'{"type":"' + b"x" * 53 + b'"}'}, "content-type"),
        ({"content": ('{"type":"' + "🦀" * 27 + '"}').encode()}, "content-type"),
        ({"content": '{"type":"🦀"}'.encode()}, "content-type"),
        ({"content": b'{"type":1.0}'}, "content-type"),
        ({"content": b'{"type":["abc"]}'}, "content-type"),
        ({"content": b'{"type":"abc","x":"' + b"x" * 8000 + b'"}'}, "too-long"),
        ({"content": ('{"type":"abc","x":"' + "é" * 8000 + '"}').encode()}, "too-long"),
        ({"content": b'{"type":"abc","x":' + b"[" * 200 + b"1.5" + b"]" * 200 + b"}"}, "too-long"),
        ({"content": b'{"type":"abc","x":' + b"[" * 5000 + b"]" * 5000 + b"}"}, "too-long"),
        ({"form": KIND_BOX << 1, "content": b"x" * 6000}, "too-long"),
    ],
)
def test_what_is_refused(change: dict[str, Any], reason: str) -> None:
    small = Compact(0, 1, SIGNATURE, b'{"type":"post"}')._replace(**change)
    with pytest.raises(InvalidMessage) as caught:
        expand(AUTHOR.public, 2, KEY, small)
    assert caught.value.reason == reason
    assert expand_run(AUTHOR.public, 2, KEY, [small]) == []


@pytest.mark.parametrize(
    ("sequence", "previous", "reason"),
    [
        (0, None, "sequence-invalid"),
        (2**31, KEY, "sequence-invalid"),
        (1, KEY, "previous-invalid"),
        (2, None, "previous-invalid"),
    ],
)
def test_impossible_places(sequence: int, previous: MessageRef | None, reason: str) -> None:
    small = Compact(0, 1, SIGNATURE, b'{"type":"post"}')
    with pytest.raises(InvalidMessage) as caught:
        expand(AUTHOR.public, sequence, previous, small)
    assert caught.value.reason == reason
    assert expand_run(AUTHOR.public, sequence, previous, [small]) == []
    assert expand_run(AUTHOR.public, 2**31 - 1, KEY, [small, small])[1:] == []


def test_raw_ones_belong_to_their_place() -> None:
    message = make("AAAA.box3")
    raw = compact(message)
    assert expand(AUTHOR.public, 2, KEY, raw) == message
    for author, sequence, previous in [
        (FeedRef.classic(bytes(32)), 2, KEY),
        (AUTHOR.public, 3, KEY),
        (AUTHOR.public, 2, MessageRef(bytes(32))),
        (AUTHOR.public, 2, None),
    ]:
        with pytest.raises(InvalidMessage) as caught:
            expand(author, sequence, previous, raw)
        assert caught.value.reason == "compact-invalid"
    spelled = raw._replace(content=raw.content + b"\n")
    with pytest.raises(InvalidMessage):
        expand(AUTHOR.public, 2, KEY, spelled)


@pytest.mark.parametrize(
    ("content", "canonical"),
    [
        (b'{"type":"abc","n":1.0}', '{"type":"abc","n":1}'),
        (b'{"type":"abc","n":[1.0]}', '{"type":"abc","n":[1]}'),
        (b'{"type":"abc","n":[{},"x",1e1]}', '{"type":"abc","n":[{},"x",10]}'),
        (b'{"type":"abc","1":0}', '{"1":0,"type":"abc"}'),
        (b'{"type":"ab","type":"abc"}', '{"type":"abc"}'),
        (b' {"type" : "abc"}\n', '{"type":"abc"}'),
        (b'{"type":"\\u0061bc"}', '{"type":"abc"}'),
        (b'{"type":"abc","n":1e999}', '{"type":"abc","n":null}'),
    ],
)
def test_any_spelling_gives_the_canonical_message(content: bytes, canonical: str) -> None:
    """A carrier that spells content otherwise cannot make another message of it."""
    one = expand(AUTHOR.public, 2, KEY, Compact(0, 1, SIGNATURE, content))
    two = expand(AUTHOR.public, 2, KEY, Compact(0, 1, SIGNATURE, canonical.encode()))
    assert one == two
    assert expand_run(AUTHOR.public, 2, KEY, [Compact(0, 1, SIGNATURE, content)]) == [two]
    assert parse_message(one.text) == one


@tries(500)
@given(JSON, st.booleans())
@example({"a": [1.0]}, False)
def test_any_content_comes_back(value: Any, author_first: bool) -> None:
    try:
        message = make({"type": "post", "value": value}, author_first=author_first)
    except InvalidMessage as error:
        assert error.reason == "too-long"  # noqa: PT017
        return
    again(message)
    # However the bundle spelled it, what comes out is canonical and valid.
    for spelling in (json.dumps(message.content), format_json(message.content), format_json(message.content, indent=0)):
        small = Compact(int(author_first), message.timestamp, message.signature, spelling.encode())
        assert expand(message.author, 2, KEY, small) == message
        assert expand_run(message.author, 2, KEY, [small, small])[0] == message


@tries(500)
@given(
    st.integers(0, 20),
    st.integers(-(2**63), 2**63 - 1),
    st.one_of(st.just(SIGNATURE), st.binary(max_size=70)),
    st.one_of(
        st.binary(max_size=100),
        st.text(st.sampled_from('{}[]",:\\u019.-etypabc \n'), max_size=40).map(
            lambda text: f'{{"type":"abc","x":{text}}}'.encode()
        ),
        JSON.map(lambda value: json.dumps({"type": "abc", "x": value}).encode()),
    ),
)
def test_any_compact_gives_a_valid_message_or_our_error(
    form: int, timestamp: int, signature: bytes, content: bytes
) -> None:
    small = Compact(form, timestamp, signature, content)
    try:
        message = expand(AUTHOR.public, 2, KEY, small)
    except InvalidMessage:
        assert expand_run(AUTHOR.public, 2, KEY, [small]) == []
    else:
        assert parse_message(message.text) == message
        assert expand_run(AUTHOR.public, 2, KEY, [small]) == [message]


def test_mixed_runs_of_forged_messages() -> None:
    """A run of everything: expand_run gives what expand gives, message by message."""
    rng = Random(5)
    for _ in range(60):
        smalls = []
        for _ in range(rng.randrange(1, 12)):
            try:
                message = make(any_content(rng), author_first=rng.random() < 0.5, timestamp=rng.choice([1, 1, 1, 1.5]))
            except InvalidMessage:
                continue
            small = compact(message)
            smalls.append(small if kind_of(small.form) != KIND_RAW else Compact(0, 5, SIGNATURE, b'{"type":"abc"}'))
        sequence, previous = (1, None) if rng.random() < 0.5 else (7, KEY)
        expected, key = [], previous
        for place, small in enumerate(smalls):
            message = expand(AUTHOR.public, sequence + place, key, small)
            expected.append(message)
            key = message.key
        assert expand_run(AUTHOR.public, sequence, previous, smalls) == expected
        for message in expected:
            assert parse_message(message.text) == message


def test_valid_forged_messages_come_back() -> None:
    found, count = 0, amount(quick=300, thorough=1500)
    for case in forge_many(99, count):
        result = judge(case.raw, case.state, None if case.hmac_key is None else encode_base64(case.hmac_key))
        if isinstance(result, Message):
            again(result)
            found += 1
    assert found > count / 5


def test_signature_is_checked_over_what_was_expanded() -> None:
    message = make({"type": "post"})
    small = compact(message)
    assert CLASSIC_FORMAT.is_signed(expand(AUTHOR.public, 2, KEY, small), None)
    moved = expand(AUTHOR.public, 3, KEY, small)
    assert not CLASSIC_FORMAT.is_signed(moved, None)
    assert orjson.loads(moved.text)["sequence"] == 3


def test_a_run_of_deeply_nested_contents_takes_little_memory() -> None:
    """Indentation makes 24 KiB of brackets six megabytes; a thousand of those must not be in memory together."""
    nest = b'{"type":"abc","x":' + b"[" * 240 + b"1," * 11_000 + b"1" + b"]" * 240 + b"}"
    run = [Compact(0, 1, SIGNATURE, nest)] * 200
    tracemalloc.start()
    try:
        assert expand_run(AUTHOR.public, 2, KEY, run) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 150 * 2**20
