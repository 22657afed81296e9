"""The push reader: bytes of a bundle in, events out, in any pieces and whatever the bytes are.

It never raises for what is in the bytes.  Damage is an event, the next intact record is found by its sync marker, and
the last event says whether the bundle was whole (``bundles-format.md``, "Reading").
"""

from __future__ import annotations

from typing import NamedTuple

from sneaker.bundle.events import (
    BlobRead,
    ClockRead,
    Damage,
    End,
    Event,
    HeaderRead,
    Lost,
    MessagesRead,
    Status,
    describe_lost,
)
from sneaker.bundle.frames import (
    COVERED,
    FOOTER_BYTES,
    FOOTER_MAGIC,
    FRAME_BYTES,
    MAGIC,
    MAX_RECORDS,
    MUST_UNDERSTAND_BELOW,
    PREAMBLE_BYTES,
    SYNC,
    VERSION,
    Footer,
    Frame,
    RecordType,
    parse_footer,
    parse_frame,
    parse_preamble,
    payload_digest,
)
from sneaker.bundle.records import (
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
from sneaker.errors import BundleDamaged, BundleUnsupported
from sneaker.need_data import NEED_DATA, NeedData
from sneaker.refs import BlobRef

__all__ = ["BundleReader"]

# In an honest bundle, damaged or not, less than its size is hashed in vain.
_FREE_HASHING_BYTES = 64 * 1024 * 1024


class _Arrived(NamedTuple):
    """An intact record: where its frame began, and what the index says of it too."""

    offset: int
    type: int
    length: int
    digest: bytes


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
        self._hashed_in_vain = 0
        self._arrived: list[_Arrived] = []  # every intact record up to the trailer
        self._first_parity = 0
        # Whether there are records in wrong places: signed types behind the trailer, any type behind the footer.
        self._stray = False
        self._header: Header | None = None
        self._index_at: _Arrived | None = None
        self._index_payload = (
            b""  # of the last index before the trailer; it is read at the end, if the trailer names it
        )
        self._trailer: Trailer | None = None
        self._trailer_offset = 0
        self._footer: Footer | None = None
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
            self._read_preamble()
            return True
        if self._frame is not None:
            return self._read_payload(self._frame)
        if len(self._buffer) >= FRAME_BYTES or self._closed:
            return self._find_frame()
        return False

    def _read_preamble(self) -> None:
        version = parse_preamble(bytes(self._buffer[:PREAMBLE_BYTES]))
        if version == VERSION:
            self._drop(PREAMBLE_BYTES)
        elif version is not None:
            self._stop(Status.REFUSED, f"the bundle is of version {version}, which this sneaker does not know")
        elif len(self._buffer) < PREAMBLE_BYTES and MAGIC.startswith(bytes(self._buffer[: len(MAGIC)])):
            self._drop(len(self._buffer))
            self._finish()
        else:
            self._start_damage("the bundle does not begin as bundles do")

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._offset += count

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
        if self._trailer is not None and self._footer is None and self._damage_start is None:
            self._footer = parse_footer(bytes(self._buffer[:FOOTER_BYTES]))
            if self._footer is not None:
                self._drop(FOOTER_BYTES)
                return True
        if self._closed and (not self._buffer or (self._damage_start is None and self._is_cut())):
            self._drop(len(self._buffer))
            self._finish()
            return True
        self._start_damage("no record begins here" if self._footer is None else "bytes behind the end")
        found = self._buffer.find(SYNC, 1)
        if found < 0:
            found = len(self._buffer) if self._closed else max(1, len(self._buffer) - len(SYNC) + 1)
        self._drop(found)
        return True

    def _is_cut(self) -> bool:
        """Say whether what is left is the beginning of a frame or of a footer, which the end of the input cut."""
        left = bytes(self._buffer[: len(SYNC)])
        if len(self._buffer) < FRAME_BYTES and SYNC.startswith(left):
            return True
        return len(self._buffer) < FOOTER_BYTES and self._trailer is not None and FOOTER_MAGIC.startswith(left)

    def _read_payload(self, frame: Frame) -> bool:
        whole = FRAME_BYTES + frame.length
        if len(self._buffer) < whole:
            if not self._closed:
                return False
            self._frame = None
            if not self._holds_frame():
                self._drop(len(self._buffer))
                self._finish()
            else:  # the rest of this payload is missing: another record stands in its place
                self._skip(FRAME_BYTES)
            return True
        self._frame = None
        with memoryview(self._buffer) as view, view[FRAME_BYTES:whole] as inside:
            payload = bytes(inside) if payload_digest(inside) == frame.digest else None
        if payload is None:
            self._hashed_in_vain += frame.length
            # Bytes may be missing, so the search goes on right behind the frame. A payload full of frames would have us hash
            # the same bytes again and again: that is bounded.
            honest = self._hashed_in_vain <= 2 * (self._offset + len(self._buffer)) + _FREE_HASHING_BYTES
            self._skip(FRAME_BYTES if honest else whole)
            return True
        offset = self._offset
        self._drop(whole)
        try:
            self._interpret(frame, payload, offset)
        except BundleUnsupported as error:
            self._stop(Status.REFUSED, error.message)
        except BundleDamaged as error:
            self._any_damage = True
            self._waiting.append(Damage(offset, whole, error.message))
        return True

    def _holds_frame(self) -> bool:
        """Say whether another intact frame of this bundle stands behind the one at the buffer's start."""
        at = self._buffer.find(SYNC, FRAME_BYTES)
        while at >= 0:
            frame = parse_frame(self._buffer, at)
            if frame is not None and frame.tag == self._tag:
                return True
            at = self._buffer.find(SYNC, at + 1)
        return False

    def _skip(self, count: int) -> None:
        self._start_damage("a record fails its check")
        self._drop(count)

    # ------------------------------------------------------------------------------------------------ meaning

    def _interpret(self, frame: Frame, payload: bytes, offset: int) -> None:
        arrived = _Arrived(offset, frame.type, frame.length, frame.digest)
        is_first = not self._arrived and self._trailer is None
        self._note(arrived)
        if frame.type == RecordType.HEADER:
            if not is_first:
                raise BundleDamaged("a header that is not the first record")
            header = decode_header(payload)
            if header.bundle_id[:8] != frame.tag:
                raise BundleDamaged("the header is not the one of this bundle")
            self._header = header
            self._waiting.append(HeaderRead(header))
        elif frame.type in (RecordType.PREREQUISITES, RecordType.CLOCK):
            self._waiting.append(ClockRead(decode_clock(payload), frame.type == RecordType.PREREQUISITES))
        elif frame.type == RecordType.MESSAGES:
            self._waiting.append(MessagesRead(payload, offset))
        elif frame.type == RecordType.BLOB:
            self._waiting.append(BlobRead(payload, offset))
        elif frame.type == RecordType.INDEX:
            if self._trailer is None:
                self._index_payload, self._index_at = payload, arrived
        elif frame.type == RecordType.TRAILER:
            trailer = decode_trailer(payload)
            if trailer.bundle_id[:8] != frame.tag:
                raise BundleDamaged("the trailer is not the one of this bundle")
            if self._trailer is None:
                self._trailer, self._trailer_offset = trailer, offset
        elif frame.type < MUST_UNDERSTAND_BELOW:
            raise BundleUnsupported(f"the bundle holds records of type {frame.type}, which this version does not know")

    def _note(self, arrived: _Arrived) -> None:
        """Remember a record, to compare it with the index at the end."""
        if self._trailer is None:
            if arrived.type == RecordType.TRAILER:
                return
            if len(self._arrived) > MAX_RECORDS:
                self._any_damage = True  # no index lists so many records; they are good all the same
            else:
                self._arrived.append(arrived)
        elif self._footer is not None:
            self._stray = True
        elif arrived.type == RecordType.PARITY:
            self._first_parity = self._first_parity or arrived.offset
        elif arrived.type in COVERED:
            self._stray = True

    def _stop(self, status: Status, detail: str) -> None:
        self._waiting.append(End(status, detail, self._trailer))

    def _finish(self) -> None:
        self._end_damage()
        index, index_problem = self._read_index()
        trailer = self._trailer
        signed = False
        lost: tuple[Lost, ...] | None = None
        blobs: tuple[BlobRef, ...] | None = None
        problem = index_problem or self._contradiction(index)
        if index is not None:
            here = {item[1:] for item in self._arrived}
            listed = {(entry.type, entry.length, entry.digest) for entry in index.records}
            missing = [entry for entry in index.records if (entry.type, entry.length, entry.digest) not in here]
            lost = _lost_messages(index, missing)
            blobs = tuple(entry.blob for entry in missing if entry.blob is not None)
            if trailer is not None and problem is None and not self._stray and self._index_at is not None:
                signed = here - listed == {self._index_at[1:]}
            if problem is None and lost:
                problem = describe_lost(lost)
            elif problem is None and blobs:
                problem = f"{len(blobs)} blobs are damaged"
            elif problem is None and self._any_damage:
                problem = "the bundle is damaged, but no message or blob in it"
            elif problem is None and not self._arrived_as_listed(index):
                problem = "the bundle does not hold what its index lists"
        if problem is None and self._any_damage:
            problem = "a part of the bundle is damaged"
        if problem is None and self._header is None and self._arrived:
            problem = "the header is missing"
        if problem is not None:
            status, detail = Status.DAMAGED, problem
        elif self._footer is None:
            status, detail = Status.TRUNCATED, f"the bundle is cut off at byte {self._offset}"
        else:
            status, detail = Status.OK, ""
        self._waiting.append(End(status, detail, trailer, signed, lost, blobs))

    def _read_index(self) -> tuple[Index | None, str | None]:
        """Read the index that the trailer names, or else say what is wrong with it.  No other index is ever read."""
        trailer, arrived = self._trailer, self._index_at
        if arrived is None:
            return None, None
        if trailer is not None and trailer.signature_ok and arrived.digest != trailer.index_digest:
            return None, "the index is not the one that was signed"
        try:
            return decode_index(self._index_payload), None
        except BundleDamaged as error:
            self._waiting.append(Damage(arrived.offset, FRAME_BYTES + arrived.length, error.message))
            return None, error.message
        finally:
            self._index_payload = b""

    def _contradiction(self, index: Index | None) -> str | None:
        """Say what is wrong with header, index, trailer and footer as far as they arrived intact, or None."""
        if self._trailer is None:
            return None
        if problem := disagreement(self._trailer, self._header, index):
            return problem
        if self._stray:
            return "records stand behind the trailer"
        if self._index_at is None:
            return None if self._any_damage else "the index is missing"
        if (
            self._footer is not None
            and not self._any_damage
            and self._footer != Footer(self._trailer_offset, self._first_parity)
        ):
            return "the footer names wrong places"
        return None

    def _arrived_as_listed(self, index: Index) -> bool:
        """Say whether exactly the records of the index stand before it, at their places."""
        listed = [_Arrived(entry.offset, entry.type, entry.length, entry.digest) for entry in index.records]
        trailer = self._trailer
        if trailer is not None and self._index_at is not None and trailer.index_offset != self._index_at.offset:
            return False
        return self._arrived == [*listed, self._index_at]


def _lost_messages(index: Index, missing: list[RecordEntry]) -> tuple[Lost, ...]:
    return tuple(
        Lost(index.feeds[segment.feed].feed, segment.first, segment.messages)
        for entry in missing
        for segment in entry.segments
    )
