"""The compact form of a message: what is kept of it, when all that can be recomputed is left out.

Bundles and the store keep a form byte, the timestamp, the signature and the content of each message.  Author,
sequence and previous follow from its place in the feed; field names, layout and base64 follow from the format.
``expand`` puts the text together again, byte for byte, and with it the key.

This is the hot path of import, so it is written for speed. Of the 3.2 us that ``expand_run`` takes for an ordinary
message (830 bytes of text, mixed with private ones) parsing and printing take 0.6, SHA-256 0.6, and making sure that
orjson printed what V8 would have printed 0.5; the signature check that follows takes 41 us.
"""

from __future__ import annotations

import hashlib
from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, count, repeat
from typing import Any

import orjson

from sneaker.errors import InvalidMessage
from sneaker.feed.classic.canonical import has_suspects, is_foreign, is_suspect, parse_canonical
from sneaker.feed.classic.javascript_json import format_json
from sneaker.feed.classic.message import check_content
from sneaker.feed.classic.validate import parse_message
from sneaker.feed.message import Compact, Content, Message
from sneaker.limits import MAX_MESSAGE_BYTES, MAX_MESSAGE_UNITS, MAX_SEQUENCE
from sneaker.refs import FeedRef, MessageRef

__all__ = [
    "AUTHOR_FIRST",
    "KIND_BOX",
    "KIND_BOX2",
    "KIND_JSON",
    "KIND_RAW",
    "compact",
    "expand",
    "expand_run",
    "kind_of",
    "templates",
]

#: Bit 0 of the form: author stands before sequence.
AUTHOR_FIRST = 1
#: Bits 1 to 3 of the form: how the content is kept. As compact JSON of an object,
KIND_JSON = 0
#: as the bytes behind the base64 of ``"….box"`` or ``"….box2"``,
KIND_BOX = 1
KIND_BOX2 = 2
#: or as the canonical text of the whole message; then the timestamp is 0, the signature empty, and bit 0 clear.
KIND_RAW = 7

_RAW_FORM = KIND_RAW << 1
_FORM_JSON = KIND_JSON << 1
_SUFFIXES = {KIND_BOX: b".box", KIND_BOX2: b".box2"}

# Whole numbers that int and double agree on; messages with other timestamps are kept raw.
_MAX_TIMESTAMP = 2**53 - 1

# To be filled in twice: with the author, then with previous, sequence, timestamp, content and signature.
_TEMPLATE = (
    b'{\n  "previous": "%%%%%%b.sha256",\n  "sequence": %%d,\n  "author": "@%b.ed25519",\n  "timestamp": %%d,\n'
    b'  "hash": "sha256",%%b,\n  "signature": "%%b==.sig.ed25519"\n}'
)
_TEMPLATE_AUTHOR_FIRST = (
    b'{\n  "previous": "%%%%%%b.sha256",\n  "author": "@%b.ed25519",\n  "sequence": %%d,\n  "timestamp": %%d,\n'
    b'  "hash": "sha256",%%b,\n  "signature": "%%b==.sig.ed25519"\n}'
)

# What the templates give for the first message of a feed, to be replaced by null.
_NO_PREVIOUS = b'"previous": "%.sha256"'

_PRETTY = orjson.OPT_INDENT_2 | orjson.OPT_STRICT_INTEGER

# Bound to names of this module: each lookup saved is 20 ns of 2500.
_loads = orjson.loads
_dumps = orjson.dumps
_sha256 = hashlib.sha256
_new_bytes = bytes.__new__
_new_tuple = tuple.__new__


def kind_of(form: int) -> int:
    """Return how the content of a compact message with this form byte is kept."""
    return form >> 1 & 7


def compact(message: Message) -> Compact:
    """Return the compact form of a message; what does not come back byte for byte is kept raw."""
    timestamp = message.timestamp
    if type(timestamp) is int and -_MAX_TIMESTAMP <= timestamp <= _MAX_TIMESTAMP:
        ordinary = _compact_ordinary(message)
        if ordinary is not None:
            return ordinary
        small = _compact_content(message.content)
        if small is not None:
            kind, content = small
            form = kind << 1 | (message.text.find(b'\n  "author": ') < message.text.find(b'\n  "sequence": '))
            candidate = Compact(form, timestamp, message.signature, content)
            try:
                if expand(message.author, message.sequence, message.previous, candidate).text == message.text:
                    return candidate
            except InvalidMessage:
                pass
    return Compact(_RAW_FORM, 0, b"", message.text)


