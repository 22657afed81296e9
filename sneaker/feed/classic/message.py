"""A classic message: its parts, its id, the bytes it signs, and how a new one is made.

``text`` is the message; everything else in it was read out of that text.  PROTOCOL.md, sections 2.1 to 2.4.
"""

from __future__ import annotations

import hashlib
import math
import re
from binascii import a2b_base64
from decimal import Decimal

from nacl import bindings
from nacl.exceptions import CryptoError

from sneaker.caps import auth
from sneaker.errors import FeedError, InvalidMessage, PublishUnsafe
from sneaker.feed.classic.javascript_json import format_json, parse_json, utf16_units
from sneaker.feed.classic.javascript_numbers import format_number
from sneaker.feed.message import Content, Head, Message
from sneaker.keys import Keypair
from sneaker.limits import MAX_MESSAGE_UNITS, MAX_SEQUENCE, MAX_TYPE_UNITS, MIN_TYPE_UNITS
from sneaker.refs import MessageRef, encode_base64

__all__ = [
    "check_content",
    "check_publish_safe",
    "create_message",
    "message_key",
    "signed_bytes",
    "signed_text",
]

# `,\n  "signature": "` + 88 characters of base64 + `.sig.ed25519"\n}`: the signature is always the last field.
_SIGNATURE_FIELD = len(',\n  "signature": "') + 88 + len('.sig.ed25519"\n}')

# What ssb-validate takes for encrypted: canonical base64 (it may be empty), ".box", and anything on the same line.
_ENCRYPTED = re.compile(
    r"(?:[A-Za-z0-9+/]{4})*+(?:[A-Za-z0-9+/](?:[AQgw]==|[A-Za-z0-9+/][AEIMQUYcgkosw048]=))?\.box[^\n\r\u2028\u2029]*+"
)
# What every implementation takes for encrypted.
_ENCRYPTED_EVERYWHERE = re.compile(r"[A-Za-z0-9+/]+={0,2}\.box2?")
_SURROGATE = re.compile("[\ud800-\udfff]")
# The least that a reader can open: nonce, one-time key, a slot and a MAC; with .box2 a header, a slot and a MAC.
_MIN_SEALED_BYTES = {"box": 24 + 32 + 49 + 16, "box2": 32 + 32 + 16}
# A key of low order (zero is one) gives zero with every scalar, and libsodium refuses that; so one scalar is enough to try.
_ANY_SCALAR = bytes([1]) * 32

_new_bytes = bytes.__new__


def message_key(text: bytes) -> MessageRef:
    """Return the id of the message with this canonical text (UTF-8, with signature).

    It is the hash of the low byte of each UTF-16 unit, for that is what node made of a string when SSB began.
    """
    if text.isascii():
        return _new_bytes(MessageRef, hashlib.sha256(text).digest())
    return _new_bytes(MessageRef, hashlib.sha256(text.decode("utf-8").encode("utf-16-le")[::2]).digest())


def signed_text(text: bytes) -> bytes:
    """Return the canonical text of a message without its signature field."""
    return text[:-_SIGNATURE_FIELD] + b"\n}"


def signed_bytes(text: bytes, hmac_key: bytes | None = None) -> bytes:
    """Return what the author signed: the text without its signature, or its MAC on a network with an HMAC key."""
    signed = text[:-_SIGNATURE_FIELD] + b"\n}"
    return signed if hmac_key is None else auth(signed, hmac_key)


def check_content(content: object) -> None:
    """Check the content of a message as ssb-validate does; raises InvalidMessage.

    It is an object with a ``type`` of 3 to 52 UTF-16 units, or a string that looks encrypted.
    """
    if isinstance(content, dict):
        kind = content.get("type")
        if not isinstance(kind, str):
            raise InvalidMessage("content-type", "the content has no type")
        if not MIN_TYPE_UNITS <= utf16_units(kind) <= MAX_TYPE_UNITS:
            raise InvalidMessage("content-type", f"a type of {utf16_units(kind)} characters")
    elif isinstance(content, str):
        if _ENCRYPTED.fullmatch(content) is None:
            raise InvalidMessage("content-invalid", "text that is not encrypted")
    else:
        raise InvalidMessage("content-invalid", "neither an object nor encrypted text")


