"""Targets: bundles, their records, cards and parity."""

from __future__ import annotations

import contextlib
import functools
import io
import zlib
from collections.abc import Iterable
from dataclasses import replace

from sneaker.bundle.card import Card, decode_card, encode_card
from sneaker.bundle.compression import compress, decompress
from sneaker.bundle.events import BlobRead, Damage, End, Event, MessagesRead, Status
from sneaker.bundle.frames import (
    FRAME_BYTES,
    PREAMBLE,
    Cursor,
    Footer,
    RecordType,
    encode_footer,
    encode_preamble,
    encode_record,
    encode_varint,
    parse_frame,
    payload_digest,
)
from sneaker.bundle.indexed_file import open_indexed
from sneaker.bundle.message_records import decode_messages, encode_messages
from sneaker.bundle.parity import SECTOR_BYTES, find_layout, overlaid, repair
from sneaker.bundle.reader import BundleReader
from sneaker.bundle.records import (
    BlobEntry,
    FeedEntry,
    Index,
    RecordEntry,
    Segment,
    Trailer,
    decode_blob,
    decode_clock,
    decode_header,
    decode_index,
    decode_trailer,
    encode_blob,
    encode_clock,
    encode_header,
    encode_index,
    encode_trailer,
)
from sneaker.errors import BundleDamaged, BundleUnsupported, InvalidMessage, NotABundle
from sneaker.feed.classic.compact import compact, expand, expand_run
from sneaker.feed.classic.validate import parse_message
from sneaker.feed.run import Run
from sneaker.need_data import NEED_DATA
from sneaker.refs import BlobRef, FeedRef, MessageRef
from tests.bundle.bundles import EXPORTER, keypair, make_header, records_of
from tests.bundle.vectors import load_vectors
from tests.fuzz.rules import Failed, Taker, Target, pieces_of, put_piece, raised, said

__all__ = ["TARGETS"]

HEADER = make_header()
TAG = HEADER.bundle_id[:8]


# ---------------------------------------------------------------------------------------------------- the reader


def events_of(pieces: Iterable[bytes]) -> tuple[list[Event], bytes]:
    """Return the events of a bundle, however many pieces it comes in, and what was not read of it."""
    reader = BundleReader()
    events: list[Event] = []
    for piece in [*pieces, b""]:
        reader.receive_data(piece)
        while (event := reader.next_event()) is not NEED_DATA:
            events.append(event)
            if isinstance(event, End):
                assert reader.next_event() == event
                return events, reader.trailing_data
    raise AssertionError("the reader did not come to an end")


def check_bundle(data: bytes) -> None:
    """Any bytes are a bundle in some state, the same one in whatever pieces they come."""
    events, _ = events_of([data] if data else [])
    check_events(events, data)
    # What is costly is done for some inputs; the bytes say for which.
    seed = zlib.crc32(data)
    if seed & 3 == 0:
        cut, _ = events_of(pieces_of(data))
        assert cut == events
    if seed & 0x700 == 0:
        check_indexed(data, events)
        for event in events:
            if isinstance(event, MessagesRead):
                check_messages(event.payload)
            elif isinstance(event, BlobRead):
                check_blob(event.payload)


def check_events(events: list[Event], data: bytes) -> None:
    """What a reader says of a bundle has to fit the bytes, and itself."""
    end = events[-1]
    assert isinstance(end, End)
    assert end.status in Status
    assert end.detail.isprintable()
    assert bool(end.detail) is not (end.status is Status.OK)
    carried = 0
    for event in events[:-1]:
        assert not isinstance(event, End)
        if isinstance(event, Damage):
            assert event.length > 0
            assert 0 <= event.offset <= len(data) - event.length
            assert event.detail.isprintable()
        elif isinstance(event, MessagesRead | BlobRead):
            assert data[event.offset + FRAME_BYTES :].startswith(event.payload)
            carried += len(event.payload)
            raised(BundleDamaged, event.runs if isinstance(event, MessagesRead) else event.blob)
    assert carried <= len(data)
    if end.status is Status.OK:
        assert not any(isinstance(event, Damage) for event in events)
        assert end.trailer is not None
    if end.signed:
        assert end.trailer is not None
        assert end.trailer.signature_ok


