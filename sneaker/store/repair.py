"""Repair: put right what a check found, and throw nothing away.

A feed is cut back to its last good message before the first bad one.  Good messages behind that go to the waiting room,
so that it is enough to bring the bad one again; bad ones go to the table ``salvage``.  How far the own feed went is
remembered, because others may have what is missing here.  Derived tables are replaced by those that the check made.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping

from sneaker.errors import InvalidMessage
from sneaker.feed.content import Facts, FactsReader
from sneaker.feed.formats import format_of
from sneaker.feed.message import Compact
from sneaker.refs import FeedRef, MessageRef
from sneaker.store.own_feed_claims import write_claim
from sneaker.store.rows import SEQUENCE_BITS, SEQUENCE_MASK
from sneaker.store.writer import ROW_BYTES, write_derived

__all__ = ["CheckedFeed", "compare_derived", "make_scratch", "mend", "write_scratch"]

_TABLES = {
    "edge": "author, contact, state, sequence",
    "name": "about, author, name, sequence",
    "blob_link": "message, blob",
}
# How many messages are tried to find out whose they are.
_TRIED = 100
_SALVAGE = "INSERT INTO salvage SELECT ?, id & 0xffffffff, key, form, timestamp, signature, content, ?, ?"


class CheckedFeed:
    """A feed as it is noted (``sequence``, ``key``) and as it was found (``last``, ``last_key``, ``bad`` sequences)."""

    __slots__ = ("bad", "key", "last", "last_key", "ref", "sequence")

    def __init__(self, ref: FeedRef, sequence: int, key: bytes) -> None:
        self.ref = ref
        self.sequence = sequence
        self.key = key
        self.last = 0
        self.last_key = b""
        self.bad: set[int] = set()

    @property
    def end(self) -> int:
        """The last good message before the first bad one."""
        return min(self.bad) - 1 if self.bad else self.last


def make_scratch(connection: sqlite3.Connection) -> None:
    """Make empty copies of the derived tables; they live and die with the connection."""
    connection.execute("ATTACH DATABASE '' AS scratch")
    connection.execute(
        "CREATE TABLE scratch.edge (author INTEGER, contact BLOB, state INTEGER, sequence INTEGER,"
        " PRIMARY KEY (author, contact)) WITHOUT ROWID"
    )
    connection.execute(
        "CREATE TABLE scratch.name (about BLOB, author INTEGER, name TEXT, sequence INTEGER,"
        " PRIMARY KEY (about, author)) WITHOUT ROWID"
    )
    connection.execute(
        "CREATE TABLE scratch.blob_link (message INTEGER, blob BLOB, PRIMARY KEY (message, blob)) WITHOUT ROWID"
    )


def write_scratch(connection: sqlite3.Connection, facts: Iterable[tuple[int, Facts]]) -> None:
    """Write what messages say into the copies."""
    write_derived(connection, facts, schema="scratch")


def compare_derived(
    connection: sqlite3.Connection, feeds: Mapping[int, CheckedFeed], read_facts: FactsReader
) -> Iterator[tuple[str, str]]:
    """Yield (code, detail) for each derived table that differs from its copy."""
    for feed_id, feed in feeds.items():
        if feed.bad:
            _derive_again(connection, feed_id, feed, read_facts)
    for table, columns in _TABLES.items():
        ours, theirs = f"SELECT {columns} FROM main.{table}", f"SELECT {columns} FROM scratch.{table}"  # noqa: S608
        extra = connection.execute(f"SELECT count(*) FROM ({ours} EXCEPT {theirs})").fetchone()[0]  # noqa: S608
        lacking = connection.execute(f"SELECT count(*) FROM ({theirs} EXCEPT {ours})").fetchone()[0]  # noqa: S608
        if extra or lacking:
            yield "derived-wrong", f"table {table} has {extra} rows that no message says, and lacks {lacking}"


def _derive_again(connection: sqlite3.Connection, feed_id: int, feed: CheckedFeed, read_facts: FactsReader) -> None:
    """Make the copies of one feed from its good messages only."""
    base = feed_id << SEQUENCE_BITS
    connection.execute("DELETE FROM scratch.edge WHERE author = ?", (feed_id,))
    connection.execute("DELETE FROM scratch.name WHERE author = ?", (feed_id,))
    connection.execute("DELETE FROM scratch.blob_link WHERE message BETWEEN ? AND ?", (base, base | SEQUENCE_MASK))
    previous: MessageRef | None = None
    feed_format = format_of(feed.ref)
    read = feed_format.facts_reader(read_facts)
    for row_id, key, *rest in connection.execute(
        "SELECT id, key, form, timestamp, signature, content FROM message WHERE id BETWEEN ? AND ? ORDER BY id",
        (base, base | feed.end),
    ):
        try:
            facts = read(feed_format.expand(feed.ref, row_id & SEQUENCE_MASK, previous, Compact(*rest)))
        except InvalidMessage:
            return
        previous = MessageRef(key)
        if facts is not None:
            write_scratch(connection, [(row_id, facts)])


def mend(
    connection: sqlite3.Connection,
    feeds: Mapping[int, CheckedFeed],
    bad_waiting: Iterable[int],
    orphans: Iterable[int],
    own: FeedRef | None,
    now_ms: int,
) -> tuple[int, int]:
    """Put everything right, in the transaction that is open.

    Returns how many messages left their feeds, and how many were noted and are not here at all.  ``own`` is the feed of the
    store's owner.
    """
    removed = missing = 0
    known = {feed.ref for feed in feeds.values()}
    for row_id in bad_waiting:
        feed = feeds.get(row_id >> SEQUENCE_BITS)
        _salvage(connection, feed.ref if feed is not None else b"", "waiting", row_id, row_id, now_ms)
    for feed_id in orphans:
        is_own = own is not None and own not in known and _is_of(connection, feed_id, own)
        ref = own if own is not None and is_own else b""
        removed += _salvage(
            connection, ref, "message", feed_id << SEQUENCE_BITS, feed_id << SEQUENCE_BITS | SEQUENCE_MASK, now_ms
        )
    for feed_id, feed in feeds.items():
        if feed.bad or (feed.sequence, feed.key) != (feed.last, feed.last_key):
            gone, behind = _cut(connection, feed_id, feed, now_ms)
            removed += gone
            missing += max(0, feed.sequence - feed.end - behind)
            if feed.ref == own and feed.sequence > feed.end:
                write_claim(connection, feed.ref, feed.ref, feed.sequence, None, now_ms)
    for table, columns in _TABLES.items():
        connection.execute(f"DELETE FROM main.{table}")  # noqa: S608
        connection.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM scratch.{table}")  # noqa: S608
    connection.execute(
        "INSERT OR REPLACE INTO total SELECT 'waiting', count(*) FROM waiting UNION ALL"
        " SELECT 'waiting_bytes', coalesce(sum(length(content)), 0) + ? * count(*) FROM waiting",
        (ROW_BYTES,),
    )
    connection.execute("REINDEX")
    return removed, missing


def _is_of(connection: sqlite3.Connection, feed_id: int, author: FeedRef) -> bool:
    """Say whether messages whose feed has lost its row are ``author``'s: then one of the first, rebuilt, has its key."""
    previous: MessageRef | None = None
    for row_id, key, *rest in connection.execute(
        "SELECT id, key, form, timestamp, signature, content FROM message WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
        (feed_id << SEQUENCE_BITS, feed_id << SEQUENCE_BITS | SEQUENCE_MASK, _TRIED),
    ):
        with contextlib.suppress(InvalidMessage):
            if format_of(author).expand(author, row_id & SEQUENCE_MASK, previous, Compact(*rest)).key == key:
                return True
        previous = MessageRef(key) if len(key) == 32 else None
    return False


