"""Import: take in bundles, folders of bundles and logs, from files or a pipe.

Everything goes through ``ingest``.  One bad source, record, line or feed never stops the others; what was refused is
a value in the report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sneaker.bundle.card import MAX_CARD_BYTES, decode_card
from sneaker.bundle.file import IndexedBundle, open_indexed
from sneaker.bundle.format import RecordType
from sneaker.bundle.reader import (
    BlobRead,
    BundleReader,
    ClockRead,
    Damage,
    End,
    Event,
    HeaderRead,
    MessagesRead,
    NeedData,
    Status,
)
from sneaker.bundle.records import Header, RecordEntry
from sneaker.caps import Caps
from sneaker.errors import BundleDamaged, BundleError, NetworkKeyMismatch, SneakerError
from sneaker.exchange.ingest import Ingest, IngestReport
from sneaker.exchange.ndjson import read_lines
from sneaker.exchange.sources import (
    READ_BYTES,
    Kind,
    Source,
    expand_folder,
    open_source,
    rejoined,
    sniff,
    source_errors,
)
from sneaker.refs import FeedRef, encode_base64
from sneaker.store.base import EdgeState, Note, Peer, PeerKind, Store

__all__ = ["ImportReport", "SourceReport", "import_sources", "wanted_feeds"]

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


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did; ``complete`` is false if anything was refused, damaged or cut."""

    sources: list[SourceReport]
    ingested: IngestReport
    dry_run: bool = False

    @property
    def complete(self) -> bool:
        """Whether everything that was there is in the store now."""
        return not self.ingested.refused and all(source.status in (Status.OK, KNOWN) for source in self.sources)


@dataclass(slots=True)
class _Session:
    store: Store
    ingest: Ingest
    caps: Caps
    stdin: BinaryIO
    me: FeedRef
    progress: Callable[[int], None]
    dry_run: bool
    reports: list[SourceReport]


def wanted_feeds(store: Store, me: FeedRef, hops: int | None) -> Callable[[FeedRef], bool]:
    """Return what says whether a feed is to be taken: not blocked by us, and within ``hops`` where that is given."""
    if hops is not None:
        near = {feed for feed, distance in store.hops(me, hops).items() if distance >= 0}
        near.add(me)
        return near.__contains__
    blocked = {edge.contact for edge in store.edges(me) if edge.state == EdgeState.BLOCK}
    return lambda feed: feed not in blocked


