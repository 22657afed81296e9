"""The small records: header, clocks, blob, index and trailer (``bundles-format.md``, sections of these names).

Values to payloads and back; nothing here knows where in a file a record stands.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from sneaker.bundle.compression import compress, decompress
from sneaker.bundle.frames import (
    FRAME_BYTES,
    MAX_PAYLOAD_BYTES,
    MAX_RECORDS,
    Cursor,
    RecordType,
    encode_varint,
    feed_bytes,
)
from sneaker.clock import VectorClock
from sneaker.errors import BundleDamaged, BundleUnsupported, RefError
from sneaker.keys import Keypair, verify_signature
from sneaker.limits import MAX_BLOB_BYTES, MAX_CLOCK_FEEDS, MAX_SEQUENCE
from sneaker.refs import CLASSIC, BlobRef, FeedRef, decode_base64, encode_base64

__all__ = [
    "KNOWN_FEATURES",
    "MAX_SEGMENTS",
    "TRAILER_BYTES",
    "BlobEntry",
    "FeedEntry",
    "Header",
    "Index",
    "RecordEntry",
    "Segment",
    "Trailer",
    "decode_blob",
    "decode_clock",
    "decode_header",
    "decode_index",
    "decode_trailer",
    "disagreement",
    "encode_blob",
    "encode_clock",
    "encode_header",
    "encode_index",
    "encode_trailer",
]

#: Features that this reader has.  A bundle that requires another one is refused before anything is taken from it.
KNOWN_FEATURES = frozenset({"classic-messages", "blobs"})

_new_ref = bytes.__new__

_MAX_HEADER_BYTES = 64 * 1024
_MAX_FEATURES = 64
_MAX_INDEX_BYTES = 16 * 1024 * 1024
# Ids and digests are three quarters of an honest index and do not compress, so it packs to about half its size.
_MAX_INDEX_RATIO = 64
# A blob that packs better is stored as it is, so that no small file takes much time and disk to unpack.
_MAX_BLOB_RATIO = 256
# 3 bytes of an index become 120 bytes of memory. This is a run or two of each feed.
MAX_SEGMENTS = 262_144
_TRAILER_CONTEXT = b"sneaker bundle trailer 1\0"
_TRAILER = struct.Struct("<16s32s32s16sQQQQII")
TRAILER_BYTES = _TRAILER.size + 64


@dataclass(frozen=True, slots=True)
class Header:
    """Who made this bundle, for which network, and what a reader must be able to do.

    ``bundle_id``: 16 random bytes.  ``network_id``: ``Caps.network_id`` (32 bytes).  ``created_ms``: the exporter's
    clock.  ``volume``: number of this volume, from 1.  ``volume_set``: the bundle id of volume 1, which names the set.
    """

    bundle_id: bytes
    network_id: bytes
    exporter: FeedRef
    created_ms: int
    features: tuple[str, ...] = ("classic-messages",)
    volume: int = 1
    volume_set: bytes = b""
    generator: str = ""


def encode_header(header: Header) -> bytes:
    """Return the header's JSON object."""
    return orjson.dumps(
        {
            "bundle": encode_base64(header.bundle_id),
            "created": header.created_ms,
            "exporter": str(header.exporter),
            "features": list(header.features),
            "generator": header.generator,
            "network": encode_base64(header.network_id),
            "set": encode_base64(header.volume_set or header.bundle_id),
            "volume": header.volume,
        }
    )


