"""The canonical text of JSON: what V8's ``JSON.stringify(JSON.parse(raw), null, 2)`` prints.

Signature, id and size of a classic message are defined on this text (PROTOCOL.md, section 2.2), so it has to
be V8's to the byte: numbers are IEEE doubles in ECMAScript spelling, array-index keys come first in numeric order, of
duplicate keys the first position and the last value count, lone surrogates are kept and printed as ``\\udxxx``.

Two ways lead to it.  The fast one is orjson, followed by a search of its output for the few things that orjson and
V8 print differently; it answers for nearly every message.  The exact one is the parser and printer below, which is
neither recursive nor quadratic, whatever it is given.  A property test holds the two together.

Bytes that are not UTF-8 are refused.  Node would put U+FFFD in their place, but such a message cannot have been made
by ``JSON.stringify``, and two peers that repair it differently would disagree about what was signed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson

from sneaker.errors import InvalidMessage

__all__ = [
    "FAST_BYTES",
    "canonical_text",
    "canonical_value",
    "format_json",
    "format_number",
    "parse_canonical",
    "parse_json",
    "parse_quickly",
    "utf16_units",
]

_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_STRICT_INTEGER

# orjson indents by up to two bytes per level and nests up to 254 levels, so that its output can be 250 times as
# large as its input. Longer texts go to the exact printer, which stops at a limit; a message is at most 24 KiB.
FAST_BYTES = 64 * 1024

# Integers up to here are the same as int and as double; beyond, V8 prints what the double says.
_SAFE_INTEGER = 2**53 - 1

# Text deeper than this is not printed. Indentation alone makes 64 levels longer than any message may be.
_MAX_DEPTH = 1000

# ---- where orjson and V8 differ, searched for in orjson's indented output. Every pattern starts with one rare
# literal byte, which the regex engine finds with memchr; together they cost about 0.4 us per message, where a
# pattern over every number and key costs 4 us. A line break in the output is never inside a string.

# A key that ends in a digit (it could be an array index), or a number with a fraction or exponent behind a key.
_SUSPECT_MEMBER = re.compile(rb':(?:(?<=[0-9]":)| -?[0-9]++[.eE])')
# An array whose first element is neither an object nor the start of an array of strings only.
_SUSPECT_ARRAY = re.compile(rb'\[(?=\n)\n *+(?!\{|(?:"(?:[^"\\]|\\.)*+",?\n *+)*+\])')
# An object followed by neither a member nor another object: an array of objects and other things.
_SUSPECT_ELEMENT = re.compile(rb'\}(?=,),\n *+(?!\{|"(?:[^"\\]|\\.)*+": )')

# The same, precisely; only asked when one of the above found something.
_INDEX_KEY = re.compile(rb'\n *+"[0-9]+": ')
_FLOAT = re.compile(rb'\n *+(?:"(?:[^"\\]|\\.)*+": )?(-?[0-9]+[.eE][^,\n]*)')
# Floats that orjson and V8 spell alike: shortest digits, no exponent, a fraction that is not zero. V8 changes to
# exponents at 1e21 and 1e-7, orjson at 1e16 and 1e-5, so between those an exponent-free spelling is the same.
_PLAIN_FLOAT = re.compile(rb"-?(?:0|[1-9][0-9]*)\.[0-9]*[1-9]")


def is_suspect(text: bytes) -> bool:
    """Say whether orjson's indented output of an object may differ from V8's; quick, and wrong only towards yes."""
    if _SUSPECT_MEMBER.search(text) is not None:
        return True
    return text.find(b"[") >= 0 and (
        _SUSPECT_ARRAY.search(text) is not None or _SUSPECT_ELEMENT.search(text) is not None
    )


def has_suspects(texts: Sequence[bytes]) -> bool:
    """Say whether ``is_suspect`` holds for any of ``texts``; searching them joined costs half as much."""
    if _SUSPECT_MEMBER.search(b"".join(texts)) is not None:
        return True
    arrays = b"".join([text for text in texts if b"[" in text])
    return _SUSPECT_ARRAY.search(arrays) is not None or _SUSPECT_ELEMENT.search(arrays) is not None


def is_foreign(text: bytes) -> bool:
    """Say whether orjson's indented output of an object really differs from V8's, or is too close to call."""
    if _INDEX_KEY.search(text) is not None:
        return True
    return any(_PLAIN_FLOAT.fullmatch(number) is None for number in _FLOAT.findall(text))


def parse_canonical(raw: bytes | str, limit: int | None = None) -> tuple[Any, bytes]:
    """Return the value that ``raw`` stands for and its canonical text as UTF-8 bytes.

    The value is always that of the canonical text: a number that overflows a double is None in it, as V8 prints
    ``null`` for it.  Raises InvalidMessage: ``json-invalid`` if JSON.parse would refuse ``raw`` or it is not UTF-8,
    ``too-long`` if the text is nested absurdly deep or longer than ``limit`` UTF-16 units.  The fast path does not
    look at ``limit``; callers check the length of what they get.
    """
    return canonical_value(*parse_quickly(raw), limit)


def parse_quickly(raw: bytes | str) -> tuple[Any, bool]:
    """Return the value of a JSON text, and whether it is orjson's, and small; raises InvalidMessage as ``parse_json``."""
    if len(raw) <= FAST_BYTES:
        try:
            return orjson.loads(raw), True
        except ValueError:  # a lone surrogate, a huge number, deep nesting, or not JSON at all
            pass
    return parse_json(raw), False


