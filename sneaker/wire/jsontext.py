"""JSON as the network protocols need it: tolerant envelopes around message text that must not change.

Messages travel inside JSON bodies and are kept as the bytes that came.  What we read out of a body (a name, a
sequence) may go through a lossy parser; what is stored is cut out of the body with ``members`` and ``elements``.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

import orjson

__all__ = ["elements", "encode_json", "members", "parse_json"]

_SPACES = " \t\r\n"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def parse_json(text: bytes) -> Any:
    """Parse one JSON value; raises ValueError if there is none.

    Lone surrogates are kept, bytes that are no UTF-8 become U+FFFD as they do in JavaScript, and spaces or a line end
    around the value are allowed (Go ends every body with one).
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        return _DECODER.decode(text.decode("utf-8", "replace"))
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None


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


def elements(text: bytes) -> list[bytes]:
    """Split the text of a JSON array into the exact bytes of its elements. Raises ValueError if it is no array."""
    source = _Source(text)
    found: list[bytes] = []
    source.expect("[")
    while not source.take("]"):
        if found:
            source.expect(",")
        found.append(source.value()[1])
    source.end()
    return found


class _Source:
    """A position in JSON text; surrogateescape makes slices of it turn back into the very bytes they came from."""

    def __init__(self, text: bytes) -> None:
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
        try:
            parsed, self._at = _DECODER.raw_decode(self._text, start)
        except RecursionError:
            raise ValueError("JSON is nested too deeply") from None
        return parsed, self._text[start : self._at].encode("utf-8", "surrogateescape")

    def end(self) -> None:
        self._skip()
        if self._at != len(self._text):
            raise ValueError("something follows the JSON text")
