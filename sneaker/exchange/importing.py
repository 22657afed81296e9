"""Import: take in bundles, folders of bundles and logs, from files or a pipe.

Everything goes through ``ingest``.  One bad source, record, line or feed never stops the others; what was refused is
a value in the report.
"""

from __future__ import annotations

import contextlib
import re
from binascii import a2b_base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sneaker.bundle.card import MAX_CARD_BYTES, Card, decode_card
from sneaker.bundle.file import IndexedBundle, open_indexed
from sneaker.bundle.format import RecordType
from sneaker.bundle.reader import (
    BlobRead,
    BundleReader,
    ClockRead,
    End,
    HeaderRead,
    MessagesRead,
    NeedData,
    Status,
)
from sneaker.bundle.records import Header, RecordEntry
from sneaker.errors import BundleDamaged, NetworkKeyMismatch, NotABundle, SneakerError
from sneaker.exchange.claims import note_card, note_clock
from sneaker.exchange.home import Home
from sneaker.exchange.ingest import Ingest, IngestReport
from sneaker.exchange.ndjson import read_lines
from sneaker.exchange.repairing import repaired_file
from sneaker.exchange.sources import (
    LOG_SUFFIXES,
    READ_BYTES,
    Kind,
    Source,
    ends_like_a_bundle,
    expand_folder,
    open_source,
    rejoined,
    sniff,
    source_errors,
)
from sneaker.refs import BlobRef, FeedRef, encode_base64
from sneaker.store.base import EdgeState, Note, Peer, PeerKind, Store

__all__ = ["BlobCounts", "ImportReport", "ImportSession", "SourceReport", "import_sources", "importing"]

KNOWN = "known"


@dataclass(slots=True)
class SourceReport:
    """What became of one source.  ``status``: ok, known (nothing new in it), truncated, damaged or refused."""

    path: str
    kind: str = ""
    exporter: str | None = None
    bundle_id: str | None = None
    status: str = Status.OK
    detail: str = ""
    error: SneakerError | None = None

    @property
    def whole(self) -> bool:
        """Whether it was read to its end and nothing in it was damaged."""
        return self.status in (Status.OK, KNOWN)

    def as_json(self) -> dict[str, str | None]:
        """Return the fields of the ``--json`` contract."""
        return {
            "path": self.path,
            "kind": self.kind,
            "exporter": self.exporter,
            "bundle_id": self.bundle_id,
            "status": str(self.status),
            "detail": self.detail,
        }


