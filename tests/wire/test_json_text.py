from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sneaker.limits import MAX_JSON_DEPTH
from sneaker.wire.json_text import encode_json, members, parse_json, shown, whole_number
from tests.tries import amount, tries

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
    assert parts["x"] == b'[ 1 , {"a":"]"} ]'
    assert members(b"{}") == {}
    assert members(b'{"a":1,"a":2}') == {"a": b"2"}
    assert members(b'{"a":"\xff"}') == {"a": b'"\xff"'}


@pytest.mark.parametrize(
    "junk", [b"", b"{", b"[]", b'{"a"}', b'{"a":1', b'{"a":1,}', b"{1:2}", b'{"a":1}x', b'{"a":NaN}']
)
def test_what_is_no_object_is_refused(junk: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        members(junk)


BRACKETS_IN_TEXT = b'"' + b"[{" * 1000 + b'\\"\\\\"'


@pytest.mark.parametrize(("opener", "closer", "levels"), [(b"[", b"]", 1), (b'{"a":', b"}", 1), (b'[{"]":', b"}]", 2)])
@pytest.mark.parametrize("inside", [b"0", BRACKETS_IN_TEXT])
def test_nothing_deep_gets_in(opener: bytes, closer: bytes, levels: int, inside: bytes) -> None:
    most = MAX_JSON_DEPTH // levels
    assert parse_json(opener * most + inside + closer * most) is not None
    for depth in (most + 1, 200, 250, 1020, 1030, 5000, 200_000):
        for text in (opener * depth + inside + closer * depth, opener * depth):
            with pytest.raises(ValueError, match=r"."):
                parse_json(text)
            with pytest.raises(ValueError, match=r"."):
                members(b'{"value":' + text + b"}")


def test_what_is_wide_is_not_deep() -> None:
    count = amount(quick=10_000, thorough=50_000)
    wide = b"[" + b",".join([b'{"a":[[]]}'] * count) + b"]"
    assert len(parse_json(wide)) == count
    assert members(b'{"a":' + wide + b"}") == {"a": wide}


def test_numbers_are_those_that_can_be_printed() -> None:
    assert parse_json(b'{"\\ud800":1e400}') == {"\ud800": None}  # as JSON.stringify prints it
    assert parse_json(b"[-1e400,1e-400,1e308]") == [None, 0.0, 1e308]
    assert parse_json(b'["\\ud800",18446744073709551615,18446744073709551616,-9223372036854775809]') == [
        "\ud800",
        2**64 - 1,
        2.0**64,
        -(2.0**63),
    ]
    assert parse_json(b'["\\ud800",' + b"9" * 900 + b"]") == ["\ud800", None]
    for text in (b"9" * 5000, b"0." + b"1" * 5000):
        with pytest.raises(ValueError, match=r"."):
            parse_json(b'["\\ud800",' + text + b"]")


def test_integers_as_javascript_takes_them() -> None:
    assert [whole_number(value) for value in (3, 3.0, -0.0, 2**60)] == [3, 3, 0, 2**60]
    assert [whole_number(value) for value in (None, True, 1.5, "3", [], float("inf"), float("nan"))] == [None] * 7


def test_of_a_value_only_text_is_shown() -> None:
    assert shown("x" * 500) == "x" * 100
    assert shown("x" * 500, 20) == "x" * 20
    values = [None, True, False, 1, 1e300, 10**5000, [[["x"]]], {"x": 1}]
    assert [shown(value) for value in values] == [
        "null",
        "true",
        "false",
        "a number",
        "a number",
        "a number",
        "a list",
        "an object",
    ]


def test_encoding_is_compact() -> None:
    assert encode_json({"a": [1, "é", None]}) == '{"a":[1,"é",null]}'.encode()
    assert encode_json("\ud800") == b'"\\ud800"'


@tries(200)
@given(st.lists(JSON, max_size=5), st.dictionaries(st.text(), JSON, max_size=5))
def test_pieces_mean_what_the_whole_means(array: list[object], mapping: dict[str, object]) -> None:
    for dump in (encode_json, lambda value: json.dumps(value, indent=1).encode()):
        assert parse_json(dump(array)) == array
        assert {key: parse_json(piece) for key, piece in members(dump(mapping)).items()} == mapping


@tries(200)
@given(st.binary(max_size=60))
def test_any_bytes_give_a_value_or_a_value_error(data: bytes) -> None:
    for parse in (parse_json, members):
        try:
            parse(data)
        except ValueError:
            pass


JSON_TEXT = st.recursive(
    st.sampled_from(["1e400", "-1e999", "1e-999", "-0", "1.0", "9" * 30, "-" + "9" * 400, "9" * 4400, "null", "true"])
    | st.sampled_from(['"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"[[[["', '"\\\\"', '"\\""', '"\xe9"', '"\xff"']),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda parts: f"[{','.join(parts)}]")
        | st.lists(inner, max_size=3).map(
            lambda parts: "{" + ",".join(f'"\\ud8{i:02}":{p}' for i, p in enumerate(parts)) + "}"
        )
        | inner.map(lambda part: "[" * 60 + part + "]" * 60)
    ),
    max_leaves=10,
)


@tries(300)
@given(JSON_TEXT)
def test_whatever_is_parsed_can_be_printed(text: str) -> None:
    try:
        value = parse_json(text.encode("latin-1"))
    except ValueError:
        return
    printed = encode_json(value)
    assert encode_json(parse_json(printed)) == printed
    assert len(shown(value)) <= 100
