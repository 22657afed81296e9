"""What a visit leaves on a stick: what the other machines on its round lack, and nothing that lies there already."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from sneaker.bundle.indexed_file import open_indexed
from sneaker.clock import VectorClock
from sneaker.errors import StickError
from sneaker.limits import MAX_MESSAGE_BYTES
from sneaker.planning.coverage import index_coverage
from sneaker.planning.send_order import Range
from sneaker.planning.what_to_send import make_plan
from sneaker.refs import FeedRef
from sneaker.stick.cleaning import remove_bundles
from sneaker.stick.free_space import full_stick_problem, is_full_error, writable_bytes
from sneaker.stick.layout import BUNDLES, MAX_STICK_BUNDLE_BYTES, bundle_name
from sneaker.stick.merge_bundles import find_replaceable
from sneaker.stick.report import add_packed
from sneaker.stick.safe_folder import Entry
from sneaker.stick.visit_context import VisitContext
from sneaker.store.blob_ledger import BlobLedger, BlobToSend
from sneaker.store.sticks import FileState
from sneaker.transfer.export import DEFAULT_HOPS, sendable
from sneaker.transfer.pack import MIN_VOLUME_BYTES, Job, Packed, pack

__all__ = ["BundleSender", "StickPlan"]

# How often a bundle is tried again, smaller, when a stick is full although it said that it is not.
_ATTEMPTS = 5


class StickPlan(NamedTuple):
    """What the others lack, the most important first, and how far the slowest of them gets with what lies there."""

    ranges: list[Range]
    blobs: list[BlobToSend]
    clock: VectorClock

    @property
    def messages(self) -> int:
        """How many messages they lack."""
        return sum(item.messages for item in self.ranges)


class BundleSender:
    """Writes new bundles for the machines of the round."""

    def __init__(self, context: VisitContext) -> None:
        self._context = context
        self._written = 0

    # ------------------------------------------------------------------------------------------------ what is needed

    def make_plan(self, ignored: Iterable[str] = ()) -> StickPlan:
        """Return what the others lack and could not get from the bundles here that are not ``ignored``."""
        context = self._context
        coverages = [bundle.coverage for bundle in context.bundles.useful(ignored)]
        plan = make_plan(
            self._undisputed(context.home.store.clock().classic()),
            context.round.clocks,
            lying_there=coverages,
            given=context.round.given,
            wanted=sendable(context.home),
            hops=self._distances,
            order=context.options.order,
        )
        there = frozenset().union(*(item.blobs for item in coverages))
        blobs = BlobLedger(context.home.store, context.home.blobs).to_send(
            plan.ranges, context.round.wants, there=there
        )
        return StickPlan(plan.ranges, blobs, plan.reached)

    def _distances(self, messages: int) -> Mapping[FeedRef, int] | None:
        """Return how far feeds are from us; the follow graph is only walked if something may have to stay behind."""
        context = self._context
        worst = messages * MAX_MESSAGE_BYTES
        if context.options.max_bytes is None and worst <= context.stick.free_bytes() // 2:
            return None
        me = context.home.keypair.public
        return {**context.home.store.hops(me, DEFAULT_HOPS), me: 0}

    def _undisputed(self, clock: VectorClock) -> VectorClock:
        """Return a clock without what comes after a fork: of that, only the proof is carried."""
        forked = self._context.forked
        if not forked:
            return clock
        return VectorClock({feed: min(last, forked.get(feed, last + 1) - 1) for feed, last in clock.items()})

    # ------------------------------------------------------------------------------------------------ writing

    def send(self) -> None:
        """Write what the others lack; many small own bundles become one."""
        context = self._context
        if context.round.unconfirmed and context.options.writes:
            ours = self._undisputed(context.home.store.clock().classic())
            context.home.store.known_clocks.count_visit(context.round.unconfirmed, ours)
        replaced = find_replaceable(context, lambda ignored: self.make_plan(ignored).messages)
        needed = self.make_plan(replaced)
        if needed.ranges or needed.blobs:
            self._write(needed, replaced)
            packed = context.report.exported
            if packed is None or packed.left or packed.blobs_left or context.report.problems:
                return
        if context.options.collect or needed.ranges or needed.blobs:
            remove_bundles(context, replaced)

    def _write(self, needed: StickPlan, replaced: list[str]) -> None:
        """Write a plan within the room there is; less of it if the stick turns out to be full before."""
        limit = writable_bytes(self._context)
        for _ in range(_ATTEMPTS):
            if limit < MIN_VOLUME_BYTES:
                break
            self._written = 0
            try:
                self._pack(needed, limit)
                return
            except OSError as error:
                if not is_full_error(error):
                    raise
            limit = min(writable_bytes(self._context), self._written // 4 * 3)
            needed = self.make_plan(replaced)
        # What is left behind is said: all of it.
        report = self._context.report
        report.exported = add_packed(report.exported, Packed(left=list(needed.ranges), blobs_left=len(needed.blobs)))
        report.problems.append(full_stick_problem(self._context, needed.messages))

    def _pack(self, needed: StickPlan, limit: int) -> None:
        home, report = self._context.home, self._context.report
        job = Job(
            keypair=home.keypair,
            caps=home.caps,
            ranges=needed.ranges,
            now_ms=self._context.now_ms(),
            random_bytes=self._context.random_bytes,
            blobs=needed.blobs,
            max_bytes=limit,
            volume_bytes=MAX_STICK_BUNDLE_BYTES,
            workers=os.cpu_count() or 1,
        )
        packed = pack(home.store, home.blobs, job, self._open_volume)
        report.exported = add_packed(report.exported, packed)
        reached = {feed: sequence for feed, sequence in needed.clock.items() if sequence}
        report.reader_clock = VectorClock({**reached, **{item.feed: item.last for item in packed.sent}})

    @contextlib.contextmanager
    def _open_volume(self, number: int, bundle_id: bytes) -> Iterator[Callable[[bytes], object]]:
        context = self._context
        if not context.options.writes:
            yield len
            return
        name = bundle_name(bundle_id)
        folder = context.stick.make_folder(BUNDLES)
        with folder.writing(name, context.part_prefix) as file:
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
            context.report.files.append((f"{BUNDLES}/{name}", status.st_size))
            entry = Entry(name, status.st_size, status.st_mtime_ns)
            me = context.home.keypair.public
            context.bundles.note_file(entry, FileState.OWN, me, index_coverage(indexed.index))