@dataclass(slots=True)
class BlobCounts:
    """What became of blobs.  ``waiting`` ones are kept until a message comes that mentions them."""

    accepted: int = 0
    known: int = 0
    refused: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did.

    ``complete`` is false if anything was refused, damaged or cut.  ``skipped`` counts messages of feeds that we block or that
    are too far away; to leave them is what was asked for.
    """

    sources: list[SourceReport]
    ingested: IngestReport
    blobs: BlobCounts
    skipped: int = 0
    dry_run: bool = False

    @property
    def complete(self) -> bool:
        """Whether everything that was there and wanted is in the store now."""
        return not self.ingested.refused and not self.blobs.refused and all(source.whole for source in self.sources)


class ImportSession:
    """Takes in one source after the other; made by ``importing``."""

    def __init__(
        self, home: Home, ingest: Ingest, *, hops: int | None, dry_run: bool, progress: Callable[[int], None]
    ) -> None:
        self.home = home
        self.store = home.store
        self.ingest = ingest
        self.dry_run = dry_run
        self.progress = progress
        self.reports: list[SourceReport] = []
        self.blobs = BlobCounts()
        self.skipped = 0
        self.widened = False
        self._hops = hops
        self._near = _near_feeds(home, hops) if hops is not None else frozenset()
        self._blocked = _blocked_feeds(home)

    # -- sources

    def add(self, source: Source, stdin: BinaryIO) -> None:
        """Take in a file or standard input; what is wrong with it ends in its report."""
        report = SourceReport(source.name)
        try:
            file = open_source(source, stdin)
            try:
                if not source.found or _is_ours(file, source.name):
                    self.take(file, report, seekable=source.path is not None)
            finally:
                if source.path is not None:
                    file.close()
        except SneakerError as error:
            if error.code.startswith("store"):
                raise
            self.refuse(report, error)

    def take(self, file: BinaryIO, report: SourceReport, *, seekable: bool = True) -> None:
        """Take in an opened file; raises what is wrong with it as a whole (NotABundle, SourceError, ...)."""
        self.reports.append(report)
        before = self.ingest.counts()
        try:
            self._take_file(file, report, seekable=seekable and file.seekable())
        except OSError as error:
            self.ingest.flush()
            raise source_errors(report.path, error) from None
        self.ingest.flush()
        after = self.ingest.counts()
        if report.status == Status.OK and after._replace(known=0) == before._replace(known=0):
            report.status = KNOWN
        if self._hops is not None:
            near = _near_feeds(self.home, self._hops)
            self.widened = self.widened or near != self._near
            self._near = near

    def refuse(self, report: SourceReport, error: SneakerError) -> None:
        """Note that a source was refused as a whole."""
        if report not in self.reports:
            self.reports.append(report)
        report.status, report.detail, report.error = Status.REFUSED, error.message, error

    def known(self, report: SourceReport) -> None:
        """Note a bundle that has nothing new, without reading more of it."""
        report.kind, report.status = Kind.BUNDLE, KNOWN
        self.reports.append(report)

    def finish(self) -> ImportReport:
        """End the session: everything that was taken is on the disk."""
        ingested = self.ingest.close()
        if not self.dry_run:
            early = len(self.home.blobs.promote_early(self.store.blob_is_linked))
            self.blobs.accepted += early
            self.blobs.waiting = max(0, self.blobs.waiting - early)
        return ImportReport(self.reports, ingested, self.blobs, self.skipped, self.dry_run)

    def _take_file(self, file: BinaryIO, report: SourceReport, *, seekable: bool) -> None:
        start = file.read(READ_BYTES)
        try:
            kind = sniff(start, report.path)
        except NotABundle:
            if not seekable or not ends_like_a_bundle(file):
                raise
            kind = Kind.BUNDLE
        report.kind = kind
        self.progress(len(start))
        if kind is Kind.NDJSON:
            self._take_lines(rejoined(start, file), report)
        elif kind is Kind.CARD:
            self._take_card(rejoined(start, file).read(MAX_CARD_BYTES + 1), report)
        elif kind is Kind.ENCRYPTED:
            self._take_encrypted(rejoined(start, file), report)
        else:
            if seekable:
                if self._take_seekable(file, report):
                    return
                file.seek(len(start))
            self._take_stream(start, file, report)

    def _take_seekable(self, file: BinaryIO, report: SourceReport) -> bool:
        """Take a bundle by its index, repaired by its parity if need be; False if neither is possible."""
        if self._take_by_index(file, report):
            return True
        mended = repaired_file(file)
        if mended is None:
            return False
        whole, found = mended
        sectors = "1 bad sector was" if found.repaired == 1 else f"{found.repaired} bad sectors were"
        if self._take_by_index(whole, report):
            report.detail = f"{sectors} repaired; nothing is lost"
        else:
            whole.seek(0)
            self._take_stream(whole.read(READ_BYTES), whole, report)
            report.detail = f"{sectors} repaired, {found.beyond_repair} could not be: {report.detail}"
        return True

    def _take_by_index(self, file: BinaryIO, report: SourceReport) -> bool:
        try:
            indexed = open_indexed(file)
            if indexed is None:
                return False
            self._take_indexed(indexed, report)
        except BundleDamaged:  # the index is right, a record is not
            return False
        return True

    # -- bundles

    def accept_header(self, header: Header, report: SourceReport) -> None:
        """Note who packed a bundle; raises NetworkKeyMismatch if it is not of our network."""
        report.exporter = str(header.exporter)
        report.bundle_id = encode_base64(header.bundle_id)
        if header.network_id != self.home.caps.network_id:
            raise NetworkKeyMismatch(
                f"{report.path} belongs to another network",
                hint="it was made with another --network-key than this home",
            )

    def has_all(self, bundle: IndexedBundle) -> bool:
        """Say whether a bundle has nothing for us, by its index; a fork in it is something."""
        return not self._needed(bundle) and not self._needed_blobs(bundle)

    def _needed(self, bundle: IndexedBundle) -> list[RecordEntry]:
        clock = self.store.clock()
        needed = {entry.offset: entry for entry in bundle.advancing(clock)}
        for entry in _contradicting(self.store, bundle):
            needed.setdefault(entry.offset, entry)
        return [needed[offset] for offset in sorted(needed)]

    def _needed_blobs(self, bundle: IndexedBundle) -> list[RecordEntry]:
        return [
            entry
            for entry in bundle.index.records
            if entry.blob is not None
            and not self.home.blobs.has(entry.blob)
            and not self.home.blobs.is_early(entry.blob)
        ]

    def _take_indexed(self, bundle: IndexedBundle, report: SourceReport) -> None:
        """Take only the records that bring something new, or that contradict what we hold."""
        self.accept_header(bundle.header, report)
        self._note_index(bundle)
        for entry in self._needed(bundle):
            payload = bundle.read(entry)
            self._take_messages(MessagesRead(payload, entry.offset), report)
            self.progress(len(payload))
        if bundle.index.blobs:
            self.ingest.flush()
            needed = self._needed_blobs(bundle)
            self.blobs.known += len(bundle.index.blobs) - len(needed)
            for entry in needed:
                self._take_blob(BlobRead(bundle.read(entry), entry.offset), report)
        self.learn_clock(Peer(bundle.header.exporter, PeerKind.BUNDLE), bundle.clock(RecordType.CLOCK))

    def _note_index(self, bundle: IndexedBundle) -> None:
        """Note how far a bundle says to carry our own feed, whether or not its records turn out to be readable."""
        me = self.home.keypair.public
        last = max((entry.last for entry in bundle.index.feeds if entry.feed == me), default=0)
        if last and not self.dry_run:
            self.store.note_claim(me, bundle.header.exporter, last)

    def _take_stream(self, start: bytes, file: BinaryIO, report: SourceReport) -> None:
        reader = BundleReader()
        reader.receive_data(start)
        exporter: FeedRef | None = None
        while True:
            event = reader.next_event()
            if isinstance(event, NeedData):
                data = file.read(READ_BYTES)
                self.progress(len(data))
                reader.receive_data(data)
            elif isinstance(event, HeaderRead):
                self.accept_header(event.header, report)
                exporter = event.header.exporter
            elif isinstance(event, MessagesRead):
                self._take_messages(event, report)
            elif isinstance(event, BlobRead):
                self._take_blob(event, report)
            elif isinstance(event, ClockRead) and not event.prerequisites and exporter is not None:
                self.learn_clock(Peer(exporter, PeerKind.BUNDLE), event.clock)
            elif isinstance(event, End):
                _finish_stream(event, report)
                return

    def _take_encrypted(self, file: BinaryIO, report: SourceReport) -> None:
        from sneaker.exchange.encryption import decrypting

        with decrypting(file, self.home.keypair) as plain:
            start = plain.file.read(READ_BYTES)
            if start:
                if sniff(start, f"what is encrypted in {report.path}") is not Kind.BUNDLE:
                    raise NotABundle(f"{report.path} is encrypted, but what is in it is not a bundle")
                self._take_stream(start, plain.file, report)
        if plain.damage:
            report.status, report.detail = Status.DAMAGED, plain.damage

    def _take_messages(self, event: MessagesRead, report: SourceReport) -> None:
        try:
            runs = event.runs()
        except BundleDamaged as error:
            report.status, report.detail = Status.DAMAGED, f"{error.message} (record at byte {event.offset})"
            return
        for run in runs:
            if self._wanted(run.author):
                self.ingest.add_run(run)
            else:
                self.skipped += len(run.compacts)

    def _take_blob(self, event: BlobRead, report: SourceReport) -> None:
        """Store a blob that some message mentions; others are refused, or a stranger's stick could fill the disk."""
        try:
            blob, data = event.blob()
        except BundleDamaged as error:
            self.blobs.refused += 1
            report.status, report.detail = Status.DAMAGED, f"{error.message} (record at byte {event.offset})"
            return
        if self.home.blobs.has(blob):
            self.blobs.known += 1
            return
        self.ingest.flush()
        if not self.store.blob_is_linked(blob):
            self._keep_early(blob, data)
            return
        if not self.dry_run:
            self.home.blobs.add(data, blob)
        self.blobs.accepted += 1

    def _keep_early(self, blob: BlobRef, data: bytes) -> None:
        """Let a blob wait for a message that mentions it.  With ``skipped`` feeds that message was left out on purpose."""
        if self.skipped:
            return
        if self.home.blobs.is_early(blob):
            self.blobs.known += 1
        elif self.dry_run or self.home.blobs.keep_early(blob, data):
            self.blobs.waiting += 1
        else:
            self.blobs.refused += 1

    # -- cards and logs

    def learn_clock(self, peer: Peer, clock: Mapping[FeedRef, int]) -> None:
        """Remember what somebody has, so that the next bundle for them need not carry it: a hint like any other."""
        if not clock or self.dry_run:
            return
        if peer.ref == self.home.keypair.public:
            note_clock(self.store, peer.ref, peer.ref, clock)
            return
        self.store.set_peer(peer)
        self.store.update_peer_clock(peer.ref, {feed: Note(sequence) for feed, sequence in clock.items()})

    def learn_card(self, card: Card) -> None:
        """Remember what a machine's newest card says; our own says what this machine once knew."""
        if self.dry_run:
            return
        note_card(self.store, self.home.keypair.public, card)
        if card.machine != self.home.keypair.public:
            self.learn_clock(Peer(card.machine, PeerKind.CARD, card.counter, card.time_ms), card.clock)

    def learn_old_card(self, card: Card) -> None:
        """Note what an outdated card says of our own feed: it may have seen more of it than its machine does now."""
        if not self.dry_run:
            note_card(self.store, self.home.keypair.public, card)

    def _take_card(self, data: bytes, report: SourceReport) -> None:
        card = decode_card(data)
        report.exporter = str(card.machine)
        if card.network_id != self.home.caps.network_id:
            raise NetworkKeyMismatch(f"the card {report.path} belongs to another network")
        self.learn_card(card)

    def _take_lines(self, file: BinaryIO, report: SourceReport) -> None:
        broken = 0
        for line in read_lines(file):
            if line.problem:
                broken += 1
                self.ingest.refuse(None, None, "json-invalid", line.problem)
                report.status = Status.DAMAGED
            elif self._wanted_line(line.value):
                self.ingest.add_json(line.value, line.key)
            self.progress(line.bytes)
        if broken:
            report.detail = f"{broken} lines are not messages"

    def _wanted(self, feed: FeedRef) -> bool:
        return feed not in self._blocked and (self._hops is None or feed in self._near)

    def _wanted_line(self, value: bytes) -> bool:
        """Say whether a message is wanted, by the author it names; what names none is for ingest to refuse."""
        if not self._blocked and self._hops is None:
            return True
        match = _AUTHOR.search(value)
        if match is None or self._wanted(FeedRef(a2b_base64(match[1]))):
            return True
        self.skipped += 1
        return False


