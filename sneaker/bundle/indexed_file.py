"""Bundles in seekable files: open by the footer, and read only the records that are wanted.

The one module of ``bundle/`` that touches a file.  Everything it returns has passed its digest, and the digests come
from an index that the exporter signed.  If a file is not intact enough for that, ``open_indexed`` returns None, and the
caller reads it from the front with ``BundleReader``, which copes with damage.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from sneaker.bundle.frames import (
    COVERED,
    FOOTER_BYTES,
    FRAME_BYTES,
    MAX_RECORDS,
    MUST_UNDERSTAND_BELOW,
    PREAMBLE_BYTES,
    VERSION,
    Footer,
    RecordType,
    parse_footer,
    parse_frame,
    parse_preamble,
    payload_digest,
)
from sneaker.bundle.records import (
    TRAILER_BYTES,
    Header,
    Index,
    RecordEntry,
    Trailer,
    decode_clock,
    decode_header,
    decode_index,
    decode_trailer,
    disagreement,
)
from sneaker.clock import VectorClock
from sneaker.errors import BundleDamaged, BundleUnsupported

__all__ = ["IndexedBundle", "open_indexed"]

# A bundle of 30 GB has fewer records than this behind its trailer. Without a bound, a file full of empty padding takes long.
_MAX_BEHIND = 4 * MAX_RECORDS

# Types that must be understood and stand behind the header. If there is another one, the file is read from the front.
_CARRIED = frozenset({RecordType.MESSAGES, RecordType.BLOB})


@dataclass(frozen=True, slots=True)
class IndexedBundle:
    """An intact header, index and trailer, and the file to read records from."""

    file: BinaryIO
    header: Header
    index: Index
    trailer: Trailer

    def read(self, entry: RecordEntry) -> bytes:
        """Return the payload of a record of the index; raises BundleDamaged if it is not intact, OSError from reading."""
        return _read_record(self.file, entry.offset, entry.type, entry.length, self.header.bundle_id[:8], entry.digest)

    def clock(self, record_type: RecordType) -> VectorClock:
        """Return the prerequisites or the exporter's clock; empty if there is none, or it is damaged."""
        for entry in self.index.records:
            if entry.type == record_type:
                try:
                    return decode_clock(self.read(entry))
                except BundleDamaged:
                    break
        return VectorClock()

    def advancing(self, clock: VectorClock) -> Iterator[RecordEntry]:
        """Yield the message records that hold a message which a reader at ``clock`` lacks, in file order."""
        lacking = [entry.last > clock.get(entry.feed, 0) for entry in self.index.feeds]
        have = [clock.get(entry.feed, 0) for entry in self.index.feeds]
        for entry in self.index.records:
            if any(
                lacking[segment.feed] and segment.first + segment.messages - 1 > have[segment.feed]
                for segment in entry.segments
            ):
                yield entry


def open_indexed(file: BinaryIO) -> IndexedBundle | None:
    """Return the bundle in ``file`` if preamble, footer, trailer, signature, index and header are all intact, else None.

    None too if reading from the front would lead to another verdict: because there is a record that must be understood and
    is not known, or because there are bytes that belong to no record.

    Raises BundleUnsupported if it is of another version or asks for an unknown feature, and OSError from reading.
    """
    try:
        end = file.seek(0, os.SEEK_END)
        if end < PREAMBLE_BYTES + FOOTER_BYTES:
            return None
        file.seek(0)
        version = parse_preamble(file.read(PREAMBLE_BYTES))
        if version is None:
            return None
        if version != VERSION:
            raise BundleUnsupported(f"the bundle is of version {version}, which this sneaker does not know")
        file.seek(end - FOOTER_BYTES)
        footer = parse_footer(file.read(FOOTER_BYTES))
        if footer is None or footer.trailer_offset + FRAME_BYTES + TRAILER_BYTES > end:
            return None
        trailer = decode_trailer(_read_record(file, footer.trailer_offset, RecordType.TRAILER, TRAILER_BYTES))
        if not trailer.signature_ok or trailer.index_offset >= footer.trailer_offset:
            return None  # before anything that the trailer names is looked at
        tag = trailer.bundle_id[:8]
        payload = _read_record(file, trailer.index_offset, RecordType.INDEX, None, tag, trailer.index_digest)
        index = decode_index(payload)
        header = decode_header(_read_record(file, PREAMBLE_BYTES, RecordType.HEADER, None, tag))
    except BundleDamaged:
        return None
    if disagreement(trailer, header, index) is not None:
        return None
    if not _is_read_alike(index, trailer, footer, len(payload)):
        return None
    if not _adjoins(file, footer, end - FOOTER_BYTES, tag):
        return None
    return IndexedBundle(file, header, index, trailer)


def _is_read_alike(index: Index, trailer: Trailer, footer: Footer, index_bytes: int) -> bool:
    """Say whether a reader from the front would meet just the records of an index, one behind the other, and know them all."""
    at = PREAMBLE_BYTES
    for number, entry in enumerate(index.records):
        is_header = entry.type == RecordType.HEADER
        if entry.offset != at or is_header != (number == 0):
            return False
        if entry.type < MUST_UNDERSTAND_BELOW and not is_header and entry.type not in _CARRIED:
            return False
        at += FRAME_BYTES + entry.length
    return trailer.index_offset == at and footer.trailer_offset == at + FRAME_BYTES + index_bytes


def _adjoins(file: BinaryIO, footer: Footer, end: int, tag: bytes) -> bool:
    """Say whether only padding and parity stand between trailer and footer, and parity where the footer says.

    Only the frames are checked: repair checks what is in parity records, and padding means nothing.
    """
    at, first_parity = footer.trailer_offset + FRAME_BYTES + TRAILER_BYTES, 0
    for _ in range(_MAX_BEHIND):
        if at >= end:
            break
        file.seek(at)
        frame = parse_frame(file.read(FRAME_BYTES))
        if frame is None or frame.tag != tag or frame.type < MUST_UNDERSTAND_BELOW or frame.type in COVERED:
            return False
        if frame.type == RecordType.PARITY:
            first_parity = first_parity or at
        at += FRAME_BYTES + frame.length
    return at == end and footer.parity_offset == first_parity


def _read_record(
    file: BinaryIO,
    offset: int,
    record_type: int,
    length: int | None,
    tag: bytes | None = None,
    digest: bytes | None = None,
) -> bytes:
    """Return the payload of the record at ``offset``, checked; raises BundleDamaged."""
    file.seek(offset)
    frame = parse_frame(file.read(FRAME_BYTES))
    if (
        frame is None
        or frame.type != record_type
        or (length is not None and frame.length != length)
        or (tag is not None and frame.tag != tag)
        or (digest is not None and frame.digest != digest)
    ):
        raise BundleDamaged(f"no intact record at byte {offset}")
    payload = file.read(frame.length)
    if len(payload) != frame.length or payload_digest(payload) != frame.digest:
        raise BundleDamaged(f"the record at byte {offset} is damaged")
    return payload
