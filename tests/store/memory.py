"""A store in memory: the plainest thing that keeps to the interface, and the model that others are held against.

It derives everything when asked, by looking at all messages, and writes nothing anywhere.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from sneaker.clock import VectorClock
from sneaker.errors import StoreLocked
from sneaker.feed.classic.compact import Compact, expand
from sneaker.feed.classic.message import Head, Message
from sneaker.feed.content import FactsReader, content_type, read_facts
from sneaker.limits import MAX_CLOCK_FEEDS, MAX_WAITING_BYTES
from sneaker.refs import BlobRef, FeedRef, MessageRef
from sneaker.social import EdgeState, find_hops
from sneaker.store.claims import MAX_CLAIMS, superfluous, weigh
from sneaker.store.merge_feeds import merge_feeds
from sneaker.store.rows import (
    SEQUENCE_BITS,
    SEQUENCE_MASK,
    Batch,
    BlobLink,
    Claim,
    Committed,
    Counts,
    Edge,
    FeedState,
    Fork,
    ForkRow,
    MessageRow,
    Name,
    Note,
    OwnKeyElsewhere,
    OwnSeen,
    Peer,
    PeerKind,
    Row,
    WaitingRow,
)

ROW_BYTES = 160


@dataclass
class _Feed:
    id: int
    ref: FeedRef
    rows: list[MessageRow] = field(default_factory=list)
    forked: bool = False


@dataclass
class _State:
    feeds: dict[int, _Feed] = field(default_factory=dict)
    waiting: dict[int, WaitingRow] = field(default_factory=dict)
    forks: dict[tuple[int, bytes], ForkRow] = field(default_factory=dict)
    peers: dict[FeedRef, Peer] = field(default_factory=dict)
    clocks: dict[FeedRef, dict[FeedRef, Note]] = field(default_factory=dict)


class MemoryStore:
    def __init__(self) -> None:
        self.state = _State()
        self.locked = False
        self.version = 0
        self.own: FeedRef | None = None
        self.read_facts: FactsReader = read_facts
        self.claimed: dict[tuple[FeedRef, FeedRef | None, MessageRef | None], int] = {}
        self.opened: list[bytes] = []
        self.own_keys: dict[FeedRef, dict[str, int]] = {}
        self.dismissed: dict[tuple[FeedRef, FeedRef | None, MessageRef | None], int] = {}

    def _feed(self, ref: FeedRef) -> _Feed | None:
        return next((feed for feed in self.state.feeds.values() if feed.ref == ref), None)

    def _held(self) -> list[_Feed]:
        return sorted((feed for feed in self.state.feeds.values() if feed.rows), key=lambda feed: feed.ref)

    # -- feeds and messages

    def clock(self) -> VectorClock:
        return VectorClock({feed.ref: len(feed.rows) for feed in self._held()})

    def head(self, feed: FeedRef) -> Head | None:
        found = self._feed(feed)
        return Head(len(found.rows), MessageRef(found.rows[-1][1])) if found is not None and found.rows else None

    def heads(self) -> Iterator[tuple[FeedRef, Head]]:
        for feed in self._held():
            yield feed.ref, Head(len(feed.rows), MessageRef(feed.rows[-1][1]))

    def rows(self, feed: FeedRef, first: int = 1, last: int | None = None) -> Iterator[Row]:
        found = self._feed(feed)
        first = max(first, 1)
        for sequence, row in enumerate(found.rows[first - 1 :] if found is not None else (), first):
            if last is None or sequence <= last:
                yield Row(sequence, MessageRef(row[1]), Compact(*row[2:]))

    def key_at(self, feed: FeedRef, sequence: int) -> MessageRef | None:
        row = next(self.rows(feed, sequence, sequence), None) if sequence > 0 else None
        return row.key if row is not None else None

    def message(self, feed: FeedRef, sequence: int) -> Message | None:
        return next(self.messages(feed, sequence, sequence), None) if sequence > 0 else None

    def messages(self, feed: FeedRef, first: int = 1, last: int | None = None) -> Iterator[Message]:
        first = max(first, 1)
        previous = self.key_at(feed, first - 1)
        for sequence, key, compact in self.rows(feed, first, last):
            yield expand(feed, sequence, previous, compact)
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
        chosen = set(feeds) if feeds is not None else set(self.clock())
        by_feed = {bytes(ref): list(self.messages(ref, first)) for ref in chosen}

        def stamps(ref: bytes) -> Iterator[tuple[int, float | None]]:
            messages = by_feed[ref]
            for message in reversed(messages) if reverse else messages:
                number = type(message.timestamp) in (int, float)
                yield message.sequence, message.timestamp if number else None

        merged = merge_feeds(sorted(by_feed), stamps, reverse=reverse)
        found = (by_feed[ref][sequence - max(first, 1)] for ref, sequence in merged)
        return itertools.islice((item for item in found if kind is None or content_type(item.content) == kind), limit)

    # -- the rest

    def counts(self) -> Counts:
        held = self._held()
        waiting = self.state.waiting.values()
        return Counts(
            feeds=len(held),
            messages=sum(len(feed.rows) for feed in held),
            waiting=len(waiting),
            waiting_bytes=sum(ROW_BYTES + len(row[6]) for row in waiting),
            forks=len(self.forked()),
            peers=len(self.state.peers),
            bytes=0,
        )

    def forks(self) -> Iterator[Fork]:
        found = []
        for (row_id, _), fork in self.state.forks.items():
            _, key, previous, *rest = fork.row
            found.append(
                Fork(
                    self.state.feeds[row_id >> SEQUENCE_BITS].ref,
                    row_id & SEQUENCE_MASK,
                    MessageRef(fork.ours) if fork.ours else None,
                    MessageRef(key),
                    MessageRef(previous) if previous else None,
                    Compact(*rest),
                    fork.seen_at_ms,
                )
            )
        return iter(sorted(found, key=lambda fork: (fork.feed, fork.sequence, fork.key)))

    def forked(self) -> set[FeedRef]:
        return {feed.ref for feed in self.state.feeds.values() if feed.forked}

    def waiting(self) -> dict[FeedRef, list[tuple[int, int]]]:
        found: dict[FeedRef, list[tuple[int, int]]] = {}
        for row_id in sorted(self.state.waiting):
            ranges = found.setdefault(self.state.feeds[row_id >> SEQUENCE_BITS].ref, [])
            sequence = row_id & SEQUENCE_MASK
            if ranges and ranges[-1][1] == sequence - 1:
                ranges[-1] = (ranges[-1][0], sequence)
            else:
                ranges.append((sequence, sequence))
        return found

    def own_sequence_seen(self, feed: FeedRef) -> OwnSeen:
        found = self._feed(feed)
        held = len(found.rows) if found is not None else 0
        seen = [held]
        if found is not None:
            seen += [row & SEQUENCE_MASK for row in self.state.waiting if row >> SEQUENCE_BITS == found.id]
            seen += [row & SEQUENCE_MASK for row, _ in self.state.forks if row >> SEQUENCE_BITS == found.id]
        claims = [claim.sequence for claim in self.claims(feed) if claim.counts and not claim.dismissed]
        return OwnSeen(held, max(seen), max(claims, default=0))

    def note_claim(self, feed: FeedRef, source: FeedRef | None, sequence: int, key: MessageRef | None = None) -> None:
        def is_news(sequence: int, key: MessageRef | None) -> bool:
            other = key is not None and 0 < sequence <= held and self.key_at(feed, sequence) != key
            return sequence > held or other

        head = self.head(feed)
        held = head.sequence if head is not None else 0
        if is_news(sequence, key) and sequence > self.claimed.get((feed, source, key), 0):
            self.claimed[feed, source, key] = sequence
        if len(self.claimed) > MAX_CLAIMS:
            for claim in superfluous(self.claims(feed), lambda claim: is_news(claim.sequence, claim.key)):
                del self.claimed[feed, claim.source, claim.key]

    def claims(self, feed: FeedRef) -> list[Claim]:
        found = [
            Claim(source, sequence, key, 0, sequence <= self.dismissed.get((about, source, key), 0))
            for (about, source, key), sequence in self.claimed.items()
            if about == feed
        ]
        return weigh(feed, sorted(found, key=lambda claim: -claim.sequence), self.hops)

    def dismiss_claims(self, feed: FeedRef) -> int:
        wrong = [claim for claim in self.claims(feed) if claim.source != feed and not claim.dismissed]
        self.dismissed |= {(feed, claim.source, claim.key): claim.sequence for claim in wrong}
        return sum(claim.counts for claim in wrong)

    def note_opened(self, opening: bytes) -> None:
        self.opened = [*self.opened[-49:], opening]

    def has_opened(self, opening: bytes) -> bool:
        return opening in self.opened

    def note_own_key(self, feed: FeedRef, host: str) -> None:
        self.own_keys.setdefault(feed, {}).pop(host, None)
        self.own_keys[feed][host] = 0
        for oldest in list(self.own_keys[feed])[:-20]:
            del self.own_keys[feed][oldest]

    def own_key_elsewhere(self, feed: FeedRef) -> list[OwnKeyElsewhere]:
        return [OwnKeyElsewhere(host, 0) for host in reversed(self.own_keys.get(feed, {}))]

    def settle_own_key(self, feed: FeedRef) -> None:
        self.own_keys.pop(feed, None)

    # -- derived

    def edges(self, author: FeedRef | None = None) -> Iterator[Edge]:
        newest: dict[tuple[FeedRef, FeedRef], Edge] = {}
        for feed in self._held():
            if author is None or feed.ref == author:
                for message in self.messages(feed.ref):
                    facts = read_facts(message)
                    if facts is not None and facts.edge is not None:
                        contact, state = facts.edge
                        newest[feed.ref, contact] = Edge(feed.ref, contact, EdgeState(state), message.sequence)
        return iter(newest.values())

    def blocked(self, by: FeedRef) -> set[FeedRef]:
        return {edge.contact for edge in self.edges(by) if edge.state == EdgeState.BLOCK} - {by}

    def hops(self, start: FeedRef, limit: int) -> dict[FeedRef, int]:
        graph: dict[FeedRef, dict[FeedRef, int]] = {}
        for author, contact, state, _ in self.edges():
            graph.setdefault(author, {})[contact] = state
        return find_hops(graph, start, limit)

    def names(self, about: FeedRef) -> list[Name]:
        newest: dict[FeedRef, Name] = {}
        for feed in self._held():
            for message in self.messages(feed.ref):
                facts = read_facts(message)
                if facts is not None and facts.name is not None and facts.name[0] == about:
                    newest[feed.ref] = Name(about, feed.ref, facts.name[1], message.sequence)
        return sorted(newest.values(), key=lambda name: (name.author != about, name.author))

    def blob_links(self, feed: FeedRef | None = None, first: int = 1, last: int | None = None) -> Iterator[BlobLink]:
        for held in self._held():
            if feed is None or held.ref == feed:
                for message in self.messages(held.ref, first, last):
                    facts = read_facts(message)
                    for blob in sorted(facts.blobs) if facts is not None else ():
                        yield BlobLink(blob, held.ref, message.sequence)

    def blob_is_linked(self, blob: BlobRef) -> bool:
        return any(link.blob == blob for link in self.blob_links())

    # -- peers

    def set_peer(self, peer: Peer) -> None:
        old = self.state.peers.get(peer.ref, peer)
        self.state.peers[peer.ref] = replace(
            peer,
            counter=max(old.counter, peer.counter),
            time_ms=max(old.time_ms, peer.time_ms),
            met_at_ms=max(old.met_at_ms, peer.met_at_ms),
        )

    def peers(self) -> list[Peer]:
        return sorted(self.state.peers.values(), key=lambda peer: (-peer.met_at_ms, peer.ref))

    def peer_clock(self, peer: FeedRef) -> dict[FeedRef, Note]:
        return dict(self.state.clocks.get(peer, {}))

    def update_peer_clock(self, peer: FeedRef, notes: Mapping[FeedRef, Note], *, keep_higher: bool = False) -> None:
        self.state.peers.setdefault(peer, Peer(peer, PeerKind.EBT))
        clock = self.state.clocks.setdefault(peer, {})
        for feed, note in notes.items():
            known = clock.get(feed)
            if known is None and len(clock) >= MAX_CLOCK_FEEDS:
                continue
            if not (keep_higher and known is not None and known.sequence > note.sequence):
                clock[feed] = note
        if self.own is not None and self.own in notes:
            self.note_claim(self.own, peer, notes[self.own].sequence)

    def replace_peer_clock(self, peer: FeedRef, notes: Mapping[FeedRef, Note]) -> None:
        self.state.clocks.pop(peer, None)
        self.update_peer_clock(peer, notes)

    def forget_peer_clock(self, peer: FeedRef | None = None) -> None:
        if peer is None:
            self.state.clocks.clear()
        else:
            self.state.clocks.pop(peer, None)

    def writer(
        self, timeout_s: float = 5.0, *, dry_run: bool = False, on_wait: Callable[[], None] | None = None
    ) -> MemoryWriter:
        if self.locked:
            raise StoreLocked("another writer")
        return MemoryWriter(self, dry_run)

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class MemoryWriter:
    def __init__(self, store: MemoryStore, dry_run: bool) -> None:
        self._store = store
        self._state = copy.deepcopy(store.state) if dry_run else store.state
        self._dry_run = dry_run
        self._look()
        store.locked = self._holds = True

    def _look(self) -> None:
        self._next_id = max(self._state.feeds, default=0) + 1
        self._version = self._store.version

    def pause(self) -> None:
        if not self._dry_run and self._holds:
            self._store.locked = self._holds = False

    def resume(self, timeout_s: float = 5.0) -> bool:
        if self._holds:
            return False
        if self._store.locked:
            raise StoreLocked("another writer")
        self._store.locked = self._holds = True
        changed = self._version != self._store.version
        self._look()
        return changed

    def feed_state(self, ref: FeedRef) -> FeedState:
        for feed in self._state.feeds.values():
            if feed.ref == ref:
                return FeedState(ref, feed.id, len(feed.rows), feed.rows[-1][1] if feed.rows else b"", feed.forked)
        return FeedState(ref)

    def next_feed_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def row(self, row_id: int) -> MessageRow | None:
        feed = self._state.feeds.get(row_id >> SEQUENCE_BITS)
        sequence = row_id & SEQUENCE_MASK
        return feed.rows[sequence - 1] if feed is not None and 1 <= sequence <= len(feed.rows) else None

    def waiting_row(self, row_id: int) -> WaitingRow | None:
        return self._state.waiting.get(row_id)

    def commit(self, batch: Batch, idle: Callable[[], None] | None = None) -> Committed:
        state, done = self._state, Committed()
        assert self._holds
        self._store.version += 1
        self._version = self._store.version
        for feed_id, ref in batch.feeds:
            state.feeds[feed_id] = _Feed(feed_id, FeedRef(ref))
        for row in sorted(batch.rows):
            state.feeds[row[0] >> SEQUENCE_BITS].rows.append(row)
        for feed_id, (_, after, key) in batch.heads.items():
            rows = state.feeds[feed_id].rows
            assert (len(rows), rows[-1][1]) == (after, key)
        for fork in batch.forks:
            self._stop(fork)
        for waiting in batch.waiting:
            there = state.waiting.get(waiting[0])
            if state.feeds[waiting[0] >> SEQUENCE_BITS].forked:
                done.stopped.append(waiting[0])
                continue
            if there is None:
                state.waiting[waiting[0]] = waiting
                self._change_room(done, waiting[0], 1)
            elif there[1] == waiting[1]:
                done.repeated += 1
            else:
                self._stop(ForkRow(there, waiting[1], batch.now_ms))
                self._stop(ForkRow(waiting, there[1], batch.now_ms))
                done.forked += [waiting[0], waiting[0]]
                del state.waiting[waiting[0]]
                self._change_room(done, waiting[0], -1)
        for feed in state.feeds.values():
            self._promote(feed, batch.now_ms, done)
        self._make_room(done)
        return done

    def _change_room(self, done: Committed, row_id: int, change: int) -> None:
        feed = row_id >> SEQUENCE_BITS
        done.room[feed] = done.room.get(feed, 0) + change

    def _stop(self, fork: ForkRow) -> None:
        self._state.forks.setdefault((fork.row[0], fork.row[1]), fork)
        self._state.feeds[fork.row[0] >> SEQUENCE_BITS].forked = True

    def _promote(self, feed: _Feed, now_ms: int, done: Committed) -> None:
        waiting = self._state.waiting
        moved = 0
        for row_id in sorted(row_id for row_id in waiting if row_id >> SEQUENCE_BITS == feed.id):
            sequence = row_id & SEQUENCE_MASK
            row = waiting[row_id]
            if feed.forked or sequence <= len(feed.rows):
                del waiting[row_id]
                self._change_room(done, row_id, -1)
                if feed.forked:
                    done.stopped.append(row_id)
                elif feed.rows[sequence - 1][1] != row[1]:
                    self._stop(ForkRow(row, feed.rows[sequence - 1][1], now_ms))
                    done.forked.append(row_id)
                else:
                    done.repeated += 1
            elif sequence == len(feed.rows) + 1:
                del waiting[row_id]
                self._change_room(done, row_id, -1)
                if row[2] == (feed.rows[-1][1] if feed.rows else b""):
                    feed.rows.append((row[0], row[1], *row[3:]))
                    moved += 1
                else:
                    self._stop(ForkRow(row, b"", now_ms))
                    done.forked.append(row_id)
        if moved:
            done.promoted[feed.id] = (len(feed.rows), feed.rows[-1][1], moved)

    def _make_room(self, done: Committed) -> None:
        waiting = self._state.waiting
        size = sum(ROW_BYTES + len(row[6]) for row in waiting.values())
        if size <= MAX_WAITING_BYTES:
            return
        feeds = self._state.feeds
        farthest: list[Any] = sorted(
            (row_id for row_id in waiting if feeds[row_id >> SEQUENCE_BITS].ref != self._store.own),
            key=lambda row_id: len(feeds[row_id >> SEQUENCE_BITS].rows) - (row_id & SEQUENCE_MASK),
        )
        for row_id in farthest:
            if size <= MAX_WAITING_BYTES - MAX_WAITING_BYTES // 8:
                break
            size -= ROW_BYTES + len(waiting.pop(row_id)[6])
            self._change_room(done, row_id, -1)
            done.crowded.append(row_id)

    def close(self) -> None:
        if self._holds:
            self._store.locked = self._holds = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
