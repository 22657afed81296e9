"""The bytes every bundle is made of: preamble, record frames, footer, variable-length integers.

The outermost layer of ``bundles-format.md`` (sections "Layout", "Records", "Index, trailer and footer").  It knows where
a record begins and ends and whether it is intact, and nothing of what is inside.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from enum import IntEnum
from typing import NamedTuple

from sneaker.errors import BundleDamaged
from sneaker.refs import FeedRef

__all__ = [
    "COVERED",
    "FOOTER_BYTES",
    "FOOTER_MAGIC",
    "FRAME_BYTES",
    "MAGIC",
    "MAX_PAYLOAD_BYTES",
    "MAX_RECORDS",
    "MUST_UNDERSTAND_BELOW",
    "PREAMBLE",
    "PREAMBLE_BYTES",
    "SYNC",
    "VERSION",
    "Cursor",
    "Footer",
    "Frame",
    "RecordType",
    "encode_footer",
    "encode_preamble",
    "encode_record",
    "encode_varint",
    "feed_bytes",
    "parse_footer",
    "parse_frame",
    "parse_preamble",
    "payload_digest",
]

# Built like PNG's: a high bit, which a seven-bit channel would clear; a name for people; and line ends, which a transfer
# in text mode would change.
MAGIC = b"\x89SNK\r\n\x1a\n"
VERSION = 1
_PREAMBLE = struct.Struct("<8sHH")
PREAMBLE_BYTES = _PREAMBLE.size + 4


def encode_preamble(version: int = VERSION, flags: int = 0) -> bytes:
    """Return a preamble's 16 bytes.  Its CRC tells a version of the future from a flipped bit."""
    head = _PREAMBLE.pack(MAGIC, version, flags)
    return head + struct.pack("<I", zlib.crc32(head))


PREAMBLE = encode_preamble()

# It is neither valid UTF-8 nor the start of a zstd frame, so it does not occur in a payload by accident.  If somebody puts
# it there, nothing is lost: a frame also has the tag of its bundle and a CRC.
SYNC = b"\xf3\x9aSNKR\xc5\x1d"

_FRAME = struct.Struct("<8sBBHII8s16s")
FRAME_BYTES = _FRAME.size + 4

# The index of a bundle with MAX_CLOCK_FEEDS feeds fits, and so does any blob; a reader buffers one record at a time.
MAX_PAYLOAD_BYTES = 16 * 1024 * 1024

# Enough for a gigabyte in records of 16 KiB. A reader remembers each record, to compare it with the index.
MAX_RECORDS = 65_536

# Types below must be understood: a reader that does not know one stops there.  Types from here on may be skipped.
MUST_UNDERSTAND_BELOW = 0x80

_FOOTER = struct.Struct("<8sQQ")
FOOTER_BYTES = _FOOTER.size + 4
FOOTER_MAGIC = b"SNKend\r\n"


class RecordType(IntEnum):
    """What a record holds (``bundles-format.md``, "Record types")."""

    HEADER = 0x01
    MESSAGES = 0x02
    BLOB = 0x03
    TRAILER = 0x04
    PREREQUISITES = 0x81
    CLOCK = 0x82
    INDEX = 0x83
    PARITY = 0x84
    PADDING = 0x85


#: What the signature in the trailer covers; behind the trailer these are damage.
COVERED = frozenset(RecordType) - {RecordType.PARITY, RecordType.PADDING}


class Frame(NamedTuple):
    """The 48 bytes before a payload, checked."""

    type: int
    length: int
    number: int
    tag: bytes
    digest: bytes


class Footer(NamedTuple):
    """The last 28 bytes of a bundle: where the trailer record and the parity records begin (0: none)."""

    trailer_offset: int
    parity_offset: int


def parse_preamble(data: bytes) -> int | None:
    """Return the version in exactly 16 bytes, or None if they are not an intact preamble."""
    if len(data) != PREAMBLE_BYTES or not data.startswith(MAGIC):
        return None
    if zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        return None
    return int.from_bytes(data[8:10], "little")


