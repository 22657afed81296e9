"""JSON as the network protocols need it: tolerant envelopes around message text that must not change.

Messages travel inside JSON bodies and are kept as the bytes that came.  What we read out of a body (a name, a
sequence) may go through a lossy parser; what is stored is cut out of the body with ``members``.

What ``parse_json`` gives is harmless: nested no deeper than MAX_JSON_DEPTH, with numbers that are doubles or integers
of 64 bits, so that whatever is done with it later (printing, encoding, comparing) ends and cannot fail.
"""

from __future__ import annotations

import json
from itertools import accumulate
from typing import Any, NoReturn

import orjson

from sneaker.limits import MAX_JSON_DEPTH

__all__ = ["encode_json", "members", "parse_json", "shown", "whole_number"]

_SPACES = " \t\r\n"
# An opening bracket is one level more, a closing one is one less, read as signed bytes.
_LEVELS = bytes.maketrans(b"[{]}", b"\1\1\xff\xff")
_ALL_BUT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")

# JSON.stringify prints 17 digits and an exponent. A far longer number only costs time, quadratic in its length.
_MAX_NUMBER_CHARACTERS = 1000
_INT64 = range(-(2**63), 2**64)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _read_float(text: str) -> float | None:
    if len(text) > _MAX_NUMBER_CHARACTERS:
        raise ValueError("a number in the JSON text is too long")
    number = float(text)
    return number if abs(number) != float("inf") else None  # JSON.stringify prints what overflows as null


def _read_integer(text: str) -> int | float | None:
    if len(text) <= 20 and (number := int(text)) in _INT64:
        return number
    return _read_float(text)


_DECODER = json.JSONDecoder(parse_float=_read_float, parse_int=_read_integer, parse_constant=_refuse_constant)


def _check_depth(text: bytes) -> None:
    """Raise ValueError for JSON that is nested too deeply, before anything recursive looks at it."""
    if text.count(b"[") + text.count(b"{") <= MAX_JSON_DEPTH:
        return
    outside = b"".join(text.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    levels = memoryview(outside.translate(_LEVELS, _ALL_BUT_BRACKETS)).cast("b")
    if max(accumulate(levels), default=0) > MAX_JSON_DEPTH:
        raise ValueError("JSON is nested too deeply, or is none")


def parse_json(text: bytes) -> Any:
    """Parse one JSON value; raises ValueError if there is none, or one nested deeper than MAX_JSON_DEPTH.

    Lone surrogates are kept, bytes that are no UTF-8 become U+FFFD as they do in JavaScript, and spaces or a line end
    around the value are allowed (Go ends every body with one).  Integers of more than 64 bits become doubles, and what
    overflows a double becomes None, as JSON.stringify prints it.
    """
    _check_depth(text)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return _DECODER.decode(text.decode("utf-8", "replace"))


def whole_number(value: object) -> int | None:
    """Return what JavaScript takes for an integer, 3.0 included; None for everything else."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def shown(value: object, limit: int = 100) -> str:
    """Return what a message may say of a peer's JSON value: text as it is, up to ``limit`` characters, else its kind."""
    if isinstance(value, str):
        return value[:limit]
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return "a number"
    return "a list" if isinstance(value, list) else "an object"


def encode_json(value: object) -> bytes:
    """Return compact JSON as UTF-8, without spaces, as JSON.stringify prints it."""
    try:
        return orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError):
        # Lone surrogates, and integers of more than 64 bits.
        return json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def members(text: bytes) -> dict[str, bytes]:
    """Split the text of a JSON object into its members: key to the exact bytes of the value.

    Of a key that comes twice the last value counts, as everywhere. Raises ValueError if ``text`` is no object.
    """
    source = _Source(text)
    found: dict[str, bytes] = {}
    source.expect("{")
    while not source.take("}"):
        if found:
            source.expect(",")
        key = source.value()[0]
        if not isinstance(key, str):
            raise ValueError("a key of a JSON object is not a string")
        source.expect(":")
        found[key] = source.value()[1]
    source.end()
    return found


class _Source:
    """A position in JSON text; surrogateescape makes slices of it turn back into the very bytes they came from."""

    def __init__(self, text: bytes) -> None:
        _check_depth(text)
        self._text = text.decode("utf-8", "surrogateescape")
        self._at = 0

    def _skip(self) -> None:
        while self._at < len(self._text) and self._text[self._at] in _SPACES:
            self._at += 1

    def take(self, mark: str) -> bool:
        self._skip()
        if self._text.startswith(mark, self._at):
            self._at += 1
            return True
        return False

    def expect(self, mark: str) -> None:
        if not self.take(mark):
            raise ValueError(f"expected {mark!r} at character {self._at} of the JSON text")

    def value(self) -> tuple[Any, bytes]:
        self._skip()
        start = self._at
        parsed, self._at = _DECODER.raw_decode(self._text, start)
        return parsed, self._text[start : self._at].encode("utf-8", "surrogateescape")

    def end(self) -> None:
        self._skip()
        if self._at != len(self._text):
            raise ValueError("something follows the JSON text")
