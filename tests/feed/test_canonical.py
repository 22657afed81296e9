from __future__ import annotations

import hashlib
import json
import math
import struct
import time
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sneaker.errors import InvalidMessage
from sneaker.feed.classic import canonical
from sneaker.feed.classic.canonical import parse_canonical
from sneaker.feed.classic.javascript_json import format_json, parse_json, utf16_units
from sneaker.feed.classic.javascript_numbers import format_number
from tests.feed.vectors import load
from tests.tries import amount, tries

pytestmark = pytest.mark.timeout(300)

VECTORS = load("canonical-json.json")
CASES = [*VECTORS["cases"], *({"name": f"random {n}", **case} for n, case in enumerate(VECTORS["random"]))]


def canonical_text(raw: bytes | str) -> bytes:
    return parse_canonical(raw)[1]


def exact(raw: bytes | str) -> str:
    return format_json(parse_json(raw))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_vectors(case: dict[str, Any]) -> None:
    raw, expected = case["raw"], case["canonical"]
    assert exact(raw) == expected
    text = canonical_text(raw)
    assert text.decode() == expected
    assert canonical_text(raw.encode("utf-8")) == text
    assert utf16_units(expected) == case["length"]
    assert hashlib.sha256(text).hexdigest() == case["utf8"]
    assert hashlib.sha256(expected.encode("utf-16-le")[::2]).hexdigest() == case["latin1"]
    assert canonical_text(text) == text


def test_double_vectors() -> None:
    for bits, expected in VECTORS["doubles"]:
        (number,) = struct.unpack(">d", bytes.fromhex(bits))
        assert format_number(number) == expected
        assert canonical_text(f'{{"n":{number!r}}}').decode() == f'{{\n  "n": {expected}\n}}'


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (-1.5, "-1.5"),
        (100.0, "100"),
        (1e20, "100000000000000000000"),
        (1.5e20, "150000000000000000000"),
        (123456789012345680000.0, "123456789012345680000"),
        (1e21, "1e+21"),
        (-1.25e21, "-1.25e+21"),
        (1e-6, "0.000001"),
        (1.5e-6, "0.0000015"),
        (1e-7, "1e-7"),
        (1.5e-7, "1.5e-7"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (2.0**53, "9007199254740992"),
        (math.inf, "null"),
        (-math.inf, "null"),
        (math.nan, "null"),
    ],
)
def test_numbers_are_spelled_as_ecmascript_does(number: float, expected: str) -> None:
    assert format_number(number) == expected


# ---- what JSON.parse refuses

REFUSED = [
    "",
    " ",
    "{",
    "[",
    '{"a"',
    '{"a":',
    '{"a":1',
    '{"a":1,',
    '{"a":1,}',
    '{"a" 1}',
    "{a:1}",
    "{'a':1}",
    '{1:"a"}',
    "{,}",
    "[1,]",
    "[,1]",
    "[1 2]",
    "[1}",
    '{"a":1]',
    "[1]]",
    "1 2",
    "01",
    "-01",
    "00",
    "-",
    "+1",
    ".5",
    "1.",
    "1.e5",
    "1e",
    "1e+",
    "0x10",
    "1_000",
    "1n",
    "NaN",
    "Infinity",
    "-Infinity",
    "undefined",
    "nul",
    "nullx",
    "True",
    "tru",
    '"',
    '"a',
    '"\\',
    '"\\"',
    '"\\u12"',
    '"\\u12g4"',
    '"\\u 123"',
    '"\\x41"',
    '"\\a"',
    '"\\\n"',
    '"\n"',
    '"\t"',
    '"\x00"',
    '"\x1f"',
    "'a'",
    "\ufeff{}",
    "{}\ufeff",
    "\u00a0{}",
    "\u2028{}",
    "\x0b{}",
    "\x0c{}",
    "{}\x00",
    "// x\n{}",
    "/**/{}",
    "{}#",
    '{"a":1}{"b":2}',
    "\uff11",
    "\u0661",
    "1\u0662",
]


@pytest.mark.parametrize("raw", REFUSED)
def test_what_json_parse_refuses_is_refused(raw: str) -> None:
    for spelled in (raw, raw.encode("utf-8")):
        for read in (parse_json, canonical_text, parse_canonical):
            with pytest.raises(InvalidMessage) as caught:
                read(spelled)
            assert caught.value.reason == "json-invalid"


