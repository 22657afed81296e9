"""Header, clocks, blobs, index and trailer: there and back, and what is refused in them."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sneaker.bundle import writer as writer_module
from sneaker.bundle.compression import compress
from sneaker.bundle.frames import MAX_PAYLOAD_BYTES, MAX_RECORDS, RecordType, encode_varint
from sneaker.bundle.message_records import encode_messages
from sneaker.bundle.records import (
    MAX_SEGMENTS,
    BlobEntry,
    FeedEntry,
    Header,
    Index,
    RecordEntry,
    Segment,
    Trailer,
    decode_blob,
    decode_clock,
    decode_header,
    decode_index,
    decode_trailer,
    disagreement,
    encode_blob,
    encode_clock,
    encode_header,
    encode_index,
    encode_trailer,
)
from sneaker.bundle.writer import BundleWriter
from sneaker.errors import BundleDamaged, BundleUnsupported
from sneaker.limits import MAX_BLOB_BYTES, MAX_CLOCK_FEEDS, MAX_SEQUENCE
from sneaker.refs import BlobRef, FeedRef, MessageRef
from tests.bundle.bundles import EXPORTER, add_padding, keypair, make_header, posts, run_of
from tests.tries import amount, tries

keys = st.binary(min_size=32, max_size=32)
clocks = st.dictionaries(keys.map(FeedRef.classic), st.integers(0, MAX_SEQUENCE), max_size=20)


@given(
    st.binary(min_size=16, max_size=16),
    keys,
    keys,
    st.integers(0, 2**53),
    st.integers(1, 2**32 - 1),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=100),
)
def test_header(bundle: bytes, network: bytes, exporter: bytes, created: int, volume: int, generator: str) -> None:
    features = ("classic-messages", "blobs")
    header = Header(bundle, network, FeedRef.classic(exporter), created, features, volume, bundle[::-1], generator)
    assert decode_header(encode_header(header)) == header


def test_a_header_with_too_many_features() -> None:
    features = tuple("blobs" for _ in range(65))
    with pytest.raises(BundleDamaged):
        decode_header(encode_header(make_header(features=features)))
    with pytest.raises(BundleUnsupported) as caught:
        decode_header(encode_header(make_header(features=("\x1b[31m" + "x" * 1000,))))
    assert "\x1b" not in caught.value.message
    assert len(caught.value.message) < 200


@given(clocks)
def test_clock(clock: dict[FeedRef, int]) -> None:
    payload = encode_clock(clock)
    assert decode_clock(payload) == clock
    if clock:
        with pytest.raises(BundleDamaged):
            decode_clock(payload[:-1])
    with pytest.raises(BundleDamaged):
        decode_clock(payload + b"\0")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        encode_varint(MAX_CLOCK_FEEDS + 1) + bytes(33 * 10),
        encode_varint(MAX_CLOCK_FEEDS),
        encode_varint(2**63 - 1),
        b"\1" + bytes(32) + encode_varint(MAX_SEQUENCE + 1),
    ],
)
def test_absurd_clocks(payload: bytes) -> None:
    with pytest.raises(BundleDamaged):
        decode_clock(payload)


def test_too_large_a_clock_is_not_written() -> None:
    with pytest.raises(ValueError, match="a clock of"):
        encode_clock({FeedRef.classic(n.to_bytes(32, "big")): 1 for n in range(MAX_CLOCK_FEEDS + 1)})


@pytest.mark.parametrize("data", [b"", b"x", bytes(1000), bytes(range(256)) * 30, bytes(MAX_BLOB_BYTES)])
def test_blob(data: bytes) -> None:
    ref = BlobRef.of(data)
    payload = encode_blob(ref, data)
    assert decode_blob(payload) == (ref, data)
    assert len(payload) <= len(data) + 40


def test_blobs_that_lie() -> None:
    data = b"a blob"
    ref = BlobRef.of(data)
    good = b"\0" + ref + encode_varint(6) + data
    assert decode_blob(good) == (ref, data)
    bomb = compress(bytes(20_000_000))
    for bad in (
        b"",
        b"\2" + good[1:],
        good[:-1],
        good + b"x",
        b"\0" + BlobRef.of(b"another") + encode_varint(6) + data,
        b"\1" + good[1:],
        b"\0" + ref + encode_varint(MAX_BLOB_BYTES + 1) + data,
        b"\1" + ref + encode_varint(6) + bomb,
        b"\1" + ref + encode_varint(MAX_BLOB_BYTES) + bomb,
    ):
        tracemalloc.start()
        try:
            with pytest.raises(BundleDamaged):
                decode_blob(bad)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 2 * MAX_BLOB_BYTES + 1_000_000


def test_no_small_record_makes_a_large_blob() -> None:
    """A million bytes of such records would fill a disk; what packs so well is stored as it is."""
    data = bytes(1 << 20)
    with pytest.raises(BundleDamaged):
        decode_blob(b"\1" + BlobRef.of(data) + encode_varint(len(data)) + compress(data))
    assert decode_blob(encode_blob(BlobRef.of(data), data)) == (BlobRef.of(data), data)
    assert len(encode_blob(BlobRef.of(data), data)) > len(data)
    text = b"".join(b"line %d\n" % n for n in range(10_000))
    assert len(encode_blob(BlobRef.of(text), text)) < len(text) // 2


# ---------------------------------------------------------------------------------------------------- index


@st.composite
def indexes(draw: st.DrawFn) -> Index:
    feeds = []
    for feed in draw(st.lists(keys, max_size=5, unique=True)):
        first = draw(st.integers(1, MAX_SEQUENCE))
        feeds.append(FeedEntry(FeedRef.classic(feed), first, draw(st.integers(first, MAX_SEQUENCE)), feed[:16]))
    blobs = [
        BlobEntry(BlobRef(blob), draw(st.integers(0, MAX_BLOB_BYTES)))
        for blob in draw(st.lists(keys, max_size=3, unique=True))
    ]
    records = []
    offset = 16
    for _ in range(draw(st.integers(0, 8))):
        offset += draw(st.sampled_from([0, 0, 0, 1, 2**40]))
        kinds = [RecordType.HEADER, RecordType.CLOCK, RecordType.PADDING, 0xF0]
        kind = draw(st.sampled_from(kinds + [RecordType.MESSAGES] * (feeds != []) + [RecordType.BLOB] * (blobs != [])))
        segments = []
        if kind == RecordType.MESSAGES:
            for number in draw(st.lists(st.integers(0, len(feeds) - 1), max_size=3)):
                first = draw(st.integers(feeds[number].first, feeds[number].last))
                segments.append(Segment(number, first, draw(st.integers(1, min(4096, feeds[number].last + 1 - first)))))
        blob = draw(st.sampled_from(blobs)).blob if kind == RecordType.BLOB else None
        length = draw(st.integers(0, MAX_PAYLOAD_BYTES))
        digest = draw(st.binary(min_size=16, max_size=16))
        records.append(RecordEntry(int(kind), offset, length, digest, tuple(segments), blob))
        offset += 48 + length
    return Index(tuple(feeds), tuple(blobs), tuple(records))


@tries(150)
@given(indexes())
def test_index(index: Index) -> None:
    assert decode_index(encode_index(index)) == index


FEED = bytes(32) + encode_varint(5) + encode_varint(4) + bytes(16)  # messages 5 to 9
BLOB = bytes(32) + encode_varint(7)


def raw_index(feeds: bytes = b"\1" + FEED, blobs: bytes = b"\1" + BLOB, records: bytes = b"\0") -> bytes:
    plain = feeds + blobs + records
    return encode_varint(len(plain)) + compress(plain)


def raw_record(kind: int, offset: int, length: int, more: bytes = b"") -> bytes:
    return bytes((kind,)) + encode_varint(offset) + encode_varint(length) + bytes(16) + more


def raw_segments(*segments: tuple[int, int, int]) -> bytes:
    return encode_varint(len(segments)) + b"".join(encode_varint(n) for segment in segments for n in segment)


def test_the_raw_index_of_these_tests_is_right() -> None:
    records = b"\3" + raw_record(2, 16, 10, raw_segments((0, 5, 5), (0, 9, 1))) + raw_record(3, 58, 0, b"\0")
    index = decode_index(raw_index(records=records + raw_record(0x85, 48, MAX_PAYLOAD_BYTES)))
    assert [(record.type, record.offset) for record in index.records] == [(2, 16), (3, 74), (0x85, 122)]
    assert index.messages == 6


LYING_INDEXES = {
    "nothing": b"",
    "no frame": b"\5hello",
    "feeds that are not there": raw_index(feeds=encode_varint(1000) + FEED),
    "too many feeds": raw_index(feeds=encode_varint(MAX_CLOCK_FEEDS + 1)),
    "2^63 feeds": raw_index(feeds=encode_varint(2**63 - 1)),
    "too many blobs": raw_index(blobs=encode_varint(MAX_RECORDS + 1)),
    "too many records": raw_index(records=encode_varint(MAX_RECORDS + 1)),
    "a feed from 0": raw_index(feeds=b"\1" + bytes(32) + b"\0\1" + bytes(16)),
    "a feed to 2^31": raw_index(feeds=b"\1" + bytes(32) + encode_varint(1) + encode_varint(2**31 - 1) + bytes(16)),
    "a huge blob": raw_index(blobs=b"\1" + bytes(32) + encode_varint(MAX_BLOB_BYTES + 1)),
    "an unknown feed": raw_index(records=b"\1" + raw_record(2, 16, 10, raw_segments((1, 5, 1)))),
    "an unknown blob": raw_index(records=b"\1" + raw_record(3, 16, 10, b"\1")),
    "messages before the feed's first": raw_index(records=b"\1" + raw_record(2, 16, 10, raw_segments((0, 4, 1)))),
    "messages after the feed's last": raw_index(records=b"\1" + raw_record(2, 16, 10, raw_segments((0, 9, 2)))),
    "no messages": raw_index(records=b"\1" + raw_record(2, 16, 10, raw_segments((0, 5, 0)))),
    "records that overlap": raw_index(records=b"\2" + raw_record(0x85, 16, 10) + raw_record(0x85, 57, 10)),
    "a huge record": raw_index(records=b"\1" + raw_record(0x85, 16, MAX_PAYLOAD_BYTES + 1)),
    "an offset of 2^63 - 1": raw_index(records=b"\1" + raw_record(0x85, 2**63 - 1, 0)),
    "offsets that add up": raw_index(records=b"\2" + raw_record(0x85, 2**62, 0) + raw_record(0x85, 2**62, 0)),
    "more segments than there are": raw_index(records=b"\1" + raw_record(2, 16, 10, encode_varint(200_000))),
    "bytes behind the records": raw_index(records=b"\0x"),
    "a bomb": encode_varint(100) + compress(bytes(50_000_000)),
    "far more than it packs": raw_index(records=b"\2" + raw_record(2, 48, 0, raw_segments(*[(0, 5, 1)] * 9000)) * 2),
    "over the limit": encode_varint(16 * 1024 * 1024 + 1) + compress(bytes(16 * 1024 * 1024 + 1)),
}


@pytest.mark.parametrize("name", LYING_INDEXES)
def test_lying_indexes(name: str) -> None:
    with pytest.raises(BundleDamaged):
        decode_index(LYING_INDEXES[name])


def test_a_million_segments_in_bounded_memory() -> None:
    per_record = 1000
    number = 1_000_000 // per_record
    record = raw_record(2, 48, 0, raw_segments(*[(0, 5 + n % 5, 1) for n in range(per_record)]))
    million = raw_index(records=encode_varint(number) + record * number)
    tracemalloc.start()
    try:
        with pytest.raises(BundleDamaged):
            decode_index(million)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024 * 1024
    assert million  # in a few kilobytes
    assert len(million) < 20_000


@pytest.mark.slow
def test_the_costliest_index_in_bounded_memory() -> None:
    """As many of everything as the limits allow, each as small as it gets."""
    noise = random.Random(1)
    feeds = [
        noise.randbytes(32) + encode_varint(1) + encode_varint(MAX_SEQUENCE - 1) + bytes(16) for _ in range(100_000)
    ]
    blobs = [noise.randbytes(32) + b"\0" for _ in range(MAX_RECORDS)]
    per_record = MAX_SEGMENTS // MAX_RECORDS
    records = [
        raw_record(2, 48, 0, raw_segments(*[(n, 70_000 + n, 300) for _ in range(per_record)]))
        for n in range(MAX_RECORDS)
    ]
    payload = raw_index(
        encode_varint(len(feeds)) + b"".join(feeds),
        encode_varint(len(blobs)) + b"".join(blobs),
        encode_varint(len(records)) + b"".join(records),
    )
    tracemalloc.start()
    try:
        index = decode_index(payload)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(index.records) == MAX_RECORDS
    print(f"{held >> 20} MiB held, {peak >> 20} MiB at most")
    assert peak < 128 * 1024 * 1024


def test_a_writer_stays_within_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    share = amount(quick=8, thorough=1)
    for name in ("MAX_SEGMENTS", "MAX_RECORDS"):
        monkeypatch.setattr(writer_module, name, getattr(writer_module, name) // share)
    writer = BundleWriter(make_header(), EXPORTER)
    writer.start()
    run = run_of(posts(keypair("ada"), 1))
    runs = [run] * 1000
    while writer.has_room(len(runs)):
        writer.add_messages(runs, b"")
    with pytest.raises(ValueError, match="another volume"):
        writer.add_messages(runs, b"")
    while writer.has_room():
        add_padding(writer, 48)
    with pytest.raises(ValueError, match="another volume"):
        writer.add_blob(BlobRef(bytes(32)), 0, b"")
    writer.finish()
    assert encode_messages([run])


# -------------------------------------------------------------------------------------------------- trailer


def make_trailer(**changes: object) -> Trailer:
    fields: dict[str, object] = {
        "bundle_id": bytes(range(16)),
        "exporter": EXPORTER.public,
        "network_id": make_header().network_id,
        "index_digest": bytes(16),
        "index_offset": 1000,
        "messages": 0,
        "blobs": 0,
        "records": 1,
        "volume": 1,
        "volumes": 1,
    }
    return Trailer(**{**fields, **changes})  # type: ignore[arg-type]


def test_trailer() -> None:
    trailer = make_trailer(messages=2**64 - 1, volumes=2**32 - 1)
    payload = encode_trailer(trailer, EXPORTER)
    assert decode_trailer(payload) == trailer
    for place in range(len(payload)):
        damaged = bytearray(payload)
        damaged[place] ^= 0x40
        assert not decode_trailer(bytes(damaged)).signature_ok
    with pytest.raises(BundleDamaged):
        decode_trailer(payload[:-1])
    with pytest.raises(ValueError, match="signed by its exporter"):
        encode_trailer(trailer, keypair("somebody else"))


def test_disagreements() -> None:
    header, index = make_header(), Index()
    good = make_trailer()
    assert disagreement(good, header, index) is None
    assert disagreement(good, None, None) is None
    for change in (
        {"signature_ok": False},
        {"bundle_id": bytes(16)},
        {"exporter": keypair("ada").public},
        {"network_id": bytes(32)},
        {"volume": 2},
        {"messages": 1},
        {"blobs": 1},
        {"records": 2},
    ):
        assert disagreement(make_trailer(**change), header, index) is not None, change
    assert MessageRef(bytes(32))


def test_only_one_module_each_imports_the_libraries() -> None:
    root = Path(__file__).resolve().parents[2] / "sneaker"
    for library, home in (("zstandard", "compression.py"), ("zfec", "parity.py")):
        importing = {
            path.name
            for path in root.rglob("*.py")
            for line in path.read_text().splitlines()
            if line.strip().startswith((f"import {library}", f"from {library}"))
        }
        assert importing <= {home}
