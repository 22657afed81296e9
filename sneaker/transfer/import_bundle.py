"""Import of bundles: by the index only what is needed, or as a stream everything that can be read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import BinaryIO

from sneaker.bundle.events import BlobRead, ClockRead, End, Event, HeaderRead, MessagesRead, Status
from sneaker.bundle.frames import RecordType
from sneaker.bundle.indexed_file import IndexedBundle, open_indexed
from sneaker.bundle.records import FeedEntry, Header, RecordEntry, Trailer
from sneaker.clock import VectorClock
from sneaker.errors import BundleDamaged, NetworkKeyMismatch
from sneaker.feed.chain import Chain, place_in_chain
from sneaker.home.home import Home
from sneaker.ingest.incoming_blobs import IncomingBlobs
from sneaker.ingest.ingest import Ingest
from sneaker.ingest.reports import SourceReport
from sneaker.own_feed.claims import ImportedStatements
from sneaker.refs import FeedRef, encode_base64
from sneaker.store.store import Store
from sneaker.transfer.held_records import HeldRecords
from sneaker.transfer.read_stream import bundle_events
from sneaker.transfer.repair_from_parity import repaired_file
from sneaker.transfer.sources import READ_BYTES, OpenedSource

__all__ = ["BundleImport", "BundleStream"]


class BundleImport:
    """Takes bundles into a home; ``progress`` is called with bytes read.

    What is wrong with single records ends in the bundle's report.  Raises NetworkKeyMismatch for a bundle of another network,
    BundleUnsupported and OSError.
    """

    def __init__(
        self,
        home: Home,
        ingest: Ingest,
        blobs: IncomingBlobs,
        statements: ImportedStatements,
        progress: Callable[[int], None],
    ) -> None:
        self._home = home
        self._store = home.store
        self._ingest = ingest
        self._blobs = blobs
        self._statements = statements
        self._progress = progress

    def accept_header(self, header: Header | Trailer, report: SourceReport) -> None:
        """Note who packed a bundle, by its header or its signed trailer; raises NetworkKeyMismatch if it is not of our network."""
        report.exporter = str(header.exporter)
        report.bundle_id = encode_base64(header.bundle_id)
        if header.network_id != self._home.caps.network_id:
            raise NetworkKeyMismatch(
                f"{report.path} belongs to another network",
                hint="it was made with another --network-key than this home",
            )

    def has_all(self, bundle: IndexedBundle) -> bool:
        """Say, by its index, whether a bundle has nothing new for us; a fork is new."""
        return not self._needed(bundle) and not self._needed_blobs(bundle)

    def take_seekable(self, file: BinaryIO, report: SourceReport, indexed: IndexedBundle | None = None) -> bool:
        """Take a bundle by its index, repaired by its parity if need be; False if neither is possible.

        ``indexed`` is the bundle in ``file``, if it was opened already.
        """
        if self._take_by_index(indexed or open_indexed(file), report):
            return True
        mended = repaired_file(file, self._home.path)
        if mended is None:
            return False
        whole, found = mended
        sectors = "1 bad sector was" if found.repaired == 1 else f"{found.repaired} bad sectors were"
        with whole:
            if self._take_by_index(open_indexed(whole), report):
                report.detail = (
                    f"{sectors} repaired; nothing is lost"
                    if found.repaired
                    else "the damage is behind the trailer; nothing is lost"
                )
                return True
            whole.seek(0)
            self._take_events(whole, report)
            if found.repaired or found.beyond_repair:
                report.detail = f"{sectors} repaired, {found.beyond_repair} could not be: {report.detail}"
        return True

    def stream(self, report: SourceReport) -> BundleStream:
        """Begin to take events of a bundle; close it afterwards."""
        return BundleStream(self, report, HeldRecords(self._home.path))

    def _take_events(self, file: BinaryIO, report: SourceReport) -> None:
        source = OpenedSource(report.path, file.read(READ_BYTES), file, self._progress)
        with contextlib.closing(self.stream(report)) as stream:
            for event in bundle_events(source.chunks()):
                stream.take_event(event)

    def note_clock(self, exporter: FeedRef, clock: VectorClock) -> None:
        """Remember what the exporter of a bundle says to have."""
        self._statements.note_bundle_clock(exporter, clock)

    # -- by the index

    def _take_by_index(self, indexed: IndexedBundle | None, report: SourceReport) -> bool:
        if indexed is None:
            return False
        try:
            self._take_indexed(indexed, report)
        except BundleDamaged:  # the index is right, a record is not
            return False
        return True

    def _take_indexed(self, bundle: IndexedBundle, report: SourceReport) -> None:
        """Take only the records that bring something new, or that contradict what we hold."""
        self.accept_header(bundle.header, report)
        # How far the index says that our own feed goes counts even if the records cannot be read.
        me = self._home.keypair.public
        last = max((entry.last for entry in bundle.index.feeds if entry.feed == me), default=0)
        self._statements.note_own_sequence(bundle.header.exporter, last)
        for entry in self._needed(bundle):
            payload = bundle.read(entry)
            self._take_messages(MessagesRead(payload, entry.offset), report)
            self._progress(len(payload))
        if bundle.index.blobs:
            self._ingest.flush()
            needed = self._needed_blobs(bundle)
            self._blobs.counts.known += len(bundle.index.blobs) - len(needed)
            for entry in needed:
                payload = bundle.read(entry)
                self._take_blob(BlobRead(payload, entry.offset), report)
                self._progress(len(payload))
        self._statements.note_bundle_clock(bundle.header.exporter, bundle.clock(RecordType.CLOCK))

    def _needed(self, bundle: IndexedBundle) -> list[RecordEntry]:
        needed = {entry.offset: entry for entry in bundle.advancing(self._store.clock())}
        for entry in _contradicting(self._store, bundle):
            needed.setdefault(entry.offset, entry)
        return [needed[offset] for offset in sorted(needed)]

    def _needed_blobs(self, bundle: IndexedBundle) -> list[RecordEntry]:
        return [entry for entry in bundle.index.records if entry.blob is not None and self._blobs.lacks(entry.blob)]

    # -- records

    def take_record(self, event: MessagesRead | BlobRead, report: SourceReport) -> None:
        """Take in a record of a bundle that is of our network."""
        if isinstance(event, MessagesRead):
            self._take_messages(event, report)
        else:
            self._take_blob(event, report)

    def _take_messages(self, event: MessagesRead, report: SourceReport) -> None:
        try:
            runs = event.runs()
        except BundleDamaged as error:
            report.status, report.detail = Status.DAMAGED, f"{error.message} (record at byte {event.offset})"
            return
        for run in runs:
            self._ingest.add_run(run)
            if not self._ingest.wants(run.author):
                self._blobs.leave_out(item.content for item in run.compacts)
        self._ingest.give_way()

    def _take_blob(self, event: BlobRead, report: SourceReport) -> None:
        try:
            blob, data = event.blob()
        except BundleDamaged as error:
            self._blobs.refuse_blob()
            report.status, report.detail = Status.DAMAGED, f"{error.message} (record at byte {event.offset})"
            return
        self._ingest.flush()
        self._blobs.take_blob(blob, data)


class BundleStream:
    """Takes in everything readable of a bundle, event by event.

    Without a header the trailer says to which network it belongs: until it comes, the records are kept aside.
    """

    def __init__(self, bundles: BundleImport, report: SourceReport, held: HeldRecords) -> None:
        self._bundles = bundles
        self._report = report
        self._held = held
        self._has_header = False
        self._clock = VectorClock()

    def take_event(self, event: Event) -> None:
        """Take in what comes next."""
        if isinstance(event, HeaderRead):
            self._bundles.accept_header(event.header, self._report)
            self._has_header = True
        elif isinstance(event, MessagesRead | BlobRead):
            if self._has_header:
                self._bundles.take_record(event, self._report)
            else:
                self._held.hold(event)
        elif isinstance(event, ClockRead) and not event.prerequisites:
            self._clock = event.clock
        elif isinstance(event, End):
            self._end(event)

    def _end(self, event: End) -> None:
        trailer = event.trailer
        if trailer is not None and trailer.signature_ok and not self._has_header:
            self._bundles.accept_header(trailer, self._report)
        for record in self._held:
            self._bundles.take_record(record, self._report)
        if trailer is not None and event.signed:
            # until the signature is checked, anybody may have written the exporter's name
            self._bundles.note_clock(trailer.exporter, self._clock)
        if event.status is not Status.OK or event.detail:
            self._report.status, self._report.detail = event.status, event.detail

    def close(self) -> None:
        """Drop what was kept aside."""
        self._held.close()


def _contradicts(store: Store, entry: FeedEntry) -> bool:
    """Say whether another message is held in the place of a feed's last one in a bundle."""
    key = store.key_at(entry.feed, entry.last)
    if key is None:
        return False
    return place_in_chain(entry.last, key, entry.last, None, entry.last_key, key[: len(entry.last_key)]) is Chain.FORK


def _contradicting(store: Store, bundle: IndexedBundle) -> Iterable[RecordEntry]:
    """Yield the records whose last message of a feed is not ours of that sequence: a fork, unless we know that message."""
    strange = {number for number, entry in enumerate(bundle.index.feeds) if _contradicts(store, entry)}
    if strange:
        known = {fork.key[:16] for fork in store.forks()}
        strange = {number for number in strange if bundle.index.feeds[number].last_key not in known}
    if strange:
        for record in bundle.index.records:
            if any(segment.feed in strange for segment in record.segments):
                yield record
