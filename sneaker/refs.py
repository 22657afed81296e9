"""Names for feeds, messages and blobs: sigil ids and ``ssb:`` URIs, both ways.

A ref is its 32 raw bytes and knows how to print itself; text exists only at the edges.  Only the classic formats
are names for things sneaker can hold (PROTOCOL.md, sections 1.2 and 1.3).
"""

from __future__ import annotations

import binascii
import hashlib
import re
from typing import ClassVar, Self

from sneaker.errors import RefError

__all__ = ["BlobRef", "FeedRef", "MessageRef", "Ref", "decode_base64", "encode_base64", "parse_ref"]

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


class Ref(bytes):
    """The 32 bytes behind an id; compares, hashes and sorts as bytes."""

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
        data = encode_base64(self).replace("+", "-").replace("/", "_")
        return f"ssb:{self.kind}/{self.uri_formats[0]}/{data}"

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
    """A feed: the author's Ed25519 public key."""

    __slots__ = ()
    sigil = "@"
    suffix = ".ed25519"
    kind = "feed"
    uri_formats = ("classic", "ed25519")


class MessageRef(Ref):
    """A message: the hash of its canonical text."""

    __slots__ = ()
    sigil = "%"
    suffix = ".sha256"
    kind = "message"
    uri_formats = ("classic", "sha256")


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


def parse_ref(text: str) -> FeedRef | MessageRef | BlobRef:
    """Read an id of any kind; raises RefError."""
    for cls in (FeedRef, MessageRef, BlobRef):
        try:
            return cls.parse(text)
        except RefError:
            continue
    raise RefError(f"not a feed, message or blob id: {_shown(text)}")
