"""Bundles made for tests: fixed keys, ids and clocks, so that the same call gives the same bytes."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sneaker.bundle.compression import DEFAULT_LEVEL
from sneaker.bundle.events import BlobRead, Damage, End, Event, HeaderRead, MessagesRead, Status
from sneaker.bundle.frames import (
    FOOTER_BYTES,
    FRAME_BYTES,
    PREAMBLE,
    PREAMBLE_BYTES,
    Footer,
    RecordType,
    encode_footer,
    encode_record,
    parse_frame,
    payload_digest,
)
from sneaker.bundle.message_records import encode_messages
from sneaker.bundle.reader import BundleReader
from sneaker.bundle.records import (
    FeedEntry,
    Header,
    Index,
    RecordEntry,
    Segment,
    Trailer,
    encode_blob,
    encode_header,
    encode_index,
    encode_trailer,
)
from sneaker.bundle.writer import BundleWriter
from sneaker.caps import MAIN_CAPS
from sneaker.errors import BundleDamaged
from sneaker.feed.classic.compact import compact, expand_run
from sneaker.feed.classic.javascript_json import format_json
from sneaker.feed.classic.validate import parse_message
from sneaker.feed.formats import CLASSIC_FORMAT
from sneaker.feed.message import Message
from sneaker.feed.run import Run
from sneaker.keys import Keypair
from sneaker.need_data import NEED_DATA
from sneaker.refs import BlobRef, FeedRef, encode_base64

CREATED_MS = 1_700_000_000_000

# Of the bundle id of make_header.
TAG = bytes(range(8))


def keypair(name: str) -> Keypair:
    """Return the key pair that has this name in all tests."""
    return Keypair.from_seed(hashlib.sha256(b"sneaker bundle tests: " + name.encode()).digest())


EXPORTER = keypair("exporter")


def make_message(
    author: Keypair, previous: Message | None, timestamp: object, content: Any, *, author_first: bool = False
) -> Message:
    """Sign a message, also one that ``create_message`` would not."""
    sequence = previous.sequence + 1 if previous is not None else 1
    who = {"author": str(author.public)}
    value = {
        "previous": str(previous.key) if previous is not None else None,
        **(who if author_first else {}),
        "sequence": sequence,
        **who,
        "timestamp": timestamp,
        "hash": "sha256",
        "content": content,
    }
    unsigned = format_json(value)
    signature = encode_base64(author.sign(unsigned.encode()))
    return parse_message(f'{unsigned[:-2]},\n  "signature": "{signature}.sig.ed25519"\n}}')


def make_feed(
    author: Keypair, contents: Iterable[Any], *, start_ms: int = CREATED_MS, step_ms: int = 1000
) -> list[Message]:
    """Return the feed with these contents."""
    feed: list[Message] = []
    for number, content in enumerate(contents):
        feed.append(make_message(author, feed[-1] if feed else None, start_ms + step_ms * number, content))
    return feed


def posts(author: Keypair, count: int, *, step_ms: int = 1000) -> list[Message]:
    """Return a feed of short posts that mention each other."""
    feed: list[Message] = []
    for number in range(count):
        content: dict[str, Any] = {"type": "post", "text": f"message {number + 1}"}
        if feed:
            content["root"] = str(feed[0].key)
            content["branch"] = str(feed[-1].key)
        feed.append(make_message(author, feed[-1] if feed else None, CREATED_MS + step_ms * number, content))
    return feed


def run_of(messages: Sequence[Message]) -> Run:
    """Return consecutive messages of one feed as the run that a store would give."""
    first = messages[0]
    return Run(
        first.author,
        first.sequence,
        first.previous,
        [compact(item) for item in messages],
        [item.key for item in messages],
    )


def without_keys(runs: Iterable[Run]) -> list[Run]:
    """Return runs as a bundle gives them back."""
    return [Run(run.author, run.first, run.previous if run.first > 1 else None, list(run.compacts), ()) for run in runs]


def make_header(**changes: Any) -> Header:
    """Return the header of a test's bundle."""
    fields: dict[str, Any] = {
        "bundle_id": bytes(range(16)),
        "network_id": MAIN_CAPS.network_id,
        "exporter": EXPORTER.public,
        "created_ms": CREATED_MS,
        "generator": "sneaker tests",
    }
    return Header(**{**fields, **changes})