def _cut(connection: sqlite3.Connection, feed_id: int, feed: CheckedFeed, now_ms: int) -> tuple[int, int]:
    """Cut a feed back, and move what is behind the cut.

    Returns how many messages that was, and how many of them the feed was noted to have.
    """
    base, end = feed_id << SEQUENCE_BITS, feed.end
    removed = noted = 0
    previous = b""
    for row_id, key, *rest in connection.execute(
        "SELECT id, key, form, timestamp, signature, content FROM message WHERE id BETWEEN ? AND ? ORDER BY id",
        (base | end if end else base | 1, base | SEQUENCE_MASK),
    ).fetchall():
        sequence = row_id & SEQUENCE_MASK
        if sequence > end:
            removed += 1
            noted += sequence <= feed.sequence
            # A message behind a gap may be good, but which one it follows is not known any more.
            if sequence not in feed.bad and previous:
                connection.execute(
                    "INSERT OR REPLACE INTO waiting VALUES (?, ?, ?, ?, ?, ?, ?)", (row_id, key, previous, *rest)
                )
                connection.execute("DELETE FROM message WHERE id = ?", (row_id,))
            else:
                _salvage(connection, feed.ref, "message", row_id, row_id, now_ms)
        previous = key if len(key) == 32 else b""
    found = connection.execute("SELECT key FROM message WHERE id = ?", (base | end,)).fetchone()
    connection.execute(
        "UPDATE feed SET sequence = ?, key = ? WHERE id = ?", (end, found[0] if found is not None else b"", feed_id)
    )
    return removed, noted


def _salvage(connection: sqlite3.Connection, ref: bytes, table: str, first: int, last: int, now_ms: int) -> int:
    """Move rows of a table to ``salvage``, where nothing is lost."""
    connection.execute(f"{_SALVAGE} FROM {table} WHERE id BETWEEN ? AND ?", (ref, table, now_ms, first, last))
    return connection.execute(f"DELETE FROM {table} WHERE id BETWEEN ? AND ?", (first, last)).rowcount  # noqa: S608