def decode_header(payload: bytes) -> Header:
    """Read a header; raises BundleDamaged, or BundleUnsupported if it requires a feature we do not have."""
    if len(payload) > _MAX_HEADER_BYTES:
        raise BundleDamaged("the header is too long")
    try:
        data: Any = orjson.loads(payload)
        features = data["features"]
        if not isinstance(features, list) or len(features) > _MAX_FEATURES or not all(type(f) is str for f in features):
            raise BundleDamaged("the header's features are not a list of names")
        # This is checked first: the rest of the header may look strange because of the feature that we lack.
        _check_features(features)
        header = Header(
            bundle_id=decode_base64(data["bundle"], 16),
            network_id=decode_base64(data["network"], 32),
            exporter=FeedRef.parse_classic(data["exporter"]),
            created_ms=_integer(data["created"], 2**53),
            features=tuple(features),
            volume=_integer(data["volume"], 2**32 - 1, 1),
            volume_set=decode_base64(data["set"], 16),
            generator=str(data.get("generator", ""))[:100],
        )
    except (KeyError, TypeError, AttributeError, ValueError, RefError):
        raise BundleDamaged("the header cannot be read") from None
    return header


def _check_features(features: list[str]) -> None:
    unknown = [feature for feature in features if feature not in KNOWN_FEATURES]
    if unknown:
        raise BundleUnsupported(
            f"the bundle needs {', '.join(repr(name)[:40] for name in unknown[:5])}",
            hint="a newer sneaker may be able to read it",
        )


def _integer(value: object, maximum: int, minimum: int = 0) -> int:
    if type(value) is not int or not minimum <= value <= maximum:
        raise BundleDamaged("the header holds an impossible number")
    return value


def encode_clock(clock: VectorClock) -> bytes:
    """Return a clock record: count, then feed and sequence, by feed.  Raises ValueError over MAX_CLOCK_FEEDS."""
    feeds = sorted(feed for feed in clock if feed[0] == CLASSIC)
    if len(feeds) > MAX_CLOCK_FEEDS:
        raise ValueError(f"a clock of {len(feeds)} feeds")
    parts = [encode_varint(len(feeds))]
    for feed in feeds:
        parts += (feed.key, encode_varint(clock[feed]))
    return b"".join(parts)


def decode_clock(payload: bytes) -> VectorClock:
    """Read a clock record; raises BundleDamaged."""
    cursor = Cursor(payload)
    count = cursor.varint(MAX_CLOCK_FEEDS)
    clock: dict[FeedRef, int] = {}
    # No calls in this loop: 0.4 us a feed in place of 2 us. A visit reads some twenty clocks of thousands of feeds.
    at = cursor.offset
    for _ in range(count):
        feed = payload[at : at + 32]
        at += 32
        value = shift = 0
        while True:
            byte = payload[at] if at < len(payload) else 0x80
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 56 or at > len(payload):
                raise BundleDamaged("a clock ends inside a field, or holds a number over its limit")
        if value > MAX_SEQUENCE:
            raise BundleDamaged("a clock holds a number over its limit")
        clock[_new_ref(FeedRef, b"\0" + feed)] = value  # a classic feed
    cursor.offset = at
    cursor.finish()
    return VectorClock(clock)


def encode_blob(ref: BlobRef, data: bytes) -> bytes:
    """Return a blob record, compressed where that saves an eighth or more, and no more than a reader allows."""
    packed = compress(data)
    kind, body = (1, packed) if len(data) / _MAX_BLOB_RATIO <= len(packed) <= len(data) * 7 // 8 else (0, data)
    return b"".join((bytes((kind,)), ref, encode_varint(len(data)), body))


def decode_blob(payload: bytes) -> tuple[BlobRef, bytes]:
    """Return a blob's id and bytes; raises BundleDamaged, also if they do not belong together."""
    cursor = Cursor(payload)
    kind = cursor.byte()
    ref = BlobRef(cursor.take(32))
    size = cursor.varint(MAX_BLOB_BYTES)
    if kind > 1:
        raise BundleDamaged("a blob is packed in an unknown way")
    if kind and size > _MAX_BLOB_RATIO * len(payload):
        raise BundleDamaged("a blob unpacks to far more than a blob may")
    data = decompress(cursor.rest(), size) if kind else cursor.rest()
    if len(data) != size or BlobRef.of(data) != ref:
        raise BundleDamaged("a blob does not match its id")
    return ref, data


