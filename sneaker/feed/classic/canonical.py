"""The canonical text of JSON: what V8's ``JSON.stringify(JSON.parse(raw), null, 2)`` prints.

Signature, id and size of a classic message are defined on this text (PROTOCOL.md, section 2.2), so it has to
be V8's to the byte: numbers are IEEE doubles in ECMAScript spelling, array-index keys come first in numeric order, of
duplicate keys the first position and the last value count, lone surrogates are kept and printed as ``\\udxxx``.

Two ways lead to it.  The fast one is orjson, followed by a search of its output for the few things that orjson and
V8 print differently; it answers for nearly every message.  The exact one is the parser and printer of
``javascript_json``.  A property test holds the two together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson

from sneaker.feed.classic.javascript_json import format_json, parse_json

__all__ = [
    "FAST_BYTES",
    "canonical_value",
    "has_suspects",
    "is_foreign",
    "is_suspect",
    "parse_canonical",
    "parse_quickly",
]

_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_STRICT_INTEGER

# orjson indents by up to two bytes per level and nests up to 254 levels, so that its output can be 250 times as
# large as its input. Longer texts go to the exact printer, which stops at a limit; a message is at most 24 KiB.
FAST_BYTES = 64 * 1024
# ---- where orjson and V8 differ, searched for in orjson's indented output. Every pattern starts with one rare
# literal byte, which the regex engine finds with memchr; together they cost about 0.4 us per message, where a
# pattern over every number and key costs 4 us. A line break in the output is never inside a string.

# A key that ends in a digit (it could be an array index), or a number with a fraction or exponent behind a key.
_SUSPECT_MEMBER = re.compile(rb':(?:(?<=[0-9]":)| -?[0-9]++[.eE])')
# An array whose first element is neither an object nor the start of an array of strings only.
_SUSPECT_ARRAY = re.compile(rb'\[(?=\n)\n *+(?!\{|(?:"(?:[^"\\]|\\.)*+",?\n *+)*+\])')
# An object followed by neither a member nor another object: an array of objects and other things.
_SUSPECT_ELEMENT = re.compile(rb'\}(?=,),\n *+(?!\{|"(?:[^"\\]|\\.)*+": )')

# The same, precisely; searched for only where one of the above found something.
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
    """Return the value of a JSON text, and whether that is short and orjson could read it; raises InvalidMessage."""
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
