"""JSON as V8 reads and prints it: ``JSON.parse`` and ``JSON.stringify``, neither recursive nor quadratic in any text.

Array-index keys come first in numeric order; of duplicate keys the first position and the last value count; lone
surrogates are kept, and printed as ``\\udxxx``.

Bytes that are not UTF-8 are refused.  Node would put U+FFFD in their place, but such a message cannot have been made
by ``JSON.stringify``, and two peers that repair it differently would disagree about what was signed.
"""

from __future__ import annotations

import re
from typing import Any

from sneaker.errors import InvalidMessage
from sneaker.feed.classic.javascript_numbers import format_integer, format_number, read_number

__all__ = ["format_json", "parse_json", "utf16_units"]

# Text deeper than this is not printed. Indentation alone makes 64 levels longer than any message may be.
_MAX_DEPTH = 1000


def utf16_units(text: str) -> int:
    """Return JavaScript's ``text.length``: characters, with those beyond U+FFFF counted twice."""
    if text.isascii():
        return len(text)
    return len(text) + sum(character > "\uffff" for character in text)


# ------------------------------------------------------------------------------------------------------- parser

_SPACE = re.compile(r"[ \t\n\r]*+")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*+')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?")
_UNICODE = re.compile(r"[0-9a-fA-F]{4}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_LITERALS = {"t": ("true", True), "f": ("false", False), "n": ("null", None)}
_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")
_MAX_INDEX = 2**32 - 2


def parse_json(raw: bytes | str) -> Any:
    """Return the value of a JSON text as JSON.parse reads it, in V8's key order; raises InvalidMessage.

    Objects are dicts.  Numbers are doubles: an int where the double is a whole number below 2**53, otherwise a float
    (infinite, if the text overflows).  Strings keep lone surrogates.  Nesting may be as deep as memory allows.
    """
    if isinstance(raw, bytes):
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidMessage("json-invalid", f"byte {error.start} is not UTF-8") from None
    else:
        text = raw
    try:
        return _parse(text)
    except IndexError:
        raise InvalidMessage("json-invalid", "the text ends too early") from None


def _bad(text: str, position: int) -> InvalidMessage:
    return InvalidMessage("json-invalid", f"unexpected {text[position]!a} at position {position}")


def _parse(text: str) -> Any:
    """Parse ``text``; IndexError means that it ends too early."""
    space = _SPACE.match
    containers: list[dict[str, Any] | list[Any]] = []
    keys: list[str] = []  # the member being read, for each dict in containers
    value: Any
    position = space(text).end()  # type: ignore[union-attr]
    while True:
        # ---- one value starts here
        character = text[position]
        if character == '"':
            value, position = _parse_string(text, position + 1)
        elif character == "{":
            position = space(text, position + 1).end()  # type: ignore[union-attr]
            if text[position] != "}":
                key, position = _parse_key(text, position)
                containers.append({})
                keys.append(key)
                continue
            value = {}
            position += 1
        elif character == "[":
            position = space(text, position + 1).end()  # type: ignore[union-attr]
            if text[position] != "]":
                containers.append([])
                continue
            value = []
            position += 1
        elif character in _LITERALS:
            word, value = _LITERALS[character]
            if not text.startswith(word, position):
                raise _bad(text, position)
            position += len(word)
        else:
            match = _NUMBER.match(text, position)
            if match is None:
                raise _bad(text, position)
            value = read_number(match[0])
            position = match.end()
        # ---- it is complete, and may complete the containers around it
        while containers:
            position = space(text, position).end()  # type: ignore[union-attr]
            character = text[position]
            container = containers[-1]
            if isinstance(container, list):
                container.append(value)
                if character == ",":
                    position = space(text, position + 1).end()  # type: ignore[union-attr]
                    break
                if character != "]":
                    raise _bad(text, position)
                value = container
            else:
                container[keys.pop()] = value
                if character == ",":
                    key, position = _parse_key(text, space(text, position + 1).end())  # type: ignore[union-attr]
                    keys.append(key)
                    break
                if character != "}":
                    raise _bad(text, position)
                value = _in_v8_order(container)
            containers.pop()
            position += 1
        else:
            position = space(text, position).end()  # type: ignore[union-attr]
            if position != len(text):
                raise _bad(text, position)
            return value


def _parse_key(text: str, position: int) -> tuple[str, int]:
    """Read ``"key" :`` and return the key and where its value starts."""
    if text[position] != '"':
        raise _bad(text, position)
    key, position = _parse_string(text, position + 1)
    position = _SPACE.match(text, position).end()  # type: ignore[union-attr]
    if text[position] != ":":
        raise _bad(text, position)
    return key, _SPACE.match(text, position + 1).end()  # type: ignore[union-attr]


def _parse_string(text: str, position: int) -> tuple[str, int]:
    """Read a string from behind its opening quote; return it and the position behind the closing one."""
    end = _PLAIN.match(text, position).end()  # type: ignore[union-attr]
    parts = [text[position:end]]
    while text[end] != '"':
        if text[end] != "\\":
            raise _bad(text, end)
        letter = text[end + 1]
        if letter == "u":
            match = _UNICODE.match(text, end + 2)
            if match is None:
                raise _bad(text, end)
            parts.append(chr(int(match[0], 16)))
            position = end + 6
        elif letter in _ESCAPES:
            parts.append(_ESCAPES[letter])
            position = end + 2
        else:
            raise _bad(text, end)
        end = _PLAIN.match(text, position).end()  # type: ignore[union-attr]
        parts.append(text[position:end])
    return _joined_surrogates("".join(parts)), end + 1


def _joined_surrogates(text: str) -> str:
    """Return ``text`` with each pair of surrogates made one character, as UTF-16 reads it; lone ones stay."""
    if _SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _is_index(key: str) -> bool:
    return _INDEX.fullmatch(key) is not None and int(key) <= _MAX_INDEX


def _in_v8_order(value: dict[str, Any]) -> dict[str, Any]:
    """Return ``value`` with its array-index keys in front, in numeric order, as V8 keeps them."""
    indices = [key for key in value if _is_index(key)]
    if not indices:
        return value
    ordered = {key: value[key] for key in sorted(indices, key=int)}
    ordered.update(value)
    return ordered


# ------------------------------------------------------------------------------------------------------- printer

_ESCAPED = re.compile('["\\\\\x00-\x1f\ud800-\udfff]')
_SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return _SHORT.get(character) or f"\\u{ord(character):04x}"


def _format_string(text: str) -> str:
    if _ESCAPED.search(text) is None:
        return f'"{text}"'
    return f'"{_ESCAPED.sub(_escape, _joined_surrogates(text))}"'


def _format_leaf(value: object) -> str:
    if isinstance(value, str):
        return _format_string(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return format_integer(value)
    if isinstance(value, float):
        return format_number(value)
    raise TypeError(f"{type(value).__name__} has no place in JSON")


def format_json(value: Any, indent: int = 2, limit: int | None = None) -> str:
    """Return what ``JSON.stringify(value, null, indent)`` prints; ``indent`` 0 gives the compact spelling.

    Raises InvalidMessage (``too-long``) as soon as the text has more than ``limit`` characters, or if the value is
    nested deeper than a thousand levels; TypeError for a value that JSON has no word for.
    """
    parts: list[str] = []
    size = 0
    colon = ": " if indent else ":"
    # What is left to print of each open container, and its closing bracket.
    open_items: list[Any] = []
    closers: list[str] = []
    current: Any = value
    prefix = ""
    while True:
        if isinstance(current, dict):
            opener, closer, items = "{", "}", iter(_in_v8_order(current).items())
        elif isinstance(current, list | tuple):
            opener, closer, items = "[", "]", iter(current)
        else:
            opener, closer, items = "", "", None
        if items is None or not current:
            parts.append(prefix + (opener + closer or _format_leaf(current)))
            size += len(parts[-1])
        else:
            if len(closers) >= _MAX_DEPTH:
                raise InvalidMessage("too-long", f"nested deeper than {_MAX_DEPTH} levels")
            parts.append(prefix + opener)
            size += len(parts[-1])
            open_items.append(items)
            closers.append(closer)
        first = items is not None and bool(current)
        # ---- the next item, closing what is finished
        while closers:
            if limit is not None and size > limit:
                raise InvalidMessage("too-long", f"more than {limit} characters")
            try:
                item = next(open_items[-1])
            except StopIteration:
                open_items.pop()
                parts.append(_line(indent, len(closers) - 1) + closers.pop())
                size += len(parts[-1])
                first = False
                continue
            prefix = ("" if first else ",") + _line(indent, len(closers))
            if closers[-1] == "}":
                key, current = item
                if not isinstance(key, str):
                    raise TypeError("the keys of a JSON object are strings")
                prefix += _format_string(key) + colon
            else:
                current = item
            break
        else:
            return "".join(parts)


def _line(indent: int, depth: int) -> str:
    return "\n" + " " * (indent * depth) if indent else ""