def check_indexed(data: bytes, events: list[Event]) -> None:
    """Whoever may jump in a file has to find what one finds who reads it from the front."""
    try:
        bundle = open_indexed(io.BytesIO(data))
    except BundleUnsupported:
        return
    end = events[-1]
    assert isinstance(end, End)
    if bundle is None:
        assert end.status is not Status.OK
        return
    payloads = {event.payload for event in events if isinstance(event, MessagesRead | BlobRead)}
    for entry in bundle.index.records:
        with contextlib.suppress(BundleDamaged):
            payload = bundle.read(entry)
            if end.status is Status.OK and entry.type in (RecordType.MESSAGES, RecordType.BLOB):
                assert payload in payloads


def check_records(data: bytes) -> None:
    """The same for a bundle whose frames, digests and signature are right, and whose records are what ``data`` says."""
    check_bundle(build_bundle(Taker(data)))


# More would make a slower target, not a better one.
MAX_ORDERS = 10
MAX_BUILT_BYTES = 4096


def build_bundle(taker: Taker) -> bytes:
    """Put a bundle together from orders: a byte that says what comes next, and what belongs to it."""
    out = bytearray(PREAMBLE)
    entries: list[RecordEntry] = []
    payloads: list[bytes] = []
    index: Index | None = None
    index_at = trailer_at = 0
    index_payload = b""

    def add(kind: int, payload: bytes, tag: bytes = TAG) -> None:
        entries.append(RecordEntry(kind, len(out), len(payload), payload_digest(payload)))
        payloads.append(payload)
        out.extend(encode_record(kind, len(entries) - 1, tag, payload))

    for _ in range(MAX_ORDERS):
        if not taker.left or len(out) > MAX_BUILT_BYTES:
            break
        order = taker.byte()
        kind, bent = order & 0x0F, order & 0x10
        if kind == 0:
            add(RecordType.HEADER, bend(encode_header(HEADER), taker) if bent else encode_header(HEADER))
        elif kind == 1:
            add(RecordType.MESSAGES, pack_messages(taker) if not bent else taker.piece())
        elif kind == 2:
            add(RecordType.BLOB, taker.piece() if bent else blob_payload(taker))
        elif kind == 3:
            add(RecordType.CLOCK if bent else RecordType.PREREQUISITES, taker.piece())
        elif kind == 4:
            plain = taker.piece()
            add(RecordType.INDEX, encode_varint(len(plain)) + compress(plain, 1))
        elif kind == 5:
            index, index_at = honest_index(entries, payloads), len(out)
            plain = encode_index(index)
            index_payload = bend(plain, taker) if bent else plain
            add(RecordType.INDEX, index_payload)
        elif kind == 6:
            trailer_at = len(out)
            payload = encode_trailer(
                Trailer(
                    HEADER.bundle_id,
                    EXPORTER.public,
                    HEADER.network_id,
                    payload_digest(index_payload),
                    index_at,
                    index.messages if index else 0,
                    len(index.blobs) if index else 0,
                    len(index.records) + 1 if index else 0,
                    1,
                    taker.byte() if bent else 1,
                ),
                EXPORTER,
            )
            add(RecordType.TRAILER, payload)
        elif kind == 7:
            out += encode_footer(Footer(trailer_at + (taker.byte() if bent else 0), taker.byte() if bent else 0))
        elif kind == 8:
            add(taker.byte(), taker.piece())
        elif kind == 9:
            out += taker.piece()
        elif kind == 10:
            # An older piece once more: records that stand twice, or in another place.
            start = taker.number(2) % (len(out) + 1)
            out += out[start : start + taker.number(2)]
        elif kind == 11:
            # The end is lost, or something inside.
            start = taker.number(2) % (len(out) + 1)
            del out[start : start + (taker.byte() if bent else len(out))]
        elif kind == 12:
            add(taker.byte(), taker.piece(), taker.take(8).ljust(8, b"\0"))
        elif kind == 13:
            place = taker.number(2) % (len(out) + 1)
            out[place : place + 1] = taker.take(1)
        elif kind == 14:
            out[:16] = encode_preamble(taker.byte(), taker.byte())
        else:
            add(RecordType.PADDING, bytes(taker.byte()))
    return bytes(out)


def bend(payload: bytes, taker: Taker) -> bytes:
    """Replace a part of a payload."""
    place = taker.number(2) % (len(payload) + 1)
    return payload[:place] + taker.piece() + payload[place + taker.byte() :]


def blob_payload(taker: Taker) -> bytes:
    blob = taker.piece()
    return encode_blob(BlobRef.of(blob), blob)


def pack_messages(taker: Taker) -> bytes:
    """Return a message record whose columns are compressed here: a fuzzer does not learn to compress."""
    count, signed = taker.byte(), taker.byte()
    plain = taker.piece()
    seals = b"".join(bytes((number & 0xFF,)) * 64 for number in range(signed))
    return encode_varint(count) + encode_varint(signed) + encode_varint(len(plain)) + seals + compress(plain, 1)


