"""A quick way to read a message as it comes over a network.

Nearly all messages are spelled as somebody's JSON printer leaves them, in one of the two orders of fields, and for those
patterns find the parts faster than a parser.  What they find is what ``parse_message`` and ``compact`` would have made of
it, after a third of the time; of anything out of the ordinary they know nothing.  A property test holds them together.
"""

from __future__ import annotations

import hashlib
import re
from binascii import a2b_base64, b2a_base64
from typing import Any

import orjson

from sneaker.feed.classic.canonical import is_suspect
from sneaker.feed.classic.compact import AUTHOR_FIRST, KIND_BOX, KIND_BOX2, KIND_JSON, templates
from sneaker.feed.message import Compact, Message
from sneaker.limits import MAX_MESSAGE_BYTES, MAX_MESSAGE_UNITS, MAX_TYPE_UNITS, MIN_TYPE_UNITS
from sneaker.refs import FeedRef, MessageRef

__all__ = ["quick_message", "quick_place"]

_AUTHOR = rb'"@([A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=)\.ed25519"'
# From 2 on: the first message of a feed has no previous one, and looks different.
_SEQUENCE = rb"([2-9]|[1-9][0-9]{1,8})"


def _pattern(text: bytes) -> re.Pattern[bytes]:
    """Compile a pattern in which ``\\s`` stands for what JSON takes for white space; by itself it stands for more."""
    return re.compile(text.replace(rb"\s", rb"[ \t\n\r]"))


_HEAD = _pattern(
    rb'\{\s*+"previous":\s*+"%([A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=)\.sha256",\s*+'
    rb'(?:"sequence":\s*+' + _SEQUENCE + rb',\s*+"author":\s*+' + _AUTHOR + rb"|"
    rb'"author":\s*+' + _AUTHOR + rb',\s*+"sequence":\s*+' + _SEQUENCE + rb"),\s*+"
    rb'"timestamp":\s*+([1-9][0-9]{0,14}),\s*+"hash":\s*+"sha256",\s*+"content":\s*+(?=["{])'
)
# The end has the same length in all spellings but for white space.
_ENDING = _pattern(rb',\s*+"signature":\s*+"([A-Za-z0-9+/]{85}[AQgw]==)\.sig\.ed25519"\s*+\}\s*+\Z')
_ENDING_BYTES = 140

_PRETTY = orjson.OPT_INDENT_2 | orjson.OPT_STRICT_INTEGER

_sha256 = hashlib.sha256
_new_bytes = bytes.__new__
_new_tuple = tuple.__new__
_authors: dict[bytes, FeedRef] = {}


def _author(text: bytes) -> FeedRef:
    author = _authors.get(text)
    if author is None:
        if len(_authors) >= 4096:
            _authors.clear()
        author = _authors[text] = FeedRef.classic(a2b_base64(text))
    return author


def quick_place(raw: bytes) -> tuple[FeedRef, int] | None:
    """Return author and sequence of what begins like a message that is not the first of its feed, else None."""
    found = _HEAD.match(raw)
    if found is None:
        return None
    _, sequence, author, author_first, sequence_last, _ = found.groups()
    return _author(author or author_first), int(sequence or sequence_last)


def quick_message(raw: bytes) -> tuple[Message, Compact] | None:
    """Return a message and its compact form, or None: then ``parse_message`` has to look."""
    found = _HEAD.match(raw)
    ending = _ENDING.search(raw, max(0, len(raw) - _ENDING_BYTES))
    # Indentation can make deeply nested content 250 times as long.
    if found is None or ending is None or len(raw) > MAX_MESSAGE_BYTES:
        return None
    previous, sequence_first, author_last, author_first, sequence_last, stamp = found.groups()
    content = raw[found.end() : ending.start()]
    try:
        parts = _read_object(content) if content[:1] == b"{" else _read_box(content)
    except (ValueError, TypeError):
        return None
    if parts is None:
        return None
    kind, value, piece, kept = parts
    author, sequence = _author(author_last or author_first), int(sequence_first or sequence_last)
    order = AUTHOR_FIRST if author_last is None else 0
    timestamp = int(stamp)
    signature_text = ending[1]
    text = templates(author)[order] % (previous, sequence, timestamp, piece, signature_text[:86])
    hashed = text if text.isascii() else text.decode("utf-8").encode("utf-16-le")[::2]
    if len(hashed) > MAX_MESSAGE_UNITS:
        return None
    signature = a2b_base64(signature_text)
    before, key = _new_bytes(MessageRef, a2b_base64(previous)), _new_bytes(MessageRef, _sha256(hashed).digest())
    message = _new_tuple(Message, (author, sequence, before, timestamp, value, signature, text, key))
    return message, Compact(kind << 1 | order, timestamp, signature, kept)


def _read_object(content: bytes) -> tuple[int, Any, bytes, bytes] | None:
    """Return kind, value, lines of canonical text, and what is kept of an object."""
    value = orjson.loads(content)
    pretty = orjson.dumps({"content": value}, None, _PRETTY)
    if is_suspect(pretty):
        return None
    name = value.get("type")
    if (
        type(name) is not str or not MIN_TYPE_UNITS <= len(name) <= MAX_TYPE_UNITS // 2
    ):  # two units to a character at most
        return None
    return KIND_JSON, value, pretty[1:-2], orjson.dumps(value)


def _read_box(content: bytes) -> tuple[int, Any, bytes, bytes] | None:
    """Return the same for encrypted text."""
    body, _, suffix = content.partition(b".")
    kind = KIND_BOX if suffix == b'box"' else KIND_BOX2 if suffix == b'box2"' else None
    kept = a2b_base64(body[1:])
    if kind is None or b2a_base64(kept, newline=False) != body[1:]:
        return None
    return kind, content[1:-1].decode("ascii"), b'\n  "content": ' + content, kept