def payload_digest(payload: bytes | memoryview) -> bytes:
    """Return the 16-byte BLAKE2b digest that a frame carries of its payload."""
    return hashlib.blake2b(payload, digest_size=16).digest()


def encode_record(record_type: int, number: int, tag: bytes, payload: bytes, digest: bytes | None = None) -> bytes:
    """Return a whole record: frame, then payload.

    ``number`` counts the records of this bundle from 0; ``tag`` is the first 8 bytes of the bundle id; ``digest`` is that of
    the payload, where it is known already.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"a record of {len(payload)} bytes")
    head = _FRAME.pack(SYNC, record_type, 0, 0, len(payload), number, tag, digest or payload_digest(payload))
    return b"".join((head, struct.pack("<I", zlib.crc32(head)), payload))


def parse_frame(data: bytes | bytearray | memoryview, offset: int = 0) -> Frame | None:
    """Return the frame at ``offset``, or None if there is no intact one.  ``data`` must hold all 48 bytes of it."""
    head = bytes(data[offset : offset + FRAME_BYTES])
    if len(head) != FRAME_BYTES or head[:8] != SYNC:
        return None
    if zlib.crc32(head[:-4]) != int.from_bytes(head[-4:], "little"):
        return None
    _, record_type, _, _, length, number, tag, digest = _FRAME.unpack_from(head)
    if length > MAX_PAYLOAD_BYTES:
        return None
    return Frame(record_type, length, number, tag, digest)


def encode_footer(footer: Footer) -> bytes:
    """Return the footer's 28 bytes."""
    head = _FOOTER.pack(FOOTER_MAGIC, footer.trailer_offset, footer.parity_offset)
    return head + struct.pack("<I", zlib.crc32(head))


def parse_footer(data: bytes) -> Footer | None:
    """Return the footer in exactly 28 bytes, or None if they are not an intact one."""
    if len(data) != FOOTER_BYTES or data[:8] != FOOTER_MAGIC:
        return None
    if zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        return None
    _, trailer_offset, parity_offset = _FOOTER.unpack_from(data)
    return Footer(trailer_offset, parity_offset)


def feed_bytes(feed: FeedRef) -> bytes:
    """Return the 32 bytes that name a feed in a bundle; raises ValueError for one that is not classic: those have no name."""
    if not feed.is_classic:
        raise ValueError(f"{feed} is no classic feed: bundles cannot carry it yet")
    return feed.key


def encode_varint(value: int) -> bytes:
    """Return ``value`` (0 <= value < 2^63) as unsigned LEB128."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Cursor:
    """Reads fields off a payload from front to back; everything it hands out is inside the payload.

    Raises BundleDamaged where a field does not fit.  The digest of the payload was right, so that is no accident: somebody
    wrote it that way.
    """

    __slots__ = ("data", "offset")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.offset = 0

    def take(self, length: int) -> bytes:
        """Return the next ``length`` bytes."""
        end = self.offset + length
        if length < 0 or end > len(self.data):
            raise BundleDamaged("a record ends inside a field")
        piece = self.data[self.offset : end]
        self.offset = end
        return piece

    def byte(self) -> int:
        """Return the next byte."""
        return self.take(1)[0]

    def varint(self, maximum: int = 2**63 - 1) -> int:
        """Return the next LEB128 integer, at most ``maximum``."""
        value = 0
        for shift in range(0, 63, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value > maximum:
                    raise BundleDamaged("a number in a record is over its limit")
                return value
        raise BundleDamaged("a number in a record is too long")

    def rest(self) -> bytes:
        """Return everything that is left."""
        return self.take(len(self.data) - self.offset)

    def finish(self) -> None:
        """Raise BundleDamaged unless everything was read."""
        if self.offset != len(self.data):
            raise BundleDamaged("a record has bytes that belong to no field")
