"""Binary field encodings: ids, keys, signatures and text as bytes that begin with their type and format (PROTOCOL.md, section 4).

In JSON each of them is a string, but for truth values, null, and bytes that mean nothing to SSB.  Those are written as
node prints a ``Buffer``: ``{"type": "Buffer", "data": [1, 2, 3]}``.
"""

from __future__ import annotations

import re
from typing import Any

from sneaker.errors import InvalidMessage, RefError
from sneaker.refs import decode_base64, encode_base64

__all__ = ["NIL", "SIGNATURE", "decode_field", "encode_field", "feed_key", "is_bytes"]

NIL = b"\6\2"
SIGNATURE = b"\4\0"

_STRING, _BOOLEAN, _BYTES = b"\6\0", b"\6\1", b"\6\3"
_FEED, _LAST_FEED_FORMAT = b"\0", 5

# By type and format: what stands before and behind the base64 of the data, and how many bytes there are (0: any number).
_SIGILS = {
    b"\0\0": ("@", ".ed25519", 32),
    b"\1\0": ("%", ".sha256", 32),
    b"\1\2": ("%", ".cloaked", 32),
    b"\2\0": ("&", ".sha256", 32),
    SIGNATURE: ("", ".sig.ed25519", 64),
    b"\5\0": ("", ".box", 0),
    b"\5\1": ("", ".box2", 0),
}
_URIS = {
    b"\0\1": ("feed/gabbygrove-v1", 32),
    b"\0\2": ("feed/bamboo", 32),
    b"\0\3": ("feed/bendybutt-v1", 32),
    b"\0\4": ("feed/buttwoo-v1", 32),
    b"\0\5": ("feed/indexed-v1", 32),
    b"\1\1": ("message/gabbygrove-v1", 32),
    b"\1\3": ("message/bamboo", 64),
    b"\1\4": ("message/bendybutt-v1", 32),
    b"\1\5": ("message/buttwoo-v1", 32),
    b"\1\6": ("message/indexed-v1", 32),
    b"\3\0": ("encryption-key/box2-dm-dh", 32),
    b"\3\1": ("encryption-key/box2-pobox-dh", 32),
    b"\7\0": ("identity/po-box", 32),
    b"\7\1": ("identity/group", 32),
}
# Other names of what is above.
_ALIASES = {
    "feed/classic": b"\0\0",
    "feed/ed25519": b"\0\0",
    "message/classic": b"\1\0",
    "message/sha256": b"\1\0",
    "message/cloaked": b"\1\2",
    "blob/classic": b"\2\0",
    "blob/sha256": b"\2\0",
}
_URI_TYPES = {name: (kind, size) for kind, (name, size) in _URIS.items()} | {
    name: (kind, 32) for name, kind in _ALIASES.items()
}
_URI = re.compile(r"ssb:(?://)?([a-z0-9-]+)[/:]([a-z0-9-]+)[/:]([A-Za-z0-9_-]+=*)")


def decode_field(data: bytes) -> Any:
    """Return what a field says, as JSON has it; raises InvalidMessage for one that says nothing."""
    kind, body = data[:2], data[2:]
    if kind == _STRING:
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidMessage("content-invalid", "text that is not UTF-8") from None
    if data == NIL:
        return None
    if kind == _BOOLEAN and body in (b"\0", b"\1"):
        return body == b"\1"
    if kind == _BYTES:
        return {"type": "Buffer", "data": list(body)}
    if kind in _SIGILS:
        sigil, suffix, size = _SIGILS[kind]
        if len(body) == size or not size:
            return f"{sigil}{encode_base64(body)}{suffix}"
    elif kind in _URIS:
        name, size = _URIS[kind]
        if len(body) == size:
            return f"ssb:{name}/{encode_base64(body).replace('+', '-').replace('/', '_')}"
    raise InvalidMessage("content-invalid", "a field of no known type and format")


def encode_field(value: Any) -> bytes:
    """Return the field for a string, a truth value, null, or bytes; raises InvalidMessage for what has no field."""
    if isinstance(value, str):
        return _encode_string(value)
    if value is None:
        return NIL
    if isinstance(value, bool):
        return _BOOLEAN + (b"\1" if value else b"\0")
    if is_bytes(value):
        return _BYTES + bytes(value["data"])
    raise InvalidMessage("content-invalid", f"{type(value).__name__} has no place in such a message")


def feed_key(value: Any) -> bytes | None:
    """Return the public key of the feed that a value of content names, whatever that feed's format; None if it names none.

    Bytes that are themselves the field of a feed name it, too.
    """
    try:
        field = encode_field(value)
    except InvalidMessage:
        return None
    field = field.removeprefix(_BYTES)
    return field[2:] if len(field) == 34 and field[:1] == _FEED and field[1] <= _LAST_FEED_FORMAT else None


def is_bytes(value: object) -> bool:
    """Say whether a value is how node prints bytes."""
    if not isinstance(value, dict) or value.keys() != {"type", "data"} or value["type"] != "Buffer":
        return False
    data = value["data"]
    return isinstance(data, list) and all(type(item) is int and 0 <= item <= 255 for item in data)


def _encode_string(text: str) -> bytes:
    found = _URI.fullmatch(text)
    if found is not None:
        kind, size = _URI_TYPES.get(f"{found[1]}/{found[2]}", (b"", 0))
        data = _base64(found[3].replace("-", "+").replace("_", "/"))
        if kind and data is not None and len(data) == size:
            return kind + data
    for kind, (sigil, suffix, size) in _SIGILS.items():
        if text.startswith(sigil) and text.endswith(suffix):
            data = _base64(text[len(sigil) : len(text) - len(suffix)])
            if data is not None and (len(data) == size or not size):
                return kind + data
    try:
        return _STRING + text.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidMessage("content-invalid", "half a character (a lone surrogate)") from None


def _base64(text: str) -> bytes | None:
    try:
        return decode_base64(text)
    except RefError:
        return None
