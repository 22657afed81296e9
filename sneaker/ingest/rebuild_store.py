"""Rebuild: a new store out of a file that SQLite cannot read everywhere any more.

Memory cards rot.  What can still be read is taken through the one door into a new file, as if it came from a stranger,
then the new file takes the place of the old one, which is kept beside it.  What follows an unreadable message cannot
prove itself before that is brought again; it is kept in the table ``salvage``.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sneaker.caps import Caps
from sneaker.errors import StoreDamaged, StoreError
from sneaker.feed.chain import UNKNOWN_END, Chain, place_in_chain
from sneaker.feed.message import Compact
from sneaker.feed.run import Run
from sneaker.files.atomic_write import move_file
from sneaker.ingest.ingest import Ingest
from sneaker.refs import FeedRef, MessageRef
from sneaker.store.database import WriterLock, connect, distrust, store_errors, transaction
from sneaker.store.rows import SEQUENCE_BITS, SEQUENCE_MASK
from sneaker.store.store import Store

__all__ = ["Rebuilt", "rebuild"]

# Tables that are taken over row by row; all others come out of the messages.
_COPIED = (
    "peer",
    "known_clock",
    "stick",
    "stick_file",
    "own_card",
    "own_claim",
    "own_key",
    "fork",
    "salvage",
)

_PAGE = 128
#: How long a program that writes is waited for.
_LOCK_TIMEOUT_S = 5.0

_Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild saved: ``messages`` in their feeds, ``aside`` in salvage, of ``before``; and where the old file is."""

    messages: int
    waiting: int
    aside: int
    before: int
    kept: Path


def rebuild(
    store: Store,
    *,
    caps: Caps,
    now_ms: Callable[[], int],
    progress: Callable[[int], None] | None = None,
    workers: int | None = None,
) -> Rebuilt:
    """Make a new file out of what can be read of a store, and go on with that; ``store`` is usable afterwards.

    Raises StoreLocked, StoreFull, or StoreDamaged if nothing can be read at all; then everything is as it was.
    """
    path = store.path
    fresh = path.with_name(path.stem + ".rebuilt.sqlite")
    kept = path.with_name(f"{path.stem}.damaged-{now_ms()}.sqlite")
    lock = WriterLock(path.with_name(path.name + ".lock"))
    lock.acquire(_LOCK_TIMEOUT_S)
    try:
        _remove(fresh)
        store.close()
        try:
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as old:
                distrust(old)
                before, aside = _Rebuild(old, fresh, caps, now_ms, progress, workers, store).run()
            _swap(path, fresh, kept)
        finally:
            store.reopen()
            _remove(fresh)
    finally:
        lock.release()
    counts = store.counts()
    return Rebuilt(counts.messages, counts.waiting, aside, before, kept)


