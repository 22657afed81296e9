"""A visit to a stick: take in what it brings, leave what others on its round lack, say whether it may be pulled out.

The order matters (design, section 6): what is taken in is committed before anything is written or removed, and what is removed
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
from sneaker.stick.bundles import Shelf
from sneaker.stick.cards import StickCards
from sneaker.stick.enrolment import require_enrolled
from sneaker.stick.layout import Marker, Stick, base32
from sneaker.stick.receive import Taking, is_gone
from sneaker.stick.report import VisitOptions, VisitReport
from sneaker.stick.send import Leaving
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
        self._part_prefix = base32(home.keypair.public)[:16] + "-"
        self._cards = StickCards(home, stick, now_ms)
        self._shelf = Shelf(home.store.sticks.files(record.id))
        self._problems: list[str] = []
        self._has_ended = False
        self._is_new_visit = True

    def run(self) -> VisitReport:
        report = self._take()
        if not self._has_ended:
            self._leave(report)
        self._sync(report)
        if not self._options.dry_run:
            self._remember()
        report.stick = self._record
        report.machines = len(self._cards.cards)
        seen = self._home.store.own_sequence_seen(self._home.keypair.public)
        furthest = max(seen.proven, seen.claimed)
        report.own_elsewhere = furthest if furthest > seen.held else None
        report.damaged = self._shelf.damaged()
        return report

    def _take(self) -> VisitReport:
        """Take in what is there; afterwards all of it is on this machine's disk."""
        home = self._home
        foreign = 0
        with importing(home, now_ms=self._now_ms, dry_run=self._options.dry_run, progress=self._progress) as session:
            with self._survived(ends=True):
                self._cards.read(session)
            own = self._cards.own
            # Bundles are taken in even if the cards cannot be read; but then nobody knows what to leave.
            with self._survived(ends=True):
                taking = Taking(
                    session,
                    self._stick,
                    self._shelf,
                    wants=own.wants if own is not None else frozenset(),
                    retry=self._options.collect,
                    progress=self._progress,
                )
                try:
                    taking.run()
                finally:
                    foreign = self._cards.foreign + taking.foreign
                    self._problems += [*self._cards.problems, *taking.problems]
            imported = session.finish()
        report = VisitReport(self._record, imported, problems=self._problems, foreign=foreign)
        if not self._options.dry_run:
            self._record = replace(self._record, visited_at_ms=self._now_ms())
            self._remember()
        return report

    def _leave(self, report: VisitReport) -> None:
        """Clean up, write what others lack, and our card.  A step that fails does not keep the others from being tried."""
        leaving = Leaving(
            self._home,
            self._stick,
            self._shelf,
            self._cards.others(self._options.stale_days),
            self._options,
            report,
            part_prefix=self._part_prefix,
            now_ms=self._now_ms,
            random_bytes=self._random_bytes,
        )
        writes = self._options.writes
        for is_wanted, step in (
            (writes, leaving.sweep),
            (writes, leaving.distrust),
            (writes, leaving.clean),
            (writes, leaving.bear_witness),
            (True, leaving.write),
            (writes, lambda: self._cards.write(self._part_prefix)),
        ):
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
        shelf, cards = self._shelf, self._cards
        gone = [] if self._has_ended else shelf.gone()
        if not (shelf.learnt or gone or cards.learnt or self._is_new_visit):
            return
        self._home.store.sticks.remember(self._record, files=shelf.learnt.values(), gone=gone, cards=cards.learnt)
        self._is_new_visit = False
        cards.learnt.clear()
        if not self._has_ended:
            shelf.remembered()

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
