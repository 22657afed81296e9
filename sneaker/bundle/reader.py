"""The push reader: bytes of a bundle in, events out, in any pieces and whatever the bytes are.

It never raises for what is in the bytes.  Damage is an event, the next intact record is found by its sync marker, and
the last event says whether the bundle was whole (``bundles-format.md``, "Reading").
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, Literal

from sneaker.bundle.format import (
    FOOTER_BYTES,
    FRAME_BYTES,
    MUST_UNDERSTAND_BELOW,
    PREAMBLE,
    PREAMBLE_BYTES,
    SYNC,
    Frame,
    RecordType,
    parse_footer,
    parse_frame,
    payload_digest,
)
from sneaker.bundle.messages import decode_messages
from sneaker.bundle.records import (
    Header,
    Index,
    RecordEntry,
    Trailer,
    decode_blob,
    decode_clock,
    decode_header,
    decode_index,
    decode_trailer,
)
from sneaker.errors import BundleDamaged, BundleUnsupported
from sneaker.feed.run import Run
from sneaker.refs import BlobRef, FeedRef

__all__ = [
    "NEED_DATA",
    "BlobRead",
    "BundleReader",
    "ClockRead",
    "Damage",
    "End",
    "Event",
    "HeaderRead",
    "Lost",
    "MessagesRead",
    "NeedData",
    "Status",
    "describe_lost",
]


class NeedData(Enum):
    """The type of ``NEED_DATA``."""

    NEED_DATA = 0


NEED_DATA: Final[Literal[NeedData.NEED_DATA]] = NeedData.NEED_DATA


class Status(StrEnum):
    """What a bundle turned out to be, as reports say it."""

    OK = "ok"
    TRUNCATED = "truncated"
    DAMAGED = "damaged"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class HeaderRead:
    """The header was read."""

    header: Header


@dataclass(frozen=True, slots=True)
class ClockRead:
    """The prerequisites (``prerequisites`` true) or the exporter's own clock was read."""

    clock: dict[FeedRef, int]
    prerequisites: bool


@dataclass(frozen=True, slots=True)
class MessagesRead:
    """A message record arrived whole; ``runs()`` decodes it and raises BundleDamaged if its inside is wrong."""

    payload: bytes
    offset: int

    def runs(self) -> list[Run]:
        """Decode; safe to call in any thread."""
        return decode_messages(self.payload)


@dataclass(frozen=True, slots=True)
class BlobRead:
    """A blob record arrived whole; ``blob()`` decodes it and raises BundleDamaged if it does not match its id."""

    payload: bytes
    offset: int

    def blob(self) -> tuple[BlobRef, bytes]:
        """Decode; safe to call in any thread."""
        return decode_blob(self.payload)


@dataclass(frozen=True, slots=True)
class Damage:
    """``length`` bytes from ``offset`` on are no intact record."""

    offset: int
    length: int
    detail: str


@dataclass(frozen=True, slots=True)
class Lost:
    """Messages that the index lists and that did not arrive intact: ``count`` from ``first`` on."""

    feed: FeedRef
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class End:
    """Nothing more will come.

    ``trailer`` is None if none was read.  ``signed`` says that the trailer's signature is its exporter's and covers
    everything that was read.  ``lost_messages`` and ``lost_blobs`` are what the index lists and damage took; None if
    there is no index to tell.
    """

    status: Status
    detail: str
    trailer: Trailer | None = None
    signed: bool = False
    lost_messages: tuple[Lost, ...] | None = None
    lost_blobs: tuple[BlobRef, ...] | None = None


Event = HeaderRead | ClockRead | MessagesRead | BlobRead | Damage | End


def describe_lost(lost: tuple[Lost, ...]) -> str:
    """Return a line that names lost messages: how many of how many feeds, and the first few."""
    count = sum(item.count for item in lost)
    feeds = len({item.feed for item in lost})
    shown = ", ".join(f"{item.feed} {item.first}-{item.first + item.count - 1}" for item in lost[:3])
    return f"{count} messages of {feeds} feeds are damaged: {shown}{', ...' if len(lost) > 3 else ''}"


