"""The one writer of the SQLite store: batches of proven messages in, one transaction each."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Self

from sneaker.errors import InvalidMessage, StoreDamaged
from sneaker.feed.chain import UNKNOWN_END, Chain, place_in_chain
from sneaker.feed.content import Facts, FactsReader
from sneaker.feed.formats import format_of
from sneaker.feed.message import Compact
from sneaker.limits import MAX_WAITING_BYTES
from sneaker.refs import FeedRef, MessageRef
from sneaker.store.database import WriterLock, connect, store_errors, transaction
from sneaker.store.derived import derive
from sneaker.store.migrations import check_version
from sneaker.store.rows import (
    SEQUENCE_BITS,
    SEQUENCE_MASK,
    Batch,
    Committed,
    FeedState,
    ForkRow,
    MessageRow,
    WaitingRow,
)

__all__ = ["ROW_BYTES", "Writer", "write_derived"]

# Rows inserted by one statement: 2.6 us each instead of 3.2 one by one.
_ROWS_AT_ONCE = 100

# How far below its limit the waiting room is emptied, so that it is not sorted again for every batch.
_SLACK_BYTES = MAX_WAITING_BYTES // 8

# What a waiting message takes beside its content: key, previous, signature, and SQLite's own.
ROW_BYTES = 160

_INSERT = "INSERT INTO message (id, key, form, timestamp, signature, content) VALUES (?, ?, ?, ?, ?, ?)"
_INSERT_MANY = _INSERT + ", (?, ?, ?, ?, ?, ?)" * (_ROWS_AT_ONCE - 1)
_MESSAGE = "SELECT id, key, form, timestamp, signature, content FROM message"
_WAITING = "SELECT id, key, previous, form, timestamp, signature, content FROM waiting"


_NEWER = " SET {0} = excluded.{0}, sequence = excluded.sequence WHERE excluded.sequence >= sequence"
_EDGE = "INSERT INTO {}.edge (author, contact, state, sequence) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
_NAME = "INSERT INTO {}.name (about, author, name, sequence) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
_LINK = "INSERT OR IGNORE INTO {}.blob_link (message, blob) VALUES (?, ?)"


def write_derived(connection: sqlite3.Connection, facts: Iterable[tuple[int, Facts]], *, schema: str = "main") -> None:
    """Write what messages say into the derived tables; the newest message of an author about something counts."""
    edges, names, links = derive(facts)
    if edges:
        connection.executemany(_EDGE.format(schema) + _NEWER.format("state"), edges)
    if names:
        connection.executemany(_NAME.format(schema) + _NEWER.format("name"), names)
    if links:
        # In order of the random hashes the index is walked through once; otherwise each row would load a page.
        links.sort(key=lambda link: link[1])
        connection.executemany(_LINK.format(schema), links)


class Writer:
    """The one who may extend feeds; at most one exists per store on the whole machine.  Made by ``Store.writer``."""

    def __init__(
        self,
        path: Path,
        timeout_s: float,
        dry_run: bool,
        read_facts: FactsReader,
        own: FeedRef | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> None:
        self._path = path
        self._read_facts = read_facts
        self._own = own
        self._lock = WriterLock(path.with_name(path.name + ".lock"))
        self._lock.acquire(timeout_s, on_wait)
        try:
            self._connection = connect(path, writer=True, has_lock=True)
            self._dry_run = dry_run
            if dry_run:
                # A transaction that is never committed: everything works as usual, and then it is gone.
                with store_errors():
                    self._connection.execute("BEGIN IMMEDIATE")
            self._look()
        except BaseException:
            self.close()
            raise

    # -- taking turns

    def pause(self) -> None:
        """Let others write until ``resume``; we may still read.  What a dry run has seen is only there while it lasts."""
        if not self._dry_run:
            self._lock.release()

    def resume(self, timeout_s: float = 5.0) -> bool:
        """Become the one writer again, and say whether anybody has written meanwhile.

        If somebody has, what was read before may not hold any more, and ids that ``next_feed_id`` gave may be taken.  Raises
        StoreLocked, or StoreVersion if the store was migrated meanwhile; then we are not the writer.
        """
        if self._lock.is_held:
            return False
        self._lock.acquire(timeout_s)
        try:
            if self._file != _identity(self._path):  # a repair has put another file in its place
                with store_errors():
                    self._connection.close()
                self._connection = connect(self._path, writer=True, has_lock=True)
            elif self._version == self._data_version():
                return False
            self._look()
        except BaseException:
            self._lock.release()
            raise
        return True

    def _look(self) -> None:
        """Learn what only changes when somebody writes."""
        with store_errors():
            check_version(self._connection)
            self._file, self._version = _identity(self._path), self._data_version()
            self._next_id = self._one("SELECT coalesce(max(id), 0) FROM feed") + 1
            self._waiting_feeds = self._find_waiting_feeds()

    def _data_version(self) -> int:
        return self._one("PRAGMA data_version")

    # -- looking up

    def feed_state(self, ref: FeedRef) -> FeedState:
        """Return where a feed stands."""
        with store_errors():
            found = self._connection.execute(
                "SELECT id, sequence, key, forked FROM feed WHERE ref = ?", (ref,)
            ).fetchone()
        return FeedState(ref) if found is None else FeedState(ref, found[0], found[1], found[2], bool(found[3]))

    def next_feed_id(self) -> int:
        """Return an id for a feed that has none; each call returns another one."""
        self._next_id += 1
        return self._next_id - 1

    def row(self, row_id: int) -> MessageRow | None:
        """Return a stored message."""
        with store_errors():
            found: MessageRow | None = self._connection.execute(_MESSAGE + " WHERE id = ?", (row_id,)).fetchone()
        return found

    def waiting_row(self, row_id: int) -> WaitingRow | None:
        """Return a message of the waiting room."""
        if row_id >> SEQUENCE_BITS not in self._waiting_feeds:
            return None
        with store_errors():
            found: WaitingRow | None = self._connection.execute(_WAITING + " WHERE id = ?", (row_id,)).fetchone()
        return found

    # -- writing

    def commit(self, batch: Batch, idle: Callable[[], None] | None = None) -> Committed:
        """Write a batch in one transaction, promote what it makes possible, and return once it is on the disk.

        ``idle`` is called now and then meanwhile, so that the caller can keep its workers fed.  Raises StoreFull,
        StoreLocked, StoreDamaged; then nothing of the batch is in the store.
        """
        if self._dry_run:
            with store_errors():
                return self._write(batch, idle)
        with transaction(self._connection):
            return self._write(batch, idle)

    def _write(self, batch: Batch, idle: Callable[[], None] | None) -> Committed:
        connection = self._connection
        done = Committed()
        if batch.feeds:
            connection.executemany("INSERT INTO feed (id, ref) VALUES (?, ?)", batch.feeds)
        rows = sorted(batch.rows)
        whole = len(rows) - len(rows) % _ROWS_AT_ONCE
        for start in range(0, whole, _ROWS_AT_ONCE):
            connection.execute(_INSERT_MANY, list(chain.from_iterable(rows[start : start + _ROWS_AT_ONCE])))
            if idle is not None:
                idle()
        connection.executemany(_INSERT, rows[whole:])
        if batch.heads:
            heads = [(after, key, feed, before) for feed, (before, after, key) in batch.heads.items()]
            changed = connection.executemany(
                "UPDATE feed SET sequence = ?, key = ? WHERE id = ? AND sequence = ? AND forked = 0", heads
            ).rowcount
            if changed != len(heads):
                raise StoreDamaged("the store was changed by something that does not keep its lock")
        if batch.facts:
            write_derived(connection, batch.facts)
        if idle is not None:
            idle()
        for fork in batch.forks:
            done.stopped += self._drop_waiting(fork.row[0] >> SEQUENCE_BITS, SEQUENCE_MASK, done)
            self._write_fork(fork, done)
        touched = self._waiting_feeds.intersection(batch.heads) if self._waiting_feeds else set()
        if batch.waiting:
            touched |= self._write_waiting(batch, done)
        for feed in sorted(touched):
            self._promote(feed, batch.now_ms, done)
        if batch.waiting and self._total("waiting_bytes") > MAX_WAITING_BYTES:
            self._make_room(done)
        return done

    def _write_waiting(self, batch: Batch, done: Committed) -> set[int]:
        connection = self._connection
        feeds: set[int] = set()
        stopped = {fork.row[0] >> SEQUENCE_BITS for fork in batch.forks}
        for row in batch.waiting:
            if row[0] >> SEQUENCE_BITS in stopped:
                done.stopped.append(row[0])
                continue
            there = connection.execute(_WAITING + " WHERE id = ?", (row[0],)).fetchone()
            held = there[1] if there is not None else None
            place = place_in_chain(UNKNOWN_END, b"", row[0] & SEQUENCE_MASK, row[2], row[1], held)
            if place is Chain.GAP:
                connection.execute("INSERT INTO waiting VALUES (?, ?, ?, ?, ?, ?, ?)", row)
                feed = row[0] >> SEQUENCE_BITS
                self._waiting_feeds.add(feed)
                self._change_room(done, feed, 1, ROW_BYTES + len(row[6]))
                feeds.add(feed)
            elif place is Chain.KNOWN:
                done.repeated += 1
            else:
                self._write_fork(ForkRow(there, row[1], batch.now_ms), done)
                self._write_fork(ForkRow(row, there[1], batch.now_ms), done)
                done.forked += [there[0], row[0]]
                stopped.add(row[0] >> SEQUENCE_BITS)
        return feeds

    def _promote(self, feed: int, now_ms: int, done: Committed) -> None:
        """Move what continues the feed out of the waiting room, and drop what the feed has passed."""
        connection = self._connection
        ref, sequence, key, forked = connection.execute(
            "SELECT ref, sequence, key, forked FROM feed WHERE id = ?", (feed,)
        ).fetchone()
        if forked:
            done.stopped += self._drop_waiting(feed, SEQUENCE_MASK, done)
            return
        author, moved, start = FeedRef(ref), 0, sequence
        forks: list[ForkRow] = []
        while not forks:
            rows = connection.execute(
                _WAITING + " WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 256",
                (feed << SEQUENCE_BITS | sequence + 1, _last_id(feed)),
            ).fetchall()
            ready: list[WaitingRow] = []
            for row in rows:
                place = place_in_chain(sequence, key, row[0] & SEQUENCE_MASK, row[2], row[1], None)
                if place is Chain.FORK:
                    forks.append(ForkRow(row, b"", now_ms))
                if place is not Chain.NEXT:
                    break
                ready.append(row)
                sequence, key = sequence + 1, row[1]
            if ready:
                connection.executemany(_INSERT, [(row[0], row[1], *row[3:]) for row in ready])
                write_derived(connection, self._facts(author, ready))
                moved += len(ready)
            if len(ready) < len(rows) or not rows:
                break
        strange = [
            (row_id, held)
            for row_id, key_there, held in connection.execute(
                "SELECT waiting.id, waiting.key, message.key FROM waiting JOIN message USING (id)"
                " WHERE waiting.id BETWEEN ? AND ? ORDER BY waiting.id",
                (feed << SEQUENCE_BITS, feed << SEQUENCE_BITS | start),
            )
            if place_in_chain(sequence, key, row_id & SEQUENCE_MASK, None, key_there, held) is Chain.FORK
        ]
        if moved:
            connection.execute("UPDATE feed SET sequence = ?, key = ? WHERE id = ?", (sequence, key, feed))
            done.promoted[feed] = (sequence, key, moved)
        for row_id, ours in strange[:1]:
            row = connection.execute(_WAITING + " WHERE id = ?", (row_id,)).fetchone()
            forks.append(ForkRow(row, ours, now_ms))
        done.stopped += [row_id for row_id, _ in strange[1:]]
        passed = self._drop_waiting(feed, sequence, done)
        done.repeated += len(passed) - moved - len(strange)
        for fork in forks:
            done.forked.append(fork.row[0])
            self._write_fork(fork, done)

    def _facts(self, author: FeedRef, rows: list[WaitingRow]) -> list[tuple[int, Facts]]:
        """Read what messages out of the waiting room say."""
        found: list[tuple[int, Facts]] = []
        feed_format = format_of(author)
        read_facts = feed_format.facts_reader(self._read_facts)
        for row_id, _, previous, form, timestamp, signature, content in rows:
            compact = Compact(form, timestamp, signature, content)
            try:
                before = MessageRef(previous) if previous else None
                message = feed_format.expand(author, row_id & SEQUENCE_MASK, before, compact)
            except InvalidMessage:  # it was valid when it came in: ``check`` will find it
                continue
            facts = read_facts(message)
            if facts is not None:
                found.append((row_id, facts))
        return found

    def _write_fork(self, fork: ForkRow, done: Committed) -> None:
        """Keep the evidence and stop the feed; drop what waits for it."""
        row_id, key, previous, *rest = fork.row
        feed = row_id >> SEQUENCE_BITS
        self._connection.execute(
            "INSERT OR IGNORE INTO fork VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (feed, row_id & SEQUENCE_MASK, fork.ours, key, previous, *rest, fork.seen_at_ms),
        )
        self._connection.execute("UPDATE feed SET forked = 1 WHERE id = ?", (feed,))
        # The caller reports this one.
        done.stopped += [row for row in self._drop_waiting(feed, SEQUENCE_MASK, done) if row != row_id]

    # -- the waiting room

    def _drop_waiting(self, feed: int, last: int, done: Committed) -> list[int]:
        """Empty the waiting room of a feed up to a sequence; return the ids of what waited there."""
        if feed not in self._waiting_feeds:
            return []
        bounds = (feed << SEQUENCE_BITS, feed << SEQUENCE_BITS | last)
        rows = self._connection.execute(
            "SELECT id, length(content) FROM waiting WHERE id BETWEEN ? AND ?", bounds
        ).fetchall()
        self._connection.execute("DELETE FROM waiting WHERE id BETWEEN ? AND ?", bounds)
        self._change_room(done, feed, -len(rows), -sum(ROW_BYTES + length for _, length in rows))
        if not self._connection.execute(
            "SELECT 1 FROM waiting WHERE id BETWEEN ? AND ? LIMIT 1", (bounds[0], _last_id(feed))
        ).fetchone():
            self._waiting_feeds.discard(feed)
        return [row_id for row_id, _ in rows]

    def _make_room(self, done: Committed) -> None:
        """Drop the messages that are farthest from their feeds' heads: they would be of use last.

        Our own stay: they prove that our feed goes further than we know, and nobody else can make them.
        """
        excess = self._total("waiting_bytes") - (MAX_WAITING_BYTES - _SLACK_BYTES)
        dropped: list[tuple[int]] = []
        size = 0
        for row_id, length in self._connection.execute(
            "SELECT waiting.id, length(content) FROM waiting JOIN feed ON feed.id = waiting.id >> 32"
            " WHERE feed.ref <> ? ORDER BY (waiting.id & 0xffffffff) - feed.sequence DESC, feed.ref",
            (self._own or b"",),
        ):
            if size >= excess:
                break
            dropped.append((row_id,))
            size += ROW_BYTES + length
        self._connection.executemany("DELETE FROM waiting WHERE id = ?", dropped)
        for feed, count in Counter(row_id >> SEQUENCE_BITS for (row_id,) in dropped).items():
            self._change_room(done, feed, -count, 0)
        self._add_total(0, -size)
        done.crowded.extend(row_id for (row_id,) in dropped)
        self._waiting_feeds = self._find_waiting_feeds()

    def _find_waiting_feeds(self) -> set[int]:
        """Return the ids of the feeds of which messages wait; seeks from feed to feed, for all rows may be 256 MB."""
        feeds: set[int] = set()
        at = 0
        while True:
            found = self._connection.execute("SELECT min(id) FROM waiting WHERE id >= ?", (at,)).fetchone()[0]
            if found is None:
                return feeds
            feeds.add(found >> SEQUENCE_BITS)
            at = (found >> SEQUENCE_BITS) + 1 << SEQUENCE_BITS

    def _change_room(self, done: Committed, feed: int, count: int, size: int) -> None:
        self._add_total(count, size)
        done.room[feed] = done.room.get(feed, 0) + count

    def _add_total(self, count: int, size: int) -> None:
        if count or size:
            self._connection.execute("UPDATE total SET value = value + ? WHERE name = 'waiting'", (count,))
            self._connection.execute("UPDATE total SET value = value + ? WHERE name = 'waiting_bytes'", (size,))

    def _total(self, name: str) -> int:
        return self._one("SELECT value FROM total WHERE name = ?", name)

    def _one(self, sql: str, *parameters: object) -> int:
        return int(self._connection.execute(sql, parameters).fetchone()[0])

    # -- the end

    def close(self) -> None:
        """Let the next writer in."""
        connection = getattr(self, "_connection", None)
        try:
            if connection is not None:
                with store_errors():
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    connection.close()
        finally:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _identity(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _last_id(feed: int) -> int:
    return feed << SEQUENCE_BITS | SEQUENCE_MASK