class Segment(NamedTuple):
    """A run as the index knows it: ``feed`` counts into the index's feeds."""

    feed: int
    first: int
    messages: int


class RecordEntry(NamedTuple):
    """A record as the index knows it: where its frame begins, its payload's length and digest, and its runs."""

    type: int
    offset: int
    length: int
    digest: bytes
    segments: Sequence[Segment] = ()
    blob: BlobRef | None = None


class FeedEntry(NamedTuple):
    """A feed in the index: its first and last sequence here, and the first 16 bytes of its last message's key."""

    feed: FeedRef
    first: int
    last: int
    last_key: bytes


class BlobEntry(NamedTuple):
    """A blob in the index."""

    blob: BlobRef
    size: int


@dataclass(frozen=True, slots=True)
class Index:
    """What is where: ``feeds`` by feed, and every record before the index, in file order."""

    feeds: tuple[FeedEntry, ...] = ()
    blobs: tuple[BlobEntry, ...] = ()
    records: tuple[RecordEntry, ...] = field(default=())

    @property
    def messages(self) -> int:
        """How many messages the bundle holds."""
        return sum(segment.messages for record in self.records for segment in record.segments)


def encode_index(index: Index) -> bytes:
    """Return an index record."""
    blob_number = {entry.blob: number for number, entry in enumerate(index.blobs)}
    parts = [encode_varint(len(index.feeds))]
    for entry in index.feeds:
        parts += (
            feed_bytes(entry.feed),
            encode_varint(entry.first),
            encode_varint(entry.last - entry.first),
            entry.last_key,
        )
    parts.append(encode_varint(len(index.blobs)))
    for blob in index.blobs:
        parts += (blob.blob, encode_varint(blob.size))
    parts.append(encode_varint(len(index.records)))
    end = 0
    for record in index.records:
        parts += (bytes((record.type,)), encode_varint(record.offset - end), encode_varint(record.length))
        parts.append(record.digest)
        end = record.offset
        if record.type == RecordType.MESSAGES:
            parts.append(encode_varint(len(record.segments)))
            for segment in record.segments:
                parts += map(encode_varint, segment)
        elif record.blob is not None:
            parts.append(encode_varint(blob_number[record.blob]))
    plain = b"".join(parts)
    return encode_varint(len(plain)) + compress(plain)


def decode_index(payload: bytes) -> Index:
    """Read an index; raises BundleDamaged."""
    outer = Cursor(payload)
    plain_bytes = outer.varint(_MAX_INDEX_BYTES)
    if plain_bytes > _MAX_INDEX_RATIO * len(payload):
        raise BundleDamaged("the index unpacks to far more than an index holds")
    cursor = Cursor(decompress(outer.rest(), plain_bytes))
    feeds = []
    for _ in range(cursor.varint(MAX_CLOCK_FEEDS)):
        feed = FeedRef.classic(cursor.take(32))
        first = cursor.varint(MAX_SEQUENCE)
        if first < 1:
            raise BundleDamaged("the index names an impossible sequence")
        feeds.append(FeedEntry(feed, first, first + cursor.varint(MAX_SEQUENCE - first), cursor.take(16)))
    blobs = [
        BlobEntry(BlobRef(cursor.take(32)), cursor.varint(MAX_BLOB_BYTES)) for _ in range(cursor.varint(MAX_RECORDS))
    ]
    records = []
    offset = end = 0
    segments_left = MAX_SEGMENTS
    for _ in range(cursor.varint(MAX_RECORDS)):
        kind = cursor.byte()
        offset += cursor.varint()
        length = cursor.varint(MAX_PAYLOAD_BYTES)
        digest = cursor.take(16)
        if offset < end:
            raise BundleDamaged("the index names records that overlap")
        end = offset + FRAME_BYTES + length
        if end >= 2**63:
            raise BundleDamaged("the index names a place outside of any file")
        segments: list[Segment] = []
        blob = None
        if kind == RecordType.MESSAGES:
            number_of_segments = cursor.varint(segments_left)
            segments_left -= number_of_segments
            for _ in range(number_of_segments):
                segment = Segment(cursor.varint(2**24), cursor.varint(MAX_SEQUENCE), cursor.varint(2**16))
                if segment.feed >= len(feeds):
                    raise BundleDamaged("the index names a feed that it does not hold")
                entry = feeds[segment.feed]
                if segment.messages < 1 or not entry.first <= segment.first <= entry.last + 1 - segment.messages:
                    raise BundleDamaged("the index names messages that it does not hold")
                segments.append(segment)
        elif kind == RecordType.BLOB:
            number = cursor.varint(2**24)
            if number >= len(blobs):
                raise BundleDamaged("the index names a blob that it does not hold")
            blob = blobs[number].blob
        records.append(RecordEntry(kind, offset, length, digest, tuple(segments), blob))
    cursor.finish()
    return Index(tuple(feeds), tuple(blobs), tuple(records))


