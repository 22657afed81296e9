"""The quick way reads what the careful one reads, or nothing."""

from __future__ import annotations

import io
import json
import re
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sneaker.errors import InvalidMessage
from sneaker.feed.classic.compact import compact
from sneaker.feed.classic.quick_parse import quick_message, quick_place
from sneaker.feed.classic.validate import parse_message
from sneaker.feed.message import Message
from sneaker.limits import MAX_MESSAGE_UNITS
from tests.tries import tries

SMALL = Path(__file__).parent.parent / "data/fixtures/small.ndjson.zst"


def values() -> list[bytes]:
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(SMALL.read_bytes())) as reader:
        lines = reader.read().splitlines()
    return [line.split(b'"value":', 1)[1].rsplit(b',"timestamp"', 1)[0] for line in lines]


def agree(raw: bytes) -> bool:
    """Check that both ways read the same; returns whether the quick one read anything."""
    quick = quick_message(raw)
    if quick is None:
        return False
    message = parse_message(raw)
    assert quick == (message, compact(message))
    assert type(quick[0]) is Message
    assert [type(part) for part in quick[0]] == [type(part) for part in message]
    assert quick_place(raw) == (message.author, message.sequence)
    return True


def test_it_agrees_with_the_parser() -> None:
    seen = 0
    for raw in values():
        text = parse_message(raw).text
        for spelling in (
            raw,
            text,
            raw + b"\n",
            json.dumps(json.loads(raw), ensure_ascii=False).encode("utf-8", "replace"),
            json.dumps(json.loads(raw), indent="\t").encode(),
        ):
            seen += agree(spelling)
    assert seen > 4500, seen
    assert agree(json.dumps(BASE).encode())


# The author need not have signed it: that is not what either of the two looks at.
BASE: dict[str, Any] = next(value for value in map(json.loads, values()) if value["sequence"] > 1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6) | st.sampled_from(["0", "7", "01"]), inner)
    ),
    max_leaves=12,
)
CONTENTS = st.one_of(
    JSON,
    st.dictionaries(st.text(max_size=6), JSON).map(lambda value: {"type": "post", **value}),
    st.text(max_size=60).map(lambda text: {"type": text}),
    st.integers(MAX_MESSAGE_UNITS - 1200, MAX_MESSAGE_UNITS).map(lambda n: {"type": "post", "text": "x" * n}),
    st.binary(max_size=40).map(lambda data: b64encode(data).decode() + ".box"),
    st.text("AQg=.box2", max_size=12),
)


@given(CONTENTS, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_whatever_the_content_it_agrees_with_the_parser(content: object, ascii_only: bool, indent: Any) -> None:
    raw = json.dumps({**BASE, "content": content}, ensure_ascii=ascii_only, indent=indent)
    encoded = raw.encode("utf-8", "surrogatepass")
    try:
        parse_message(encoded)
    except InvalidMessage:
        assert quick_message(encoded) is None
        return
    agree(encoded)


@given(st.sampled_from(values()), st.data())
def test_damage_is_seen(raw: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(raw) - 1))
    spoiled = raw[:at] + data.draw(st.binary(max_size=4)) + raw[at + data.draw(st.integers(0, 4)) :]
    try:
        parse_message(spoiled)
    except InvalidMessage:
        assert quick_message(spoiled) is None
        return
    agree(spoiled)


FIELDS = [(key, json.dumps(value)) for key, value in BASE.items()]
SPACES = st.sampled_from(["", " ", "\n  ", "\t", "\r\n"])
ODD_SPACES = st.sampled_from(["\x0b", "\x0c", "\xa0", "\u2028", "\ufeff", "\x85", "\x1f", "/**/", "\0"])
ODD_VALUES = st.sampled_from(
    ["1", "2", "02", "2.0", "2e0", "-2", "0", "1000000000", "2147483648", "null", "true", '""', "{}", "[]", '"sha256"']
    + [json.dumps(BASE[key]) for key in ("author", "previous", "signature", "hash")]
    + [json.dumps([BASE["previous"]]), '{"type":"post","type":"vote"}', '"AAAA.box"', '".box"', '{"type":"post"} , 1']
)


@st.composite
def spellings(draw: st.DrawFn) -> bytes:
    """A message as somebody may spell it: mostly in order, with one field or two out of it."""
    fields = list(FIELDS)
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2]))):
        at = draw(st.integers(0, len(fields) - 1))
        key, value = fields[at]
        change = draw(st.sampled_from(["value", "again", "again", "away", "swap", "key"]))
        if change == "value":
            fields[at] = key, draw(ODD_VALUES)
        elif change == "again":
            fields.insert(draw(st.integers(0, len(fields))), (key, draw(ODD_VALUES | st.just(value))))
        elif change == "away" and len(fields) > 1:
            del fields[at]
        elif change == "swap":
            other = draw(st.integers(0, len(fields) - 1))
            fields[at], fields[other] = fields[other], fields[at]
        elif change == "key":
            fields[at] = draw(st.sampled_from(["x", "", "sequence", "__proto__"])), value
    odd = draw(st.integers(-40, 4 * len(fields)))
    place = 0

    def space() -> str:
        nonlocal place
        place += 1
        return draw(ODD_SPACES) if place == odd else draw(SPACES)

    members = [
        f"{space()}{json.dumps(key)}{draw(st.sampled_from(['', '', ' ']))}:{space()}{value}" for key, value in fields
    ]
    return (
        draw(st.sampled_from(["", "", "", " "])) + "{" + f"{space()},".join(members) + space() + "}" + space()
    ).encode()


@tries(1500)
@given(spellings())
def test_however_it_is_spelled_it_agrees_with_the_parser(raw: bytes) -> None:
    quick = quick_message(raw)
    try:
        message = parse_message(raw)
    except InvalidMessage:
        assert quick is None
        return
    assert quick is None or quick == (message, compact(message))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: re.sub(r'"sequence": \d+', '"sequence": 1', text), id="first-with-previous"),
        pytest.param(lambda text: text.replace('"hash": ', '"hash":\x0b'), id="vertical-tab"),
        pytest.param(lambda text: text.replace('"hash": ', '"hash":\x0c'), id="form-feed"),
        pytest.param(lambda text: text[:-1] + "\x0c}", id="form-feed-at-the-end"),
        pytest.param(lambda text: text.replace(', "signature"', ', "sequence": 7, "signature"'), id="sequence-again"),
    ],
)
def test_what_the_parser_refuses_is_not_read_quickly(change: Callable[[str], str]) -> None:
    text = json.dumps(BASE)
    assert agree(text.encode())
    assert change(text) != text
    assert quick_message(change(text).encode()) is None


def test_what_is_too_large_to_be_a_message_is_not_looked_at() -> None:
    nested = b"[" * 200 + b"0," * 100_000 + b"0" + b"]" * 200
    raw = (
        json.dumps(BASE).encode().replace(json.dumps(BASE["content"]).encode(), b'{"type":"post","a":' + nested + b"}")
    )
    assert quick_place(raw) is not None
    assert quick_message(raw) is None
