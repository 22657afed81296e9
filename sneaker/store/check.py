"""Check: is everything in the store what its author signed, and is everything derived from it right?

Each message is rebuilt and held against its key, its predecessor and its signature; then the heads of the feeds, the
waiting room, and the derived tables, which are made once more and compared.  ``repair`` mends what it finds.

A message is judged by the stored key of the one before it.  So one damaged message is one problem: those behind it are
kept, and wait until it is brought again.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sneaker.caps import MAIN_CAPS, Caps
from sneaker.errors import InvalidMessage
from sneaker.feed.chain import Chain, place_in_chain
from sneaker.feed.content import Facts, FactsReader
from sneaker.feed.formats import format_of, signature_checks
from sneaker.feed.message import Compact, Message
from sneaker.refs import FeedRef, MessageRef
from sneaker.signatures.pool import Verifier
from sneaker.store.database import WriterLock, connect, store_errors
from sneaker.store.repair import CheckedFeed, compare_derived, make_scratch, mend, write_scratch
from sneaker.store.rows import SEQUENCE_BITS, SEQUENCE_MASK
from sneaker.store.store import Store

__all__ = ["CheckReport", "Problem", "check"]

_PAGE = 64
_CHUNKS_AHEAD = 64
_MAX_PROBLEMS = 1000
_LOCK_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it should be; ``feed`` and ``sequence`` where it belongs to a message."""

    code: str
    detail: str
    feed: FeedRef | None = None
    sequence: int | None = None

    def __str__(self) -> str:
        place = f"{self.feed} {self.sequence}: " if self.feed is not None else ""
        return f"{place}{self.detail} ({self.code})"


@dataclass(slots=True)
class CheckReport:
    """What a check found.  ``problems`` are the first thousand, ``found`` is the number of all."""

    messages: int = 0
    feeds: int = 0
    waiting: int = 0
    blobs: int = 0
    found: int = 0
    problems: list[Problem] = field(default_factory=list)
    repaired: bool = False
    #: The file itself is damaged: only ``ingest.rebuild_store`` can mend that.
    file_damaged: bool = False
    #: Messages that the repair took out of their feeds: kept aside, or waiting for what is missing before them.
    removed: int = 0
    #: Messages that feeds were noted to have, and that the repair found nowhere.
    missing: int = 0

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return self.found == 0

    @property
    def summary(self) -> str:
        """One line on what was found and done."""
        blobs = f" and {self.blobs} blobs" if self.blobs else ""
        text = f"{self.found} problems in {self.messages} messages of {self.feeds} feeds{blobs}"
        if self.file_damaged and not self.repaired:
            return text + "; the file is damaged, 'sneaker check --repair' makes a new one out of what can be read"
        if self.file_damaged:
            text += "; a new file was made out of what can be read"
            return f"{text}, {self.removed} messages are missing from it: import them again" if self.removed else text
        if not self.repaired:
            return text + ("" if self.clean else "; nothing was changed, 'sneaker check --repair' mends this")
        done = f"{self.removed} messages were taken out" if self.removed else "no message was taken out"
        lost = f", {self.missing} that were noted are missing" if self.missing else ""
        return f"{text}; mended, {done}{lost}" + (": import them again" if self.removed or self.missing else "")

    def note_problem(self, problem: Problem) -> None:
        """Note a problem."""
        self.found += 1
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(problem)


def check(
    store: Store,
    repair: bool = False,
    progress: Callable[[int], None] | None = None,
    *,
    caps: Caps = MAIN_CAPS,
    workers: int | None = None,
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
) -> CheckReport:
    """Check a store and return what is wrong with it; with ``repair``, mend that.

    Sees the store as it is at one moment, whoever writes meanwhile; repairing takes the writer's lock (StoreLocked).
    ``progress`` is called with numbers of messages.  A file that cannot be read everywhere is not mended, it has to be
    rebuilt (``file_damaged`` in the report).
    """
    with _snapshot(store.path, repair) as connection, contextlib.closing(Verifier(workers)) as verifier:
        checker = _Checker(connection, verifier, caps.hmac_key, store.read_facts, progress or (lambda count: None))
        report = checker.run()
        if repair and not report.clean and not report.file_damaged:
            report.removed, report.missing = mend(
                connection, checker.feeds, checker.bad_waiting, checker.orphans, store.own, now_ms()
            )
            connection.execute("COMMIT")
            report.repaired = True
    return report


@contextlib.contextmanager
def _snapshot(path: Path, repair: bool) -> Iterator[sqlite3.Connection]:
    with contextlib.ExitStack() as stack, store_errors():
        if repair:
            lock = WriterLock(path.with_name(path.name + ".lock"))
            lock.acquire(_LOCK_TIMEOUT_S)
            stack.callback(lock.release)
        connection = connect(path, writer=True, has_lock=repair)
        stack.callback(connection.close)
        make_scratch(connection)
        connection.execute("BEGIN IMMEDIATE" if repair else "BEGIN")
        yield connection


