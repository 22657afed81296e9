"""What a visit leaves on a stick: what the other machines on its round lack, and nothing that lies there already.

Everything here changes files of this machine's own only: it writes new bundles, and removes own ones that nobody needs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from sneaker.bundle.card import Card
from sneaker.bundle.indexed_file import open_indexed
from sneaker.clock import VectorClock
from sneaker.errors import StickError
from sneaker.home.home import Home
from sneaker.limits import MAX_MESSAGE_BYTES, MAX_SEQUENCE
from sneaker.planning.coverage import Coverage, index_coverage, reach
from sneaker.planning.send_order import Range, joined, plan, slowest
from sneaker.refs import BlobRef
from sneaker.stick.bundles import Shelf
from sneaker.stick.fork_proofs import contested, encode_witness, find_witnesses
from sneaker.stick.layout import BUNDLES, CARDS, Stick, base32
from sneaker.stick.receive import MAX_STICK_BUNDLE_BYTES
from sneaker.stick.report import DAY_MS, VisitOptions, VisitReport, add_packed
from sneaker.stick.reread import is_sound, packed_by
from sneaker.stick.safe_folder import FULL_ERRORS, Entry
from sneaker.store.sticks import FileState
from sneaker.transfer.export import BUNDLE_SUFFIX, DEFAULT_HOPS, sendable
from sneaker.transfer.pack import MIN_VOLUME_BYTES, BlobToSend, Job, Packed, pack

__all__ = ["Leaving"]

# So many own bundles of less than this size are packed into one.
_COMPACT_COUNT = 16
_COMPACT_BYTES = 4 * 1024 * 1024
# So much of bundles is read once more at a visit if other machines could not use them.
_VERIFY_BYTES = 64 * 1024 * 1024
# How often a bundle is tried again, smaller, when a stick is full although it said that it is not.
_ATTEMPTS = 5


class Plan(NamedTuple):
    """What the others lack, the most important first, and how far the slowest of them gets with what lies there."""

    ranges: list[Range]
    blobs: list[BlobToSend]
    clock: VectorClock


class Leaving:
    """Cleans up and writes bundles; ``others`` are the cards of the machines to write for."""

    def __init__(
        self,
        home: Home,
        stick: Stick,
        shelf: Shelf,
        others: list[Card],
        options: VisitOptions,
        report: VisitReport,
        *,
        part_prefix: str,
        now_ms: Callable[[], int],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._home = home
        self._stick = stick
        self._shelf = shelf
        self._others = others
        self._options = options
        self._report = report
        self._part_prefix = part_prefix
        self._now_ms = now_ms
        self._random_bytes = random_bytes
        self._written = 0
        self._witness_bytes = 0
        self._contested = contested(home.store)
        self._blocked = home.store.blocked(home.keypair.public)
        # Without any card this is a stick for whoever comes: they have nothing.
        self._clocks = [self._clock_of(card) for card in others] or [VectorClock()]
        self._wants = frozenset(blob for card in others for blob in card.wants)

    def _clock_of(self, card: Card) -> VectorClock:
        """Return what a machine has, or does not want: whom it blocks, it will never take from us."""
        blocked = self._home.store.blocked(card.machine)
        return card.clock.merged(VectorClock(dict.fromkeys(blocked, MAX_SEQUENCE)))

    # ------------------------------------------------------------------------------------------------ what is needed

    def make_plan(self, ignored: Iterable[str] = ()) -> Plan:
        """Return what the others lack and could not get from the bundles here that are not ``ignored``."""
        store, me = self._home.store, self._home.keypair.public
        coverages = [bundle.coverage for bundle in self._shelf.bundles(ignored)]
        ours = self._undisputed(store.clock())
        behind = VectorClock({feed: held for feed, held in slowest(self._clocks, ours).items() if held < ours[feed]})
        theirs = reach(behind, coverages)
        lacked = VectorClock({feed: ours[feed] for feed, held in theirs.items() if held < ours[feed]})
        ranges: list[Range] = []
        if lacked:
            # The follow graph is only walked if something may have to stay behind.
            worst = sum(last - theirs[feed] for feed, last in lacked.items()) * MAX_MESSAGE_BYTES
            is_tight = self._options.max_bytes is not None or worst > self._stick.free_bytes() // 2
            distance = {**store.hops(me, DEFAULT_HOPS), me: 0} if is_tight else None
            ranges = plan(lacked, theirs, wanted=sendable(self._home), hops=distance, order=self._options.order)
        return Plan(ranges, self._blobs(ranges, frozenset().union(*(item.blobs for item in coverages))), theirs)

    def _undisputed(self, clock: VectorClock) -> VectorClock:
        """Return a clock without what comes after a fork: of that, the witnesses are carried."""
        if not self._contested:
            return clock
        return VectorClock({feed: min(last, self._contested.get(feed, last + 1) - 1) for feed, last in clock.items()})

    def _blobs(self, ranges: Iterable[Range], there: frozenset[BlobRef]) -> list[BlobToSend]:
        """Return the blobs we hold that others asked for, then those that the messages to be sent mention."""
        store, held = self._home.store, self._home.blobs
        chosen = {blob: BlobToSend(blob) for blob in sorted(self._wants - there) if held.has(blob)}
        for item in joined(ranges):
            for link in store.blob_links(item.feed, item.first, item.last):
                if link.blob not in chosen and link.blob not in there and held.has(link.blob):
                    chosen[link.blob] = BlobToSend(link.blob, (link.feed, link.sequence))
        return list(chosen.values())

    # ------------------------------------------------------------------------------------------------ cleaning

    def sweep(self) -> None:
        """Remove what an interrupted visit of ours left behind."""
        for name in (BUNDLES, CARDS):
            folder = self._stick.folder(name)
            if folder is not None:
                folder.remove_parts(self._part_prefix)

    def clean(self) -> None:
        """Remove own bundles of which every other machine has everything, and wants no blob; and those that carry somebody
        whom we have come to block: what they hold of others is written again."""
        own = [bundle for bundle in self._shelf.bundles() if bundle.own]
        self._remove(
            bundle.name for bundle in own if any(item.feed in self._blocked for item in bundle.coverage.ranges)
        )
        if not self._others:
            return
        own = [bundle for bundle in self._shelf.bundles() if bundle.own]
        feeds = {item.feed for bundle in own for item in bundle.coverage.ranges}
        lowest = slowest(self._clocks, feeds)
        self._remove(
            bundle.name
            for bundle in own
            if self._wants.isdisjoint(bundle.coverage.blobs)
            and all(
                lowest[feed] >= min(last, self._contested.get(feed, last + 1) - 1)
                for feed, _, last in bundle.coverage.ranges
            )
        )

    def distrust(self) -> None:
        """Look at the bundles that another machine could not use: do not count on those that are not as they say.

        Its word alone changes nothing. An own bundle goes if it is still seen to be one; what it held is written again.
        """
        doubted = {base32(bundle_id) + BUNDLE_SUFFIX for card in self._others for bundle_id in card.unreadable}
        left = _VERIFY_BYTES
        for bundle in [bundle for bundle in self._shelf.bundles() if bundle.name in doubted]:
            left -= bundle.size
            if left < 0 or self._is_sound(bundle.name):
                continue
            if bundle.own and self._is_own(bundle.name):
                self._remove([bundle.name])
            else:
                self._shelf.note(self._shelf.present[bundle.name], FileState.DAMAGED)

    def _is_sound(self, name: str) -> bool:
        folder = self._stick.folder(BUNDLES)
        return folder is not None and is_sound(folder, name, self._home.store)

    def _is_own(self, name: str) -> bool:
        folder = self._stick.folder(BUNDLES)
        return folder is not None and packed_by(folder, name) == self._home.keypair.public

    def _remove(self, names: Iterable[str]) -> None:
        folder = self._stick.folder(BUNDLES)
        for name in list(names):
            if folder is not None:
                folder.remove(name)
            self._report.removed.append(f"{BUNDLES}/{name}")
            self._shelf.drop(name)

    # ------------------------------------------------------------------------------------------------ writing

    def bear_witness(self) -> None:
        """Leave the messages that prove forks, as long as they are news; a stick is told of a fork for so long as of a machine."""
        oldest = self._now_ms() - self._options.stale_days * DAY_MS
        for witness in find_witnesses(self._home.store):
            if witness.feed in self._blocked:
                continue
            name = base32(witness.bundle_id) + BUNDLE_SUFFIX
            known = self._shelf.find(name)
            if witness.seen_at_ms < oldest:
                if name in self._shelf.present and known is not None and known.state is FileState.OWN:
                    self._remove([name])
            elif name not in self._shelf.present:
                self._leave_witness(name, encode_witness(witness, self._home, self._now_ms()))

    def _leave_witness(self, name: str, data: bytes) -> None:
        folder = self._stick.make_folder(BUNDLES)
        if len(data) > self._room() or not folder.write_small(name, data, self._part_prefix):
            return  # another time; or another machine has brought it at this moment
        self._witness_bytes += len(data)
        self._report.witnesses += 1
        self._report.files.append((f"{BUNDLES}/{name}", len(data)))
        with folder.open(name) as file:
            status = os.fstat(file.fileno())
        # It covers nothing: nobody's plan may count on a message that is contested.
        self._shelf.note(
            Entry(name, status.st_size, status.st_mtime_ns), FileState.OWN, self._home.keypair.public, Coverage()
        )

    def write(self) -> None:
        """Write what the others lack; many small own bundles become one."""
        replaced = self._replaceable()
        needed = self.make_plan(replaced)
        if needed.ranges or needed.blobs:
            self._write(needed, replaced)
            packed = self._report.exported
            if packed is None or packed.left or packed.blobs_left or self._report.problems:
                return
        if self._options.collect or needed.ranges or needed.blobs:
            self._remove(replaced)

    def _replaceable(self) -> list[str]:
        """Return own bundles that one new one shall replace."""
        if not self._options.writes:
            return []
        own = [bundle for bundle in self._shelf.bundles() if bundle.own]
        if not self._options.collect:
            small = [bundle.name for bundle in own if bundle.size < _COMPACT_BYTES]
            return small if len(small) >= _COMPACT_COUNT else []
        names = [bundle.name for bundle in own]
        lies_there = sum(item.messages for bundle in own for item in bundle.coverage.ranges)
        lacked = sum(item.messages for item in self.make_plan(names).ranges)
        as_it_should = len(own) <= 1 and lies_there <= lacked and all(self._is_sound(name) for name in names)
        return [] if as_it_should else names

    def _write(self, needed: Plan, replaced: list[str]) -> None:
        """Write a plan within the room there is; less of it if the stick turns out to be full before."""
        limit = self._room()
        for _ in range(_ATTEMPTS):
            if limit < MIN_VOLUME_BYTES:
                break
            self._written = 0
            try:
                self._pack(needed, limit)
                return
            except OSError as error:
                if error.errno not in FULL_ERRORS:
                    raise
            limit = min(self._room(), self._written // 4 * 3)
            needed = self.make_plan(replaced)
        self._note_full(needed)

    def _room(self) -> int:
        room = self._stick.free_bytes() - self._options.min_free_bytes
        if self._options.max_bytes is not None:
            done = self._report.exported.bytes if self._report.exported is not None else 0
            room = min(room, self._options.max_bytes - done - self._witness_bytes)
        return room

    def _note_full(self, needed: Plan) -> None:
        """Say honestly what is left behind: all of it."""
        nothing = Packed(left=list(needed.ranges), blobs_left=len(needed.blobs))
        self._report.exported = add_packed(self._report.exported, nothing)
        messages = sum(item.messages for item in needed.ranges)
        is_option = self._options.max_bytes is not None and self._options.max_bytes < MIN_VOLUME_BYTES
        reason = "no bundle is as small as was asked for" if is_option else "the stick is full"
        what = "1 message was" if messages == 1 else f"{messages:,} messages were"
        self._report.problems.append(f"{reason}: {what} not put on it")

    def _pack(self, needed: Plan, limit: int) -> None:
        job = Job(
            keypair=self._home.keypair,
            caps=self._home.caps,
            ranges=needed.ranges,
            now_ms=self._now_ms(),
            random_bytes=self._random_bytes,
            blobs=needed.blobs,
            max_bytes=limit,
            volume_bytes=MAX_STICK_BUNDLE_BYTES,
            workers=os.cpu_count() or 1,
        )
        packed = pack(self._home.store, self._home.blobs, job, self._open_volume)
        self._report.exported = add_packed(self._report.exported, packed)
        reached = {feed: sequence for feed, sequence in needed.clock.items() if sequence}
        self._report.reader_clock = VectorClock({**reached, **{item.feed: item.last for item in packed.sent}})

    @contextlib.contextmanager
    def _open_volume(self, number: int, bundle_id: bytes) -> Iterator[Callable[[bytes], object]]:
        if not self._options.writes:
            yield len
            return
        name = base32(bundle_id) + BUNDLE_SUFFIX
        folder = self._stick.make_folder(BUNDLES)
        with folder.writing(name, self._part_prefix) as file:
            try:
                yield file.write
            finally:
                self._written += file.size
            status = file.flush()
            indexed = open_indexed(file.file)
            if indexed is None:
                raise StickError(f"the stick does not give back the bundle {name} as it was written")
            # Not even one message fitted, or it would hold one.
            file.is_discarded = not indexed.index.messages and not indexed.index.blobs
        if not file.is_discarded:
            self._report.files.append((f"{BUNDLES}/{name}", status.st_size))
            entry = Entry(name, status.st_size, status.st_mtime_ns)
            self._shelf.note(entry, FileState.OWN, self._home.keypair.public, index_coverage(indexed.index))
