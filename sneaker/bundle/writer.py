"""The push writer: runs and blobs in, the bytes of a bundle out, with the index and the trailer at the end.

It opens no file and never goes back, so a bundle can be written into a pipe (``bundles-format.md``,
"Writing").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sneaker.bundle.frames import (
    FOOTER_BYTES,
    FRAME_BYTES,
    MAX_PAYLOAD_BYTES,
    MAX_RECORDS,
    PREAMBLE,
    Footer,
    RecordType,
    encode_footer,
    encode_record,
    payload_digest,
)
from sneaker.bundle.records import (
    MAX_SEGMENTS,
    TRAILER_BYTES,
    BlobEntry,
    FeedEntry,
    Header,
    Index,
    RecordEntry,
    Segment,
    Trailer,
    encode_clock,
    encode_header,
    encode_index,
    encode_trailer,
)
from sneaker.clock import VectorClock
from sneaker.feed.run import Run
from sneaker.keys import Keypair
from sneaker.limits import MAX_CLOCK_FEEDS
from sneaker.refs import BlobRef, FeedRef

__all__ = ["BundleWriter"]


class BundleWriter:
    """Writes one bundle.  Each method returns bytes to append to it: ``start``, then records, then ``finish``.

    Raises ValueError if they are called in another order, or more is added than a bundle holds.
    """

    def __init__(self, header: Header, keypair: Keypair) -> None:
        self._header = header
        self._keypair = keypair
        self._tag = header.bundle_id[:8]
        self._records: list[RecordEntry] = []
        self._feeds: dict[FeedRef, int] = {}
        self._feed_entries: list[FeedEntry] = []
        self._blobs: dict[BlobRef, int] = {}
        self.bytes_written = 0
        self.messages = 0
        self._segments = 0
        self._is_open = False

    @property
    def feeds(self) -> int:
        """How many feeds have messages in this bundle so far."""
        return len(self._feeds)

    @property
    def blobs(self) -> int:
        """How many blobs are in this bundle so far."""
        return len(self._blobs)

    @property
    def finish_bytes(self) -> int:
        """An upper bound of what ``finish`` will return, for budgets: the index may compress better."""
        plain = 64 + 60 * len(self._feeds) + 37 * len(self._blobs) + 34 * (len(self._records) + 1) + 11 * self._segments
        return plain + plain // 128 + 64 + 2 * FRAME_BYTES + TRAILER_BYTES + FOOTER_BYTES

    @property
    def bundle_id(self) -> bytes:
        """The id of this bundle, 16 bytes."""
        return self._header.bundle_id

    def cost(self, runs: Sequence[Run], payload_bytes: int) -> int:
        """Return an upper bound of the bytes still to come if a record with these runs is added and the bundle ended."""
        fresh = sum(run.author not in self._feeds for run in runs)
        return self.finish_bytes + FRAME_BYTES + payload_bytes + 36 + 61 * fresh + 12 * len(runs)

    def blob_cost(self, payload_bytes: int) -> int:
        """Return the same for a blob record."""
        return self.finish_bytes + FRAME_BYTES + payload_bytes + 76

    def _record(
        self, record_type: RecordType, payload: bytes, segments: Sequence[Segment] = (), blob: BlobRef | None = None
    ) -> bytes:
        digest = payload_digest(payload)
        entry = RecordEntry(record_type, self.bytes_written, len(payload), digest, tuple(segments), blob)
        data = encode_record(record_type, len(self._records), self._tag, payload, digest)
        self._records.append(entry)
        self.bytes_written += len(data)
        return data

    def has_room(self, segments: int = 1) -> bool:
        """Say whether a record with this many runs keeps the index within its limits; else begin another volume."""
        return (
            len(self._records) < MAX_RECORDS
            and self._segments + segments <= MAX_SEGMENTS
            and len(self._feeds) + segments <= MAX_CLOCK_FEEDS
        )

    def _require_open(self) -> None:
        if not self._is_open:
            raise ValueError("the bundle has no beginning yet, or is finished")

    def _require_room(self, segments: int = 0) -> None:
        self._require_open()
        if not self.has_room(segments):
            raise ValueError("more than one bundle holds; begin another volume")

    def start(self, prerequisites: VectorClock | None = None, clock: VectorClock | None = None) -> bytes:
        """Begin: the preamble, the header and, where given, the two clocks."""
        if self.bytes_written:
            raise ValueError("the bundle has begun")
        self._is_open = True
        self.bytes_written = len(PREAMBLE)
        parts = [PREAMBLE, self._record(RecordType.HEADER, encode_header(self._header))]
        if prerequisites:
            parts.append(self._record(RecordType.PREREQUISITES, encode_clock(prerequisites)))
        if clock is not None:
            parts.append(self._record(RecordType.CLOCK, encode_clock(clock)))
        return b"".join(parts)

    def add_messages(self, runs: Sequence[Run], payload: bytes) -> bytes:
        """Append a message record: ``payload`` is ``encode_messages(runs)``, made in whatever thread.

        Runs of one feed must come in order; they need their ``keys``.
        """
        self._require_room(segments=len(runs))
        segments = []
        for run in runs:
            number = self._feeds.get(run.author)
            last_key = run.keys[-1][:16]
            if number is None:
                number = self._feeds[run.author] = len(self._feed_entries)
                self._feed_entries.append(FeedEntry(run.author, run.first, run.last, last_key))
            else:
                self._feed_entries[number] = self._feed_entries[number]._replace(last=run.last, last_key=last_key)
            segments.append(Segment(number, run.first, len(run.compacts)))
            self.messages += len(run.compacts)
        self._segments += len(segments)
        return self._record(RecordType.MESSAGES, payload, segments)

    def add_blob(self, blob: BlobRef, size: int, payload: bytes) -> bytes:
        """Append a blob record: ``payload`` is ``encode_blob(blob, data)``, ``size`` the length of the data."""
        self._require_room()
        self._blobs[blob] = size
        return self._record(RecordType.BLOB, payload, blob=blob)

    def finish(self, volumes: int = 1, pad: Callable[[int], int] | None = None) -> bytes:
        """End: index, trailer and footer.  ``volumes`` is how many volumes the set has, 0 if more follow.

        ``pad`` is given the size of the whole bundle and returns the size to fill it up to.
        """
        self._require_open()
        self._is_open = False
        index = Index(
            tuple(self._feed_entries),
            tuple(BlobEntry(blob, size) for blob, size in self._blobs.items()),
            tuple(self._records),
        )
        index_offset = self.bytes_written
        payload = encode_index(index)
        digest = payload_digest(payload)
        data = self._record(RecordType.INDEX, payload)
        trailer_offset = self.bytes_written
        trailer = Trailer(
            bundle_id=self._header.bundle_id,
            exporter=self._header.exporter,
            network_id=self._header.network_id,
            index_digest=digest,
            index_offset=index_offset,
            messages=self.messages,
            blobs=len(self._blobs),
            records=len(self._records),
            volume=self._header.volume,
            volumes=volumes,
        )
        data += self._record(RecordType.TRAILER, encode_trailer(trailer, self._keypair))
        if pad is not None:
            size = self.bytes_written + FOOTER_BYTES
            # A padding record takes 48 bytes or more; large padding takes several records.
            missing = max(0, pad(size) - size)
            while missing:
                piece = min(max(missing, FRAME_BYTES), FRAME_BYTES + MAX_PAYLOAD_BYTES)
                data += self._record(RecordType.PADDING, bytes(piece - FRAME_BYTES))
                missing = max(0, missing - piece)
        data += encode_footer(Footer(trailer_offset, 0))
        self.bytes_written += FOOTER_BYTES
        return data
