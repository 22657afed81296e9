"""Bendy butt: the format of metafeeds, ``bendybutt-v1`` (PROTOCOL.md, section 5).

A message is bencode: ``[payload, signature]`` with ``payload = [author, sequence, previous, timestamp, content section]``.
All but the two numbers are binary field encodings.  The content section is ``[content, content signature]``, where only the
leaves of content are fields, or a single encrypted field; ssb-bendy-butt writes ``[encrypted, content signature]``, too.

The rules are those of the specification, and stricter than ssb-bendy-butt, which reads content only when it needs it: the
leaves of content have to be valid fields, bencode has to be in its one spelling, and numbers have to be whole and below 2**53.
Where content names a ``subfeed``, the key of that feed has to have made the content signature: that is what makes it a
subfeed.  Where content names none, or is encrypted, nobody can say which key should have made it, and it is not checked.

What is kept of a message is its content section; the payload is put together again.  InvalidMessage gives the reasons of
classic messages where the rule is the same, and two more: ``bencode-invalid`` and ``content-signature-malformed``.

In a log a message is what ssb-db2 has of it in JavaScript: ``author``, ``sequence``, ``previous``, ``timestamp``, ``content``,
``contentSignature`` and ``signature``, ids and signatures as text.  Some of what the bytes said is lost there (text that looks
like an id becomes one), so logs of ours have the bytes beside it, as base64 in ``native``, and it is these that are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from sneaker.caps import auth
from sneaker.errors import InvalidMessage, RefError
from sneaker.feed.bencode import Bencoded, decode, encode
from sneaker.feed.bfe import NIL, SIGNATURE, decode_field, encode_field, feed_key, is_bytes
from sneaker.feed.classic.javascript_json import format_json
from sneaker.feed.content import FactsReader
from sneaker.feed.format import FeedFormat, SignatureCheck
from sneaker.feed.message import Compact, Content, Message
from sneaker.keys import verify_signature
from sneaker.limits import MAX_SEQUENCE
from sneaker.refs import FeedRef, MessageRef, decode_base64, encode_base64, message_ref_type

__all__ = ["BendyButtFormat"]

_MAX_BYTES = 8192
_MAX_TIMESTAMP = 2**53 - 1
_BYTE = 3
_AUTHOR = b"\0\3"
_PREVIOUS = b"\1\4"
_ENCRYPTED = (b"\5\0", b"\5\1")
_CONTENT_CONTEXT = b"bendybutt"
# "66:" and the signature's field, then the end of the list.
_SIGNATURE_BYTES = 3 + 66 + 1

_Key = message_ref_type(_BYTE)


class BendyButtFormat(FeedFormat):
    """Feeds in bendy butt."""

    byte = _BYTE

    def parse(self, raw: bytes | str) -> Message:
        """Read a message in its bytes."""
        if isinstance(raw, str):
            raise InvalidMessage("not-a-message", "bendy butt is no text")
        if len(raw) > _MAX_BYTES:
            raise InvalidMessage("too-long", f"{len(raw)} of {_MAX_BYTES} bytes")
        payload, signature = _items(decode(raw), 2, "not-a-message")
        author, sequence, previous, timestamp, section = _items(payload, 5, "fields-invalid")
        if not isinstance(author, bytes) or author[:2] != _AUTHOR or len(author) != 34:
            raise InvalidMessage("author-invalid", "no bendy butt feed")
        if not isinstance(sequence, int) or not 1 <= sequence <= MAX_SEQUENCE:
            raise InvalidMessage("sequence-invalid")
        key = _parse_previous(previous, sequence)
        _check_timestamp(timestamp)
        return Message(
            FeedRef(author[1:]),
            sequence,
            key,
            timestamp,
            _read_section(section),
            _signature(signature, "signature-malformed"),
            raw,
            _Key(hashlib.sha256(raw).digest()),
        )

    def read_log_value(self, value: dict[str, Any], outer: dict[str, Any], is_quick: bool) -> Message:
        """Read a message from the bytes beside it, or else from what JavaScript has of it."""
        native = outer.get("native")
        if isinstance(native, str):
            try:
                return self.parse(decode_base64(native))
            except RefError:
                raise InvalidMessage("not-a-message", "its bytes are no base64") from None
        if not _NAMES.issuperset(value) or not _NEEDED.issubset(value):
            raise InvalidMessage("fields-invalid", "not the fields of a bendy butt message")
        content = value["content"]
        section: Bencoded = encode_field(content) if isinstance(content, str) else _encode_content(content, 0)
        if "contentSignature" in value:
            section = [section, encode_field(value["contentSignature"])]
        payload: Bencoded = [
            encode_field(value["author"]),
            _number(value["sequence"]),
            encode_field(value["previous"]),
            _number(value["timestamp"]),
            section,
        ]
        return self.parse(encode([payload, encode_field(value["signature"])]))

    def log_json(self, message: Message) -> bytes:
        """Return the value as JavaScript has it, and the bytes."""
        value: dict[str, Any] = {
            "author": str(message.author),
            "sequence": message.sequence,
            "previous": None if message.previous is None else str(_Key(message.previous)),
            "timestamp": message.timestamp,
            "content": message.content,
        }
        section = _items(_items(decode(message.text), 2, "not-a-message")[0], 5, "fields-invalid")[4]
        if isinstance(section, list) and isinstance(section[1], bytes):
            value["contentSignature"] = decode_field(section[1])
        value["signature"] = decode_field(SIGNATURE + message.signature)
        printed = format_json(value, indent=0).encode("utf-8")
        return b'"value":%b,"native":"%b"' % (printed, encode_base64(message.text).encode())

    def compact(self, message: Message) -> Compact:
        """Return the content section with the timestamp and the signature; all else follows from the place in the feed."""
        return Compact(0, message.timestamp, message.signature, _section(message))

    def expand(self, author: FeedRef, sequence: int, previous: MessageRef | None, compact: Compact) -> Message:
        """Put a message together again."""
        form, timestamp, signature, content = compact
        if form or author.format != _BYTE or len(signature) != 64 or len(content) > _MAX_BYTES:
            raise InvalidMessage("compact-invalid", "a form, author, signature or content out of bounds")
        if not 1 <= sequence <= MAX_SEQUENCE:
            raise InvalidMessage("sequence-invalid")
        if (previous is None) is not (sequence == 1):
            raise InvalidMessage("previous-invalid", "the first message, and no other, has none")
        _check_timestamp(timestamp)
        start = _payload_start(author, sequence, previous, timestamp)
        text = b"".join((b"l", start, content, b"e", b"66:", SIGNATURE, signature, b"e"))
        if len(text) > _MAX_BYTES:
            raise InvalidMessage("too-long", f"{len(text)} of {_MAX_BYTES} bytes")
        said = _read_section(decode(content))
        return Message(
            author,
            sequence,
            previous,
            timestamp,
            said,
            signature,
            text,
            _Key(hashlib.sha256(text).digest()),
        )

    def expand_run(
        self, author: FeedRef, first: int, previous: MessageRef | None, compacts: Sequence[Compact]
    ) -> list[Message]:
        """Put consecutive messages together again, up to the first one that is invalid."""
        messages: list[Message] = []
        try:
            for sequence, item in enumerate(compacts, first):
                messages.append(self.expand(author, sequence, previous, item))
                previous = messages[-1].key
        except InvalidMessage:
            pass
        return messages

    def signature_checks(self, messages: Sequence[Message], hmac_key: bytes | None) -> list[SignatureCheck]:
        """Return the author's signature over the payload.

        Where the subfeed has not signed the content, the check is one that fails.
        """
        checks: list[SignatureCheck] = []
        for message in messages:
            payload = message.text[1:-_SIGNATURE_BYTES]
            if not _is_content_signed(message, hmac_key):
                checks.append((message.author.key, bytes(64), b""))
                continue
            checks.append((message.author.key, message.signature, _signed(payload, hmac_key)))
        return checks

    def facts_reader(self, reader: FactsReader) -> FactsReader:
        """Return a reader that finds nothing: sneaker does not act on what metafeeds say."""
        return lambda message: None


_NEEDED = frozenset(("author", "sequence", "previous", "timestamp", "content", "signature"))
_NAMES = _NEEDED | {"contentSignature"}


def _items(value: Bencoded, count: int, reason: str) -> list[Bencoded]:
    if not isinstance(value, list) or len(value) != count:
        raise InvalidMessage(reason, f"not a list of {count}")
    return value


def _parse_previous(previous: Bencoded, sequence: int) -> MessageRef | None:
    if sequence == 1:
        if previous != NIL:
            raise InvalidMessage("previous-invalid", "the first message has a previous one")
        return None
    if not isinstance(previous, bytes) or previous[:2] != _PREVIOUS or len(previous) != 34:
        raise InvalidMessage("previous-invalid", "not the id of a bendy butt message")
    return _Key(previous[2:])


def _check_timestamp(timestamp: Bencoded) -> None:
    if not isinstance(timestamp, int) or not 0 <= timestamp <= _MAX_TIMESTAMP:
        raise InvalidMessage("timestamp-invalid")


def _signature(value: Bencoded, reason: str) -> bytes:
    if not isinstance(value, bytes) or value[:2] != SIGNATURE or len(value) != 66:
        raise InvalidMessage(reason)
    return value[2:]


def _read_section(section: Bencoded) -> Content:
    """Return the content of a content section, as JSON has it."""
    content = section
    if isinstance(section, list):
        content, signature = _items(section, 2, "content-invalid")
        _signature(signature, "content-signature-malformed")
    if isinstance(content, bytes) and content[:2] in _ENCRYPTED:
        return str(decode_field(content))
    if not isinstance(content, dict) or content is section:
        raise InvalidMessage("content-invalid", "neither a signed dictionary nor encrypted")
    found: dict[str, Any] = _decode_content(content)
    return found


def _decode_content(value: Bencoded) -> Any:
    if isinstance(value, bytes):
        return decode_field(value)
    if isinstance(value, list):
        return [_decode_content(item) for item in value]
    if isinstance(value, dict):
        try:
            return {key.decode("utf-8"): _decode_content(item) for key, item in value.items()}
        except UnicodeDecodeError:
            raise InvalidMessage("content-invalid", "a key that is not UTF-8") from None
    if not -_MAX_TIMESTAMP <= value <= _MAX_TIMESTAMP:
        raise InvalidMessage("content-invalid", "a number that JavaScript does not have")
    return value


def _encode_content(value: Any, depth: int) -> Bencoded:
    """Return content for bencode; ``depth`` is bounded here too, since ``encode`` looks only afterwards."""
    if depth > 100:
        raise InvalidMessage("content-invalid", "nested too deeply")
    if isinstance(value, list):
        return [_encode_content(item, depth + 1) for item in value]
    if isinstance(value, dict) and not is_bytes(value):
        try:
            return {key.encode("utf-8"): _encode_content(item, depth + 1) for key, item in value.items()}
        except UnicodeEncodeError:
            raise InvalidMessage("content-invalid", "half a character (a lone surrogate)") from None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(value)
    return encode_field(value)


def _number(value: Any) -> int:
    if isinstance(value, float) and value.is_integer() and abs(value) <= _MAX_TIMESTAMP:
        return int(value)
    if type(value) is not int or abs(value) > _MAX_TIMESTAMP:
        raise InvalidMessage("content-invalid", "a number that is not whole, or none where one should be")
    return value


def _payload_start(author: FeedRef, sequence: int, previous: MessageRef | None, timestamp: int) -> bytes:
    """Return a payload up to its content section."""
    before = b"2:" + NIL if previous is None else b"34:" + _PREVIOUS + previous
    return b"l34:%b%bi%de%bi%de" % (_AUTHOR, author.key, sequence, before, timestamp)


def _section(message: Message) -> bytes:
    """Return the bytes of a message's content section."""
    start = _payload_start(message.author, message.sequence, message.previous, message.timestamp)
    return message.text[1 + len(start) : -_SIGNATURE_BYTES - 1]


def _signed(data: bytes, hmac_key: bytes | None) -> bytes:
    return data if hmac_key is None else auth(data, hmac_key)


def _is_content_signed(message: Message, hmac_key: bytes | None) -> bool:
    """Say whether the subfeed that content names has signed it; True where nobody can say who should have."""
    content = message.content
    key = feed_key(content["subfeed"]) if isinstance(content, dict) and "subfeed" in content else None
    if key is None:
        return True
    section = _section(message)
    # In the section the content stands between "l" and the signature's field, "e" behind it.
    content_bytes, signature = section[1:-_SIGNATURE_BYTES], section[-65:-1]
    return verify_signature(key, signature, _signed(_CONTENT_CONTEXT + content_bytes, hmac_key))
