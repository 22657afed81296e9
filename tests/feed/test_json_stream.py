"""JSON objects out of a stream: whatever stands between them, however it is cut, and whatever is broken in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sneaker.feed import json_stream as jsonstream
from sneaker.feed.json_stream import JsonObject, NotJson, looks_like_objects, read_objects
from tests.tries import amount, tries

LIMIT = 4096
MESSAGES: list[dict[str, Any]] = [
    {"key": "%a", "value": {"previous": None, "author": "@x", "content": {"text": 'a "q" {\n \u00fc \U0001f980'}}},
    {"sync": True},
    {"author": "@y", "list": [{}, [], {"key": [1, -2.5e3, None, False]}], "timestamp": 1.5},
]


def read(data: bytes, limit: int = LIMIT, size: int = 1 << 20) -> list[JsonObject | NotJson]:
    return list(read_objects([data[at : at + size] for at in range(0, len(data), size)], limit))


def objects(found: Sequence[JsonObject | NotJson]) -> list[Any]:
    return [item.value for item in found if isinstance(item, JsonObject)]


def broken(found: Sequence[JsonObject | NotJson]) -> list[NotJson]:
    return [item for item in found if isinstance(item, NotJson)]


def lines(*values: dict[str, Any]) -> list[bytes]:
    return [json.dumps(value).encode() for value in values]


PRINTED = {
    "one to a line": "\n".join(map(json.dumps, MESSAGES)) + "\n",
    "without a line end": "\n".join(map(json.dumps, MESSAGES)),
    "indented": "\n\n".join(json.dumps(message, indent=2) for message in MESSAGES) + "\n\n",
    "not indented": "\n".join(json.dumps(message, indent=0) for message in MESSAGES),
    "several on a line": " ".join(map(json.dumps, MESSAGES)),
    "nothing between them": "".join(map(json.dumps, MESSAGES)),
    "a list": json.dumps(MESSAGES),
    "an indented list": json.dumps(MESSAGES, indent=4),
    "commas at line ends": ",\n".join(map(json.dumps, MESSAGES)) + ",\r\n",
    "record separators": "".join(f"\x1e{json.dumps(message)}\n" for message in MESSAGES),
    "line ends of Windows": "\r\n".join(map(json.dumps, MESSAGES)) + "\r\n",
    "marks in front of each": "".join(f"\ufeff{json.dumps(message)}\n" for message in MESSAGES),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-be", "utf-32-be"])
@pytest.mark.parametrize("name", PRINTED)
@pytest.mark.parametrize("size", [1 << 20, 7, 1])
def test_whatever_stands_between_them(name: str, encoding: str, size: int) -> None:
    mark = "\ufeff" if encoding.endswith("-be") else ""
    data = (mark + PRINTED[name]).encode(encoding)
    assert looks_like_objects(data)
    found = read(data, size=size)
    assert objects(found) == MESSAGES
    assert not broken(found)


def test_half_a_character_in_utf16_stays() -> None:
    data = '{"text":"\ud83e"}'.encode("utf-16", "surrogatepass")
    assert objects(read(data)) == [{"text": "\ud83e"}]


A, B, C = lines(*({"key": name, "value": {"author": name, "content": {"text": "x", "list": [{}]}}} for name in "abc"))


@pytest.mark.parametrize("at", range(1, len(B)))
@pytest.mark.parametrize("glue", [b"\n", b""])
def test_a_torn_line_costs_itself(at: int, glue: bytes) -> None:
    """Wherever a line was cut, with a line end after it or not: as when a program died, and went on with the next message."""
    found = read(A + b"\n" + B[:at] + glue + C + b"\n" + A + b"\n")
    assert [value["key"] for value in objects(found) if "key" in value] == ["a", "c", "a"]
    (problem,) = broken(found)
    assert (problem.line, problem.is_torn) == (2, False)
    assert (B[:at] + glue + C + b"\n").startswith(problem.head)


@pytest.mark.parametrize("at", range(1, len(B)))
def test_a_torn_end_is_said(at: int) -> None:
    found = read(A + b"\n" + B[:at])
    assert objects(found)[0]["key"] == "a"
    assert [(problem.line, problem.is_torn, problem.head) for problem in broken(found)] == [(2, True, B[:at])]


def test_what_is_whole_in_something_broken_is_found() -> None:
    found = read(b'{"key":"%a","value":' + A + b',"timestamp":1..5}\n' + B)
    assert [value["key"] for value in objects(found)] == ["a", "b"]
    assert len(broken(found)) == 1


@pytest.mark.parametrize(
    "garbage", [b"\0" * 5000, b"hello", b"[1, 2]", b'"%a.sha256"\n"%b.sha256"', b"\xff\xfe", b"}}"]
)
def test_garbage_is_one_thing(garbage: bytes) -> None:
    found = read(A + b"\n" + garbage + b"\n" + B + b"\n" + C)
    assert [value["key"] for value in objects(found)] == ["a", "b", "c"]
    (problem,) = broken(found)
    assert problem.line == 2


@pytest.mark.parametrize("form", ["one to a line", "indented"])
def test_what_is_too_long_is_left_out(form: str) -> None:
    long = json.dumps({"text": "x" * LIMIT, "list": [1, 2]}, indent=2 if form == "indented" else None).encode()
    found = read(A + b"\n" + long + b"\n" + B + b"\n")
    assert [value["key"] for value in objects(found)] == ["a", "b"]
    (problem,) = broken(found)
    assert "longer" in problem.detail
    assert len(problem.head) <= 1024
    exact = b'{"t":"' + b"x" * (LIMIT - 8) + b'"}'
    for data in (exact + b"\n", b" " + exact + b" {}"):
        assert objects(read(data))[0]["t"][:1] == "x"


@pytest.mark.parametrize(
    "unit",
    [
        b"\n{",
        b"{\n",
        b"\x1e{",
        b'\n{"',
        b'{"key":"',
        b'{"key":{{',
        b'{"key":1 "',
        b'{\n"a"\n',
        b'{"key":"\\x',
    ],
)
def test_junk_that_looks_like_objects_is_passed_over(unit: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much of it there is, no object is begun for each piece, and what is good behind it is found."""
    begun, scan = 0, jsonstream._Scan

    def begin(*args: Any, **options: Any) -> Any:
        nonlocal begun
        begun += 1
        return scan(*args, **options)

    monkeypatch.setattr(jsonstream, "_Scan", begin)
    for good in (A, json.dumps(MESSAGES[0], indent=2).encode(), b'{"more":"' + b"m" * 100 + b'", "key":"%a"}'):
        begun = 0
        found = read(unit * 20_000 + b"\n" + good + b"\n" + B)
        assert objects(found) == [json.loads(good), json.loads(B)]
        assert len(broken(found)) == 1
        assert begun < 5


