"""Bencode: whole numbers, byte strings, lists and dictionaries, of which each value has one spelling only.

i42e    4:spam    l<value><value>e    d<key><value><key><value>e     keys are byte strings in ascending order
"""

from __future__ import annotations

from sneaker.errors import InvalidMessage

__all__ = ["Bencoded", "decode", "encode"]

Bencoded = int | bytes | list["Bencoded"] | dict[bytes, "Bencoded"]

# No program writes deeper; each level is a call of ours.
_MAX_DEPTH = 64
# How many digits a number may have: more than any number that SSB uses.
_MAX_DIGITS = 20


def encode(value: Bencoded) -> bytes:
    """Return the spelling of a value; raises InvalidMessage if it is nested too deeply."""
    parts: list[bytes] = []
    _encode(value, parts, 0)
    return b"".join(parts)


def _encode(value: Bencoded, parts: list[bytes], depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise InvalidMessage("bencode-invalid", "nested too deeply")
    if isinstance(value, bytes):
        parts += (b"%d:" % len(value), value)
    elif isinstance(value, int):
        parts.append(b"i%de" % value)
    elif isinstance(value, list):
        parts.append(b"l")
        for item in value:
            _encode(item, parts, depth + 1)
        parts.append(b"e")
    else:
        parts.append(b"d")
        for key in sorted(value):
            parts += (b"%d:" % len(key), key)
            _encode(value[key], parts, depth + 1)
        parts.append(b"e")


def decode(data: bytes) -> Bencoded:
    """Read one value that fills ``data``; raises InvalidMessage for anything else, and for any other spelling."""
    value, end = _decode(data, 0, 0)
    if end != len(data):
        raise InvalidMessage("bencode-invalid", "bytes behind the end")
    return value


def _decode(data: bytes, at: int, depth: int) -> tuple[Bencoded, int]:
    if depth > _MAX_DEPTH:
        raise InvalidMessage("bencode-invalid", "nested too deeply")
    kind = data[at : at + 1]
    if kind.isdigit():
        return _decode_bytes(data, at)
    if kind == b"i":
        return _number(data, at + 1, b"e")
    at += 1
    if kind == b"l":
        items: list[Bencoded] = []
        while data[at : at + 1] != b"e":
            item, at = _decode(data, at, depth + 1)
            items.append(item)
        return items, at + 1
    if kind == b"d":
        found: dict[bytes, Bencoded] = {}
        before: bytes | None = None
        while data[at : at + 1] != b"e":
            key, at = _decode_bytes(data, at)
            if before is not None and key <= before:
                raise InvalidMessage("bencode-invalid", "keys that are not in order")
            before = key
            found[key], at = _decode(data, at, depth + 1)
        return found, at + 1
    raise InvalidMessage("bencode-invalid", "no value where one should be")


def _decode_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    length, start = _number(data, at, b":")
    end = start + length
    if length < 0 or end > len(data):
        raise InvalidMessage("bencode-invalid", "a byte string that is cut off")
    return data[start:end], end


def _number(data: bytes, at: int, mark: bytes) -> tuple[int, int]:
    """Return the number that begins at a place, in its one spelling, and where what follows its end mark begins."""
    end = data.find(mark, at, at + _MAX_DIGITS + 2)
    digits = data[at:end] if end > at else b""
    if not digits.removeprefix(b"-").isdigit() or b"%d" % int(digits) != digits:
        raise InvalidMessage("bencode-invalid", "no number where one should be")
    return int(digits), end + 1