def honest_index(entries: list[RecordEntry], payloads: list[bytes]) -> Index:
    """Return the index that lists these records, and what can be read of them."""
    feeds: dict[FeedRef, FeedEntry] = {}
    blobs: dict[BlobRef, int] = {}
    listed: list[tuple[RecordEntry, list[Run]]] = []
    end = 0
    for entry, payload in zip(entries, payloads, strict=True):
        runs: list[Run] = []
        if entry.offset < end:  # something was cut out, and what stands there now came later
            continue
        end = entry.offset + FRAME_BYTES + entry.length
        with contextlib.suppress(BundleDamaged):
            if entry.type == RecordType.MESSAGES:
                runs = decode_messages(payload)
            elif entry.type == RecordType.BLOB:
                blob, data = decode_blob(payload)
                blobs[blob] = len(data)
                entry = entry._replace(blob=blob)
        for run in runs:
            known = feeds.setdefault(run.author, FeedEntry(run.author, run.first, run.last, bytes(16)))
            feeds[run.author] = known._replace(first=min(known.first, run.first), last=max(known.last, run.last))
        if entry.type != RecordType.BLOB or entry.blob is not None:
            listed.append((entry, runs))
    numbers = {feed: number for number, feed in enumerate(feeds)}
    records = [
        entry._replace(segments=[Segment(numbers[run.author], run.first, len(run.compacts)) for run in runs])
        for entry, runs in listed
    ]
    return Index(tuple(feeds.values()), tuple(BlobEntry(*item) for item in blobs.items()), tuple(records))


def bundle_seeds() -> Iterable[bytes]:
    """Return the vectors, but for the large ones, and some that are smaller still."""
    yield from (vector.data for vector in load_vectors() if len(vector.data) < 1000)
    yield from (build_bundle(Taker(data)) for data in records_seeds() if len(data) < 1000)


def records_seeds() -> Iterable[bytes]:
    """Return orders for bundles with something of everything."""
    messages = [b"\x01" + columns for columns in columns_seeds() if len(columns) < 800]
    blob = b"\x02" + put_piece(b"a blob " * 3)
    clock = b"\x03" + put_piece(encode_clock({EXPORTER.public: 5}))
    end = b"\x05\x06\x07"
    yield b"\x00" + clock + end
    yield b"\x00" + blob + end
    yield b"\x00" + clock + blob + b"\x0f\x10" + end
    yield b"\x00" + blob + end + b"\x0d\x60\x00\x01"
    yield b"\x00" + blob + end + b"\x0b\x10\x01"
    yield b"\x00" + b"\x08\xfe" + put_piece(b"unknown") + end + b"\x0a\x00\x00\xff\xff"
    yield from (b"\x00" + message + end for message in messages)
    yield b"\x00" + messages[0] + blob + messages[1] + clock + end


# ---------------------------------------------------------------------------------------------------- records


def seeds_of(*kinds: RecordType) -> list[bytes]:
    """Return the payloads of these kinds out of all vectors."""
    found = {
        vector.data[offset + FRAME_BYTES : offset + FRAME_BYTES + length]
        for vector in load_vectors()
        for kind, offset, length in records_of(vector.data)
        if kind in kinds and length < 4096
    }
    return sorted(found)


def plain_columns(payload: bytes) -> tuple[int, int, bytes]:
    """Return the counts of a message record and its columns, not compressed."""
    cursor = Cursor(payload)
    count, signed, size = cursor.varint(), cursor.varint(), cursor.varint()
    cursor.take(64 * signed)
    return count & 0xFF, signed & 0xFF, decompress(cursor.rest(), size)


def check_messages(payload: bytes) -> None:
    """A message record is damaged, or holds runs that come back when they are written again."""
    runs = raised(BundleDamaged, decode_messages, payload)
    if isinstance(runs, Failed):
        return
    for run in runs:
        check_run(run)
    with contextlib.suppress(ValueError):  # more text than a writer puts into one record
        assert decode_messages(encode_messages(runs, 1)) == runs


def check_run(run: Run) -> None:
    """Messages are what they are one by one, and what the exact way makes of their text."""
    messages = expand_run(run.author, run.first, run.previous, run.compacts)
    previous = run.previous
    for sequence, (item, message) in enumerate(zip(run.compacts, messages, strict=False), run.first):
        assert expand(run.author, sequence, previous, item) == message
        assert parse_message(message.text) == message
        again = compact(message)
        assert expand(run.author, sequence, previous, again) == message
        previous = message.key
    if len(messages) < len(run.compacts):
        at = len(messages)
        answer = raised(InvalidMessage, expand, run.author, run.first + at, previous, run.compacts[at])
        assert isinstance(answer, Failed)


