"""Names for feeds, messages and blobs: sigil ids and ``ssb:`` URIs, both ways.

A ref is its raw bytes and knows how to print itself; text exists only at the edges (PROTOCOL.md, sections 1.2 and 1.3).
Messages and blobs are named by a hash of 32 bytes.  The same key can write feeds of several formats, so a feed is named by
its format and its key: 32 bare bytes are never a feed.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from typing import ClassVar, Self

from sneaker.errors import RefError

__all__ = [
    "CLASSIC",
    "BlobRef",
    "FeedRef",
    "MessageRef",
    "Ref",
    "decode_base64",
    "encode_base64",
    "message_ref_type",
]

#: The format byte of classic feeds, and the formats there are names for, by their byte in binary field encodings; what of
#: them can be taken in is for ``feed.format``.
CLASSIC = 0
_FORMATS = {CLASSIC: "classic", 1: "gabbygrove-v1", 3: "bendybutt-v1", 5: "indexed-v1"}
_CLASSIC_BYTE = bytes((CLASSIC,))
_FORMAT_BYTES = {name: byte for byte, name in _FORMATS.items()} | {"ed25519": CLASSIC}

_URI = re.compile(r"ssb:(?://)?(?P<type>[a-z0-9-]+)[/:](?P<format>[a-z0-9-]+)[/:](?P<data>[A-Za-z0-9_-]+=*)")


def encode_base64(data: bytes) -> str:
    """Return standard base64 with padding and no line breaks."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def decode_base64(text: str, length: int | None = None) -> bytes:
    """Decode canonical base64: standard alphabet, padding, unused bits zero.

    Raises RefError if ``text`` is not canonical, or does not hold exactly ``length`` bytes where that is given.
    One byte string has one spelling here, so that two spellings of an id never become two feeds.
    """
    try:
        data = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (ValueError, UnicodeEncodeError):
        raise RefError("not canonical base64") from None
    if encode_base64(data) != text:
        raise RefError("not canonical base64")
    if length is not None and len(data) != length:
        raise RefError(f"expected {length} bytes of base64, found {len(data)}")
    return data


def _shown(text: object) -> str:
    """Return ``text`` short and printable, for an error line: it may come from a stick."""
    shown = repr(text)
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _uri(kind: str, name: str, data: bytes) -> str:
    return f"ssb:{kind}/{name}/{encode_base64(data).replace('+', '-').replace('/', '_')}"


