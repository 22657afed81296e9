"""A visit to a stick: take in what it brings, leave what others on its round lack, say whether it may be pulled out.

The order matters (design, section 6): what is taken in is committed before anything is written or removed, and what is removed
is covered by every other machine's card.  Killed at any point, the next visit finds whole files and goes on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from sneaker.bundle.card import MAX_CARD_BYTES, Card, decode_card
from sneaker.bundle.coverage import Coverage, index_coverage, reaches
from sneaker.bundle.file import open_indexed
from sneaker.bundle.plan import Order, Range, plan, slowest
from sneaker.errors import (
    BundleError,
    BundleUnsupported,
    DriveError,
    DriveFull,
    NotABundle,
    OutputError,
    SneakerError,
    SourceError,
)
from sneaker.exchange.cards import make_card, wanted_blobs
from sneaker.exchange.enrolment import require_enrolled
from sneaker.exchange.export import BUNDLE_SUFFIX, DEFAULT_HOPS, blobs_to_send, sendable
from sneaker.exchange.home import STORE_NAME, Home
from sneaker.exchange.importing import ImportReport, ImportSession, SourceReport, importing
from sneaker.exchange.output import reason_of
from sneaker.exchange.packing import MIN_VOLUME_BYTES, BlobToSend, Job, Packed, pack
from sneaker.exchange.stick import BUNDLES, CARDS, Entry, Marker, Stick, base32, from_base32
from sneaker.refs import FeedRef
from sneaker.store.drives import Drive, DriveTables, FileState, KnownCard, StickFile

__all__ = ["BUNDLE_NAME", "CARD_NAME", "VisitOptions", "VisitReport", "visit"]

BUNDLE_NAME = re.compile(r"[a-z2-7]{26}\.sneaker")
CARD_NAME = re.compile(r"([a-z2-7]{52})-([0-9]{1,19})\.card")

# Bundles on a stick stay below the limits of every file system and of old machines' patience.
MAX_STICK_BUNDLE_BYTES = 1 << 30
# What stays free on a stick: FAT behaves badly when it is full, and cards must always fit.
MIN_FREE_STICK_BYTES = 4 * 1024 * 1024
# What stays free on this machine while a bundle is copied.
MIN_FREE_HOME_BYTES = 64 * 1024 * 1024
# Cards of one machine that are read; there is one, but for those that an interrupted visit or a replicator left.
_CARDS_READ = 16
# A machine whose card did not change for this long no longer keeps bundles on the stick.
DEFAULT_STALE_DAYS = 90
# So many own bundles of less than this size are packed into one.
_COMPACT_COUNT = 16
_COMPACT_BYTES = 4 * 1024 * 1024
_DAY_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True, slots=True)
class VisitOptions:
    """How to visit; sizes in bytes."""

    max_bytes: int | None = None
    export: bool = True
    dry_run: bool = False
    order: Order = Order.DEPTH
    stale_days: int = DEFAULT_STALE_DAYS
    #: Ignore how old cards are, and remove every own bundle that no card on the stick asks for.
    collect: bool = False


@dataclass(slots=True)
class VisitReport:
    """What a visit did.  ``problems`` are sentences for people; ``safe_to_remove`` is true once nothing will be written."""

    drive: Drive
    imported: ImportReport
    exported: Packed | None = None
    files: list[tuple[str, int]] = field(default_factory=list)
    reader_clock: Mapping[FeedRef, int] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    machines: int = 0
    foreign: int = 0
    free_bytes: int = 0
    problems: list[str] = field(default_factory=list)
    safe_to_remove: bool = False

    @property
    def complete(self) -> bool:
        """Whether all went as it should."""
        return self.imported.complete and not self.problems and self.safe_to_remove


def visit(
    home: Home,
    path: Path,
    options: VisitOptions,
    *,
    now_ms: Callable[[], int],
    random_bytes: Callable[[int], bytes],
    progress: Callable[[int], None] | None = None,
) -> VisitReport:
    """Visit the stick at ``path`` (the folder that has ``SNEAKER`` in it) and return what happened.

    Raises DriveError if it is not enrolled here or cannot be read at all, StoreError if this machine's store fails.  A stick that
    fails on the way, or is pulled out, ends in the report with what was done until then.
    """
    with Stick(path) as stick, DriveTables.open(home.path / STORE_NAME) as tables:
        drive, marker = require_enrolled(stick, tables, home.caps)
        with _one_at_a_time(home.path, marker):
            return _Visit(home, stick, tables, drive, options, now_ms, random_bytes, progress).run()


@contextlib.contextmanager
def _one_at_a_time(home: Path, marker: Marker) -> Iterator[None]:
    """Keep a second visit of this home to the same stick out, until the first has finished."""
    path = home / f"visit-{base32(marker.drive_id)}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class _Visit:
    def __init__(
        self,
        home: Home,
        stick: Stick,
        tables: DriveTables,
        drive: Drive,
        options: VisitOptions,
        now_ms: Callable[[], int],
        random_bytes: Callable[[int], bytes],
        progress: Callable[[int], None] | None,
    ) -> None:
        self.home = home
        self.stick = stick
        self.tables = tables
        self.drive = drive
        self.options = options
        self.now_ms = now_ms
        self.random_bytes = random_bytes
        self.progress = progress or (lambda done: None)
        self.me = home.keypair.public
        self.part_prefix = base32(self.me)[:16] + "-"
        self.writes = options.export and not options.dry_run
        self.cards: dict[FeedRef, Card] = {}
        self.card_names: dict[FeedRef, list[tuple[int, str]]] = {}
        self.known: dict[str, StickFile] = {}
        self.learnt: dict[str, StickFile] = {}
        self.present: dict[str, Entry] = {}
        self.seen_now: list[KnownCard] = []
        self.seen_at: dict[FeedRef, int] = {}
        self.own_card: Card | None = None  # the newest of ours that lies on this stick
        self.newest_own = 0
        self.foreign = 0
        self.report: VisitReport

    def run(self) -> VisitReport:
        problems: list[str] = []
        with importing(self.home, now_ms=self.now_ms, dry_run=self.options.dry_run, progress=self.progress) as session:
            with _survived(problems):
                self._read_cards(session)
                self._take_bundles(session)
            imported = session.finish()
        # From here on everything that came is on this machine's disk.
        self.report = VisitReport(self.drive, imported, problems=problems)
        if not problems:
            if not self.options.dry_run:
                self._remember()
            with _survived(problems):
                self._leave()
                self.report.free_bytes = self.stick.free_bytes()
                self.report.safe_to_remove = True
        if not self.options.dry_run:
            self._remember()
        self.report.machines = len(self.cards)
        self.report.foreign = self.foreign
        return self.report

    # ------------------------------------------------------------------------------------------------ taking

    def _read_cards(self, session: ImportSession) -> None:
        """Find the newest valid card of each machine: on the stick, or a newer one that we have from elsewhere."""
        entries, self.foreign = self.stick.entries(CARDS, CARD_NAME)
        for entry in entries:
            match = CARD_NAME.fullmatch(entry.name)
            machine = from_base32(match[1], 32) if match else None
            if match is None or machine is None:
                self.foreign += 1
                continue
            self.card_names.setdefault(FeedRef(machine), []).append((int(match[2]), entry.name))
        known = self.tables.cards()
        for machine, names in self.card_names.items():
            names.sort(reverse=True)
            mine = known.get(machine)
            card = self._newest_card(session, machine, names, mine)
            if card is not None:
                self.cards[machine] = card

    def _newest_card(
        self, session: ImportSession, machine: FeedRef, names: list[tuple[int, str]], mine: KnownCard | None
    ) -> Card | None:
        """Return the newest card of a machine; ``mine`` is the newest that we had before.

        Older cards are read as well, but for one thing: they may have seen more of our own feed than we hold. This home
        can be a restored copy, and so can their machine.
        """
        newest: Card | None = None
        for counter, name in names[:_CARDS_READ]:
            if mine is not None and counter == mine.counter and machine != self.me:
                continue
            found = self._read_card(machine, counter, name)
            if found is None:
                continue
            card, data = found
            if machine == self.me and self.own_card is None:
                self.own_card = card
            if newest is None and (mine is None or counter > mine.counter):
                newest = card
                session.learn_card(card)
                self.seen_now.append(KnownCard(machine, counter, self.now_ms(), data))
            else:
                session.learn_old_card(card)
        if newest is not None or mine is None:
            return newest
        self.seen_at[machine] = mine.seen_at_ms
        try:
            return decode_card(mine.data)
        except BundleError:
            return None

    def _read_card(self, machine: FeedRef, counter: int, name: str) -> tuple[Card, bytes] | None:
        try:
            data = self.stick.read(CARDS, name, MAX_CARD_BYTES)
            card = decode_card(data)
        except (BundleError, SourceError):
            self.foreign += 1
            return None
        if (card.machine, card.counter, card.network_id) != (machine, counter, self.home.caps.network_id):
            self.foreign += 1
            return None
        return card, data

    def _take_bundles(self, session: ImportSession) -> None:
        entries, foreign = self.stick.entries(BUNDLES, BUNDLE_NAME)
        self.foreign += foreign
        self.known = self.tables.files(self.drive.id)
        self.present = {entry.name: entry for entry in entries}
        for entry in entries:
            known = self.known.get(entry.name)
            if known is not None and known.size == entry.size and known.state is not FileState.DAMAGED:
                continue
            self._take_bundle(session, entry)

    def _take_bundle(self, session: ImportSession, entry: Entry) -> None:
        report = SourceReport(f"{BUNDLES}/{entry.name}")
        state, exporter, coverage = FileState.FOREIGN, b"", Coverage()
        try:
            if entry.size > MAX_STICK_BUNDLE_BYTES + MIN_VOLUME_BYTES:
                raise NotABundle(f"{entry.name} is larger than any bundle that sneaker puts on a stick")
            with self.stick.open(BUNDLES, entry.name) as file:
                indexed = open_indexed(file)
                if indexed is not None and session.has_all(indexed):
                    session.accept_header(indexed.header, report)
                    session.known(report)
                    state = FileState.TAKEN
                else:
                    with self._staged(file, entry) as copy:
                        session.take(copy, report)
                        indexed = open_indexed(copy)
                    state = FileState.TAKEN if report.whole else FileState.DAMAGED
            if indexed is not None:
                exporter, coverage = indexed.header.exporter, index_coverage(indexed.index)
                if exporter == self.me and state is FileState.TAKEN:
                    state = FileState.OWN
        except (NotABundle, BundleUnsupported, SourceError, DriveFull) as error:
            session.refuse(report, error)
            if isinstance(error, DriveFull):
                return
        except SneakerError as error:
            if error.code.startswith("store"):
                raise
            session.refuse(report, error)
        self.learnt[entry.name] = StickFile(entry.name, entry.size, entry.mtime_ns, state, exporter, coverage.encode())

    @contextlib.contextmanager
    def _staged(self, file: BinaryIO, entry: Entry) -> Iterator[BinaryIO]:
        """Copy a bundle once into this home, and read only the copy: the stick may change under our hands."""
        free = shutil.disk_usage(self.home.path).free
        if free < entry.size + MIN_FREE_HOME_BYTES:
            raise DriveFull(
                f"there is no room on this machine to take in {entry.name}",
                hint="make room, and insert the stick again",
            )
        file.seek(0)
        with tempfile.TemporaryFile(dir=self.home.path, prefix="staging-") as copy:
            left = entry.size
            while left > 0 and (data := file.read(min(left, 1 << 20))):
                copy.write(data)
                left -= len(data)
                self.progress(len(data))
            copy.seek(0)
            yield copy

    def _remember(self) -> None:
        """Write down what was learnt of the stick; what came from it is committed by now."""
        for card in self.seen_now:
            self.tables.put_card(card)
        if self.learnt:
            self.tables.put_files(self.drive.id, self.learnt.values())
        gone = [name for name in self.known if name not in self.present]
        if gone:
            self.tables.drop_files(self.drive.id, gone)
        self.drive = replace(self.drive, visited_at_ms=self.now_ms())
        self.tables.put_drive(self.drive)
        self.known = {**{name: file for name, file in self.known.items() if name not in gone}, **self.learnt}
        self.seen_now, self.learnt = [], {}

    # ------------------------------------------------------------------------------------------------ leaving

    def _leave(self) -> None:
        """Clean up, write what others lack, and our card."""
        others = self._others()
        if self.writes:
            for folder in (CARDS, BUNDLES):
                self.stick.remove_parts(folder, self.part_prefix)
            self._clean(others)
        small = self._small_own_bundles()
        ranges, blobs, clock = self._plan(others, small)
        if ranges or blobs:
            self._write_bundle(ranges, blobs, clock)
        if self.writes:
            left = self.report.exported
            if left is not None and not left.left and not left.blobs_left:
                self._remove(small)
            self._write_cards()
            self.stick.sync()

    def _others(self) -> list[Card]:
        """Return the cards of the other machines on this round whose newest card is not too old."""
        now = self.now_ms()
        oldest = now - self.options.stale_days * _DAY_MS
        return [
            card
            for machine, card in self.cards.items()
            if machine != self.me and not 0 < self.seen_at.get(machine, now) < oldest
        ]

    def _bundles(self) -> Iterator[tuple[str, StickFile, Coverage]]:
        for name, file in self.known.items():
            if name in self.present and file.state in (FileState.OWN, FileState.TAKEN):
                yield name, file, Coverage.decode(file.coverage)

    def _clean(self, others: list[Card]) -> None:
        """Remove own bundles that every other machine has taken in."""
        if not others:
            return
        covered = [
            name
            for name, file, coverage in self._bundles()
            if file.state is FileState.OWN and all(coverage.is_covered_by(card.clock, card.wants) for card in others)
        ]
        self._remove(covered)

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            self.stick.remove(BUNDLES, name)
            self.report.removed.append(f"{BUNDLES}/{name}")
            self.present.pop(name, None)

    def _small_own_bundles(self) -> list[str]:
        """Return own small bundles, if there are so many that one is better."""
        small = [
            name for name, file, _ in self._bundles() if file.state is FileState.OWN and file.size < _COMPACT_BYTES
        ]
        wanted = 2 if self.options.collect else _COMPACT_COUNT
        return small if self.writes and len(small) >= wanted else []

    def _plan(self, others: list[Card], ignored: list[str]) -> tuple[list[Range], list[BlobToSend], dict[FeedRef, int]]:
        """Return what the others lack that does not lie on the stick: all, if nobody else has left a card yet."""
        coverages = [coverage for name, _, coverage in self._bundles() if name not in ignored]
        clocks: list[Mapping[FeedRef, int]] = [card.clock for card in others] or [{}]
        ours = self.home.store.clock()
        theirs = slowest(reaches(clocks, coverages), ours)
        distance = {**self.home.store.hops(self.me, DEFAULT_HOPS), self.me: 0}
        ranges = plan(ours, theirs, wanted=sendable(self.home), hops=distance, order=self.options.order)
        there = frozenset().union(*(coverage.blobs for coverage in coverages)) if coverages else frozenset()
        wants = frozenset(blob for card in others for blob in card.wants) - there
        blobs = [item for item in blobs_to_send(self.home, ranges, wants) if item.blob not in there]
        return ranges, blobs, theirs

    def _write_bundle(self, ranges: list[Range], blobs: list[BlobToSend], theirs: dict[FeedRef, int]) -> None:
        room = self.stick.free_bytes() - MIN_FREE_STICK_BYTES
        if self.options.max_bytes is not None:
            room = min(room, self.options.max_bytes)
        if room < MIN_VOLUME_BYTES:
            messages = sum(item.messages for item in ranges)
            self.report.problems.append(f"the stick is full: {messages:,} messages were not put on it")
            return
        job = Job(
            keypair=self.home.keypair,
            caps=self.home.caps,
            ranges=ranges,
            now_ms=self.now_ms(),
            random_bytes=self.random_bytes,
            blobs=blobs,
            max_bytes=room,
            volume_bytes=MAX_STICK_BUNDLE_BYTES,
            workers=os.cpu_count() or 1,
        )
        packed = pack(self.home.store, self.home.blobs, job, self._open_volume)
        self.report.exported = packed
        self.report.reader_clock = {
            **{feed: sequence for feed, sequence in theirs.items() if sequence},
            **{item.feed: item.last for item in packed.sent},
        }

    @contextlib.contextmanager
    def _open_volume(self, number: int, bundle_id: bytes) -> Iterator[Callable[[bytes], object]]:
        if not self.writes:
            yield len
            return
        name = base32(bundle_id) + BUNDLE_SUFFIX
        with self.stick.writing(BUNDLES, name, self.part_prefix) as file:
            yield file.write
        with self.stick.open(BUNDLES, name) as written:
            indexed = open_indexed(written)
            size = written.seek(0, os.SEEK_END)
        if indexed is None:
            raise DriveError(f"the stick does not give back the bundle {name} as it was written")
        self.report.files.append((f"{BUNDLES}/{name}", size))
        self.present[name] = Entry(name, size, 0)
        self.learnt[name] = StickFile(name, size, 0, FileState.OWN, self.me, index_coverage(indexed.index).encode())

    def _write_cards(self) -> None:
        """Leave our own card if it says something new, and newer cards of others on this round."""
        known = self.tables.cards()
        self._write_own_card(known.get(self.me))
        known = self.tables.cards()
        for machine in list(self.cards):
            newest = known.get(machine)
            names = self.card_names.get(machine, [])
            if machine != self.me and newest is not None and names and newest.counter > names[0][0]:
                self._write_card(machine, newest.counter, newest.data)
        for machine, names in self.card_names.items():
            if machine in self.cards:  # a newer valid one is there: the old ones say nothing more
                current = self.cards[machine].counter
                for counter, name in names:
                    older = counter < current or (machine == self.me and counter < self.newest_own)
                    # What is no card is not ours to remove, whatever it is called.
                    if older and self._read_card(machine, counter, name) is not None:
                        self.stick.remove(CARDS, name)

    def _write_own_card(self, known: KnownCard | None) -> None:
        """Leave our card, unless the newest one lies here and still says how things are."""
        clock = self.home.store.clock()
        wants = wanted_blobs(self.home)
        sequence = clock.get(self.me, 0)
        state = (clock, wants, self.home.store.key_at(self.me, sequence) if sequence else None)
        there = self.own_card
        counters = [card.counter for card in (there, known) if card is not None]
        if there is not None and there.counter == max(counters) and (there.clock, there.wants, there.head) == state:
            return
        if known is not None and known.counter == max(counters):
            # What we left on another stick may be as true as ever: the same card then, or they would never be level.
            with contextlib.suppress(BundleError):
                card = decode_card(known.data)
                if (card.clock, card.wants, card.head) == state:
                    self._write_card(self.me, card.counter, known.data)
                    return
        counter = max(self.now_ms(), *(counter + 1 for counter in counters), 1)
        data = make_card(self.home, now_ms=self.now_ms(), counter=counter, clock=clock, wants=wants)
        self._write_card(self.me, counter, data)
        self.tables.put_card(KnownCard(self.me, counter, self.now_ms(), data))

    def _write_card(self, machine: FeedRef, counter: int, data: bytes) -> None:
        self.stick.write_small(CARDS, f"{base32(machine)}-{counter}.card", data, self.part_prefix)
        if machine == self.me:
            self.newest_own = counter


@contextlib.contextmanager
def _survived(problems: list[str]) -> Iterator[None]:
    """Turn what a stick does to us into a sentence; what is wrong with our own store goes through."""
    try:
        yield
    except OSError as error:
        problems.append(f"the stick failed: {reason_of(error)}")
    except (DriveError, SourceError, OutputError) as error:
        problems.append(error.message)
