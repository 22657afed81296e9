"""A visit to a stick: take in what it brings, leave what others on its round lack, say whether it may be pulled out.

The order matters: what is taken in is committed before anything is written or removed, and what is removed
is covered by every other machine's card.  Killed at any point, the next visit finds whole files and goes on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from sneaker.errors import OutputError, SourceError, StickError
from sneaker.files.atomic_write import reason_of
from sneaker.home.home import Home
from sneaker.stick.bundles import StickBundles
from sneaker.stick.cards import StickCards
from sneaker.stick.cleaning import remove_unfinished, remove_unneeded
from sneaker.stick.enrolment import require_enrolled
from sneaker.stick.fork_proofs import first_forked, leave_fork_proofs
from sneaker.stick.layout import base32
from sneaker.stick.marker import Marker
from sneaker.stick.receive import BundleReceiver, is_gone
from sneaker.stick.report import VisitOptions, VisitReport
from sneaker.stick.reread import reread_doubted
from sneaker.stick.send import BundleSender
from sneaker.stick.stick import Stick
from sneaker.stick.visit_context import VisitContext
from sneaker.stick.who_counts import find_round
from sneaker.store.sticks import StickRecord
from sneaker.transfer.import_files import importing

__all__ = ["VisitOptions", "VisitReport", "visit"]

# How long a visit waits for another one of this home to the same stick.
_WAIT_S = 600.0


def visit(
    home: Home,
    path: Path,
    options: VisitOptions,
    *,
    now_ms: Callable[[], int],
    random_bytes: Callable[[int], bytes],
    progress: Callable[[int], None] | None = None,
) -> VisitReport:
    """Visit the stick at ``path`` (the folder that has ``SNEAKER`` in it, or that folder) and return what happened.

    Raises StickError if it is not enrolled here or cannot be read at all, StoreError if this machine's store fails.  A stick that
    fails on the way, or is pulled out, ends in the report with what was done until then.
    """
    with Stick(path) as stick:
        record, marker = require_enrolled(home, stick)
        with _one_at_a_time(home.path, marker):
            return _Visit(home, stick, record, options, now_ms, random_bytes, progress).run()


@contextlib.contextmanager
def _one_at_a_time(home: Path, marker: Marker) -> Iterator[None]:
    """Keep a second visit of this home to the same stick out, until the first has finished."""
    descriptor = os.open(home / f"visit-{base32(marker.stick_id)}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + _WAIT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StickError("another sneaker of this home is still visiting that stick") from None
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


class _Visit:
    def __init__(
        self,
        home: Home,
        stick: Stick,
        record: StickRecord,
        options: VisitOptions,
        now_ms: Callable[[], int],
        random_bytes: Callable[[int], bytes],
        progress: Callable[[int], None] | None,
    ) -> None:
        self._home = home
        self._stick = stick
        self._record = record
        self._options = options
        self._now_ms = now_ms
        self._random_bytes = random_bytes
        self._progress = progress or (lambda done: None)
        self._part_prefix = base32(home.keypair.public.key)[:16] + "-"
        self._cards = StickCards(home, stick, now_ms)
        self._bundles = StickBundles(home.store.sticks.files(record.id))
        self._problems: list[str] = []
        self._has_ended = False
        self._is_new_visit = True

    def run(self) -> VisitReport:
        report = self._receive()
        if not self._has_ended:
            self._send(report)
        self._sync(report)
        if not self._options.dry_run:
            self._remember()
        report.stick = self._record
        report.machines = len(self._cards.cards)
        seen = self._home.store.own_sequence_seen(self._home.keypair.public)
        furthest = max(seen.proven, seen.claimed)
        report.own_elsewhere = furthest if furthest > seen.held else None
        report.damaged = self._bundles.count_damaged()
        return report

    def _receive(self) -> VisitReport:
        """Take in what is there; afterwards all of it is on this machine's disk."""
        home = self._home
        foreign = 0
        with importing(home, now_ms=self._now_ms, dry_run=self._options.dry_run, progress=self._progress) as session:
            with self._survived(ends=True):
                self._cards.read_cards(session)
            own = self._cards.own
            # Bundles are taken in even if the cards cannot be read; but then nobody knows what to leave.
            with self._survived(ends=True):
                receiver = BundleReceiver(
                    session,
                    self._stick,
                    self._bundles,
                    wants=own.wants if own is not None else frozenset(),
                    retry=self._options.collect,
                    progress=self._progress,
                )
                try:
                    receiver.receive()
                finally:
                    foreign = self._cards.foreign + receiver.foreign
                    self._problems += [*self._cards.problems, *receiver.problems]
            imported = session.finish()
        report = VisitReport(self._record, imported, problems=self._problems, foreign=foreign)
        if not self._options.dry_run:
            self._record = replace(self._record, visited_at_ms=self._now_ms())
            self._remember()
        return report

    def _send(self, report: VisitReport) -> None:
        """Clean up, write what others lack, and our card.  A step that fails does not keep the others from being tried."""
        home, cards, options = self._home, self._cards, self._options
        round_ = find_round(
            home, cards.cards, cards.unchanged_since, stale_days=options.stale_days, now_ms=self._now_ms()
        )
        context = VisitContext(
            home,
            self._stick,
            self._bundles,
            round_,
            options,
            report,
            blocked=home.store.blocked(home.keypair.public),
            forked=first_forked(home.store),
            part_prefix=self._part_prefix,
            now_ms=self._now_ms,
            random_bytes=self._random_bytes,
        )
        steps: list[tuple[bool, Callable[[], None]]] = [
            (options.writes, lambda: remove_unfinished(context)),
            (options.writes, lambda: reread_doubted(context)),
            (options.writes, lambda: remove_unneeded(context)),
            (options.writes, lambda: leave_fork_proofs(context)),
            (True, lambda: BundleSender(context).send()),
            (options.writes, lambda: cards.write_cards(self._part_prefix)),
        ]
        for is_wanted, step in steps:
            if is_wanted and not self._has_ended:
                with self._survived():
                    step()

    def _sync(self, report: VisitReport) -> None:
        """See to it that nothing is left to be written, whatever went wrong before."""
        with self._survived(ends=True):
            report.free_bytes = self._stick.free_bytes()
            self._stick.sync()
            report.safe_to_remove = True

    def _remember(self) -> None:
        """Write down what was learnt of the stick; what came from it is committed by now."""
        bundles, cards = self._bundles, self._cards
        gone = [] if self._has_ended else bundles.gone_files()
        if not (bundles.learnt or gone or cards.learnt or self._is_new_visit):
            return
        if cards.learnt:
            self._home.store.known_clocks.learn_clocks(cards.learnt, now_ms=self._now_ms())
        self._home.store.sticks.remember(self._record, files=bundles.learnt.values(), gone=gone)
        self._is_new_visit = False
        cards.learnt.clear()
        if not self._has_ended:
            bundles.mark_remembered()

    @contextlib.contextmanager
    def _survived(self, *, ends: bool = False) -> Iterator[None]:
        """Turn what a stick does to us into a sentence; what is wrong with our own store goes through.

        With ``ends`` nothing more is tried afterwards.
        """
        try:
            yield
        except OSError as error:
            self._add_problem(f"the stick failed: {reason_of(error)}")
            self._has_ended = self._has_ended or ends or is_gone(error)
        except (StickError, SourceError, OutputError) as error:
            self._add_problem(error.message)
            self._has_ended = self._has_ended or ends

    def _add_problem(self, problem: str) -> None:
        if problem not in self._problems:
            self._problems.append(problem)