def canonical_value(value: Any, is_quick: bool, limit: int | None = None) -> tuple[Any, bytes]:
    """Do what ``parse_canonical`` does with what ``parse_quickly`` returned."""
    if is_quick:
        try:
            text = orjson.dumps(value, None, _OPTIONS)
        except TypeError:  # a lone surrogate, a huge integer, deep nesting
            pass
        else:
            if text[:1] == b"{" and not (is_suspect(text) and is_foreign(text)):
                # A copy in a block of its own size. orjson's own bytes end a buffer that was cut down, and keeping
                # thousands of those makes glibc give memory back and take it again: 1.5 us per message.
                return value, bytes(memoryview(text))
    exact = format_json(value, limit=limit)
    return parse_json(exact), exact.encode("utf-8")


def canonical_text(raw: bytes | str) -> bytes:
    """Return the canonical text of any JSON text, as UTF-8; raises InvalidMessage (see parse_canonical).

    Lone surrogates are ``\\udxxx`` escapes in it, therefore it always is valid UTF-8.
    """
    return parse_canonical(raw)[1]


def utf16_units(text: str) -> int:
    """Return JavaScript's ``text.length``: characters, with those beyond U+FFFF counted twice."""
    if text.isascii():
        return len(text)
    return len(text) + sum(character > "\uffff" for character in text)


# ------------------------------------------------------------------------------------------------------- numbers


def format_number(number: float) -> str:
    """Return ECMAScript's ``Number::toString`` of a double; NaN and the infinities are ``null``, as in JSON.

    ``repr`` has the right digits (the shortest that read back the same), only its exponents start elsewhere.
    """
    if number != number or number in (float("inf"), float("-inf")):
        return "null"
    if number == 0:
        return "0"
    sign = "-" if number < 0 else ""
    mantissa, _, exponent = repr(abs(number)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    if fraction == "0":
        fraction = ""
    # The number is 0.DIGITS times ten to the power of POINT.
    digits = whole + fraction
    point = len(whole) + int(exponent or "0")
    stripped = digits.lstrip("0")
    point -= len(digits) - len(stripped)
    digits = stripped.rstrip("0")
    if len(digits) <= point <= 21:
        return sign + digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    power = f"{'+' if point > 0 else '-'}{abs(point - 1)}"
    return f"{sign}{digits[0]}{'.' if len(digits) > 1 else ''}{digits[1:]}e{power}"


# More digits than the longest exact decimal expansion of a midpoint between doubles (767) change nothing but the
# time that float() takes, which is quadratic in them.
_LONG_NUMBER = 1200


def _read_number(text: str) -> int | float:
    """Return the double a JSON number stands for, as an int where that says the same."""
    if len(text) < 16 and text.lstrip("-").isdigit():
        return int(text)
    number = float(text) if len(text) <= _LONG_NUMBER else _read_long_number(text)
    return int(number) if -_SAFE_INTEGER <= number <= _SAFE_INTEGER and number == int(number) else number


def _read_long_number(text: str) -> float:
    """Read a number with very many digits in linear time; the digits left out are replaced by one that is not 0."""
    mantissa, _, exponent = text.lower().partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return 0.0
    dropped = len(digits) - 800
    if dropped > 0:
        digits = digits[:800] + ("1" if digits[800:].strip("0") else "0")
        dropped -= 1
    else:
        dropped = 0
    exponent_digits = exponent.lstrip("+-").lstrip("0") or "0"
    # Ten digits of exponent already mean zero or infinity, for any text that fits into memory.
    power = int(exponent_digits) if len(exponent_digits) <= 12 else 10**12
    power = -power if exponent.startswith("-") else power
    return float(f"{sign}{digits}e{power + dropped - len(fraction)}")


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
            value = _read_number(match[0])
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
        if -_SAFE_INTEGER <= value <= _SAFE_INTEGER:
            return str(value)
        try:
            return format_number(float(value))
        except OverflowError:
            return "null"
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
