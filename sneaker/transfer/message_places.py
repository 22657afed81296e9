"""Which places of which feeds a file has messages for: in the order of feeds, whatever order they came in.

A file can hold more messages than fit into memory, in any order, and the same one many times.  So their places are kept
in a nameless temporary database: SQLite holds a few megabytes of it in memory and puts the rest on the disk.  A message
takes less than 100 bytes there, about as much as in the smallest file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from types import TracebackType
from typing import Any, NamedTuple, Self

from sneaker.errors import StoreFull
from sneaker.feed.chain import UNKNOWN_END, Chain, place_in_chain
from sneaker.feed.message import Message
from sneaker.refs import FeedRef

__all__ = ["Contradiction", "Ranges", "SignedMessages"]

# Rows are sorted before they are inserted, so that neighbours go to the same page.
_BUFFERED_ROWS = 4096
_CACHE_KIB = 16 * 1024

# So many bytes of each key; nobody finds two messages that share them.
_KEY_BYTES = 16

_Row = tuple[FeedRef, int, Any, Any]


class _Rows:
    """Rows of (feed, sequence, further values): each is kept once.  A context manager.

    Raises StoreFull if there is no room for them on the disk.
    """

    def __init__(self) -> None:
        self._buffer: list[_Row] = []
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(
            f"""
            PRAGMA cache_size = -{_CACHE_KIB};
            PRAGMA journal_mode = OFF;
            PRAGMA synchronous = OFF;
            CREATE TABLE place (feed BLOB, sequence INTEGER, mark, more, PRIMARY KEY (feed, sequence, mark)) WITHOUT ROWID;
            BEGIN
            """
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def _add(self, row: _Row) -> None:
        self._buffer.append(row)
        if len(self._buffer) >= _BUFFERED_ROWS:
            self._flush()

    def _flush(self) -> None:
        self._buffer.sort()
        try:
            self._database.executemany("INSERT OR IGNORE INTO place VALUES (?, ?, ?, ?)", self._buffer)
        except sqlite3.OperationalError as error:
            raise StoreFull(
                f"there is no room on this machine to remember what is in the file ({error})",
                hint="make room, or set TMPDIR to a folder that has some",
            ) from None
        self._buffer.clear()

    def _sorted(self) -> Iterator[_Row]:
        self._flush()
        for feed, *rest in self._database.execute("SELECT * FROM place ORDER BY feed, sequence, mark"):
            yield (FeedRef(feed), *rest)


class Contradiction(NamedTuple):
    """A place in a feed for which its author signed two messages, or one that does not follow the message before it."""

    feed: FeedRef
    sequence: int
    is_unlinked: bool


class SignedMessages(_Rows):
    """Messages that their authors signed."""

    def add_message(self, message: Message) -> None:
        """Remember a message."""
        previous = message.previous
        self._add((message.author, message.sequence, message.key[:_KEY_BYTES], previous and previous[:_KEY_BYTES]))

    def count(self) -> int:
        """Return how many there are, each of them counted once."""
        self._flush()
        (count,) = self._database.execute("SELECT count(*) FROM place").fetchone()
        return int(count)

    def contradictions(self) -> Iterator[Contradiction]:
        """Yield what proves that a feed is forked, in the order of feeds.

        Behind a place with several messages nobody can say which of them the next one should follow.
        """
        last: tuple[FeedRef | None, int] = (None, 0)
        # Where the feed ends in front of ``last``, and where with it.
        before = end = (UNKNOWN_END, b"")
        for feed, sequence, mark, previous in self._sorted():
            if (feed, sequence) == last:  # rows differ, so this is another message for the same place
                end = (UNKNOWN_END, b"")
                yield Contradiction(feed, sequence, is_unlinked=False)
            else:
                before = end if feed == last[0] else (UNKNOWN_END, b"")
                last, end = (feed, sequence), (sequence, mark)
            if place_in_chain(*before, sequence, previous, mark, None) is Chain.FORK:
                yield Contradiction(feed, sequence, is_unlinked=True)


class Ranges(_Rows):
    """Consecutive messages of feeds that a file says to hold."""

    def add_range(self, feed: FeedRef, first: int, last: int) -> None:
        """Remember messages ``first`` to ``last``."""
        self._add((feed, first, last, None))

    def merged(self) -> Iterator[tuple[FeedRef, int, int]]:
        """Yield feed, first and last of what is there, in the order of feeds; no two of them touch each other."""
        current: tuple[FeedRef, int, int] | None = None
        for feed, first, last, _ in self._sorted():
            if current is not None and current[0] == feed and first <= current[2] + 1:
                current = (feed, current[1], max(current[2], last))
                continue
            if current is not None:
                yield current
            current = (feed, first, last)
        if current is not None:
            yield current