def create_message(
    keypair: Keypair, head: Head | None, timestamp_ms: float, content: Content, hmac_key: bytes | None = None
) -> Message:
    """Make and sign the message that follows ``head`` (None: the first one) in the feed of ``keypair``.

    Only messages that every SSB implementation accepts are made (PROTOCOL.md, section 2.4, "publish-safe
    subset").  Raises PublishUnsafe, whose text says what in ``content`` is in the way; nothing is signed then.
    """
    sequence = head.sequence + 1 if head is not None else 1
    if sequence > MAX_SEQUENCE:
        raise FeedError("this feed is full")
    if isinstance(timestamp_ms, bool) or not isinstance(timestamp_ms, int | float) or not math.isfinite(timestamp_ms):
        raise PublishUnsafe("the timestamp is not a number")
    check_publish_safe(content)
    value = {
        "previous": str(head.key) if head is not None else None,
        "sequence": sequence,
        "author": str(keypair.public),
        "timestamp": timestamp_ms,
        "hash": "sha256",
        "content": content,
    }
    try:
        unsigned = format_json(value)
    except InvalidMessage:
        raise PublishUnsafe("the content is nested too deeply") from None
    body = unsigned.encode("utf-8")
    signature = keypair.sign(body if hmac_key is None else auth(body, hmac_key))
    signed = f'{unsigned[:-2]},\n  "signature": "{encode_base64(signature)}.sig.ed25519"\n}}'
    units = utf16_units(signed)
    if units > MAX_MESSAGE_UNITS:
        raise PublishUnsafe(
            f"the message has {units} characters, {MAX_MESSAGE_UNITS} is the most that other programs take",
            hint="put long text into a blob and link to it",
        )
    text = signed.encode("utf-8")
    parsed = parse_json(text)
    return Message(
        author=keypair.public,
        sequence=sequence,
        previous=head.key if head is not None else None,
        timestamp=parsed["timestamp"],
        content=parsed["content"],
        signature=signature,
        text=text,
        key=message_key(text),
    )


def check_publish_safe(content: object) -> None:
    """Raise PublishUnsafe unless every SSB implementation keeps ``content`` as it is and accepts it."""
    if isinstance(content, str):
        _check_box(content)
        return
    try:
        check_content(content)
    except InvalidMessage as error:
        raise PublishUnsafe(f"the content is not valid: {error.detail}") from None
    if not isinstance(content, dict):  # check_content has refused it
        raise PublishUnsafe("the content is not an object")
    # go-ssb counts the type in bytes of UTF-8 where the others count UTF-16 units.
    if len(content["type"].encode("utf-8", "surrogatepass")) > MAX_TYPE_UNITS:
        raise PublishUnsafe(f"the type is longer than {MAX_TYPE_UNITS} bytes")
    waiting: list[object] = [content]
    seen = 0
    while waiting:
        value = waiting.pop()
        # Every value takes a character at least; a structure that contains itself ends here too.
        seen += 1
        if seen > MAX_MESSAGE_UNITS:
            raise PublishUnsafe("the content has more values than fit into a message")
        if isinstance(value, dict):
            if not value:
                raise PublishUnsafe("the content has an empty object {} in it, which go-ssb refuses")
            for key in value:
                if not isinstance(key, str):
                    raise PublishUnsafe("the keys of an object have to be strings")
                if key == "__proto__":
                    raise PublishUnsafe("the content has a key __proto__ in it, which ssb-db2 loses")
                _check_text(key)
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)
        elif isinstance(value, str):
            _check_text(value)
        elif isinstance(value, float):
            if not math.isfinite(value):
                raise PublishUnsafe("the content has a number in it that is not finite")
            if value == 0 and math.copysign(1, value) < 0:
                raise PublishUnsafe("the content has -0 in it, which JavaScript makes 0")
        elif isinstance(value, int):
            _check_integer(value)
        elif value is not None:
            raise PublishUnsafe(f"{type(value).__name__} has no place in JSON")


def _check_text(text: str) -> None:
    if _SURROGATE.search(text) is not None:
        raise PublishUnsafe(
            "the content has half a character (a lone surrogate) in it, which ssb-db2 and go-ssb replace"
        )


def _check_integer(number: int) -> None:
    try:
        # As JavaScript prints it: 2**60 is a double, and yet comes out as 1152921504606847000.
        same = Decimal(format_number(float(number))) == number
    except OverflowError:
        same = False
    if not same:
        raise PublishUnsafe(f"{number if abs(number) < 10**40 else 'a huge integer'} would change: numbers are doubles")


def _check_box(content: str) -> None:
    """Raise PublishUnsafe for encrypted text that no program has encrypted: ssb-server dies of some, at every start."""
    if _ENCRYPTED_EVERYWHERE.fullmatch(content) is None or _ENCRYPTED.fullmatch(content) is None:
        raise PublishUnsafe("text content has to be base64 that ends in .box or .box2")
    encoded, _, suffix = content.partition(".")
    sealed = a2b_base64(encoded)
    if len(sealed) < _MIN_SEALED_BYTES[suffix]:
        raise PublishUnsafe(f"{len(sealed)} bytes are too few for a private message that somebody could open")
    if suffix == "box":
        try:
            bindings.crypto_scalarmult(_ANY_SCALAR, sealed[24:56])
        except (CryptoError, RuntimeError):
            raise PublishUnsafe("the one-time key of this private message is none; ssb-server dies of it") from None