class BundleReader:
    """Reads one bundle.  ``receive_data`` stores, ``next_event`` parses; ``b""`` is the end of the input."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._offset = 0  # of the buffer's first byte in the bundle
        self._closed = False
        self._begun = False
        self._ended = False
        self._damage_start: int | None = None
        self._damage_detail = ""
        self._any_damage = False
        self._tag: bytes | None = None
        self._frame: Frame | None = None
        self._seen: dict[tuple[int, bytes], int] = {}
        self._index: Index | None = None
        self._index_digest = b""
        self._trailer: Trailer | None = None
        self._footer_seen = False
        self._waiting: list[Event] = []

    @property
    def trailing_data(self) -> bytes:
        """Bytes behind the end that were not read."""
        return bytes(self._buffer) if self._ended else b""

    def receive_data(self, data: bytes) -> None:
        """Store ``data``; ``b""`` says that the input has ended.  More after that raises RuntimeError."""
        if self._closed:
            raise RuntimeError("data after the end of the input")
        if data:
            self._buffer += data
        else:
            self._closed = True

    def next_event(self) -> Event | NeedData:
        """Return the next event, ``NEED_DATA``, or the last ``End`` again once it was given."""
        while True:
            if self._waiting:
                event = self._waiting.pop(0)
                if isinstance(event, End):
                    self._waiting.append(event)
                    self._ended = True
                return event
            if not self._step():
                return NEED_DATA

    # ------------------------------------------------------------------------------------------------ scanning

    def _step(self) -> bool:
        """Make progress; return False if more data is needed for it."""
        if not self._begun:
            if len(self._buffer) < PREAMBLE_BYTES and not self._closed:
                return False
            self._begun = True
            if self._buffer.startswith(PREAMBLE):
                self._consume(PREAMBLE_BYTES)
            else:
                self._start_damage("the bundle does not begin as bundles do")
            return True
        if self._frame is not None:
            return self._read_payload(self._frame)
        if len(self._buffer) >= FRAME_BYTES or self._closed:
            return self._find_frame()
        return False

    def _consume(self, count: int) -> bytes:
        piece = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._offset += count
        return piece

    def _start_damage(self, detail: str) -> None:
        self._any_damage = True
        if self._damage_start is None:
            self._damage_start = self._offset
            self._damage_detail = detail

    def _end_damage(self) -> None:
        if self._damage_start is not None:
            if self._offset > self._damage_start:
                self._waiting.append(Damage(self._damage_start, self._offset - self._damage_start, self._damage_detail))
            self._damage_start = None

    def _find_frame(self) -> bool:
        """Stand on the next intact frame, on the footer, or at the end."""
        frame = parse_frame(self._buffer)
        if frame is not None and (self._tag is None or frame.tag == self._tag):
            self._end_damage()
            self._tag = frame.tag
            self._frame = frame
            return True
        if self._trailer is not None and not self._footer_seen and self._damage_start is None:
            if len(self._buffer) < FOOTER_BYTES and not self._closed:
                return False
            if parse_footer(bytes(self._buffer[:FOOTER_BYTES])) is not None:
                self._consume(FOOTER_BYTES)
                self._footer_seen = True
                return True
            if len(self._buffer) < FOOTER_BYTES:
                self._consume(len(self._buffer))
                self._finish(cut=True)
                return True
        if not self._buffer and self._closed:
            self._finish(cut=False)
            return True
        if self._closed and self._trailer is None and self._damage_start is None and self._is_cut_frame():
            self._consume(len(self._buffer))
            self._finish(cut=True)
            return True
        self._start_damage("no record begins here" if not self._footer_seen else "bytes behind the end")
        found = self._buffer.find(SYNC, 1)
        if found < 0 and not self._closed:
            found = max(1, len(self._buffer) - len(SYNC) + 1)
        self._consume(found if found > 0 else len(self._buffer))
        return True

    def _is_cut_frame(self) -> bool:
        """Say whether what is left is the beginning of a frame that the end of the input cut."""
        left = bytes(self._buffer[: len(SYNC)])
        return len(self._buffer) < FRAME_BYTES and SYNC.startswith(left)

    def _read_payload(self, frame: Frame) -> bool:
        whole = FRAME_BYTES + frame.length
        if len(self._buffer) < whole:
            if not self._closed:
                return False
            self._frame = None
            if self._buffer.find(SYNC, 1) < 0:
                self._consume(len(self._buffer))
                self._finish(cut=True)
            else:  # the rest of this payload is gone, but another record stands where it should be
                self._skip_frame()
            return True
        self._frame = None
        payload = bytes(memoryview(self._buffer)[FRAME_BYTES:whole])
        if payload_digest(payload) != frame.digest:
            self._skip_frame()
            return True
        offset = self._offset
        self._consume(whole)
        self._seen[(offset, frame.digest)] = frame.length
        try:
            self._interpret(frame, payload, offset)
        except BundleUnsupported as error:
            self._stop(Status.REFUSED, error.message)
        except BundleDamaged as error:
            self._any_damage = True
            self._waiting.append(Damage(offset, whole, error.message))
        return True

    def _skip_frame(self) -> None:
        """The payload is damaged: look for the next record from right behind the frame, its length may be wrong too."""
        self._start_damage("a record fails its check")
        self._consume(FRAME_BYTES)

    # ------------------------------------------------------------------------------------------------ meaning

    def _interpret(self, frame: Frame, payload: bytes, offset: int) -> None:
        if frame.type == RecordType.HEADER:
            self._waiting.append(HeaderRead(decode_header(payload)))
        elif frame.type in (RecordType.PREREQUISITES, RecordType.CLOCK):
            self._waiting.append(ClockRead(decode_clock(payload), frame.type == RecordType.PREREQUISITES))
        elif frame.type == RecordType.MESSAGES:
            self._waiting.append(MessagesRead(payload, offset))
        elif frame.type == RecordType.BLOB:
            self._waiting.append(BlobRead(payload, offset))
        elif frame.type == RecordType.INDEX:
            self._index = decode_index(payload)
            self._index_digest = frame.digest
        elif frame.type == RecordType.TRAILER:
            self._trailer = decode_trailer(payload)
        elif frame.type < MUST_UNDERSTAND_BELOW:
            raise BundleUnsupported(f"the bundle holds records of type {frame.type}, which this version does not know")

    def _stop(self, status: Status, detail: str) -> None:
        self._waiting.append(End(status, detail, self._trailer))

    def _finish(self, *, cut: bool) -> None:
        self._end_damage()
        trailer, index = self._trailer, self._index
        missing: list[RecordEntry] = []
        if index is not None:
            missing = [entry for entry in index.records if self._seen.get((entry.offset, entry.digest)) != entry.length]
        signed = (
            trailer is not None
            and trailer.signature_ok
            and index is not None
            and trailer.index_digest == self._index_digest
            and (trailer.bundle_id[:8] == self._tag)
        )
        lost = _lost_messages(index, missing) if index is not None else None
        blobs = tuple(entry.blob for entry in missing if entry.blob is not None) if index is not None else None
        whole = signed and not missing and not self._any_damage and not cut and self._footer_seen
        if whole:
            status, detail = Status.OK, ""
        elif not self._any_damage and not self._footer_seen:
            status, detail = Status.TRUNCATED, f"the bundle is cut off at byte {self._offset}"
        elif trailer is not None and not trailer.signature_ok:
            status, detail = Status.DAMAGED, "the trailer's signature is not the exporter's"
        elif lost:
            status, detail = Status.DAMAGED, describe_lost(lost)
        elif blobs:
            status, detail = Status.DAMAGED, f"{len(blobs)} blobs are damaged"
        elif index is not None and not missing:
            status, detail = Status.DAMAGED, "the bundle is damaged, but no message or blob in it"
        else:
            status, detail = Status.DAMAGED, "a part of the bundle is damaged"
        self._waiting.append(End(status, detail, trailer, signed, lost, blobs))


def _lost_messages(index: Index, missing: list[RecordEntry]) -> tuple[Lost, ...]:
    return tuple(
        Lost(index.feeds[segment.feed].feed, segment.first, segment.messages)
        for entry in missing
        for segment in entry.segments
    )
