"""From verdicts to the store: where messages go that their authors signed.

The second half of ``ingest``: everything here has been checked, and is compared once more with the proven end of its feed.
Then it is part of a batch, and once that is on the disk, of the report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sneaker.feed.chain import Chain, place_in_chain
from sneaker.feed.content import Facts
from sneaker.feed.message import Message
from sneaker.ingest.fork_evidence import FeedEnd, waiting_row
from sneaker.ingest.reports import Code
from sneaker.ingest.running_report import RunningReport
from sneaker.refs import FeedRef
from sneaker.social import Blocks, EdgeState
from sneaker.store.rows import SEQUENCE_BITS, SEQUENCE_MASK, Batch, ForkRow, MessageRow
from sneaker.store.writer import Writer

__all__ = ["Proven", "Segment"]

# The size of a transaction: so many messages for each feed in it, within these bounds. When a thousand feeds grow at
# once, small transactions write the same pages again and again (8192 messages: 6.2 us per message; 16384: 5.0 us, but
# 40 MB more). When one feed comes after the other, large ones gain nothing.
_BATCH_PER_FEED = 16
_MIN_BATCH = 4096
_MAX_BATCH = 8192
_BATCH_BYTES = 12 * 1024 * 1024

# Feeds whose ends are remembered from one batch to the next: 300 bytes each.
_MAX_FEEDS = 20_000

_BROKEN = "a message before it was refused"


class Segment:
    """Consecutive messages of one feed that are checked together; ``previous`` is the key that the first one follows."""

    __slots__ = ("facts", "feed", "first", "previous", "rows", "waiting")

    def __init__(
        self,
        feed: FeedEnd,
        first: int,
        previous: bytes,
        rows: list[MessageRow],
        facts: list[tuple[int, Facts]],
        waiting: bool,
    ) -> None:
        self.feed = feed
        self.first = first
        self.previous = previous
        self.rows = rows
        self.facts = facts
        self.waiting = waiting

    def part(self, start: int, end: int) -> Segment:
        """Return some of the messages as a segment."""
        rows = self.rows[start:end]
        ids = {row[0] for row in rows}
        facts = [fact for fact in self.facts if fact[0] in ids]
        previous = self.rows[start - 1][1] if start else self.previous
        return Segment(self.feed, self.first + start, previous, rows, facts, self.waiting)

    def renumber(self) -> None:
        """Take over the id that the feed has now: another writer may have given the old one to another feed."""
        base = self.feed.id << SEQUENCE_BITS
        if self.rows[0][0] >> SEQUENCE_BITS != self.feed.id:
            self.rows = [(base | row[0] & SEQUENCE_MASK, *row[1:]) for row in self.rows]
            self.facts = [(base | row_id & SEQUENCE_MASK, fact) for row_id, fact in self.facts]


class Proven:
    """The batch that is being filled, and the feeds it is for; ``report`` is told what becomes of messages.

    Unless it ``holds`` the store, others may write between two batches.  Then feeds may have another end when the next batch
    is written, and its messages are placed anew.
    """

    def __init__(
        self,
        writer: Writer,
        wanted: Callable[[FeedRef], bool] | None,
        own: FeedRef | None,
        blocked: Callable[[], Blocks],
        now_ms: Callable[[], int],
        progress: Callable[[int], None] | None,
        idle: Callable[[], None],
        *,
        holds: bool,
        lock_timeout_s: float,
    ) -> None:
        self.writer = writer
        self._wanted = wanted
        self._own = own
        self._read_blocked = blocked
        self._blocked = blocked()
        self._now_ms = now_ms
        self._progress = progress
        self._idle = idle
        self._always_holds = self._holds = holds
        self._lock_timeout_s = lock_timeout_s
        self._feeds: dict[FeedRef, FeedEnd] = {}
        self._by_id: dict[int, FeedEnd] = {}
        self._batch = Batch()
        # What the batch is made of, in order.
        self._entries: list[Segment | tuple[FeedEnd, ForkRow]] = []
        self._batch_bytes = 0
        self._batch_number = 0
        # The rows of the batch by id, as far as anybody asked for one of them.
        self._index: dict[int, MessageRow] = {}
        self._indexed = 0
        self.report = RunningReport()

    # -- feeds and rows

    def wants(self, ref: FeedRef) -> bool:
        """Say whether messages of a feed are taken: those that were asked for, and none of a feed that we block."""
        return ref not in self._blocked and (self._wanted is None or self._wanted(ref))

    def feed(self, ref: FeedRef) -> FeedEnd:
        """Return where a feed ends."""
        feed = self._feeds.get(ref)
        if feed is None:
            if not self.wants(ref):
                return FeedEnd(ref, wanted=False)  # not remembered: what is wanted may become more
            state = self.writer.feed_state(ref)
            if state.id in self._by_id:  # another writer has given it the id that one of ours was to have
                self._catch_up()
            feed = FeedEnd(ref, state.id or self._new_id(), state.sequence, state.key, state.forked)
            feed.stored = bool(state.id)
            self._by_id[feed.id] = feed
            self._feeds[ref] = feed
        feed.touched = self._batch_number
        return feed

    def _new_id(self) -> int:
        """Return an id for a feed that has none yet; for good only while we hold the store."""
        while (feed_id := self.writer.next_feed_id()) in self._by_id:
            pass
        return feed_id

    def touch(self, feed: FeedEnd) -> None:
        """Remember a feed: messages of it are being checked."""
        feed.touched = self._batch_number

    def row(self, row_id: int) -> MessageRow | None:
        """Return a message that is in the batch or in the store."""
        rows = self._batch.rows
        if self._indexed < len(rows):
            for row in rows[self._indexed :]:
                self._index[row[0]] = row
            self._indexed = len(rows)
        return self._index.get(row_id) or self.writer.row(row_id)

    def held_key(self, feed: FeedEnd, sequence: int) -> bytes | None:
        """Return the key of the message that is proven for this place of a feed."""
        row = self.row(feed.id << SEQUENCE_BITS | sequence)
        return row[1] if row is not None else None

    # -- verdicts

    def judge(self, segment: Segment, good: int) -> None:
        """Take a segment of which the first ``good`` messages have valid signatures."""
        feed = segment.feed
        count = len(segment.rows)
        if good == count:
            self._accept(segment)
            return
        if not segment.waiting and not _may_follow(segment):
            self._refuse_segment(segment)
            return
        if good:
            self._accept(segment.part(0, good))
        sequence = segment.first + good
        self.report.note_refusal(feed.ref, sequence, Code.SIGNATURE_INVALID, "the author did not sign this")
        self.report.note_refusal(feed.ref, sequence + 1, Code.CHAIN_BROKEN, _BROKEN, count - good - 1)
        if not segment.waiting:
            feed.expect_proven()

    def _accept(self, segment: Segment) -> None:
        """Put messages that their author signed where they belong, now that everything before them is judged."""
        feed = segment.feed
        feed.touched = self._batch_number
        segment.renumber()
        if not feed.wanted:  # blocked while this was being checked
            self.report.left_out += len(segment.rows)
        elif feed.forked:
            self.report.note_refusal(feed.ref, segment.first, Code.FORKED, "the feed is forked", len(segment.rows))
        elif segment.first <= feed.proven:
            self._accept_overtaken(segment)
        elif (place := _place(segment)) is Chain.NEXT:
            self._append(segment)
        elif not segment.waiting:
            self._refuse_segment(segment)
        elif place is Chain.GAP:
            self._let_wait(segment)
        else:
            self._stop(feed, ForkRow(waiting_row(segment.rows[0], segment.previous), b"", self._now_ms()))
            self.report.note_refusal(
                feed.ref,
                segment.first,
                Code.FORKED,
                "it follows another message than the one held here",
                len(segment.rows),
            )

    def _append(self, segment: Segment) -> None:
        feed, rows, batch = segment.feed, segment.rows, self._batch
        self._register(feed)
        self._entries.append(segment)
        started = batch.heads.get(feed.id)
        before = feed.proven if started is None else started[0]
        feed.proven += len(rows)
        feed.proven_key = rows[-1][1]
        if feed.expected < feed.proven:
            feed.expect_proven()
        batch.heads[feed.id] = (before, feed.proven, feed.proven_key)
        batch.rows += rows
        if segment.facts:
            batch.facts += segment.facts
            if feed.ref == self._own:
                self._heed([facts.edge for _, facts in segment.facts if facts.edge is not None])

    def _heed(self, edges: Iterable[tuple[FeedRef, EdgeState]]) -> None:
        """Act on our own contact messages: a block counts for everything that comes after it."""
        for contact, state in edges:
            self._blocked.learn_contact(contact, state)
            if contact in self._feeds:
                self._feeds[contact].wanted = self.wants(contact)

    def _let_wait(self, segment: Segment) -> None:
        feed, previous = segment.feed, segment.previous
        self._register(feed)
        self._entries.append(segment)
        for row in segment.rows:
            self._batch.waiting.append(waiting_row(row, previous))
            previous = row[1]

    def _accept_overtaken(self, segment: Segment) -> None:
        """Accept messages of which the first ones got into the feed another way meanwhile."""
        feed, rows = segment.feed, segment.rows
        for count, row in enumerate(rows):
            if row[0] & SEQUENCE_MASK > feed.proven:
                self._accept(segment.part(count, len(rows)))
                return
            previous = rows[count - 1][1] if count else segment.previous
            sequence, held = segment.first + count, self.held_key(feed, segment.first + count)
            place = place_in_chain(feed.proven, feed.proven_key, sequence, previous, row[1], held)
            if place is not Chain.KNOWN:
                fork = ForkRow(waiting_row(row, previous), held or b"", self._now_ms())
                self._stop(feed, fork)
                detail = "not the message held here"
                self.report.note_refusal(feed.ref, sequence, Code.FORKED, detail, len(rows) - count)
                return
            self.report.known += 1

    def _refuse_segment(self, segment: Segment) -> None:
        """Refuse what was chained to a message that turned out bad."""
        self.report.note_refusal(segment.feed.ref, segment.first, Code.CHAIN_BROKEN, _BROKEN, len(segment.rows))
        segment.feed.expect_proven()

    def add_fork(self, feed: FeedEnd, message: Message, ours: bytes) -> None:
        """Keep a message as evidence that its author forked the feed, and stop the feed."""
        row_id = feed.id << SEQUENCE_BITS | message.sequence
        row = waiting_row((row_id, message.key, *feed.format.compact(message)), message.previous or b"")
        self._stop(feed, ForkRow(row, ours, self._now_ms()))

    def _stop(self, feed: FeedEnd, fork: ForkRow) -> None:
        self._register(feed)
        self._entries.append((feed, fork))
        self._batch.forks.append(fork)
        feed.forked = True
        self.report.note_fork(feed.ref)

    def _register(self, feed: FeedEnd) -> None:
        """Give a feed a row in the store before anything refers to it."""
        if not feed.stored:
            self._batch.feeds.append((feed.id, feed.ref))
            feed.stored = True

    # -- the store

    def note_bytes(self, size: int) -> None:
        """Say how many bytes the messages had that were judged."""
        self._batch_bytes += size

    @property
    def is_full(self) -> bool:
        """Whether the batch is to be written."""
        batch = self._batch
        enough = min(max(_MIN_BATCH, _BATCH_PER_FEED * len(batch.heads)), _MAX_BATCH)
        return len(batch.rows) + len(batch.waiting) >= enough or self._batch_bytes >= _BATCH_BYTES

    def write(self, busy: Iterable[FeedRef]) -> None:
        """Write the batch, and count it once it is on the disk; feeds in ``busy`` have messages under way."""
        batch = self._batch
        self._batch_bytes = 0
        if not (batch.rows or batch.waiting or batch.forks):
            return
        self._take_lock()
        try:
            batch = self._batch
            batch.now_ms = self._now_ms()
            done = self.writer.commit(batch, self._idle)
        finally:
            self.let_go()
        self._begin_batch()
        self._batch_number += 1
        accepted = len(batch.rows)
        for feed_id, (before, _, _) in batch.heads.items():
            self.report.note_advance(self._by_id[feed_id].ref, before)
        for feed_id, (sequence, key, count) in done.promoted.items():
            feed = self._by_id[feed_id]
            accepted += count
            self.report.note_advance(feed.ref, feed.proven)
            feed.proven, feed.proven_key = sequence, key
            if feed.expected < sequence:
                feed.expect_proven()
            if feed.ref == self._own:  # what had waited may block somebody, too
                self._blocked |= self._read_blocked()
                for known in self._feeds.values():
                    known.wanted = self.wants(known.ref)
        self.report.accepted += accepted
        self.report.known += done.repeated
        for row_id in done.forked:
            feed = self._by_id[row_id >> SEQUENCE_BITS]
            feed.forked = True
            self.report.note_fork(feed.ref)
            self.report.note_refusal(
                feed.ref, row_id & SEQUENCE_MASK, Code.FORKED, "it contradicts another message of its author"
            )
        self._refuse_waiting(done.stopped, Code.FORKED, "it waited for others, and its feed is forked")
        self._refuse_waiting(done.crowded, Code.WAITING_ROOM_FULL, "too many messages wait for others that are missing")
        for feed_id, change in done.room.items():
            self.report.note_waiting(feed_id, change)
        if len(self._feeds) > _MAX_FEEDS:
            self._forget_feeds(set(busy))
        if self._progress is not None and accepted:
            self._progress(accepted)

    def _refuse_waiting(self, row_ids: list[int], code: Code, detail: str) -> None:
        for row_id in row_ids:
            feed = self._by_id.get(row_id >> SEQUENCE_BITS)
            self.report.note_refusal(feed.ref if feed is not None else None, row_id & SEQUENCE_MASK, code, detail)

    @property
    def holds(self) -> bool:
        """Whether nobody else can write now."""
        return self._holds

    @property
    def keeps_own(self) -> bool:
        """Whether that is because of new messages of our own, and only until they are written."""
        return self._holds and not self._always_holds

    def hold(self) -> None:
        """Keep others out until the batch is written.

        It has new messages of our own, and ``publish`` must not get ahead of them.
        """
        if not self._holds:
            self._take_lock()
            self._holds = True

    def let_go(self) -> None:
        """Let others write; to be called when no new message of our own is under way."""
        if not self._always_holds:
            self._holds = False
            self.writer.pause()

    def _take_lock(self) -> None:
        if self.writer.resume(self._lock_timeout_s):
            self._catch_up()

    def _begin_batch(self) -> None:
        self._batch, self._entries = Batch(), []
        self._index, self._indexed = {}, 0

    def _catch_up(self) -> None:
        """Learn where feeds end now that somebody else has written, and put what is proven there."""
        entries = self._entries
        self._begin_batch()
        self._blocked |= self._read_blocked()
        self._by_id = {}
        for feed in self._feeds.values():
            state = self.writer.feed_state(feed.ref)
            feed.id, feed.stored = state.id, bool(state.id)
            feed.proven, feed.proven_key, feed.forked = state.sequence, state.key, state.forked
            feed.wanted = self.wants(feed.ref)
            if feed.stored:
                self._by_id[feed.id] = feed
        for feed in self._feeds.values():
            if not feed.stored:
                feed.id = self._new_id()
                self._by_id[feed.id] = feed
        for entry in entries:
            if isinstance(entry, Segment):
                self._accept(entry)
            else:
                feed, fork = entry
                row_id = feed.id << SEQUENCE_BITS | fork.row[0] & SEQUENCE_MASK
                self._stop(feed, fork._replace(row=(row_id, *fork.row[1:])))
        for feed in self._feeds.values():
            if feed.expected < feed.proven:
                feed.expect_proven()

    def _forget_feeds(self, busy: set[FeedRef]) -> None:
        """Forget the ends of feeds that nothing has come for lately; the store knows them."""
        recent = self._batch_number - 1
        for feed in [feed for feed in self._feeds.values() if feed.touched < recent and feed.ref not in busy]:
            del self._feeds[feed.ref]
            self._by_id.pop(feed.id, None)


def _may_follow(segment: Segment) -> bool:
    """Say whether a segment is chained to what is proven."""
    return segment.first <= segment.feed.proven or _place(segment) is Chain.NEXT


def _place(segment: Segment) -> Chain:
    """Say how a segment of which nothing is held stands to what is proven."""
    feed = segment.feed
    return place_in_chain(feed.proven, feed.proven_key, segment.first, segment.previous, segment.rows[0][1], None)
