"""Import: take in bundles, folders of bundles and logs, from files or a pipe.

Everything goes through ``ingest``.  One bad source, record, line or feed never stops the others; what was refused is
a value in the report.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from sneaker.bugs import bug_words
from sneaker.bundle.events import Status
from sneaker.bundle.indexed_file import IndexedBundle
from sneaker.errors import NetworkKeyMismatch, NotABundle, SneakerError, SourceError, StoreError
from sneaker.files.read_file import is_folder, reading_error
from sneaker.home.home import Home
from sneaker.ingest.incoming_blobs import IncomingBlobs
from sneaker.ingest.ingest import Ingest
from sneaker.ingest.reports import KNOWN, ImportReport, SourceReport
from sneaker.own_feed.claims import ImportedStatements
from sneaker.own_feed.log_claims import LogClaims
from sneaker.transfer.feeds_to_import import FeedSelection
from sneaker.transfer.import_bundle import BundleImport
from sneaker.transfer.read_stream import BundleSource
from sneaker.transfer.source_events import CardRead, LogEntry, SourceEvent
from sneaker.transfer.source_kinds import identify_source
from sneaker.transfer.sources import (
    READ_BYTES,
    OpenedSource,
    Source,
    SourceKind,
    ends_like_a_bundle,
    expand_folder,
    open_source,
)

__all__ = ["ImportSession", "import_sources", "importing"]


class ImportSession:
    """Takes in one source after the other; made by ``importing``."""

    def __init__(
        self,
        home: Home,
        ingest: Ingest,
        *,
        selection: FeedSelection | None,
        dry_run: bool,
        now_ms: Callable[[], int],
        progress: Callable[[int], None],
        by_hand: bool = False,
    ) -> None:
        self.home = home
        self.store = home.store
        self.dry_run = dry_run
        self.reports: list[SourceReport] = []
        self.statements = ImportedStatements(home, now_ms=now_ms, dry_run=dry_run)
        self._ingest = ingest
        self._selection = selection
        self._now_ms = now_ms
        self._progress = progress
        self._by_hand = by_hand
        self._bug: Exception | None = None  # the last one that a source's reader raised
        self._blobs = IncomingBlobs(home.blobs, home.store, dry_run=dry_run)
        self._bundles = BundleImport(home, ingest, self._blobs, self.statements, progress)

    # -- sources

    def import_source(self, source: Source, stdin: BinaryIO) -> None:
        """Take in a file or standard input; what is wrong with it ends in its report."""
        report = SourceReport(source.name)
        try:
            file = open_source(source, stdin)
            try:
                if not source.found or _is_ours(file, source.name):
                    self.import_file(file, report, seekable=source.path is not None)
            finally:
                if source.path is not None:
                    file.close()
        except StoreError:
            raise
        except SneakerError as error:
            self.refuse_source(report, error)
        except Exception as error:
            if error is not self._bug:
                raise
            self.refuse_source(report, SourceError(f"{source.name}: {bug_words(error)}"))

    def import_file(
        self,
        file: BinaryIO,
        report: SourceReport,
        *,
        seekable: bool = True,
        indexed: IndexedBundle | None = None,
    ) -> None:
        """Take in an opened file; raises what is wrong with it as a whole (NotABundle, SourceError, ...).

        ``indexed`` is the bundle in it, if it was opened by its index already.
        """
        self.reports.append(report)
        messages, blobs, roomless = self._ingest.counts(), replace(self._blobs.counts), self._blobs.without_room
        try:
            self._take_file(file, report, seekable=seekable and file.seekable(), indexed=indexed)
        except OSError as error:
            self._ingest.flush()
            raise reading_error(report.path, error) from None
        self._ingest.flush()
        if roomless := self._blobs.without_room - roomless:
            report.detail = (
                f"{roomless:,} of its blobs came before their messages, and there is no room to keep them until then; "
                "import it again when there is"
            )
        if (
            report.status == Status.OK
            and self._ingest.counts()._replace(known=0, left_out=0, read=0)
            == messages._replace(known=0, left_out=0, read=0)
            and replace(self._blobs.counts, known=0) == replace(blobs, known=0)
        ):
            report.status = KNOWN
        if self._selection is not None:
            self._selection.look_again()

    def refuse_source(self, report: SourceReport, error: SneakerError) -> None:
        """Note that a source was refused as a whole."""
        if report not in self.reports:
            self.reports.append(report)
        report.status, report.detail, report.error = Status.REFUSED, error.message, error

    def note_known(self, report: SourceReport) -> None:
        """Note a bundle that has nothing new, without reading more of it."""
        report.kind, report.status = BundleSource.kind, KNOWN
        self.reports.append(report)

    def accept_header(self, bundle: IndexedBundle, report: SourceReport) -> None:
        """Note who packed a bundle; raises NetworkKeyMismatch if it is not of our network."""
        self._bundles.accept_header(bundle.header, report)

    def has_all(self, bundle: IndexedBundle) -> bool:
        """Say, by its index, whether a bundle has nothing new for us; a fork is new."""
        return self._bundles.has_all(bundle)

    def finish(self) -> ImportReport:
        """End the session: everything that was taken is on the disk."""
        ingested = self._ingest.close()
        blobs = self._blobs.finish(self._now_ms(), has_grown=ingested.accepted > 0)
        return ImportReport(self.reports, ingested, blobs, self.dry_run)

    def must_read_again(self) -> bool:
        """Say whether feeds have come near since messages of them were left out; if so, begin again."""
        if self._selection is None or not self._selection.has_widened or not self._ingest.counts().left_out:
            return False
        self._selection.has_widened = False
        self._ingest.start_again()
        return True

    def _take_file(
        self, file: BinaryIO, report: SourceReport, *, seekable: bool, indexed: IndexedBundle | None
    ) -> None:
        start = file.read(READ_BYTES)
        kind: SourceKind
        try:
            kind = identify_source(start, report.path)
        except NotABundle:
            if not seekable or not ends_like_a_bundle(file):
                raise
            kind = BundleSource()
        report.kind = kind.kind
        self._progress(len(start))
        if seekable and isinstance(kind, BundleSource):
            if self._bundles.take_seekable(file, report, indexed):
                return
            file.seek(len(start))
        claims = LogClaims(self.statements, self.store, self.home.keypair.public) if self._by_hand else None

        def before_reading() -> None:
            if claims is not None:
                claims.end_part()
            self._ingest.give_way()

        hook = before_reading if not isinstance(kind, BundleSource) else None
        source = OpenedSource(report.path, start, file, self._progress, hook)
        try:
            self._take_events(self._events(kind, source), report, claims)
            self._ingest.flush()
        finally:
            if claims is not None:
                claims.note_all()
        if overtaken := claims.describe_overtaken() if claims is not None else "":
            report.detail = "; ".join(filter(None, (report.detail, overtaken)))

    def _events(self, kind: SourceKind, source: OpenedSource) -> Iterator[SourceEvent]:
        """Yield what the source gives, and note an exception that is its own bug, and none of what takes the events."""
        try:
            yield from kind.read_events(source, hmac_key=self.home.caps.hmac_key, keypair=self.home.keypair)
        except (SneakerError, OSError, MemoryError):
            raise
        except Exception as error:
            self._bug = error
            raise

    def _take_events(self, events: Iterable[SourceEvent], report: SourceReport, claims: LogClaims | None) -> None:
        me = self.home.keypair.public
        with contextlib.closing(self._bundles.stream(report)) as stream:
            for event in events:
                if isinstance(event, LogEntry):
                    if claims is not None and event.feed == me:
                        self._take_own_entry(event, claims)
                    else:
                        self._take_entry(event)
                elif isinstance(event, CardRead):
                    self._take_card(event, report)
                else:
                    stream.take_event(event)

    def _take_card(self, event: CardRead, report: SourceReport) -> None:
        card = event.card
        report.exporter = str(card.machine)
        if card.network_id != self.home.caps.network_id:
            raise NetworkKeyMismatch(f"the card {report.path} belongs to another network")
        self.statements.note_card(card, event.data)

    def _take_entry(self, entry: LogEntry) -> None:
        if entry.message is None:
            self._ingest.note_refusal(entry.feed, entry.sequence, entry.code, entry.detail)
        else:
            self._ingest.add_message(entry.message)

    def _take_own_entry(self, entry: LogEntry, claims: LogClaims) -> None:
        before = self._ingest.counts()
        self._take_entry(entry)
        after = self._ingest.counts()
        claims.meet_place(entry.sequence, is_refused=after.refused > before.refused)
        if self._ingest.keeps_own or after.accepted > before.accepted:
            claims.note_refused()  # our feed gets further


def _is_ours(file: BinaryIO, name: str) -> bool:
    """Say whether a file found in a folder is something to import."""
    try:
        kind = identify_source(file.read(READ_BYTES), name)
        file.seek(0)
    except NotABundle:
        return False
    except OSError as error:
        raise reading_error(name, error) from None
    return not kind.folder_suffixes or name.lower().endswith(kind.folder_suffixes)


@contextlib.contextmanager
def importing(
    home: Home,
    *,
    now_ms: Callable[[], int],
    hops: int | None = None,
    dry_run: bool = False,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
    by_hand: bool = False,
) -> Iterator[ImportSession]:
    """Open a session; ``progress`` is called with bytes read.  Raises StoreLocked if another sneaker is writing.

    ``by_hand`` says that the person chose what is imported: then what a log names of our own feed counts as a claim.
    """
    selection = FeedSelection(home, hops) if hops is not None else None
    wanted = selection.takes if selection is not None else None
    with Ingest(home.store, caps=home.caps, wanted=wanted, workers=workers, now_ms=now_ms, dry_run=dry_run) as ingest:
        yield ImportSession(
            home,
            ingest,
            selection=selection,
            dry_run=dry_run,
            now_ms=now_ms,
            progress=progress or (lambda done: None),
            by_hand=by_hand,
        )


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
    with importing(
        home, now_ms=now_ms, hops=hops, dry_run=dry_run, workers=workers, progress=progress, by_hand=True
    ) as session:
        folders: list[str] = []
        sources = list(_sources(paths, session, folders))
        for source in sources:
            session.import_source(source, stdin)
        for path in folders:
            if not any(Path(report.path).is_relative_to(path) for report in session.reports):
                session.refuse_source(
                    SourceReport(path, "folder"), NotABundle(f"there is no bundle and no log in {path}")
                )
        _read_again(session, [source for source in sources if source.path is not None], stdin)
        return session.finish()


def _read_again(session: ImportSession, sources: list[Source], stdin: BinaryIO) -> None:
    """Read sources again while their contact messages widen the circle of feeds to take."""
    while session.must_read_again():
        reports, session.reports = session.reports, []
        for source in sources:
            session.import_source(source, stdin)
        session.reports = reports


def _sources(paths: Iterable[str], session: ImportSession, folders: list[str]) -> Iterator[Source]:
    """Yield what is named, and what is in the folders among it, which are noted in ``folders``."""

    def unread(name: str, error: SneakerError) -> None:
        session.refuse_source(SourceReport(name, "folder"), error)

    for path in paths:
        if path == "-":
            yield Source("-", None)
            continue
        try:
            if not path:  # for the system that is the folder one is in, and seldom meant
                raise SourceError("an empty name is that of no file")
            if is_folder(Path(path)):
                folders.append(path)
                yield from expand_folder(Path(path), unread)
            else:
                yield Source(path, Path(path))
        except OSError as error:
            session.refuse_source(SourceReport(path), reading_error(path, error))
        except SneakerError as error:
            unread(path, error)
