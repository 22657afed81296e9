"""The store: one SQLite file in the home, read here and written by ``writer``.

It holds feeds without gaps, a waiting room for messages that arrived before their predecessors, evidence of forks, what can
be derived from messages (follow edges, names, blob links), and in its parts what peers and sticks are known to hold.  It
validates nothing: ``sneaker.ingest.ingest`` is the one door in, and hands over batches that are proven already.

Readers never wait: the file is in WAL mode.  Everything is read in short statements, page by page, so that no reader
delays a checkpoint.  Feeds only grow, so pages that are read one after the other fit together.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from sneaker.clock import VectorClock
from sneaker.errors import InvalidMessage, StoreDamaged
from sneaker.feed.classic.javascript_json import parse_json
from sneaker.feed.content import FactsReader, content_type, read_facts
from sneaker.feed.formats import format_of
from sneaker.feed.message import Compact, Head, Message
from sneaker.refs import BlobRef, FeedRef, MessageRef, message_ref_type
from sneaker.social import Blocks, EdgeState, find_hops
from sneaker.store.database import Database
from sneaker.store.merge_feeds import Stamp, merge_feeds
from sneaker.store.own_feed_claims import OwnClaims
from sneaker.store.own_keys import OwnKeyTables
from sneaker.store.rows import SEQUENCE_BITS, SEQUENCE_MASK, BlobLink, Counts, Edge, Fork, Name, OwnSeen, Row
from sneaker.store.sticks import StickTables
from sneaker.store.what_others_said import KnownClocks
from sneaker.store.writer import Writer

__all__ = ["Store"]

# Rows fetched by one statement: few enough that the largest messages are still only some megabytes.
_PAGE = 256
# The log holds a page of every feed at once; it begins with small ones, for there may be 100,000 feeds.
_FIRST_STAMPS = 8
_LAST_STAMPS = 512

# A raw message has its timestamp in its text.
_STAMPS = (
    "SELECT id & 0xffffffff, timestamp, CASE WHEN form >> 1 & 7 = 7 THEN content END FROM message"
    " WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"
)
_STAMPS_BACK = _STAMPS.replace("ORDER BY id", "ORDER BY id DESC")

_new_ref = bytes.__new__
_new_tuple = tuple.__new__


class Store:
    """Everything that reads; and small writes that do not extend feeds.  May be used from several threads.

    ``known_clocks``, ``claims``, ``own_keys`` and ``sticks`` are its parts: what others have, what is claimed about the own feed,
    who else holds our secret, and what lies on sticks.
    """

    def __init__(self, path: Path, own: FeedRef | None = None, facts_reader: FactsReader = read_facts) -> None:
        """Open the store at ``path``, or make it if it is not there; raises StoreError and its subclasses.

        With ``own``, the store remembers every claim that this feed goes further than it holds.  ``facts_reader`` reads what
        messages say; the same one has to be given each time.
        """
        self._database = database = Database(path)
        #: The database file.
        self.path = path
        #: The identity this store is kept for, if it was opened for one.
        self.own = own
        #: Reads what a message says, for what is derived from messages.
        self.read_facts = facts_reader
        self.claims = OwnClaims(database, own, self.hops)
        self.known_clocks = KnownClocks(database, self.claims, own)
        self.own_keys = OwnKeyTables(database)
        self.sticks = StickTables(database, self.known_clocks)
        self._feed_ids: dict[FeedRef, int] = {}

    def writer(
        self, timeout_s: float = 5.0, *, dry_run: bool = False, on_wait: Callable[[], None] | None = None
    ) -> Writer:
        """Become the one writer; raises StoreLocked if another has not finished after ``timeout_s`` seconds.

        ``on_wait`` is called once if that takes so long that a person should be told.  With ``dry_run`` the
        writer sees what it writes, but nothing of it is there once it is closed.
        """
        return Writer(self.path, timeout_s, dry_run, self.read_facts, self.own, on_wait)

    # -- feeds and messages

    def clock(self) -> VectorClock:
        """Return the sequence of every feed of which at least one message is held."""
        rows = self._database.all("SELECT ref, sequence FROM feed WHERE sequence > 0")
        return VectorClock({_new_ref(FeedRef, ref): sequence for ref, sequence in rows})

    def head(self, feed: FeedRef) -> Head | None:
        """Return the last message's sequence and key, or None if no message of the feed is held."""
        found = self._database.first("SELECT sequence, key FROM feed WHERE ref = ? AND sequence > 0", feed)
        return None if found is None else Head(found[0], message_ref_type(feed.format)(found[1]))

    def heads(self) -> Iterator[tuple[FeedRef, Head]]:
        """Yield every feed with its head, by ref."""
        for ref, sequence, key in self._database.all(
            "SELECT ref, sequence, key FROM feed WHERE sequence > 0 ORDER BY ref"
        ):
            feed = FeedRef(ref)
            yield feed, Head(sequence, message_ref_type(feed.format)(key))

    def rows(self, feed: FeedRef, first: int = 1, last: int | None = None) -> Iterator[Row]:
        """Yield the messages of a feed in order, as stored."""
        kind = message_ref_type(feed.format)
        base = self._feed_id(feed) << SEQUENCE_BITS
        at = base | max(first, 1)
        end = base | (SEQUENCE_MASK if last is None else max(0, min(last, SEQUENCE_MASK)))
        while base and at <= end:
            page = self._database.all(
                "SELECT id & 0xffffffff, key, form, timestamp, signature, content FROM message"
                " WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
                at,
                end,
                _PAGE,
            )
            for row in page:
                yield _new_tuple(Row, (row[0], _new_ref(kind, row[1]), _new_tuple(Compact, row[2:])))
            if len(page) < _PAGE:
                return
            at = base | page[-1][0] + 1

    def key_at(self, feed: FeedRef, sequence: int) -> MessageRef | None:
        """Return the id of one message."""
        base = self._feed_id(feed) << SEQUENCE_BITS
        if not base or not 1 <= sequence <= SEQUENCE_MASK:
            return None
        found = self._database.first("SELECT key FROM message WHERE id = ?", base | sequence)
        return None if found is None else message_ref_type(feed.format)(found[0])

    def message(self, feed: FeedRef, sequence: int) -> Message | None:
        """Return one message, rebuilt; raises StoreDamaged if what is stored is no message any more."""
        return next(self.messages(feed, sequence, sequence), None)

    def messages(self, feed: FeedRef, first: int = 1, last: int | None = None) -> Iterator[Message]:
        """Yield the messages of a feed in order, rebuilt; raises StoreDamaged if one cannot be."""
        first = max(first, 1)
        previous = self.key_at(feed, first - 1) if first > 1 else None
        for sequence, key, compact in self.rows(feed, first, last):
            try:
                message = format_of(feed).expand(feed, sequence, previous, compact)
            except InvalidMessage as error:
                raise _damaged(feed, sequence, error.message) from None
            if message.key != key:
                raise _damaged(feed, sequence, "its key is another one")
            yield message
            previous = key

    def log(
        self,
        *,
        feeds: Iterable[FeedRef] | None = None,
        first: int = 1,
        kind: str | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Iterator[Message]:
        """Yield messages of all or some feeds, merged by their authors' timestamps, lazily.

        Each feed stays in its own order, whatever its timestamps say.  ``first`` is the first sequence of each feed,
        ``kind`` the content's type.
        """
        chosen = sorted(set(feeds)) if feeds is not None else sorted(self.clock())
        merged = merge_feeds(chosen, lambda ref: self._stamps(FeedRef(ref), first, reverse), reverse=reverse)
        found = (self.message(FeedRef(ref), sequence) for ref, sequence in merged)
        messages = (
            message
            for message in found
            if message is not None and (kind is None or content_type(message.content) == kind)
        )
        return itertools.islice(messages, limit)

    def _stamps(self, feed: FeedRef, first: int, reverse: bool) -> Iterator[Stamp]:
        base = self._feed_id(feed) << SEQUENCE_BITS
        low, high = base | max(first, 1), base | SEQUENCE_MASK
        size = _FIRST_STAMPS
        while base:
            page = self._database.all(_STAMPS_BACK if reverse else _STAMPS, low, high, size)
            for sequence, timestamp, raw in page:
                yield sequence, timestamp if raw is None else _raw_timestamp(raw)
            if len(page) < size:
                return
            if reverse:
                high = base | page[-1][0] - 1
            else:
                low = base | page[-1][0] + 1
            size = min(size * 2, _LAST_STAMPS)

    # -- the rest

    def counts(self) -> Counts:
        """Return sizes."""
        feeds, messages = self._database.first(
            "SELECT count(*), coalesce(sum(sequence), 0) FROM feed WHERE sequence > 0"
        )
        totals = dict(self._database.all("SELECT name, value FROM total"))
        return Counts(
            feeds=feeds,
            messages=messages,
            waiting=totals["waiting"],
            waiting_bytes=totals["waiting_bytes"],
            forks=self._database.first("SELECT count(*) FROM feed WHERE forked")[0],
            peers=self._database.first("SELECT count(*) FROM peer")[0],
            bytes=sum(_size(self.path.with_name(self.path.name + suffix)) for suffix in ("", "-wal")),
        )

    def forks(self) -> Iterator[Fork]:
        """Yield the evidence of every fork seen."""
        # CROSS JOIN has SQLite go from the forks, which are few, to their feeds.
        for ref, sequence, ours, key, previous, form, timestamp, signature, content, seen_at_ms in self._database.all(
            "SELECT ref, fork.sequence, ours, fork.key, previous, form, timestamp, signature, content, seen_at_ms"
            " FROM fork CROSS JOIN feed ON feed.id = fork.feed ORDER BY ref, fork.sequence, fork.key"
        ):
            feed = FeedRef(ref)
            kind = message_ref_type(feed.format)
            yield Fork(
                feed,
                sequence,
                kind(ours) if ours else None,
                kind(key),
                kind(previous) if previous else None,
                Compact(form, timestamp, signature, content),
                seen_at_ms,
            )

    def forked(self) -> set[FeedRef]:
        """Return the feeds that accept nothing more."""
        return {FeedRef(ref) for (ref,) in self._database.all("SELECT ref FROM feed WHERE forked")}

    def waiting(self) -> dict[FeedRef, list[tuple[int, int]]]:
        """Return for each feed in the waiting room the (first, last) ranges that wait."""
        found: dict[FeedRef, list[tuple[int, int]]] = {}
        for ref, sequence in self._database.all(
            "SELECT ref, waiting.id & 0xffffffff FROM waiting JOIN feed ON feed.id = waiting.id >> 32 ORDER BY waiting.id"
        ):
            ranges = found.setdefault(FeedRef(ref), [])
            if ranges and ranges[-1][1] + 1 == sequence:
                ranges[-1] = (ranges[-1][0], sequence)
            else:
                ranges.append((sequence, sequence))
        return found

    def own_sequence_seen(self, feed: FeedRef) -> OwnSeen:
        """Return the highest sequence of a feed that was shown or claimed; neither dismissed claims count nor strangers'."""
        held = self._database.first("SELECT id, sequence FROM feed WHERE ref = ?", feed)
        feed_id, sequence = held if held is not None else (0, 0)
        low, high = feed_id << SEQUENCE_BITS, feed_id << SEQUENCE_BITS | SEQUENCE_MASK
        waiting = self._database.first("SELECT max(id) & 0xffffffff FROM waiting WHERE id BETWEEN ? AND ?", low, high)[
            0
        ]
        fork = self._database.first("SELECT max(sequence) FROM fork WHERE feed = ?", feed_id)[0]
        claimed = max(
            (claim.sequence for claim in self.claims.claims_about(feed) if claim.counts and not claim.dismissed),
            default=0,
        )
        # What a repair took out was in our feed once, and others may have it.
        salvaged = self._database.first("SELECT max(sequence) FROM salvage WHERE feed = ?", feed)[0]
        return OwnSeen(sequence, max(sequence, waiting or 0, fork or 0, salvaged or 0), claimed)

    def data_version(self) -> int:
        """Return a number that changes when another connection, of this process or not, has written; cheap to ask for."""
        return int(self._database.first("PRAGMA data_version")[0])

    # -- derived from messages

    def edges(self, author: FeedRef | None = None) -> Iterator[Edge]:
        """Yield follow-graph edges: the newest of each author about each contact."""
        sql = "SELECT ref, contact, state, edge.sequence FROM edge JOIN feed ON feed.id = edge.author"
        rows = self._database.all(sql) if author is None else self._database.all(sql + " WHERE ref = ?", author)
        for ref, contact, state, sequence in rows:
            yield Edge(FeedRef(ref), FeedRef(contact), EdgeState(state), sequence)

    def blocked(self, by: FeedRef) -> Blocks:
        """Return the feeds that ``by`` blocks."""
        return Blocks(by, ((edge.contact, edge.state) for edge in self.edges(by)))

    def hops(self, start: FeedRef, limit: int) -> dict[FeedRef, int]:
        """Return the distance of every feed within ``limit`` of ``start``; see ``social.find_hops``."""
        graph: dict[FeedRef, dict[FeedRef, int]] = {}
        for author, contact, state, _ in self.edges():
            graph.setdefault(author, {})[contact] = state
        return find_hops(graph, start, limit)

    def names(self, about: FeedRef) -> list[Name]:
        """Return the names given to a feed; the one it gave itself comes first."""
        rows = self._database.all(
            "SELECT ref, name, name.sequence FROM name JOIN feed ON feed.id = name.author WHERE about = ?"
            " ORDER BY ref <> about, ref",
            about,
        )
        return [Name(about, FeedRef(ref), name, sequence) for ref, name, sequence in rows]

    def blob_links(self, feed: FeedRef | None = None, first: int = 1, last: int | None = None) -> Iterator[BlobLink]:
        """Yield the blobs that messages mention, in the order of the messages, feed by feed."""
        feeds = [feed] if feed is not None else sorted(self.clock())
        for ref in feeds:
            base = self._feed_id(ref) << SEQUENCE_BITS
            if base:
                for sequence, blob in self._database.all(
                    "SELECT message & 0xffffffff, blob FROM blob_link WHERE message BETWEEN ? AND ?",
                    base | max(first, 1),
                    base | (SEQUENCE_MASK if last is None else max(0, min(last, SEQUENCE_MASK))),
                ):
                    yield BlobLink(BlobRef(blob), ref, sequence)

    def blob_is_linked(self, blob: BlobRef) -> bool:
        """Say whether any message held mentions this blob."""
        return self._database.first("SELECT 1 FROM blob_link WHERE blob = ?", blob) is not None

    # -- helpers

    def _feed_id(self, feed: FeedRef) -> int:
        """Return a feed's row id, or 0.  Ids never change, so they are remembered."""
        known = self._feed_ids.get(feed)
        if known is None:
            found = self._database.first("SELECT id FROM feed WHERE ref = ?", feed)
            if found is None:
                return 0
            if len(self._feed_ids) >= 65536:
                self._feed_ids.clear()
            known = self._feed_ids[feed] = int(found[0])
        return known

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def reopen(self) -> None:
        """Open the file again, after another has been put in its place."""
        self._database.reopen()
        self._feed_ids.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _raw_timestamp(text: bytes) -> float | None:
    try:
        value: Any = parse_json(text)["timestamp"]
    except (InvalidMessage, LookupError, TypeError):
        return None
    return value if type(value) in (int, float) else None


def _damaged(feed: FeedRef, sequence: int, detail: str) -> StoreDamaged:
    return StoreDamaged(
        f"message {sequence} of {feed} is damaged in the store: {detail}",
        hint="run 'sneaker check --repair', then import that feed again",
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
