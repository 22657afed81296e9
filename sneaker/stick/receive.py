"""What a visit takes in: the bundles on a stick that are new here, each read once and by way of a copy in this home."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import BinaryIO, cast

from sneaker.bundle.indexed_file import IndexedBundle, open_indexed
from sneaker.errors import BundleUnsupported, NotABundle, SneakerError, SourceError, StoreError, StoreFull
from sneaker.files.atomic_write import reason_of
from sneaker.ingest.reports import SourceReport
from sneaker.planning.coverage import Coverage, index_coverage, lacking
from sneaker.refs import BlobRef, FeedRef
from sneaker.stick.bundles import StickBundles
from sneaker.stick.layout import BUNDLE_NAME, BUNDLES, MAX_STICK_BUNDLE_BYTES
from sneaker.stick.safe_folder import Entry, Folder
from sneaker.stick.staging import StagedFile
from sneaker.stick.stick import Stick
from sneaker.store.sticks import FileState, StickFile
from sneaker.transfer.import_files import ImportSession
from sneaker.transfer.pack import MIN_VOLUME_BYTES
from sneaker.transfer.read_stream import BundleSource
from sneaker.transfer.source_kinds import identify_source

__all__ = ["BundleReceiver", "is_gone"]

_SNIFF_BYTES = 64 * 1024
# A damaged bundle of up to this size is tried again at every visit: the USB port or reader may have been to blame.
_TRY_AGAIN_BYTES = 8 * 1024 * 1024
# So many files that were no bundles are looked at again, for the same reason; only their beginnings are read.
_MAX_LOOKS = 64
# So many refused files are named in the report; of the rest, the number.
_MAX_REFUSED = 200
# After so many files in a row that cannot be read, the stick is what is broken.
_MAX_FAILURES = 8

_GONE = frozenset({errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.ENOTCONN, errno.ESHUTDOWN})


def is_gone(error: OSError) -> bool:
    """Say whether an error means that the stick is not there any more."""
    return error.errno in _GONE


class BundleReceiver:
    """Takes in the bundles on a stick.  ``retry`` also tries large ones again that were damaged before."""

    def __init__(
        self,
        session: ImportSession,
        stick: Stick,
        bundles: StickBundles,
        *,
        wants: frozenset[BlobRef],
        retry: bool,
        progress: Callable[[int], None],
    ) -> None:
        self._session = session
        self._store = session.store
        self._stick = stick
        self._bundles = bundles
        self._wants = wants
        self._retry = retry
        self._progress = progress
        self._clock = self._store.clock()
        self._refused = 0
        self._looked_again = 0
        self._failures = 0
        self._early: list[Entry] | None = []
        #: Feeds of which nothing more is taken, whatever lies there.
        self._closed = self._store.forked() | self._store.blocked(session.home.keypair.public)
        self.foreign = 0
        self.problems: list[str] = []

    def receive(self) -> None:
        """Take in what is new; what is wrong with single files ends in the session's report, OSErrors of the stick come out."""
        folder = self._stick.folder(BUNDLES)
        if folder is None:
            return
        listing = folder.list(BUNDLE_NAME)
        self.foreign = listing.others
        if listing.cut:
            self.problems.append(
                "there are more files on the stick than any round of machines makes; not all were looked at"
            )
        self._bundles.present.update((entry.name, entry) for entry in listing.files)
        for entry in listing.files:
            known = self._bundles.known.get(entry.name)
            if known is None or self._is_worth_reading(entry, known):
                self._receive_file(folder, entry)
                if known is not None and known.state is self._state_of(entry):
                    self._report_once(known.state, entry)
        # Names are random: what comes before the messages it follows is taken after all else, so that little has to wait,
        # and that the undisputed part of a feed is here before the messages that prove its fork.
        early, self._early = self._early, None
        for entry in early or ():
            self._receive_file(folder, entry)
        if self._refused > _MAX_REFUSED:
            self.problems.append(f"{self._refused - _MAX_REFUSED:,} more files on the stick were refused")

    def _is_worth_reading(self, entry: Entry, known: StickFile) -> bool:
        """Say whether a file that was looked at before may have something for us now."""
        if (known.size, known.mtime_ns) != (entry.size, entry.mtime_ns):
            return True
        if known.state is FileState.DAMAGED:
            return self._retry or entry.size <= _TRY_AGAIN_BYTES
        if known.state is FileState.FOREIGN:
            self._looked_again += 1
            return self._retry or self._looked_again <= _MAX_LOOKS
        coverage = self._bundles.coverage(entry.name)
        if coverage is None or not self._wants.isdisjoint(coverage.blobs):
            return True
        # We had all of it once. That holds unless the store was restored or repaired, a gap was closed or a block undone.
        clock, closed = self._clock, self._closed
        for feed, first, last in coverage.ranges:
            held = clock.get(feed, 0)
            if first <= held + 1 <= last and feed not in closed:
                return True
        return False

    def _state_of(self, entry: Entry) -> FileState | None:
        found = self._bundles.learnt.get(entry.name)
        return found.state if found is not None else None

    def _report_once(self, state: FileState, entry: Entry) -> None:
        """Report a damaged file only once; the report has the number of damaged files in any case."""
        reports = self._session.reports
        if state in (FileState.DAMAGED, FileState.FOREIGN) and reports and reports[-1].path == _path_of(entry):
            reports.pop()

    # ------------------------------------------------------------------------------------------------ one bundle

    def _receive_file(self, folder: Folder, entry: Entry) -> None:
        report = SourceReport(_path_of(entry))
        try:
            with folder.open(entry.name) as file, StagedFile(file, self._session.home.path, self._progress) as copy:
                try:
                    self._import_copy(cast(BinaryIO, copy), entry, copy.size, report)
                except NotABundle:
                    if not copy.bad_pages:
                        raise
                    raise OSError(errno.EIO, "what says that it is a bundle cannot be read") from None
                if copy.bad_pages:  # perhaps they can be read another time
                    self._bundles.note_file(Entry(entry.name, copy.size, 0), FileState.DAMAGED)
            self._failures = 0
        except FileNotFoundError:
            self._bundles.forget_file(entry.name)  # its owner has removed it meanwhile
        except OSError as error:
            self._note_failure(report, error, SourceError(f"cannot read {report.path}: {reason_of(error)}"))
        except SourceError as error:
            cause = error.__cause__ or error.__context__
            if isinstance(cause, OSError):
                self._note_failure(report, cause, error)
            else:
                self._refuse_file(report, error, entry)
        except (BundleUnsupported, StoreFull) as error:
            self._refuse_file(report, error)  # not for good: a newer sneaker, or more room, and it can be taken
        except StoreError:
            raise
        except SneakerError as error:
            self._refuse_file(report, error, entry)

    def _import_copy(self, copy: BinaryIO, entry: Entry, size: int, report: SourceReport) -> None:
        if size > MAX_STICK_BUNDLE_BYTES + MIN_VOLUME_BYTES:
            raise NotABundle(f"{entry.name} is larger than any bundle that sneaker puts on a stick")
        indexed = open_indexed(copy)
        if indexed is None:
            copy.seek(0)
            if not isinstance(identify_source(_read(copy, _SNIFF_BYTES), entry.name), BundleSource):
                raise NotABundle(f"{entry.name} is not a bundle")
        elif self._session.has_all(indexed):
            self._session.accept_header(indexed, report)
            self._session.note_known(report)
            self._note_bundle(entry, size, indexed, index_coverage(indexed.index))
            return
        elif self._early is not None and self._is_early(index_coverage(indexed.index)):
            self._early.append(entry)
            return
        copy.seek(0)
        self._session.import_file(copy, report, indexed=indexed)
        self._clock = self._store.clock()
        if not report.whole:
            self._bundles.note_file(_seen(entry, size), FileState.DAMAGED)
        elif indexed is None:
            self._bundles.note_file(_seen(entry, size), FileState.TAKEN)
        else:
            coverage = index_coverage(indexed.index)
            valid = self._valid(coverage)
            self._note_bundle(entry, size, indexed, valid, partly=valid is not coverage)

    def _is_early(self, coverage: Coverage) -> bool:
        """Say whether nothing in a bundle can be used yet."""
        found = lacking(coverage, self._clock)
        return bool(found.later) and not found.usable and not coverage.blobs

    def _valid(self, coverage: Coverage) -> Coverage:
        """Return what a bundle that was just taken in is good for.

        What we could have used and still lack was refused: it is no good to others either, and not worth another look.
        """
        if self._session.dry_run:
            return coverage
        refused = {item for item in lacking(coverage, self._clock).usable if item.feed not in self._closed}
        if not refused:
            return coverage
        return Coverage(tuple(item for item in coverage.ranges if item not in refused), coverage.blobs)

    def _note_bundle(
        self, entry: Entry, size: int, indexed: IndexedBundle, coverage: Coverage, *, partly: bool = False
    ) -> None:
        exporter: FeedRef = indexed.header.exporter
        state = FileState.PARTLY if partly else FileState.TAKEN
        if exporter == self._session.home.keypair.public:
            state = FileState.OWN
        self._bundles.note_file(_seen(entry, size), state, exporter, coverage)

    def _refuse_file(self, report: SourceReport, error: SneakerError, entry: Entry | None = None) -> None:
        """Note a file that is refused; with ``entry``, for good, unless it changes."""
        self._refused += 1
        if self._refused <= _MAX_REFUSED or report in self._session.reports[-1:]:
            self._session.refuse_source(report, error)
        if entry is not None:
            self._bundles.note_file(entry, FileState.FOREIGN)

    def _note_failure(self, report: SourceReport, cause: OSError, error: SneakerError) -> None:
        """Note a file that could not be read; raises ``cause`` if that is not about the file but the stick."""
        self._session.refuse_source(report, error)
        self._failures += 1
        if is_gone(cause) or self._failures >= _MAX_FAILURES:
            raise cause


def _path_of(entry: Entry) -> str:
    return f"{BUNDLES}/{entry.name}"


def _seen(entry: Entry, size: int) -> Entry:
    """Return an entry as it was when its file was read: it may have grown since it was listed."""
    return entry if entry.size == size else Entry(entry.name, size, 0)


def _read(file: BinaryIO, limit: int) -> bytes:
    parts = []
    while limit > 0 and (data := file.read(limit)):
        parts.append(data)
        limit -= len(data)
    return b"".join(parts)