@pytest.mark.parametrize("value", [b'"short"', b'"' + b"long" * 99 + b'"', b"null", b"-1.5e3", b"9" * 99, b"{}", b"[]"])
@pytest.mark.parametrize("space", [b"", b" ", b" " * 90])
def test_whatever_the_first_field_of_a_line_is(value: bytes, space: bytes) -> None:
    line = b'{"more\\u00fc" :' + value + space + b"," + space + b'"key":"%a"}'
    for size in (1 << 20, 7):
        found = read(b"{{\n" + line + b"\n{{\n" + line, size=size)
        assert [value["key"] for value in objects(found)] == ["%a"] * 2
        assert len(broken(found)) == 2


ODD = [
    b"{",
    b"}",
    b'"',
    b"\\",
    b"[",
    b"]",
    b",",
    b":",
    b"\n",
    b"\n{",
    b'{"key":',
    b'"\n',
    b"\0",
    b"\xef\xbb",
    b"1",
    b"\x1e",
    b'{"key":"',
    b'{"key":{',
    b'\n{"more":1',
    b" " * 70,
    b"a" * 85,
    b"\\u",
]


@tries(300)
@given(
    st.lists(st.sampled_from([A, B, PRINTED["indented"].encode(), *ODD]), max_size=12),
    st.lists(st.integers(1, 9), min_size=1, max_size=20),
    st.sampled_from([LIMIT, 60]),
)
def test_it_does_not_matter_how_it_is_cut(parts: list[bytes], sizes: list[int], limit: int) -> None:
    data = b"".join(parts)
    pieces, at = [], 0
    while at < len(data):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[at : at + size])
        at += size
    assert list(read_objects(pieces, limit)) == read(data, limit)


@pytest.mark.parametrize(
    "unit",
    [
        b"{}",
        b"{\n",
        b'{"a":\n',
        b'{"key":',
        b'{"key":x',
        b'{"key":"',
        b'"{"',
        b"[",
        b'{"key":{"key":"x"}',
        b"\\",
        b'{" ',
    ],
)
def test_each_byte_is_looked_at_a_few_times(unit: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work grows as its input does, whatever that is; it is counted, for times say little on a busy machine."""
    counted = 0
    step, go_on, parse = jsonstream.JsonStream._step, jsonstream._Scan._take, orjson.loads

    def count(size: int) -> int:
        nonlocal counted
        counted += size
        return size

    monkeypatch.setattr(jsonstream.JsonStream, "_step", lambda self, found: (count(1), step(self, found))[1])
    monkeypatch.setattr(jsonstream._Scan, "_take", lambda self, byte: (count(1), go_on(self, byte))[1])

    class Loader:
        @staticmethod
        def loads(text: bytes) -> Any:
            count(len(text))
            return parse(text)

    monkeypatch.setattr(jsonstream, "orjson", Loader)
    data = unit * (amount(quick=100_000, thorough=200_000) // len(unit)) + b"\n"
    read(data, limit=1 << 18, size=1 << 16)
    assert counted <= 8 * len(data)


def test_what_is_not_a_log() -> None:
    for start in (b"", b"hello", b"#include <x>\n{\n}", b"[1, 2, 3]", b"\xff\xfeh\0i\0", b"PK\x03\x04", b"\0" * 100):
        assert not looks_like_objects(start)
    assert looks_like_objects(b'ence":3,"author":"@x"}\n{"key": "%a", "value": {}}')
