from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sneaker.wire.jsontext import elements, encode_json, members, parse_json

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_envelopes_of_all_kinds() -> None:
    assert parse_json(b'{"a":1}\n') == {"a": 1}  # Go
    assert parse_json(b'"\\ud800"') == "\ud800"  # a lone surrogate
    assert parse_json(b'"\xff"') == "\ufffd"  # as JavaScript reads it
    for junk in (b"", b"NaN", b"[1,]", b"{", b"[" * 100_000, b'"', b"-Infinity", b"1" * 5000, b"\xff\xfe"):
        with pytest.raises(ValueError, match=r"."):
            parse_json(junk)


def test_text_is_cut_out_exactly() -> None:
    raw = b' { "value" : {"n": 1.0, "s":"\\ud800 \\u00e9", "k":1,"k":2} ,"x":[ 1 , {"a":"]"} ],"value2":"\xc3\xa9"}\n'
    parts = members(raw)
    assert parts["value"] == b'{"n": 1.0, "s":"\\ud800 \\u00e9", "k":1,"k":2}'
    assert parts["value2"] == b'"\xc3\xa9"'
    assert elements(parts["x"]) == [b"1", b'{"a":"]"}']
    assert members(b"{}") == {}
    assert elements(b"[ ]") == []
    assert members(b'{"a":1,"a":2}') == {"a": b"2"}
    assert members(b'{"a":"\xff"}') == {"a": b'"\xff"'}


@pytest.mark.parametrize(
    "junk", [b"", b"{", b"[]", b'{"a"}', b'{"a":1', b'{"a":1,}', b"{1:2}", b'{"a":1}x', b'{"a":NaN}']
)
def test_what_is_no_object_is_refused(junk: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        members(junk)


def test_deep_nesting_is_an_error_and_no_crash() -> None:
    with pytest.raises(ValueError, match="deep"):
        elements(b"[" * 200_000)


def test_encoding_is_compact() -> None:
    assert encode_json({"a": [1, "é", None]}) == '{"a":[1,"é",null]}'.encode()
    assert encode_json("\ud800") == b'"\\ud800"'


@settings(max_examples=200, deadline=None)
@given(st.lists(JSON, max_size=5), st.dictionaries(st.text(), JSON, max_size=5))
def test_pieces_mean_what_the_whole_means(array: list[object], mapping: dict[str, object]) -> None:
    for dump in (encode_json, lambda value: json.dumps(value, indent=1).encode()):
        assert [parse_json(piece) for piece in elements(dump(array))] == array
        assert {key: parse_json(piece) for key, piece in members(dump(mapping)).items()} == mapping


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_give_a_value_or_a_value_error(data: bytes) -> None:
    for parse in (parse_json, members, elements):
        try:
            parse(data)
        except ValueError:
            pass