class _Checker:
    """One walk through the store."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        verifier: Verifier,
        hmac_key: bytes | None,
        read_facts: FactsReader,
        progress: Callable[[int], None],
    ) -> None:
        self._read_facts = read_facts
        self._connection = connection
        self._verifier = verifier
        self._hmac_key = hmac_key
        self._progress = progress
        self.report = CheckReport()
        self.feeds: dict[int, CheckedFeed] = {}
        self.bad_waiting: list[int] = []
        self.orphans: list[int] = []
        #: For each chunk being checked, the message ids and whether they are of the waiting room.
        self._chunks: deque[tuple[list[int], bool]] = deque()

    def run(self) -> CheckReport:
        """Look at everything; what SQLite cannot read is a problem like others."""
        try:
            for (line,) in self._connection.execute("PRAGMA quick_check(20)").fetchall():
                if line != "ok":
                    self._file_damaged(f"SQLite says: {line}")
            self._run()
        except sqlite3.DatabaseError as error:
            self._file_damaged(f"SQLite cannot go on: {error}")
        return self.report

    def _file_damaged(self, detail: str) -> None:
        self.report.file_damaged = True
        self.report.note_problem(Problem("file-damaged", detail))

    def _run(self) -> None:
        connection = self._connection
        for feed_id, ref, sequence, key in connection.execute("SELECT id, ref, sequence, key FROM feed"):
            self.feeds[feed_id] = CheckedFeed(FeedRef(ref), sequence, key)
        for feed_id in sorted(self.feeds):
            self._check_feed(feed_id, self.feeds[feed_id])
        self._check_waiting()
        while self._chunks:
            self._collect(wait=True)
        self._check_heads()
        for code, detail in compare_derived(connection, self.feeds, self._read_facts):
            self.report.note_problem(Problem(code, detail))
        self._find_orphans()

    # -- messages

    def _check_feed(self, feed_id: int, feed: CheckedFeed) -> None:
        base, at = feed_id << SEQUENCE_BITS, 0
        previous: MessageRef | None = None
        facts: list[tuple[int, Facts]] = []
        while True:
            rows = self._connection.execute(
                "SELECT id, key, form, timestamp, signature, content FROM message WHERE id BETWEEN ? AND ?"
                " ORDER BY id LIMIT ?",
                (base | at + 1, base | SEQUENCE_MASK, _PAGE),
            ).fetchall()
            if not rows:
                break
            if _place(rows, len(rows) - 1, at) is Chain.GAP:
                rows = self._cut_at_gap(feed, rows, at)
            facts += self._check_rows(feed, rows, previous)
            at, previous = rows[-1][0] & SEQUENCE_MASK, MessageRef(rows[-1][1])
            self._progress(len(rows))
            self.report.messages += len(rows)
            if len(facts) > 1000:
                write_scratch(self._connection, facts)
                facts = []
        feed.last = at
        feed.last_key = bytes(previous) if previous is not None else b""
        self.report.feeds += at > 0
        write_scratch(self._connection, facts)

    def _cut_at_gap(self, feed: CheckedFeed, rows: list[Any], at: int) -> list[Any]:
        """Return the rows up to the first gap; if the gap comes first, note it and return those behind it."""
        for count in range(len(rows)):
            if _place(rows, count, at) is Chain.GAP:
                if count:
                    return rows[:count]
                sequence = rows[0][0] & SEQUENCE_MASK
                self._bad(feed, at + 1, "missing", f"messages {at + 1} to {sequence - 1} are missing")
                return [row for place, row in enumerate(rows) if _place(rows, place, sequence - 1) is Chain.NEXT]
        return rows

    def _check_rows(self, feed: CheckedFeed, rows: list[Any], previous: MessageRef | None) -> list[tuple[int, Facts]]:
        """Check consecutive messages; signatures are handed over, their verdicts come later."""
        first = rows[0][0] & SEQUENCE_MASK
        compacts = [Compact(*row[2:]) for row in rows]
        messages: list[Message | None] = [*format_of(feed.ref).expand_run(feed.ref, first, previous, compacts)]
        if len(messages) < len(rows) or any(
            message is None or message.key != row[1] for message, row in zip(messages, rows, strict=False)
        ):
            messages = self._expand_each(feed, rows, previous)
        good = [(row[0], message) for row, message in zip(rows, messages, strict=True) if message is not None]
        self._submit(good, waiting=False)
        read_facts = format_of(feed.ref).facts_reader(self._read_facts)
        found = ((row_id, read_facts(message)) for row_id, message in good)
        return [(row_id, facts) for row_id, facts in found if facts is not None]

    def _expand_each(self, feed: CheckedFeed, rows: list[Any], previous: MessageRef | None) -> list[Message | None]:
        """Expand messages one by one, each on the stored key of the one before it; None for bad ones."""
        messages: list[Message | None] = []
        for row_id, key, *rest in rows:
            message: Message | None = None
            sequence = row_id & SEQUENCE_MASK
            try:
                message = format_of(feed.ref).expand(feed.ref, sequence, previous, Compact(*rest))
                if message.key != key:
                    message = None
                    self._bad(feed, sequence, "key-mismatch", "it is not the message with the stored key")
            except InvalidMessage as error:
                self._bad(feed, sequence, error.reason, error.detail or "it is not a valid message")
            messages.append(message)
            previous = MessageRef(key) if len(key) == 32 else None
        return messages

    def _bad(self, feed: CheckedFeed, sequence: int, code: str, detail: str) -> None:
        feed.bad.add(sequence)
        self.report.note_problem(Problem(code, detail, feed.ref, sequence))

    # -- signatures

    def _submit(self, messages: list[tuple[int, Message]], *, waiting: bool) -> None:
        if not messages:
            return
        self._verifier.submit(signature_checks((message for _, message in messages), self._hmac_key))
        self._chunks.append(([row_id for row_id, _ in messages], waiting))
        while self._chunks and self._collect(wait=len(self._chunks) > _CHUNKS_AHEAD):
            pass

    def _collect(self, *, wait: bool) -> bool:
        verdicts = self._verifier.collect(wait=wait)
        if verdicts is None:
            return False
        row_ids, waiting = self._chunks.popleft()
        if 0 in verdicts:
            for row_id, verdict in zip(row_ids, verdicts, strict=True):
                if not verdict and waiting:
                    self._bad_waiting(row_id, "signature-invalid", "its author did not sign it")
                elif not verdict:
                    feed = self.feeds[row_id >> SEQUENCE_BITS]
                    self._bad(feed, row_id & SEQUENCE_MASK, "signature-invalid", "its author did not sign it")
        return True

    # -- the rest

    def _check_waiting(self) -> None:
        at, size = 0, 0
        while True:
            rows = self._connection.execute(
                "SELECT id, key, previous, form, timestamp, signature, content FROM waiting WHERE id > ?"
                " ORDER BY id LIMIT ?",
                (at, _PAGE),
            ).fetchall()
            if not rows:
                break
            good: list[tuple[int, Message]] = []
            for row_id, key, previous, *rest in rows:
                feed = self.feeds.get(row_id >> SEQUENCE_BITS)
                before = MessageRef(previous) if len(previous) == 32 else None
                try:
                    if feed is None:
                        raise InvalidMessage("orphan", "of a feed that is not there")
                    message = format_of(feed.ref).expand(feed.ref, row_id & SEQUENCE_MASK, before, Compact(*rest))
                    if message.key != key:
                        raise InvalidMessage("key-mismatch", "it is not the message with the stored key")
                    good.append((row_id, message))
                except InvalidMessage as error:
                    self._bad_waiting(row_id, error.reason, error.detail)
            self._submit(good, waiting=True)
            at = rows[-1][0]
            size += len(rows)
        self.report.waiting = size
        held = self._connection.execute("SELECT value FROM total WHERE name = 'waiting'").fetchone()
        if held is None or held[0] != size:
            self.report.note_problem(
                Problem("waiting-total", f"{size} messages are waiting, not the number that is noted")
            )

    def _bad_waiting(self, row_id: int, code: str, detail: str) -> None:
        self.bad_waiting.append(row_id)
        feed = self.feeds.get(row_id >> SEQUENCE_BITS)
        ref = feed.ref if feed is not None else None
        self.report.note_problem(Problem(code, f"in the waiting room: {detail}", ref, row_id & SEQUENCE_MASK))

    def _check_heads(self) -> None:
        for feed in self.feeds.values():
            if not feed.bad and (feed.sequence, feed.key) != (feed.last, feed.last_key):
                detail = f"the feed is noted to end at {feed.sequence}, its last message is {feed.last}"
                self.report.note_problem(Problem("head-wrong", detail, feed.ref, feed.last))

    def _find_orphans(self) -> None:
        """Find messages of feeds that are not there, seeking from feed to feed."""
        at = 0
        while True:
            found = self._connection.execute("SELECT min(id) FROM message WHERE id >= ?", (at,)).fetchone()[0]
            if found is None:
                return
            feed_id = found >> SEQUENCE_BITS
            if feed_id not in self.feeds:
                self.orphans.append(feed_id)
                self.report.note_problem(Problem("orphan", f"messages of feed number {feed_id}, which is not there"))
            at = feed_id + 1 << SEQUENCE_BITS


def _place(rows: list[Any], count: int, at: int) -> Chain:
    """Return the place of row number ``count`` when ``rows`` are the messages behind message ``at``."""
    end_key = rows[count - 1][1] if count else b""
    return place_in_chain(at + count, end_key, rows[count][0] & SEQUENCE_MASK, None, rows[count][1], None)