@pytest.mark.parametrize(
    "raw",
    [
        b'"\xff"',
        b'"\xc3"',
        b'"\xed\xa0\x80"',
        b'"\xc0\x80"',
        b'"\xf4\x90\x80\x80"',
        b"\xff\xfe{\x00}\x00",
        b'{"\x80":1}',
    ],
)
def test_bytes_that_are_not_utf8_are_refused(raw: bytes) -> None:
    for read in (parse_json, canonical_text):
        with pytest.raises(InvalidMessage) as caught:
            read(raw)
        assert caught.value.reason == "json-invalid"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ('{"n":1E400}', '{\n  "n": null\n}'),
        ('{"n":-1e999999999999999999999}', '{\n  "n": null\n}'),
        ('{"n":1e-999999999999999999999}', '{\n  "n": 0\n}'),
        ('{"n":[1.5,"x",{}]}', '{\n  "n": [\n    1.5,\n    "x",\n    {}\n  ]\n}'),
        ('{"n":["x",1.0]}', '{\n  "n": [\n    "x",\n    1\n  ]\n}'),
        ('{"n":[{"a":1},1.0]}', '{\n  "n": [\n    {\n      "a": 1\n    },\n    1\n  ]\n}'),
        ('{"n":[{"a":1},"x",1.0]}', '{\n  "n": [\n    {\n      "a": 1\n    },\n    "x",\n    1\n  ]\n}'),
        ('{"n":[{},[1.0]]}', '{\n  "n": [\n    {},\n    [\n      1\n    ]\n  ]\n}'),
        ('{"n":[null,1.0]}', '{\n  "n": [\n    null,\n    1\n  ]\n}'),
        ('{"n":[[],1e1]}', '{\n  "n": [\n    [],\n    10\n  ]\n}'),
        ('{"n":["]",1e1]}', '{\n  "n": [\n    "]",\n    10\n  ]\n}'),
        ('{"n":["\\"",1e1]}', '{\n  "n": [\n    "\\"",\n    10\n  ]\n}'),
        ('{"n":0.000001}', '{\n  "n": 0.000001\n}'),
        ('{"n":12345678901234567.5}', '{\n  "n": 12345678901234568\n}'),
        ('{"x9":1,"2":2}', '{\n  "2": 2,\n  "x9": 1\n}'),
        ('{"a":"\\ud83d","b":"\\ude80"}', '{\n  "a": "\\ud83d",\n  "b": "\\ude80"\n}'),
        ('{"a":"\ud83d\\ude80"}', '{\n  "a": "\U0001f680"\n}'),
        ('{"a":"\ud83d\ude80"}', '{\n  "a": "\U0001f680"\n}'),
        ('{"\\ud800":"\\uDFFF"}', '{\n  "\\ud800": "\\udfff"\n}'),
        ('{"__proto__":{"__proto__":1}}', '{\n  "__proto__": {\n    "__proto__": 1\n  }\n}'),
    ],
)
def test_corners(raw: str, expected: str) -> None:
    assert canonical_text(raw).decode() == expected
    assert exact(raw) == expected


def test_a_value_is_that_of_its_canonical_text() -> None:
    for raw in ('{"a":1e400}', '{"a":1.0}', '{"b":1,"0":2}', '{"a":9007199254740993}', '{"a":[-0]}'):
        value, text = parse_canonical(raw)
        assert repr(value) == repr(parse_json(text))


# ---- nothing a sender can do makes it slow, large or deep


# A tenth of how long hostile texts are.
LONG = amount(quick=25_000, thorough=100_000)


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 10 * LONG,
        b"[" * 5 * LONG + b"]" * 5 * LONG,
        b'{"a":' * 2 * LONG + b"1" + b"}" * 2 * LONG,
        b"[" * 900 + b"1," * LONG + b"1" + b"]" * 900,
        b'{"a":' + b"9" * 10 * LONG + b"}",
        b'{"a":0.' + b"0" * 10 * LONG + b"1}",
        b'{"a":1' + b"0" * 5 * LONG + b"e-%d}" % (5 * LONG),
        b'{"a":1e' + b"9" * 10 * LONG + b"}",
        b'{"a":"' + b"\\ud800" * 2 * LONG + b'"}',
        b'{"a":"' + b'\\"' * 5 * LONG + b'"',
        b" " * 10 * LONG,
        b'{"a":1,' * LONG,
        b"{" + b",".join(b'"%d":0' % n for n in range(LONG, 0, -1)) + b"}",
    ],
    ids=lambda raw: repr(raw[:12]),
)
def test_hostile_texts_take_linear_time(raw: bytes) -> None:
    started = time.process_time()
    try:
        value, text = parse_canonical(raw, limit=8192)
    except InvalidMessage as error:
        assert error.reason in ("json-invalid", "too-long")  # noqa: PT017
    else:
        assert parse_json(text) == value
    assert time.process_time() - started < LONG / 10_000


def test_depth_is_no_matter_where_v8_drops_it() -> None:
    deep = "[" * 50_000 + "]" * 50_000
    assert canonical_text(f'{{"a":{deep},"a":1}}') == b'{\n  "a": 1\n}'


