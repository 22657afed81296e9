"""All kinds of sources that import, inspect and verify read; what one begins with tells its kind."""

from __future__ import annotations

from sneaker.errors import NotABundle
from sneaker.transfer.read_card import CardSource
from sneaker.transfer.read_encrypted import EncryptedSource
from sneaker.transfer.read_log import LogSource
from sneaker.transfer.read_stream import BundleSource
from sneaker.transfer.sources import SourceKind

__all__ = ["SOURCE_KINDS", "SOURCE_KIND_NAMES", "identify_source"]

#: A new kind is one more module, and stands here.  The first one that recognises something reads it, so the stricter ones stand
#: before the others: whatever has a JSON object near its beginning is a log.
SOURCE_KINDS: tuple[SourceKind, ...] = (BundleSource(), CardSource(), EncryptedSource(), LogSource())

#: What reports and ``--json`` call them.
SOURCE_KIND_NAMES = tuple(source_kind.kind for source_kind in SOURCE_KINDS)

_DATABASE = b"SQLite format 3\0"
_PACKED = (b"\x28\xb5\x2f\xfd", b"\x1f\x8b")


def identify_source(start: bytes, name: str) -> SourceKind:
    """Return the kind of what begins with ``start`` (up to 64 KiB); raises NotABundle if it is nothing sneaker reads."""
    if start.startswith(
        _DATABASE
    ):  # the messages in one may be JSON, with pages of other things between and inside them
        raise NotABundle(
            f"{name} is a database file, and sneaker reads none",
            hint="print the log with the program that the file belongs to, and import that",
        )
    for kind in SOURCE_KINDS:
        if kind.recognises(start):
            return kind
    if not start:
        raise NotABundle(f"{name} is empty")
    hint = "unpack it first: zstdcat FILE | sneaker import -" if start.startswith(_PACKED) else None
    raise NotABundle(f"{name} is not a bundle and not a log of messages", hint=hint)
