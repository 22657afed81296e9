"""The quick look sees what the careful one sees, or nothing."""

from __future__ import annotations

import io
import json
from pathlib import Path

import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sneaker.errors import InvalidMessage
from sneaker.feed.compact import compact, expand
from sneaker.feed.quick import quick_look, quick_place
from sneaker.feed.validate import parse_message

SMALL = Path(__file__).parent.parent / "data/fixtures/small.ndjson.zst"


def values() -> list[bytes]:
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(SMALL.read_bytes())) as reader:
        lines = reader.read().splitlines()
    return [line.split(b'"value":', 1)[1].rsplit(b',"timestamp"', 1)[0] for line in lines]


def test_it_agrees_with_the_parser() -> None:
    seen = 0
    for raw in values():
        message = parse_message(raw)
        for spelling in (
            raw,
            message.text,
            raw + b"\n",
            json.dumps(json.loads(raw), ensure_ascii=False).encode("utf-8", "replace"),
        ):
            quick = quick_look(spelling)
            if quick is None or (spelling is not raw and parse_message(spelling) != message):
                continue
            seen += 1
            assert quick == (message.author, message.sequence, message.previous, compact(message))
            assert quick_place(spelling) == (message.author, message.sequence)
            assert expand(*quick) == message
    assert seen > 4000


@given(st.sampled_from(values()), st.data())
def test_damage_is_seen_or_harmless(raw: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(raw) - 1))
    spoiled = raw[:at] + data.draw(st.binary(max_size=4)) + raw[at + data.draw(st.integers(0, 4)) :]
    quick = quick_look(spoiled)
    if quick is not None:
        try:
            expand(*quick)
        except InvalidMessage:
            pass