class Ref(bytes):
    """The bytes behind an id, 32 unless it says otherwise; compares, hashes and sorts as bytes."""

    __slots__ = ()

    sigil: ClassVar[str] = ""
    suffix: ClassVar[str] = ""
    kind: ClassVar[str] = "ref"
    #: Formats accepted in an ``ssb:`` URI; the first is the one we print.
    uri_formats: ClassVar[tuple[str, ...]] = ()

    def __new__(cls, data: bytes) -> Self:
        """Make a ref of exactly 32 bytes; raises RefError for any other length."""
        if len(data) != 32:
            raise RefError(f"a {cls.kind} id has 32 bytes, not {len(data)}")
        return bytes.__new__(cls, data)

    def __str__(self) -> str:
        return f"{self.sigil}{encode_base64(self)}{self.suffix}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    @property
    def uri(self) -> str:
        """The ``ssb:`` URI, with URL-safe base64 and its padding kept."""
        return _uri(self.kind, self.uri_formats[0], self)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a sigil id or an ``ssb:`` URI; raises RefError if ``text`` is not one of this kind."""
        if not isinstance(text, str) or len(text) > 200:
            raise RefError(f"not a {cls.kind} id: {_shown(text)}")
        data = cls._parse_sigil(text) if not text.startswith("ssb:") else cls._parse_uri(text)
        if data is None:
            raise RefError(
                f"not a {cls.kind} id: {_shown(text)}",
                hint=f"a {cls.kind} id looks like {cls.sigil}<44 characters of base64>{cls.suffix}",
            )
        return cls(data)

    @classmethod
    def _parse_sigil(cls, text: str) -> bytes | None:
        if len(text) != 45 + len(cls.suffix) or text[:1] != cls.sigil or not text.endswith(cls.suffix):
            return None
        try:
            return decode_base64(text[1:45], 32)
        except RefError:
            return None

    @classmethod
    def _parse_uri(cls, text: str) -> bytes | None:
        match = _URI.fullmatch(text)
        if match is None or match["type"] != cls.kind or match["format"] not in cls.uri_formats:
            return None
        try:
            return decode_base64(match["data"].replace("-", "+").replace("_", "/"), 32)
        except RefError:
            return None


class FeedRef(Ref):
    """A feed: a byte for its format, then its author's Ed25519 public key."""

    __slots__ = ()
    sigil = "@"
    suffix = ".ed25519"
    kind = "feed"
    uri_formats = tuple(_FORMAT_BYTES)

    def __new__(cls, data: bytes) -> Self:
        """Make a ref of the format's byte and 32 bytes of key; raises RefError for anything else."""
        if len(data) != 33 or data[0] not in _FORMATS:
            raise RefError("a feed is named by the byte of a known format and 32 bytes of key")
        return bytes.__new__(cls, data)

    @classmethod
    def classic(cls, key: bytes) -> Self:
        """Return the classic feed of a public key; raises RefError unless it has 32 bytes."""
        if len(key) != 32:
            raise RefError(f"a public key has 32 bytes, not {len(key)}")
        return bytes.__new__(cls, _CLASSIC_BYTE + key)

    @classmethod
    def parse_classic(cls, text: str) -> Self:
        """Read the id of a classic feed, where no other will do; raises RefError."""
        ref = cls.parse(text)
        if not ref.is_classic:
            raise RefError(f"{ref!s} is no classic feed", hint="only classic feeds (@....ed25519) can be named here")
        return ref

    @property
    def format(self) -> int:
        """The format's byte."""
        return self[0]

    @property
    def is_classic(self) -> bool:
        """Whether it is a feed as every SSB program knows them."""
        return self[0] == CLASSIC

    @property
    def key(self) -> bytes:
        """The author's public key, 32 bytes."""
        return self[1:]

    def __str__(self) -> str:
        return "@" + encode_base64(self.key) + ".ed25519" if self.is_classic else self.uri

    @property
    def uri(self) -> str:
        """The ``ssb:`` URI, with URL-safe base64 and its padding kept."""
        return _uri(self.kind, _FORMATS[self.format], self.key)

    @classmethod
    def _parse_sigil(cls, text: str) -> bytes | None:
        key = super()._parse_sigil(text)
        return _CLASSIC_BYTE + key if key is not None else None

    @classmethod
    def _parse_uri(cls, text: str) -> bytes | None:
        key, match = super()._parse_uri(text), _URI.fullmatch(text)
        if key is None or match is None:
            return None
        return bytes((_FORMAT_BYTES[match["format"]],)) + key


class MessageRef(Ref):
    """A message: a hash of it.  What the hash is of, and how it is printed, is for the message's format."""

    __slots__ = ()
    sigil = "%"
    suffix = ".sha256"
    kind = "message"
    uri_formats = ("classic", "sha256")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a sigil id or an ``ssb:`` URI of any format; raises RefError if ``text`` is not one of a message."""
        match = _URI.fullmatch(text) if isinstance(text, str) and len(text) <= 200 else None
        byte = _FORMAT_BYTES.get(match["format"]) if match is not None and match["type"] == "message" else None
        named: type[Self] = cls if not byte or cls is not MessageRef else message_ref_type(byte)  # type: ignore[assignment]
        return super(MessageRef, named).parse(text)


def _message_types() -> dict[int, type[MessageRef]]:
    types: dict[int, type[MessageRef]] = {CLASSIC: MessageRef}
    for byte, name in _FORMATS.items():
        if byte != CLASSIC:
            members = {"__slots__": (), "uri_formats": (name,), "__str__": lambda self: self.uri}
            types[byte] = type("MessageRef", (MessageRef,), members)
    return types


_MESSAGE_TYPES = _message_types()


def message_ref_type(feed_format: int) -> type[MessageRef]:
    """Return the type of the ids of messages in feeds of a format: the same 32 bytes, printed as that format does."""
    return _MESSAGE_TYPES[feed_format]


class BlobRef(Ref):
    """A blob: the SHA-256 of its bytes."""

    __slots__ = ()
    sigil = "&"
    suffix = ".sha256"
    kind = "blob"
    uri_formats = ("classic", "sha256")

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Return the ref of the blob with these bytes."""
        return cls(hashlib.sha256(data).digest())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a blob id; a query behind it (``?unbox=...``) is dropped, it is for the application."""
        if isinstance(text, str) and len(text) <= 1024:
            text = text.partition("?")[0]
        return super().parse(text)
