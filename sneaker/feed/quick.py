"""A quick look at a message as it comes over a network: who, which number, and a guess at its compact form.

Nearly all messages are spelled as somebody's JSON printer leaves them, in one of the two orders of fields.  For those a
pattern finds the parts faster than a parser.  What is found is a guess: only ``parse_message``, or a valid signature over
what ``expand`` makes of it, says that it is a message.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from typing import NamedTuple

import orjson

from sneaker.feed.canonical import is_suspect
from sneaker.feed.compact import AUTHOR_FIRST, KIND_BOX, KIND_BOX2, KIND_JSON, Compact
from sneaker.refs import FeedRef, MessageRef

__all__ = ["Quick", "quick_look", "quick_place"]

_AUTHOR = rb'"@([A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=)\.ed25519"'
_SEQUENCE = rb"([1-9][0-9]{0,8})"
_HEAD = re.compile(
    rb'\{\s*+"previous":\s*+(?:null|"%([A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=)\.sha256"),\s*+'
    rb'(?:"sequence":\s*+' + _SEQUENCE + rb',\s*+"author":\s*+' + _AUTHOR + rb"|"
    rb'"author":\s*+' + _AUTHOR + rb',\s*+"sequence":\s*+' + _SEQUENCE + rb"),\s*+"
    rb'"timestamp":\s*+([1-9][0-9]{0,14}),\s*+"hash":\s*+"sha256",\s*+"content":\s*+(?=["{])'
)
# The end has the same length in all spellings but for white space.
_TAIL = re.compile(rb',\s*+"signature":\s*+"([A-Za-z0-9+/]{85}[AQgw]==)\.sig\.ed25519"\s*+\}\s*+\Z')
_TAIL_BYTES = 140
_BOX = re.compile(rb'"([A-Za-z0-9+/]++={0,2}+)\.box(2?+)"')

_PRETTY = orjson.OPT_INDENT_2 | orjson.OPT_STRICT_INTEGER

_authors: dict[bytes, FeedRef] = {}


class Quick(NamedTuple):
    """What a message seems to be; ``previous`` as in ``Message``."""

    author: FeedRef
    sequence: int
    previous: MessageRef | None
    compact: Compact


def _author(text: bytes) -> FeedRef:
    author = _authors.get(text)
    if author is None:
        if len(_authors) >= 4096:
            _authors.clear()
        author = _authors[text] = FeedRef(a2b_base64(text))
    return author


def quick_place(raw: bytes) -> tuple[FeedRef, int] | None:
    """Return author and sequence of what looks like a message, None if a parser has to look."""
    found = _HEAD.match(raw)
    if found is None:
        return None
    _, sequence, author, author_first, sequence_last, _ = found.groups()
    return _author(author or author_first), int(sequence or sequence_last)


def quick_look(raw: bytes) -> Quick | None:
    """Return the parts of what looks like a message, None if a parser has to look."""
    found = _HEAD.match(raw)
    tail = _TAIL.search(raw, max(0, len(raw) - _TAIL_BYTES))
    if found is None or tail is None:
        return None
    previous, sequence, author, author_first, sequence_last, timestamp = found.groups()
    content = raw[found.end() : tail.start()]
    if content[:1] == b"{":
        try:
            value = orjson.loads(content)
            if is_suspect(orjson.dumps({"content": value}, None, _PRETTY)):
                return None
            kind, body = KIND_JSON, orjson.dumps(value)
        except (ValueError, TypeError):
            return None
    else:
        box = _BOX.fullmatch(content)
        if box is None:
            return None
        try:
            kind, body = KIND_BOX2 if box[2] else KIND_BOX, a2b_base64(box[1], strict_mode=True)
        except ValueError:
            return None
    form = kind << 1 | (AUTHOR_FIRST if author is None else 0)
    compact = Compact(form, int(timestamp), a2b_base64(tail[1]), body)
    return Quick(
        _author(author or author_first),
        int(sequence or sequence_last),
        MessageRef(a2b_base64(previous)) if previous is not None else None,
        compact,
    )