def _compact_ordinary(message: Message) -> Compact | None:
    """Return the compact form of a message like most, or None: then the long way has to decide.

    It does not parse and hash again what was parsed and hashed already.  Logs bring messages one by one, and for each of
    them that saves 5 us of 8.
    """
    author, sequence, previous, timestamp, value, signature, text, _ = message
    if previous is None or type(value) is not dict:
        return None
    try:
        content = _dumps(value)
        pretty = _dumps({"content": value}, None, _PRETTY)
    except (TypeError, ValueError):
        return None
    # expand refuses so much content, and JavaScript may write such numbers and keys in its own way.
    if len(content) > MAX_MESSAGE_BYTES or is_suspect(pretty):
        return None
    rest = (
        b2a_base64(previous, newline=False),
        sequence,
        timestamp,
        pretty[1:-2],
        b2a_base64(signature, newline=False)[:86],
    )
    layouts = templates(author)
    if text == layouts[0] % rest:
        return Compact(_FORM_JSON, timestamp, signature, content)
    if text == layouts[1] % rest:
        return Compact(_FORM_JSON | AUTHOR_FIRST, timestamp, signature, content)
    return None


def _compact_content(content: Content) -> tuple[int, bytes] | None:
    if isinstance(content, dict):
        try:
            return KIND_JSON, _dumps(content)
        except (TypeError, ValueError):  # a lone surrogate or a huge integer; the exact printer knows how
            return KIND_JSON, format_json(content, indent=0).encode("utf-8")
    body, dot, suffix = content.partition(".")
    kind = KIND_BOX if suffix == "box" else KIND_BOX2 if suffix == "box2" else None
    if kind is None or not dot:
        return None
    try:
        return kind, a2b_base64(body.encode("ascii"), strict_mode=True)
    except ValueError:
        return None


def expand(author: FeedRef, sequence: int, previous: MessageRef | None, compact: Compact) -> Message:
    """Return the message that ``compact`` stands for at this place of a feed.

    Its text is canonical and it obeys every rule that ``parse_message`` checks; chain and signature are for the caller.
    Raises InvalidMessage otherwise, whatever ``compact`` holds.
    """
    form, timestamp, signature, content = compact
    if form == _RAW_FORM:
        return _expand_raw(author, sequence, previous, content)
    if not 1 <= sequence <= MAX_SEQUENCE:
        raise InvalidMessage("sequence-invalid")
    if (previous is None) is not (sequence == 1):
        raise InvalidMessage("previous-invalid", "the first message, and no other, has none")
    if not (
        len(signature) == 64 and len(content) <= MAX_MESSAGE_BYTES and -_MAX_TIMESTAMP <= timestamp <= _MAX_TIMESTAMP
    ):
        raise InvalidMessage("compact-invalid", "a signature, timestamp or content out of bounds")
    value, piece = _expand_content(form, content)
    previous_text = b"" if previous is None else b2a_base64(previous, newline=False)
    signature_text = b2a_base64(signature, newline=False)[:86]
    text = templates(author)[form & AUTHOR_FIRST] % (previous_text, sequence, timestamp, piece, signature_text)
    if previous is None:
        text = text.replace(_NO_PREVIOUS, b'"previous": null', 1)
    hashed = text if text.isascii() else text.decode("utf-8").encode("utf-16-le")[::2]
    if len(hashed) > MAX_MESSAGE_UNITS:
        raise InvalidMessage("too-long", f"{len(hashed)} of {MAX_MESSAGE_UNITS} characters")
    key = _new_bytes(MessageRef, _sha256(hashed).digest())
    return _new_tuple(Message, (author, sequence, previous, timestamp, value, signature, text, key))


# Logs mix the messages of many feeds. What is kept takes 600 bytes for each.
@lru_cache(maxsize=4096)
def templates(author: FeedRef) -> tuple[bytes, bytes]:
    """Return the text of a message in both orders of fields, with the author's name in it and places for the rest.

    The rest is, in this order: previous, sequence, timestamp, the lines of the content, and the signature, of which the
    ``==`` at the end of its base64 is there already.  In the first message of a feed, null has to take the place of
    ``_NO_PREVIOUS``.
    """
    author_text = b2a_base64(author.key, newline=False)
    return _TEMPLATE % author_text, _TEMPLATE_AUTHOR_FIRST % author_text


def _expand_content(form: int, content: bytes) -> tuple[Content, bytes]:
    """Return the content's value and the lines of canonical text that hold it, from the line break on."""
    kind = form >> 1
    if kind == KIND_JSON:
        try:
            value = _loads(content)
            pretty = _dumps({"content": value}, None, _PRETTY)
        except (ValueError, TypeError):
            return _expand_exactly(content)
        if is_suspect(pretty) and is_foreign(pretty):
            return _expand_exactly(content)
        if type(value) is not dict:
            raise InvalidMessage("content-invalid", "not an object")
        name = value.get("type")
        if type(name) is not str or not 3 <= len(name) <= 26:  # up to 26 characters have at most 52 units
            check_content(value)
        return value, pretty[1:-2]
    suffix = _SUFFIXES.get(kind)
    if suffix is None:
        raise InvalidMessage("compact-invalid", f"unknown form {form}")
    body = b2a_base64(content, newline=False) + suffix
    return body.decode("ascii"), b'\n  "content": "%b"' % body