def check_columns(data: bytes) -> None:
    """The same for a record whose compression is right."""
    check_messages(pack_messages(Taker(data)))


def columns_seeds() -> Iterable[bytes]:
    """Return the columns of the vectors' records."""
    for payload in seeds_of(RecordType.MESSAGES):
        with contextlib.suppress(BundleDamaged, AssertionError):
            count, signed, columns = plain_columns(payload)
            yield bytes((count, signed)) + put_piece(columns)


def check_blob(payload: bytes) -> None:
    """A blob record is damaged, or its blob comes back."""
    found = raised(BundleDamaged, decode_blob, payload)
    if not isinstance(found, Failed):
        ref, blob = found
        assert BlobRef.of(blob) == ref
        assert decode_blob(encode_blob(ref, blob)) == (ref, blob)


def check_header(payload: bytes) -> None:
    """A header is damaged, not for us, or says the same when it is written again."""
    try:
        header = decode_header(payload)
    except (BundleDamaged, BundleUnsupported) as error:
        said(error)
        return
    assert len(header.generator) <= 100
    with contextlib.suppress(TypeError):  # half a character in the name of a generator
        assert decode_header(encode_header(header)) == header


def check_clock(payload: bytes) -> None:
    """A clock is damaged, or comes back."""
    clock = raised(BundleDamaged, decode_clock, payload)
    if isinstance(clock, dict):
        assert len(clock) * 33 <= len(payload)
        assert decode_clock(encode_clock(clock)) == clock


def check_index(data: bytes) -> None:
    """An index is damaged, or comes back; one byte says whether it has to be compressed first."""
    payload = encode_varint(len(data) - 1) + compress(data[1:], 1) if data[:1] == b"\0" else data[1:]
    index = raised(BundleDamaged, decode_index, payload)
    if isinstance(index, Index):
        assert index.messages >= sum(len(record.segments) for record in index.records)
        if zlib.crc32(data) & 7 == 0:  # compressing takes longer than all the rest
            assert decode_index(encode_index(index)) == index


def index_seeds() -> Iterable[bytes]:
    """Return the indexes of the vectors, packed and not."""
    for payload in seeds_of(RecordType.INDEX):
        yield b"\1" + payload
        cursor = Cursor(payload)
        with contextlib.suppress(BundleDamaged):
            size = cursor.varint(4096)
            yield b"\0" + decompress(cursor.rest(), size)


def check_trailer(data: bytes) -> None:
    """A trailer is damaged, or comes back with its signature."""
    trailer = raised(BundleDamaged, decode_trailer, data)
    if isinstance(trailer, Trailer) and trailer.exporter == EXPORTER.public:
        again = decode_trailer(encode_trailer(trailer, EXPORTER))
        assert again.signature_ok
        assert replace(again, signature_ok=trailer.signature_ok) == trailer


# ---------------------------------------------------------------------------------------------------- cards


def check_card(data: bytes) -> None:
    """A card is none, or comes back; with 1 as its first byte it is signed here, or nothing else would be reached."""
    card_bytes = data[1:]
    if data[:1] == b"\1":
        body = (data[1:17] + ADA.public + data[17:]).ljust(CARD_HEAD_BYTES, b"\0")
        card_bytes = body + ADA.sign(CARD_CONTEXT + body)
    card = raised((BundleDamaged, NotABundle), decode_card, card_bytes)
    if isinstance(card, Card):
        assert len(card.clock) * 33 + len(card.wants) * 32 <= len(card_bytes)
        if card.machine == ADA.public:
            assert decode_card(encode_card(card, ADA)) == card


ADA = keypair("ada")
CARD_CONTEXT = b"sneaker card 1\0"
CARD_HEAD_BYTES = 100


def card_seeds() -> Iterable[bytes]:
    """Return cards, signed and to be signed."""
    ben = keypair("ben").public
    for card in (
        Card(ADA.public, HEADER.network_id, 3, 4),
        Card(ADA.public, HEADER.network_id, 3, 4, {ADA.public: 7, ben: 200}, frozenset({BlobRef(bytes(32))})),
        Card(
            ADA.public, bytes(32), 1, 1, {ADA.public: 7}, head=MessageRef(bytes(32)), unreadable=frozenset({bytes(16)})
        ),
    ):
        whole = encode_card(card, ADA)
        yield b"\0" + whole
        yield b"\1" + whole[:16] + whole[48:-64]