_AUTHOR = re.compile(rb'"author":\s*"@([A-Za-z0-9+/]{43}=)\.ed25519"')


def _is_ours(file: BinaryIO, name: str) -> bool:
    """Say whether a file found in a folder is something to import."""
    try:
        kind = sniff(file.read(READ_BYTES), name)
        file.seek(0)
    except NotABundle:
        return False
    except OSError as error:
        raise source_errors(name, error) from None
    return kind is not Kind.NDJSON or name.endswith(LOG_SUFFIXES)


def _near_feeds(home: Home, hops: int) -> frozenset[FeedRef]:
    """Return the feeds within ``hops`` of us."""
    me = home.keypair.public
    return frozenset({me, *(feed for feed, distance in home.store.hops(me, hops).items() if distance >= 0)})


def _blocked_feeds(home: Home) -> frozenset[FeedRef]:
    """Return the feeds that we block; never our own, or we could not find out that others have more of it."""
    me = home.keypair.public
    return frozenset(edge.contact for edge in home.store.edges(me) if edge.state == EdgeState.BLOCK) - {me}


def _contradicting(store: Store, bundle: IndexedBundle) -> Iterable[RecordEntry]:
    """Yield the records whose last message of a feed is not ours of that sequence: a fork."""
    strange = {
        number
        for number, entry in enumerate(bundle.index.feeds)
        if (key := store.key_at(entry.feed, entry.last)) is not None and key[:16] != entry.last_key
    }
    if strange:
        for record in bundle.index.records:
            if any(segment.feed in strange for segment in record.segments):
                yield record