def import_sources(
    store: Store,
    paths: Sequence[str],
    *,
    me: FeedRef,
    caps: Caps,
    stdin: BinaryIO,
    now_ms: Callable[[], int],
    hops: int | None = None,
    dry_run: bool = False,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> ImportReport:
    """Import each of ``paths`` (``-`` is ``stdin``) and return what happened.

    With ``hops``, only feeds within that distance of ``me`` are taken, and the distance grows as contact messages come
    in: sources are read again as long as that brings in more feeds.  ``progress`` is called with bytes read.
    Raises only for what is wrong on this machine (the store cannot be written).
    """
    reports: list[SourceReport] = []
    wanted = wanted_feeds(store, me, hops)
    with Ingest(store, caps=caps, wanted=wanted, workers=workers, now_ms=now_ms, dry_run=dry_run) as ingest:
        session = _Session(store, ingest, caps, stdin, me, progress or (lambda done: None), dry_run, reports)
        for source in _sources(paths, reports):
            _import_source(session, source)
        report = ingest.close()
    return ImportReport(reports, report, dry_run)


def _sources(paths: Iterable[str], reports: list[SourceReport]) -> Iterable[Source]:
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


def _import_source(session: _Session, source: Source) -> None:
    report = SourceReport(source.name)
    session.reports.append(report)
    before = session.ingest.counts()
    try:
        file = open_source(source, session.stdin)
        try:
            _import_file(session, file, report, seekable=source.path is not None)
        except OSError as error:
            raise source_errors(source.name, error) from None
        finally:
            if source.path is not None:
                file.close()
    except SneakerError as error:
        if not isinstance(error, BundleError) and error.code.startswith("store"):
            raise
        report.status, report.detail, report.error = Status.REFUSED, error.message, error
    session.ingest.flush()
    after = session.ingest.counts()
    if report.status == Status.OK and after.accepted == before.accepted and after.waiting == before.waiting:
        report.status = KNOWN if after.refused == before.refused else Status.OK


def _import_file(session: _Session, file: BinaryIO, report: SourceReport, *, seekable: bool) -> None:
    seekable = seekable and file.seekable()
    start = file.read(READ_BYTES)
    kind = sniff(start, report.path)
    report.kind = kind
    if kind is Kind.NDJSON:
        _import_lines(session, rejoined(start, file), report)
        return
    if kind is Kind.CARD:
        card = decode_card(rejoined(start, file).read(MAX_CARD_BYTES + 1))
        report.exporter = str(card.machine)
        if card.network_id != session.caps.network_id:
            raise NetworkKeyMismatch("the card belongs to another network")
        _learn_clock(session, Peer(card.machine, PeerKind.CARD, card.counter, card.time_ms), dict(card.clock))
        return
    if kind is Kind.ENCRYPTED:
        raise BundleError("encrypted bundles are not supported yet")
    if seekable and (bundle := open_indexed(file)) is not None:
        try:
            _import_indexed(session, bundle, report)
            return
        except BundleDamaged:
            pass  # the index is right, a record is not: read all that is intact, and say what is lost
        file.seek(0)
        start = file.read(READ_BYTES)
    elif seekable:
        file.seek(len(start))
    _import_stream(session, start, file, report)


def _accept_header(session: _Session, header: Header, report: SourceReport) -> None:
    report.exporter = str(header.exporter)
    report.bundle_id = encode_base64(header.bundle_id)
    if header.network_id != session.caps.network_id:
        raise NetworkKeyMismatch(
            "the bundle belongs to another network", hint="it was made with another --network-key than this home"
        )


def _import_indexed(session: _Session, bundle: IndexedBundle, report: SourceReport) -> None:
    """Take only the records that bring something new, or that contradict what we hold."""
    _accept_header(session, bundle.header, report)
    clock = session.store.clock()
    wanted = {entry.offset: entry for entry in bundle.advancing(clock)}
    for record in _contradicting(session.store, bundle):
        wanted.setdefault(record.offset, record)
    for offset in sorted(wanted):
        payload = bundle.read(wanted[offset])
        _take_messages(session, MessagesRead(payload, offset), report)
        session.progress(len(payload))
    _learn_clock(session, Peer(bundle.header.exporter, PeerKind.BUNDLE), bundle.clock(RecordType.CLOCK))


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


def _import_stream(session: _Session, start: bytes, file: BinaryIO, report: SourceReport) -> None:
    reader = BundleReader()
    reader.receive_data(start)
    exporter: FeedRef | None = None
    while True:
        event = reader.next_event()
        if isinstance(event, NeedData):
            data = file.read(READ_BYTES)
            session.progress(len(data))
            reader.receive_data(data)
            continue
        if isinstance(event, HeaderRead):
            _accept_header(session, event.header, report)
            exporter = event.header.exporter
        elif isinstance(event, ClockRead) and not event.prerequisites and exporter is not None:
            _learn_clock(session, Peer(exporter, PeerKind.BUNDLE), event.clock)
        elif isinstance(event, End):
            _finish_stream(event, report)
            return
        else:
            _take(session, event, report)


def _finish_stream(end: End, report: SourceReport) -> None:
    if end.trailer is not None and report.exporter is None and end.trailer.signature_ok:
        report.exporter = str(end.trailer.exporter)
        report.bundle_id = encode_base64(end.trailer.bundle_id)
    if end.status is not Status.OK:
        report.status, report.detail = end.status, end.detail


def _take(session: _Session, event: Event, report: SourceReport) -> None:
    if isinstance(event, MessagesRead):
        _take_messages(session, event, report)
    elif isinstance(event, BlobRead | Damage):
        pass


def _take_messages(session: _Session, event: MessagesRead, report: SourceReport) -> None:
    try:
        runs = event.runs()
    except BundleDamaged as error:
        report.status, report.detail = Status.DAMAGED, f"{error.message} (record at byte {event.offset})"
        return
    for run in runs:
        session.ingest.add_run(run)


def _learn_clock(session: _Session, peer: Peer, clock: dict[FeedRef, int]) -> None:
    """Remember what somebody has, so that the next bundle for them need not carry that: a hint like any other."""
    if clock and peer.ref != session.me and not session.dry_run:
        session.store.set_peer(peer)
        session.store.update_peer_clock(peer.ref, {feed: Note(sequence) for feed, sequence in clock.items()})


def _import_lines(session: _Session, file: BinaryIO, report: SourceReport) -> None:
    broken = 0
    for line in read_lines(file):
        if line.problem:
            broken += 1
            session.ingest.refuse(None, None, "json-invalid", line.problem)
            report.status = Status.DAMAGED
        else:
            session.ingest.add_json(line.value, line.key)
        session.progress(line.bytes)
    if broken:
        report.detail = f"{broken} lines are not messages"