# ---------------------------------------------------------------------------------------------------- parity


@functools.cache
def protected() -> tuple[bytes, int]:
    """Return a small bundle with parity, and how much of it parity protects."""
    vector = next(vector for vector in load_vectors() if vector.name == "parity")
    layout = find_layout(lambda offset, length: vector.data[offset : offset + length], len(vector.data))
    assert layout is not None
    return vector.data, layout.protected


def check_parity(data: bytes) -> None:
    """Repair gives back what was there, or says that it cannot, and believes no table about what is not there."""
    good, size = protected()
    taker = Taker(data)
    hurt = bytearray(good)
    while taker.left:
        order = taker.byte()
        place = taker.number(2) % (len(hurt) + 1)
        if order < 0x60:
            hurt[place : place + 1] = bytes((taker.byte(),))
        elif order < 0x90:
            length = taker.number(2)
            hurt[place : place + length] = bytes(min(length, len(hurt) - place))
        elif order < 0xA0:
            del hurt[max(place, SECTOR_BYTES) :]
        elif order < 0xC0:
            hurt[place:place] = taker.piece()
        else:
            forge_table(hurt, place // SECTOR_BYTES * SECTOR_BYTES, taker)
    forged = any(byte >= 0xC0 for byte in data)
    read_bytes = 0

    def read(offset: int, length: int) -> bytes:
        nonlocal read_bytes
        assert offset >= 0
        assert length >= 0
        read_bytes += length
        return bytes(hurt[offset : offset + length])

    found = repair(read, len(hurt))
    # To look for a table, to read all data, and again for each stripe that is bad.
    assert read_bytes <= 8 * len(hurt) + 64 * SECTOR_BYTES, read_bytes
    if found is None:
        return
    assert sum(map(len, found.sectors.values())) <= found.layout.protected <= len(hurt) + 256 * SECTOR_BYTES * 256
    if not forged and found.beyond_repair == 0 and found.layout.protected == size:
        assert overlaid(read, found)(0, size) == good[:size]


def forge_table(hurt: bytearray, place: int, taker: Taker) -> None:
    """Write a table of digests with numbers of its own, and a frame that fits it."""
    head = taker.take(PARITY_HEAD_BYTES).ljust(PARITY_HEAD_BYTES, b"\0")
    payload = head + bytes(hurt[place + FRAME_BYTES + len(head) : place + SECTOR_BYTES])
    if place + SECTOR_BYTES <= len(hurt):
        hurt[place : place + SECTOR_BYTES] = encode_record(RecordType.PARITY, 0, TAG, payload)


PARITY_HEAD_BYTES = 26


def parity_seeds() -> Iterable[bytes]:
    """Return damage that parity copes with, and a table with numbers of its own."""
    yield b""
    yield b"\x00\x05\x00\xff"
    yield b"\x60\x00\x10\x00\x10\x00\x01\x02\x03"
    yield b"\x90\xff\xff"
    good, _ = protected()
    for place in range(0, len(good) - SECTOR_BYTES, SECTOR_BYTES):
        frame = parse_frame(good, place)
        if frame is not None and frame.type == RecordType.PARITY and frame.length == SECTOR_BYTES - FRAME_BYTES:
            head = good[place + FRAME_BYTES : place + FRAME_BYTES + PARITY_HEAD_BYTES]
            yield b"\xc0" + place.to_bytes(2, "little") + head


TARGETS = {
    "bundle": Target(check_bundle, bundle_seeds, max_bytes=1024),
    "bundle-records": Target(check_records, records_seeds, max_bytes=512),
    "messages": Target(check_messages, lambda: seeds_of(RecordType.MESSAGES), max_bytes=1400),
    "message-columns": Target(check_columns, columns_seeds, max_bytes=1000),
    "blob-record": Target(check_blob, lambda: seeds_of(RecordType.BLOB), max_bytes=300),
    "header": Target(check_header, lambda: seeds_of(RecordType.HEADER), max_bytes=512),
    "clock-record": Target(check_clock, lambda: seeds_of(RecordType.CLOCK, RecordType.PREREQUISITES), max_bytes=200),
    "index": Target(check_index, index_seeds, max_bytes=512),
    "trailer": Target(check_trailer, lambda: seeds_of(RecordType.TRAILER), max_bytes=256),
    "card": Target(check_card, card_seeds, max_bytes=300),
    "parity": Target(check_parity, parity_seeds, max_bytes=128),
}