def _finish_stream(end: End, report: SourceReport) -> None:
    if end.trailer is not None and report.exporter is None and end.trailer.signature_ok:
        report.exporter = str(end.trailer.exporter)
        report.bundle_id = encode_base64(end.trailer.bundle_id)
    if end.status is not Status.OK:
        report.status, report.detail = end.status, end.detail


@contextlib.contextmanager
def importing(
    home: Home,
    *,
    now_ms: Callable[[], int],
    hops: int | None = None,
    dry_run: bool = False,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[ImportSession]:
    """Open a session; ``progress`` is called with bytes read.  Raises StoreLocked if another sneaker is writing."""
    with Ingest(home.store, caps=home.caps, workers=workers, now_ms=now_ms, dry_run=dry_run) as ingest:
        yield ImportSession(home, ingest, hops=hops, dry_run=dry_run, progress=progress or (lambda done: None))


def import_sources(
    home: Home,
    paths: Sequence[str],
    *,
    stdin: BinaryIO,
    now_ms: Callable[[], int],
    hops: int | None = None,
    dry_run: bool = False,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> ImportReport:
    """Import each of ``paths`` (``-`` is ``stdin``; folders are walked) and return what happened.

    With ``hops``, only feeds within that distance of us are taken; the distance grows as contact messages come in, and sources
    are read again as long as that lets more feeds in.  Raises only for what is wrong on this machine.
    """
    with importing(home, now_ms=now_ms, hops=hops, dry_run=dry_run, workers=workers, progress=progress) as session:
        sources = list(_sources(paths, session.reports))
        for source in sources:
            session.add(source, stdin)
        for path in paths:
            if Path(path).is_dir() and not any(report.path.startswith(path) for report in session.reports):
                session.refuse(SourceReport(path, "folder"), NotABundle(f"there is no bundle and no log in {path}"))
        _read_again(session, [source for source in sources if source.path is not None], stdin)
        return session.finish()


def _read_again(session: ImportSession, sources: list[Source], stdin: BinaryIO) -> None:
    """Read sources again while their contact messages widen the circle of feeds to take."""
    while session.widened and session.skipped:
        session.widened = False
        reports, session.reports, session.skipped = session.reports, [], 0
        for source in sources:
            session.add(source, stdin)
        session.reports = reports


def _sources(paths: Iterable[str], reports: list[SourceReport]) -> Iterator[Source]:
    for path in paths:
        if path == "-":
            yield Source("-", None)
            continue
        try:
            if Path(path).is_dir():
                yield from expand_folder(Path(path))
            else:
                yield Source(path, Path(path))
        except SneakerError as error:
            reports.append(SourceReport(path, "folder", status=Status.REFUSED, detail=error.message, error=error))