def _expand_exactly(content: bytes) -> tuple[Content, bytes]:
    value, _ = parse_canonical(content, limit=MAX_MESSAGE_UNITS)
    if not isinstance(value, dict):
        raise InvalidMessage("content-invalid", "not an object")
    check_content(value)
    return value, format_json({"content": value}, limit=MAX_MESSAGE_UNITS)[1:-2].encode("utf-8")


def _expand_raw(author: FeedRef, sequence: int, previous: MessageRef | None, content: bytes) -> Message:
    message = parse_message(content)
    if message.text != content:
        raise InvalidMessage("compact-invalid", "a raw message that is not canonical text")
    if (message.author, message.sequence, message.previous) != (author, sequence, previous):
        raise InvalidMessage("compact-invalid", "a raw message from another place of the feeds")
    return message


def expand_run(author: FeedRef, first: int, previous: MessageRef | None, compacts: Sequence[Compact]) -> list[Message]:
    """Return the messages of consecutive ``compacts``, of which ``first`` is the sequence of the first one.

    Each message's key is the ``previous`` of the next.  The list ends before the first one that is invalid: if it is
    shorter than ``compacts``, ``expand`` of the next one raises the reason.  What can be done for all messages in one
    call is done so, which saves 0.5 us per message.
    """
    if not compacts:
        return []
    if first == 1 and previous is None and len(compacts) > 1:
        start = _expand_each(author, first, previous, compacts[:1])
        return start + expand_run(author, 2, start[0].key, compacts[1:]) if start else []
    forms, timestamps, signatures, contents = zip(*compacts, strict=True)
    prepared = _prepare(forms, timestamps, signatures, contents)
    if prepared is None or previous is None or not 1 < first <= MAX_SEQUENCE + 1 - len(compacts):
        return _expand_each(author, first, previous, compacts)
    values, pieces = prepared
    # 64 bytes of base64 end in "XY==". With two zero bytes behind them they end in "XYAA", and can be encoded together.
    signature_texts = b2a_base64(b"\0\0".join(signatures) + b"\0\0", newline=False)
    layouts = templates(author)
    texts: list[bytes] = []
    digests: list[bytes] = []
    previous_text = b2a_base64(previous, newline=False)
    signature_at = 0
    # Only what depends on the message before it is done in this loop.
    for form, timestamp, piece, sequence in zip(forms, timestamps, pieces, count(first)):
        text = layouts[form & AUTHOR_FIRST] % (
            previous_text,
            sequence,
            timestamp,
            piece,
            signature_texts[signature_at : signature_at + 86],
        )
        signature_at += 88
        hashed = text if text.isascii() else text.decode("utf-8").encode("utf-16-le")[::2]
        if len(hashed) > MAX_MESSAGE_UNITS:
            break
        digest = _sha256(hashed).digest()
        previous_text = b2a_base64(digest, newline=False)
        texts.append(text)
        digests.append(digest)
    keys = list(map(_new_bytes, repeat(MessageRef), digests))
    fields = zip(
        repeat(author),
        count(first),
        chain((previous,), keys),
        timestamps,
        values,
        signatures,
        texts,
        keys,
        strict=False,
    )
    return list(map(_new_tuple, repeat(Message), fields))


def _expand_each(
    author: FeedRef, first: int, previous: MessageRef | None, compacts: Sequence[Compact]
) -> list[Message]:
    messages: list[Message] = []
    try:
        for sequence, item in enumerate(compacts, first):
            message = expand(author, sequence, previous, item)
            messages.append(message)
            previous = message.key
    except InvalidMessage:
        pass
    return messages


def _prepare(
    forms: Sequence[int], timestamps: Sequence[int], signatures: Sequence[bytes], contents: Sequence[bytes]
) -> tuple[list[Any], list[bytes]] | None:
    """Return values and canonical lines of all contents, or None if any message is out of the ordinary."""
    if (
        set(map(len, signatures)) != {64}
        or min(timestamps) < -_MAX_TIMESTAMP
        or max(timestamps) > _MAX_TIMESTAMP
        or max(map(len, contents)) > MAX_MESSAGE_BYTES
        or min(forms) < 0
    ):
        return None
    others = [place for place, form in enumerate(forms) if form > AUTHOR_FIRST] if max(forms) > AUTHOR_FIRST else []
    bodies: Sequence[bytes] = contents
    if others:
        strange = set(others)
        bodies = [b'{"type":"other"}' if place in strange else body for place, body in enumerate(contents)]
    try:
        values = list(map(_loads, bodies))
        # Indentation can make deeply nested content 250 times as long; such a piece is dropped at once.
        pieces = [
            piece
            for value in values
            if len(piece := _dumps({"content": value}, None, _PRETTY)[1:-2]) <= MAX_MESSAGE_BYTES
        ]
        for kind in {value["type"] for value in values}:  # TypeError, LookupError: not an object with a type
            check_content({"type": kind})
        if len(pieces) < len(values) or has_suspects(pieces):
            return None
        for place in others:
            values[place], pieces[place] = _expand_content(forms[place], contents[place])
    except (ValueError, TypeError, LookupError, InvalidMessage):
        return None
    return values, pieces