@dataclass
class Parts:
    """What ``make_bundle`` is to write; each group of feeds' parts becomes one message record."""

    groups: Sequence[Sequence[Sequence[Message]]] = ()
    blobs: Sequence[bytes] = ()
    prerequisites: Mapping[FeedRef, int] | None = None
    clock: Mapping[FeedRef, int] | None = None
    padding: int = 0
    header: Header = field(default_factory=make_header)
    exporter: Keypair = EXPORTER
    volumes: int = 1
    level: int = DEFAULT_LEVEL


def add_padding(writer: BundleWriter, length: int) -> bytes:
    """Append ``length`` bytes that readers skip; at least the 48 of a frame. Our own writer pads at the end only."""
    return writer._record(RecordType.PADDING, bytes(length - FRAME_BYTES))


def make_bundle(parts: Parts) -> bytes:
    """Write a bundle."""
    writer = BundleWriter(parts.header, parts.exporter)
    pieces = [writer.start(parts.prerequisites, parts.clock)]
    for group in parts.groups:
        runs = [run_of(messages) for messages in group]
        pieces.append(writer.add_messages(runs, encode_messages(runs, parts.level)))
    for blob in parts.blobs:
        ref = BlobRef.of(blob)
        pieces.append(writer.add_blob(ref, len(blob), encode_blob(ref, blob)))
    if parts.padding:
        pieces.append(add_padding(writer, parts.padding))
    pieces.append(writer.finish(parts.volumes))
    return b"".join(pieces)


def small_parts() -> Parts:
    """Return what the smallest bundle with something of everything holds: two message records, a blob, both clocks."""
    ada, ben = posts(keypair("ada"), 5), posts(keypair("ben"), 2)
    eve = make_feed(keypair("eve"), ["Z".rjust(40, "A") + ".box", {"type": "odd", "x": 1e-7, "y": "\ud800"}])
    return Parts(
        groups=[[ada[1:3], ben], [ada[3:], eve]],
        blobs=[b"a blob, short " * 3],
        prerequisites={ada[0].author: 1},
        clock={ada[0].author: 5, ben[0].author: 2, eve[0].author: 2},
    )


def records_of(data: bytes) -> list[tuple[int, int, int]]:
    """Return (type, offset of the frame, length of the payload) of the records of an undamaged bundle."""
    found = []
    offset = PREAMBLE_BYTES
    while (frame := parse_frame(data, offset)) is not None:
        found.append((frame.type, offset, frame.length))
        offset += FRAME_BYTES + frame.length
    return found


def record_of(data: bytes, kind: RecordType, number: int = 0) -> tuple[int, int]:
    """Return (offset of the frame, end of the payload) of a record."""
    offset, length = [(at, size) for found, at, size in records_of(data) if found == kind][number]
    return offset, offset + FRAME_BYTES + length


@dataclass
class Outcome:
    """What a reader made of some bytes."""

    status: Status
    end: End
    messages: list[Message]
    blobs: dict[BlobRef, bytes]
    events: list[Event]

    @property
    def texts(self) -> list[bytes]:
        return [message.text for message in self.messages]


def events_of(data: bytes, piece_bytes: int = 1 << 16) -> list[Event]:
    """Return all events of a bundle."""
    reader = BundleReader()
    events: list[Event] = []
    for piece in [*(data[at : at + piece_bytes] for at in range(0, len(data), piece_bytes)), b""]:
        reader.receive_data(piece)
        while (event := reader.next_event()) is not NEED_DATA:
            events.append(event)
            if isinstance(event, End):
                return events
    raise AssertionError("the reader did not come to an end")


def read_bundle(data: bytes, network_id: bytes | None = None) -> Outcome:
    """Read a bundle as an importer would that holds nothing: each run up to its first invalid message."""
    events = events_of(data)
    for event in events:
        if isinstance(event, HeaderRead) and network_id not in (None, event.header.network_id):
            end = End(Status.REFUSED, "another network")
            return Outcome(Status.REFUSED, end, [], {}, [event, end])
    last = events[-1]
    assert isinstance(last, End)
    outcome = Outcome(last.status, last, [], {}, events)
    for event in events:
        try:
            if isinstance(event, MessagesRead):
                for run in event.runs():
                    outcome.messages += valid_messages(run, outcome)
            elif isinstance(event, BlobRead):
                ref, blob = event.blob()
                outcome.blobs[ref] = blob
            elif isinstance(event, Damage):
                assert event.length > 0
        except BundleDamaged:
            outcome.status = worse(outcome.status)
    return outcome