def test_long_numbers_are_rounded_right() -> None:
    half = 2**53 + 1  # halfway between two doubles: goes to the even one, unless anything follows
    assert canonical_text(f'{{"n":{half}.{"0" * 5000}}}') == b'{\n  "n": 9007199254740992\n}'
    assert canonical_text(f'{{"n":{half}.{"0" * 5000}1}}') == b'{\n  "n": 9007199254740994\n}'
    assert canonical_text(f'{{"n":-{"0." + "0" * 3000}5e3000}}') == b'{\n  "n": -0.5\n}'
    assert canonical_text(f'{{"n":{"7" * 2000}e-2000}}') == b'{\n  "n": 0.7777777777777778\n}'


# ---- the fast path says what the exact one says

INTERESTING_KEYS = st.one_of(
    st.text(max_size=8),
    st.integers(0, 2**33).map(str),
    st.sampled_from(
        ["__proto__", "", "0", "01", "-1", "1.0", "4294967294", "4294967295", "a1", "type", "é1", "toJSON"]
    ),
)
NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**70), 2**70),
    st.integers(-1000, 1000).map(float),
    st.floats(-1e-4, 1e-4),
    st.floats(1e14, 1e23),
    st.integers(0, 2**53).map(lambda n: n / 1000),
)
TEXTS = st.one_of(
    st.text(),
    st.text(st.sampled_from('"\\\n\t/:,{}[]01.e \x00\x1f\x7f\u2028é😀')),
    st.sampled_from(["x]", '": 1.5', "[\n", "},\n", '"1": ', "a,\n 1.0"]),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda children: st.one_of(st.lists(children, max_size=5), st.dictionaries(INTERESTING_KEYS, children, max_size=5)),
    max_leaves=30,
)


@tries(1000)
@given(JSON)
@example({"a": [1.0]})
@example({"a": [{"b": 1}, "x", 1.0]})
@example({"a": ["x", 1.0]})
@example({"a": [True, 1.0]})
@example({"1": 1.0})
def test_fast_path_and_exact_path_agree(value: Any) -> None:
    raw = json.dumps({"content": value})
    expected = exact(raw)
    assert canonical_text(raw).decode() == expected
    assert canonical_text(json.dumps({"content": value}, ensure_ascii=False, indent=1)).decode() == expected
    assert canonical_text(expected).decode() == expected
    # The searches may say "suspect" for nothing, but never miss anything.
    try:
        printed = orjson.dumps(orjson.loads(raw), option=canonical._OPTIONS)
    except (ValueError, TypeError):
        return
    if printed.decode() != expected:
        assert canonical.is_suspect(printed)
        assert canonical.is_foreign(printed)
        assert canonical.has_suspects([b'{\n  "a": "b"\n}', printed])


@tries(500)
@given(JSON)
def test_the_compact_spelling_reads_back(value: Any) -> None:
    compact = format_json(value, indent=0)
    assert canonical_text(compact) == format_json(parse_json(json.dumps(value))).encode()
    assert format_json(parse_json(compact), indent=0) == compact


@tries(1000)
@given(st.one_of(st.floats(), NUMBERS.map(float)))
def test_number_spelling_reads_back_and_is_javascripts(number: float) -> None:
    text = format_number(number)
    if math.isfinite(number):
        assert float(text) == number
        digits = text.lstrip("-").partition("e")[0]
        assert not digits.endswith(".")
        assert "." not in digits or not digits.endswith("0")
        assert digits == "0" or not digits.startswith("0") or digits.startswith("0.")
        if "e" in text:
            assert not 1e-6 <= abs(number) < 1e21
    else:
        assert text == "null"


@tries(1000)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.text(st.sampled_from('{}[]",:\\u0123456789abdefntrl-+.E \n\t\x00é'), max_size=40).map(str.encode),
    )
)
def test_any_bytes_give_a_value_or_our_error(raw: bytes) -> None:
    # The standard library's parser agrees with V8's on what JSON is, once the constants are taken away from it.
    try:
        json.loads(raw.decode("utf-8"), parse_constant=_refuse)
    except ValueError:
        with pytest.raises(InvalidMessage) as caught:
            canonical_text(raw)
        assert caught.value.reason == "json-invalid"
    else:
        text = canonical_text(raw)
        assert canonical_text(text) == text
        assert exact(raw).encode() == text


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def test_foreign_values_are_type_errors() -> None:
    with pytest.raises(TypeError):
        format_json({"a": object()})
    with pytest.raises(TypeError):
        format_json({1: "a"})
    with pytest.raises(TypeError):
        format_json(b"bytes")


def test_limit_stops_the_printer() -> None:
    with pytest.raises(InvalidMessage) as caught:
        format_json(["x"] * 10_000, limit=100)
    assert caught.value.reason == "too-long"
    assert len(format_json(["x"] * 10, limit=200)) <= 200
