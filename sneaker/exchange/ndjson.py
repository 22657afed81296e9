"""Logs as NDJSON: one ``{"key","value","timestamp"}`` or one bare message value to a line.

That is what ``ssb-server createLogStream``, ``createHistoryStream`` and ``sneaker log --json`` print.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from sneaker.errors import InvalidMessage
from sneaker.feed.canonical import format_json, parse_json
from sneaker.limits import MAX_JSON_LINE_BYTES

__all__ = ["Line", "read_lines"]

# What every program prints: the key first, then the value, then perhaps when it was received.  Cutting the value out
# by its place saves parsing the line twice; what is cut out still has to be one JSON value for the parser after this.
_KEYED = re.compile(
    rb'\{"key":"(%[A-Za-z0-9+/]{43}=\.sha256)","value":(\{.*\})(?:,"timestamp":[0-9.eE+]+)?\}', re.DOTALL
)


class Line(NamedTuple):
    """A line: a message value as JSON text and the key that the line states for it, or ``problem``."""

    number: int
    value: bytes
    key: str | None = None
    problem: str = ""
    bytes: int = 0


def read_lines(file: BinaryIO) -> Iterator[Line]:
    """Yield the lines of a log, each with at most MAX_JSON_LINE_BYTES; blank ones are left out."""
    number = 0
    while raw := file.readline(MAX_JSON_LINE_BYTES + 1):
        number += 1
        size = len(raw)
        if len(raw) > MAX_JSON_LINE_BYTES:
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(MAX_JSON_LINE_BYTES)
                size += len(raw)
            yield Line(number, b"", None, f"line {number} is longer than any message", size)
            continue
        text = raw.strip().removeprefix(b"\xef\xbb\xbf")
        if not text:
            continue
        yield _parse_line(number, text, size)


def _parse_line(number: int, text: bytes, size: int) -> Line:
    match = _KEYED.fullmatch(text)
    if match is not None:
        return Line(number, match[2], match[1].decode("ascii"), "", size)
    try:
        parsed = parse_json(text)
        if not isinstance(parsed, dict):
            return Line(number, b"", None, f"line {number} is not a message", size)
        if "value" not in parsed or "author" in parsed:
            return Line(number, text, None, "", size)
        key = parsed.get("key")
        value = format_json(parsed["value"]).encode("utf-8")
        return Line(number, value, key if isinstance(key, str) else None, "", size)
    except InvalidMessage:
        return Line(number, b"", None, f"line {number} is not JSON", size)