def valid_messages(run: Run, outcome: Outcome) -> list[Message]:
    valid: list[Message] = []
    for message in expand_run(run.author, run.first, run.previous, run.compacts):
        if not _verified(message.text):
            break
        valid.append(message)
    if len(valid) < len(run.compacts):
        outcome.status = worse(outcome.status)
    return valid


@functools.cache
def _verified(message_text: bytes) -> bool:
    return CLASSIC_FORMAT.is_signed(parse_message(message_text), None)


def worse(status: Status) -> Status:
    """Return what a status becomes if a record was intact and its inside was not."""
    return status if status is Status.REFUSED else Status.DAMAGED


def signed_bundle(*records: tuple[int, bytes]) -> bytes:
    """Return a bundle of exactly these records, all of them in its index, and signed; one message record at most."""
    ada = posts(keypair("ada"), 1)[0]
    data, entries = PREAMBLE, []
    for number, (kind, payload) in enumerate(records):
        segments = (Segment(0, 1, 1),) if kind == RecordType.MESSAGES else ()
        entries.append(RecordEntry(kind, len(data), len(payload), payload_digest(payload), segments))
        data += encode_record(kind, number, TAG, payload)
    payload = encode_index(Index((FeedEntry(ada.author, 1, 1, ada.key[:16]),), (), tuple(entries)))
    header = make_header()
    trailer = Trailer(
        bundle_id=header.bundle_id,
        exporter=header.exporter,
        network_id=header.network_id,
        index_digest=payload_digest(payload),
        index_offset=len(data),
        messages=1,
        blobs=0,
        records=len(entries) + 1,
        volume=1,
        volumes=1,
    )
    data += encode_record(RecordType.INDEX, len(entries), TAG, payload)
    end = encode_record(RecordType.TRAILER, len(entries) + 1, TAG, encode_trailer(trailer, EXPORTER))
    return data + end + encode_footer(Footer(len(data), 0))


HEADER = (RecordType.HEADER, encode_header(make_header()))
MESSAGE = (RecordType.MESSAGES, encode_messages([run_of(posts(keypair("ada"), 1))]))
PADDING = (RecordType.PADDING, b"padding")
# A type that a reader must understand, and that nobody has defined.
UNKNOWN = (0x05, b"of the future")

SIGNED = signed_bundle(HEADER, MESSAGE)


def with_bytes_between(data: bytes, offset: int, more: bytes) -> bytes:
    """Return a bundle with more bytes before ``offset``, and a footer that says where the trailer is now."""
    moved = len(more) if offset <= (trailer := record_of(data, RecordType.TRAILER)[0]) else 0
    return data[:offset] + more + data[offset:-FOOTER_BYTES] + encode_footer(Footer(trailer + moved, 0))


def strange_bundles() -> dict[str, bytes]:
    """Return bundles whose signature, index and footer are right, and in which there is more than these say."""
    end, trailer = len(SIGNED) - FOOTER_BYTES, record_of(SIGNED, RecordType.TRAILER)[0]
    message, unknown, parity = (
        encode_record(kind, 9, TAG, payload) for kind, payload in (MESSAGE, UNKNOWN, (RecordType.PARITY, b""))
    )
    return {
        "a record that must be understood": signed_bundle(HEADER, MESSAGE, UNKNOWN),
        "two bundles": SIGNED + SIGNED,
        "junk before the trailer": with_bytes_between(SIGNED, trailer, b"junk"),
        "junk before the footer": with_bytes_between(SIGNED, end, b"junk " * 100),
        "messages behind the trailer": with_bytes_between(SIGNED, end, message),
        "an unknown record behind the trailer": with_bytes_between(SIGNED, end, unknown),
        "parity that the footer does not name": with_bytes_between(SIGNED, end, parity),
    }
