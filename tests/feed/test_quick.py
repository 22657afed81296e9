"""The quick way reads what the careful one reads, or nothing."""

from __future__ import annotations

import io
import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sneaker.errors import InvalidMessage
from sneaker.feed.compact import compact
from sneaker.feed.message import Message
from sneaker.feed.quick import quick_message, quick_place
from sneaker.feed.validate import parse_message
from sneaker.limits import MAX_MESSAGE_UNITS

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


def test_what_is_too_large_to_be_a_message_is_not_looked_at() -> None:
    nested = b"[" * 200 + b"0," * 100_000 + b"0" + b"]" * 200
    raw = (
        json.dumps(BASE).encode().replace(json.dumps(BASE["content"]).encode(), b'{"type":"post","a":' + nested + b"}")
    )
    assert quick_place(raw) is not None
    assert quick_message(raw) is None