class _Rebuild:
    def __init__(
        self,
        old: sqlite3.Connection,
        fresh: Path,
        caps: Caps,
        now_ms: Callable[[], int],
        progress: Callable[[int], None] | None,
        workers: int | None,
        store: Store,
    ) -> None:
        self._old = old
        self._fresh = fresh
        self._caps = caps
        self._now_ms = now_ms
        self._progress = progress
        self._workers = workers
        self._store = store
        self._aside: list[_Row] = []

    def run(self) -> tuple[int, int]:
        """Fill the new file; return how many messages there were, and how many are kept aside."""
        feeds = self._feeds()
        with Store(self._fresh, self._store.own, self._store.read_facts) as store:
            with contextlib.closing(connect(self._fresh)) as new, transaction(new):
                new.executemany("INSERT INTO feed (id, ref) VALUES (?, ?)", [(item[0], item[1]) for item in feeds])
            with Ingest(
                store, caps=self._caps, now_ms=self._now_ms, workers=self._workers, heed_blocks=False
            ) as ingest:
                for feed_id, ref, _, _ in feeds:
                    for run in self._runs(feed_id, FeedRef(ref)):
                        ingest.add_run(run)
                        if self._progress is not None:
                            self._progress(len(run.compacts))
                refs = {feed_id: FeedRef(ref) for feed_id, ref, _, _ in feeds}
                for run in self._waiting(refs):
                    ingest.add_run(run)
            with contextlib.closing(connect(self._fresh)) as new, transaction(new):
                self._copy_tables(new)
                new.executemany("INSERT INTO salvage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", self._aside)
                new.execute("UPDATE feed SET forked = 1 WHERE id IN (SELECT feed FROM fork)")
                new.executemany("UPDATE feed SET forked = 1 WHERE id = ?", [(item[0],) for item in feeds if item[3]])
            for _, ref, sequence, _ in feeds:
                if ref == self._store.own:  # the world has what this machine published, whether that can be read or not
                    store.claims.note_claim(FeedRef(ref), FeedRef(ref), sequence)
        return sum(item[2] for item in feeds), len(self._aside)

    def _feeds(self) -> list[tuple[int, bytes, int, int]]:
        """Return (id, ref, sequence, forked) of all feeds; their index says the first two once more."""
        found: dict[int, tuple[int, bytes, int, int]] = {}
        for row in self._lenient(
            "SELECT id, id, ref, sequence, forked FROM feed WHERE id > ? AND id <= ? ORDER BY id LIMIT ?", 0, 4096
        ):
            found[row[0]] = (row[1], row[2], row[3], row[4])
        with contextlib.suppress(sqlite3.Error):
            for ref, feed_id in self._old.execute("SELECT ref, id FROM feed ORDER BY ref"):
                found.setdefault(feed_id, (feed_id, ref, 0, 0))
        feeds = [item for _, item in sorted(found.items()) if isinstance(item[1], bytes) and len(item[1]) == 33]
        if not feeds:
            raise StoreDamaged("nothing can be read of the store")
        return feeds

    def _lenient(self, sql: str, after: int, span: int, last: int = 2**62) -> Iterator[_Row]:
        """Yield rows by ascending id (their first column) up to ``last``, stepping over what cannot be read.

        ``span`` is how far it may be to the end of what is damaged before we give up.
        """
        at, step, given_up = after, 1, after + span
        while True:
            try:
                rows = self._old.execute(sql, (at, last, _PAGE)).fetchall()
            except sqlite3.Error:
                try:  # a single row, for the damage may begin behind it
                    rows = self._old.execute(sql, (at, last, 1)).fetchall()
                except sqlite3.Error:
                    at, step = at + step, min(step * 2, 16)
                    if at > given_up:
                        return
                    continue
            if not rows:
                return
            yield from rows
            at, step = rows[-1][0], 1
            given_up = at + span

    def _runs(self, feed_id: int, author: FeedRef) -> Iterator[Run]:
        """Yield what can be read of a feed; messages that follow one that cannot are put aside."""
        base = feed_id << SEQUENCE_BITS
        end, end_key = 0, b""
        first, compacts = 1, list[Compact]()
        sql = (
            "SELECT id, key, form, timestamp, signature, content FROM message"
            " WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
        )
        before: MessageRef | None = None
        for row_id, key, *rest in self._lenient(sql, base, 100_000, base | SEQUENCE_MASK):
            sequence = row_id & SEQUENCE_MASK
            follows = place_in_chain(end, end_key, sequence, None, key, None) is Chain.NEXT
            if not follows and compacts:
                yield Run(author, first, before, compacts)
                compacts = []
            known = MessageRef(end_key) if end_key else None
            is_key = isinstance(key, bytes) and len(key) == 32
            end, end_key = (sequence, key) if is_key else (UNKNOWN_END, b"")
            if not follows:
                self._put_aside(author, sequence, key, rest)
                continue
            if not compacts:
                first, before = sequence, known
            compacts.append(Compact(*rest))
            if len(compacts) >= _PAGE:
                yield Run(author, first, before, compacts)
                compacts = []
        if compacts:
            yield Run(author, first, before, compacts)

    def _put_aside(self, author: FeedRef, sequence: int, key: bytes, rest: list[Any]) -> None:
        self._aside.append((author, sequence, key, *rest, "it follows a message that cannot be read", self._now_ms()))

    def _waiting(self, refs: dict[int, FeedRef]) -> Iterator[Run]:
        sql = "SELECT id, key, previous, form, timestamp, signature, content FROM waiting WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
        for row_id, _, previous, *rest in self._lenient(sql, 0, 100_000):
            author = refs.get(row_id >> SEQUENCE_BITS)
            if author is not None and len(previous) == 32:
                yield Run(author, row_id & SEQUENCE_MASK, MessageRef(previous), [Compact(*rest)])

    def _copy_tables(self, new: sqlite3.Connection) -> None:
        for table in _COPIED:
            with contextlib.suppress(sqlite3.Error):  # these are hints: what can be read is taken
                columns = [row[1] for row in new.execute(f"PRAGMA table_info({table})")]
                names, marks = ", ".join(columns), ", ".join("?" * len(columns))
                for row in self._old.execute(f"SELECT {names} FROM {table}"):  # noqa: S608
                    new.execute(f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({marks})", row)  # noqa: S608


def _swap(path: Path, fresh: Path, kept: Path) -> None:
    """Put the new file in the place of the old one, which is kept; at no moment there is none."""
    with store_errors(), contextlib.closing(sqlite3.connect(fresh)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")  # everything is in the file itself, and synced
    try:
        try:
            os.link(path, kept)
        except OSError:  # FAT knows no links; then the old file goes first
            os.replace(path, kept)
        # A log that was left belongs to the old file; SQLite would take it for the new one's.
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{path}{suffix}", f"{kept}{suffix}")
        move_file(fresh, path)
    except OSError as error:
        raise StoreError(f"cannot put the rebuilt store in place: {error.strerror}") from None


def _remove(fresh: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal", ".lock", ".turn"):
        with contextlib.suppress(OSError):
            os.unlink(f"{fresh}{suffix}")