@dataclass(frozen=True, slots=True)
class Trailer:
    """The end of a bundle, signed by its exporter.

    ``index_digest`` covers the index, which covers every record before it, so that the signature covers all of it.
    ``index_offset`` is where the index record begins; ``volumes`` is how many volumes the set has, 0 if more follow.
    """

    bundle_id: bytes
    exporter: FeedRef
    network_id: bytes
    index_digest: bytes
    index_offset: int
    messages: int
    blobs: int
    records: int
    volume: int
    volumes: int
    signature_ok: bool = True


def encode_trailer(trailer: Trailer, keypair: Keypair) -> bytes:
    """Return the trailer signed by ``keypair``, which must be the exporter's."""
    if keypair.public != trailer.exporter:
        raise ValueError("a bundle is signed by its exporter")
    body = _TRAILER.pack(
        trailer.bundle_id,
        feed_bytes(trailer.exporter),
        trailer.network_id,
        trailer.index_digest,
        trailer.index_offset,
        trailer.messages,
        trailer.blobs,
        trailer.records,
        trailer.volume,
        trailer.volumes,
    )
    return body + keypair.sign(_TRAILER_CONTEXT + body)


def decode_trailer(payload: bytes) -> Trailer:
    """Read a trailer and check its signature (``signature_ok``); raises BundleDamaged if it is not one."""
    if len(payload) != TRAILER_BYTES:
        raise BundleDamaged("the trailer has the wrong length")
    body, signature = payload[:-64], payload[-64:]
    bundle_id, exporter, network_id, digest, offset, messages, blobs, records, volume, volumes = _TRAILER.unpack(body)
    return Trailer(
        bundle_id=bundle_id,
        exporter=FeedRef.classic(exporter),
        network_id=network_id,
        index_digest=digest,
        index_offset=offset,
        messages=messages,
        blobs=blobs,
        records=records,
        volume=volume,
        volumes=volumes,
        signature_ok=verify_signature(exporter, signature, _TRAILER_CONTEXT + body),
    )


def disagreement(trailer: Trailer, header: Header | None, index: Index | None) -> str | None:
    """Say in which way a trailer contradicts the other records that it signs, or None.

    ``header`` and ``index`` are None where they were not read; the index has the digest that the trailer names.
    """
    if not trailer.signature_ok:
        return "the trailer's signature is not the exporter's"
    if header is not None and (header.bundle_id, header.exporter, header.network_id, header.volume) != (
        trailer.bundle_id,
        trailer.exporter,
        trailer.network_id,
        trailer.volume,
    ):
        return "the header is not the one of this bundle"
    if index is None:
        return None
    if (trailer.records, trailer.messages, trailer.blobs) != (
        len(index.records) + 1,
        index.messages,
        len(index.blobs),
    ):
        return "the trailer does not count what the index holds"
    return None
