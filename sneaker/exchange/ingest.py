"""The one door in: whatever brings a message, it enters a feed here or not at all.

What comes is expanded, chained and hashed in the calling thread, its signatures are checked by others (``verification``),
and what has proven itself is written to the store, some thousand messages to a transaction, while the next ones are
being checked.

Each feed has two ends meanwhile.  The *tail* is proven: in the store or in the batch that is next.  The *guess* is how
far the feed reaches if everything that is being checked turns out well; what comes next is chained to it.  When
verdicts arrive, messages are held against the tail once more, so a guess that was wrong costs nothing but its own
messages.  What can only be judged by the truth (repetitions of what is being checked, contradictions) is put off until
it is known.

Messages that begin beyond the end of their feed wait in the store until the gap is filled, so it does not matter in
which order bundles arrive.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Sequence
from typing import Self

from sneaker.caps import Caps
from sneaker.errors import InvalidMessage
from sneaker.exchange.evidence import FeedEnd, find_contradiction, is_same, waiting_row
from sneaker.exchange.reports import Code, IngestCounts, IngestReport, Refusal
from sneaker.feed.compact import KIND_RAW, Compact, compact, expand, expand_run
from sneaker.feed.content import Facts, read_facts
from sneaker.feed.message import Message, signed_bytes, signed_text
from sneaker.feed.run import Run
from sneaker.feed.validate import parse_message, verify_message_signature
from sneaker.limits import MAX_SEQUENCE
from sneaker.refs import FeedRef, MessageRef
from sneaker.store.base import SEQUENCE_BITS, SEQUENCE_MASK, Batch, ForkRow, MessageRow, Store, Writer
from sneaker.store.verification import Check, Verifier

__all__ = ["Code", "Ingest", "IngestCounts", "IngestReport", "Refusal", "Run"]

# Messages handed over for checking at once: 2.7 ms of work, and little enough to share out evenly.
_CHUNK = 64
_CHUNK_BYTES = 256 * 1024

# Chunks being checked at once: work for two cores for 90 ms, longer than it takes to write a batch.
_CHUNKS_AHEAD = 96
_BYTES_AHEAD = 8 * 1024 * 1024

# A transaction: so many messages for each feed in it, within these bounds. When a thousand feeds grow at once, small
# transactions write the same pages again and again (8192 messages: 6.2 us per message, 16384: 5.0 us); when one feed
# comes after the other, there is nothing to gain from large ones.
_BATCH_PER_FEED = 16
_MIN_BATCH = 4096
_MAX_BATCH = 16384
_BATCH_BYTES = 12 * 1024 * 1024

# What waits for verdicts on messages before it.
_MAX_DEFERRED_BYTES = 4 * 1024 * 1024

# Feeds whose ends are remembered from one batch to the next: 300 bytes each.
_MAX_FEEDS = 50_000

_MAX_REFUSALS = 1000

_RAW_FORM = KIND_RAW << 1


class _Segment:
    """Consecutive messages of one feed in a chunk; ``previous`` is the key that the first one follows, or b""."""

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


class Ingest:
    """Takes messages into a store; a context manager, and the store's one writer while it is open.

    ``wanted`` says of which feeds messages are taken (all, by default).  ``workers`` is the number of cores to check
    signatures on.  ``progress`` is called with the number of messages that a transaction has brought in.  With
    ``dry_run`` everything happens as in earnest, and then it is taken back.

    Methods raise StoreError and its subclasses (StoreLocked on entering; StoreFull); what was reported as accepted
    before is safe then, and the rest can be brought again.
    """

    def __init__(
        self,
        store: Store,
        *,
        caps: Caps,
        wanted: Callable[[FeedRef], bool] | None = None,
        workers: int | None = None,
        now_ms: Callable[[], int],
        progress: Callable[[int], None] | None = None,
        dry_run: bool = False,
        lock_timeout_s: float = 5.0,
    ) -> None:
        self._store = store
        self._hmac_key = caps.hmac_key
        self._wanted = wanted
        self._now_ms = now_ms
        self._progress = progress
        self._dry_run = dry_run
        self._lock_timeout_s = lock_timeout_s
        self._verifier = Verifier(workers)
        self._writer: Writer | None = None
        self._report: IngestReport | None = None
        self._feeds: dict[FeedRef, FeedEnd] = {}
        self._by_id: dict[int, FeedEnd] = {}
        self._batch_number = 0
        # The chunk being filled, and those being checked.
        self._checks: list[Check] = []
        self._segments: list[_Segment] = []
        self._chunk_bytes = 0
        self._chunks: deque[tuple[list[_Segment], int]] = deque()
        self._bytes_ahead = 0
        # The batch being filled; its rows by id, to be found before they are in the store.
        self._batch = Batch()
        self._rows: dict[int, MessageRow] = {}
        self._batch_bytes = 0
        self._deferred: list[tuple[Run, Message | None]] = []
        self._deferred_bytes = 0
        # The report.
        self._accepted = self._known = self._refused = 0
        self._waited: dict[int, int] = {}
        self._advanced: set[FeedRef] = set()
        self._new: set[FeedRef] = set()
        self._forked: set[FeedRef] = set()
        self._refusals: list[Refusal] = []

    # -- what comes in

    def add_run(self, run: Run) -> None:
        """Take in consecutive messages of one feed, as a bundle carries them."""
        if run.compacts:
            self._add(run, None)

    def add_json(self, raw: bytes | str, key: str | None = None) -> None:
        """Take in one message as JSON; ``key`` is the id that its carrier states for it."""
        try:
            message = parse_message(raw)
        except InvalidMessage as error:
            self.refuse(None, None, error.reason, error.detail)
            return
        if key is not None and key != str(message.key):
            self.refuse(message.author, message.sequence, Code.KEY_MISMATCH, "the stated key is not the message's")
            return
        self.add_message(message)

    def add_message(self, message: Message) -> None:
        """Take in one message that has been parsed, or made: publishing goes this way too."""
        run = Run(message.author, message.sequence, message.previous, (compact(message),), (message.key,))
        self._add(run, message)

    def refuse(self, feed: FeedRef | None, sequence: int | None, code: str, detail: str, count: int = 1) -> None:
        """Put something on the list of what was refused; callers do so with what they cannot even read."""
        self._refused += count
        if len(self._refusals) < _MAX_REFUSALS:
            if count > 1:
                detail = f"{detail} ({count} messages from here on)" if detail else f"{count} messages from here on"
            self._refusals.append(Refusal(feed, sequence, str(code), detail))

    def flush(self) -> None:
        """Return once everything that was taken in is judged, and what is good is on the disk."""
        self._settle()
        self._write_batch()

    def counts(self) -> IngestCounts:
        """Return how many messages were accepted, known, refused and waiting up to the last transaction."""
        writer = self._opened()
        waiting = sum(min(count, writer.waiting_count(feed)) for feed, count in self._waited.items())
        return IngestCounts(self._accepted, self._known, self._refused, waiting)

    def close(self) -> IngestReport:
        """Flush, let go of the store, and return what happened."""
        if self._report is None:
            try:
                self.flush()
                counts = self.counts()
            finally:
                self._release()
            self._report = IngestReport(
                *counts,
                feeds_advanced=frozenset(self._advanced),
                feeds_new=frozenset(self._new),
                feeds_forked=frozenset(self._forked),
                refusals=tuple(self._refusals),
            )
        return self._report

    def __enter__(self) -> Self:
        self._writer = self._store.writer(self._lock_timeout_s, dry_run=self._dry_run)
        # What is in memory now will be there when we are done: the collector need not look through it for every few
        # thousand messages that pass by. With a large heap that was 4 us per message.
        gc.freeze()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is None:
            self.close()
        else:
            self._release()

    def _release(self) -> None:
        gc.unfreeze()
        self._verifier.close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _opened(self) -> Writer:
        if self._writer is None:
            raise RuntimeError("this ingest is not open")
        return self._writer

    # -- where it belongs

    def _feed(self, ref: FeedRef) -> FeedEnd:
        feed = self._feeds.get(ref)
        if feed is None:
            writer = self._opened()
            if self._wanted is not None and not self._wanted(ref):
                feed = FeedEnd(ref, wanted=False)
            else:
                state = writer.feed_state(ref)
                feed = FeedEnd(ref, state.id or writer.next_feed_id(), state.sequence, state.key, state.forked)
                feed.stored = bool(state.id)
                self._by_id[feed.id] = feed
            self._feeds[ref] = feed
        feed.touched = self._batch_number
        return feed

    def _add(self, run: Run, message: Message | None) -> None:
        feed = self._feed(run.author)
        if not feed.wanted:
            self.refuse(run.author, run.first, Code.NOT_WANTED, "", len(run.compacts))
            return
        if not 1 <= run.first <= run.last <= MAX_SEQUENCE:
            self.refuse(run.author, None, "sequence-invalid", "", len(run.compacts))
            return
        if feed.guess != feed.tail and not self._is_plain(feed, run):
            self._deferred.append((run, message))
            self._deferred_bytes += sum([len(item.content) + 200 for item in run.compacts])
            if self._deferred_bytes > _MAX_DEFERRED_BYTES:
                self._settle()
            return
        self._place(feed, run, message)

    def _is_plain(self, feed: FeedEnd, run: Run) -> bool:
        """Say whether a run can be placed while messages before it are still being checked."""
        if run.first == feed.guess + 1:
            return run.previous is None or run.previous == feed.guess_key
        return run.first > feed.guess + 1

    def _place(self, feed: FeedEnd, run: Run, message: Message | None) -> None:
        """Split a run into what is known, what continues the feed, and what has to wait."""
        overlap = feed.guess - run.first + 1
        if overlap > 0:
            overlap = min(overlap, len(run.compacts))
            stored = self._row(feed.id << SEQUENCE_BITS | run.first + overlap - 1)
            if stored is not None and is_same(stored, run.compacts[overlap - 1]):
                self._known += overlap
            else:
                self._examine(feed, run, overlap)
            if overlap == len(run.compacts):
                return
            run = Run(run.author, run.first + overlap, None, run.compacts[overlap:])
            message = None
        if feed.forked:
            self.refuse(feed.ref, run.first, Code.FORKED, "the feed is forked", len(run.compacts))
            return
        if run.first > feed.guess + 1:
            self._place_waiting(feed, run, message)
        elif run.previous is None or run.previous == feed.guess_key:
            self._enqueue(feed, run.first, feed.guess_key, run.compacts, message, waiting=False)
        else:
            self._examine_next(feed, run)

    def _place_waiting(self, feed: FeedEnd, run: Run, message: Message | None) -> None:
        """Let a run wait, but for what waits there already."""
        writer = self._opened()
        previous, repeated = run.previous, 0
        for sequence, item in enumerate(run.compacts, run.first):
            there = writer.waiting_row(feed.id << SEQUENCE_BITS | sequence)
            if there is None or there[2] != (previous or b"") or not is_same((*there[:2], *there[3:]), item):
                break
            previous = MessageRef(there[1])
            repeated += 1
        self._known += repeated
        if repeated == len(run.compacts):
            return
        if previous is None:
            self.refuse(feed.ref, run.first, "previous-invalid", "it names no message before it", len(run.compacts))
            return
        self._enqueue(
            feed, run.first + repeated, previous, run.compacts[repeated:], None if repeated else message, waiting=True
        )

    def _enqueue(
        self,
        feed: FeedEnd,
        first: int,
        previous: bytes,
        compacts: Sequence[Compact],
        message: Message | None,
        *,
        waiting: bool,
    ) -> None:
        """Expand messages and hand them over for checking."""
        at, count = 0, len(compacts)
        while at < count:
            room = _CHUNK - len(self._checks)
            items = compacts[at : at + room] if at or room < count else compacts
            before = _ref(previous)
            expanded = [message] if message is not None else expand_run(feed.ref, first + at, before, items)
            if expanded:
                begin, before_key = first + at, previous
                at += len(expanded)
                previous = expanded[-1].key
                # Before it is handed over: a batch may be written meanwhile, and the feed have got even further.
                if not waiting and first + at - 1 > feed.guess:
                    feed.guess, feed.guess_key = first + at - 1, previous
                self._add_segment(feed, begin, before_key, expanded, items, waiting)
            if len(expanded) < len(items):
                self._refuse_invalid(feed, first + at, previous, items[len(expanded)], count - at)
                return

    def _add_segment(
        self,
        feed: FeedEnd,
        first: int,
        previous: bytes,
        messages: Sequence[Message],
        compacts: Sequence[Compact],
        waiting: bool,
    ) -> None:
        feed.touched = self._batch_number
        row_id = feed.id << SEQUENCE_BITS | first
        author, hmac_key = feed.ref, self._hmac_key
        if hmac_key is None:
            checks = [(author, message[5], signed_text(message[6])) for message in messages]
        else:
            checks = [(author, message[5], signed_bytes(message[6], hmac_key)) for message in messages]
        self._checks += checks
        rows: list[MessageRow] = []
        facts: list[tuple[int, Facts]] = []
        for message, item in zip(messages, compacts, strict=False):
            if item[0] >= _RAW_FORM:
                # What a carrier sends raw may be none of ours: every store keeps the same form.
                item = compact(message)
            rows.append((row_id, message[7], *item))
            fact = read_facts(message)
            if fact is not None:
                facts.append((row_id, fact))
            row_id += 1
        self._segments.append(_Segment(feed, first, previous, rows, facts, waiting))
        self._chunk_bytes += sum([len(check[2]) for check in checks])
        if len(self._checks) >= _CHUNK or self._chunk_bytes >= _CHUNK_BYTES:
            self._submit()

    def _refuse_invalid(self, feed: FeedEnd, sequence: int, previous: bytes, item: Compact, count: int) -> None:
        """Refuse a message that expand refuses, and those that would have followed it."""
        try:
            expand(feed.ref, sequence, _ref(previous), item)
            reason, detail = str(Code.CHAIN_BROKEN), ""
        except InvalidMessage as error:
            reason, detail = error.reason, error.detail
        self.refuse(feed.ref, sequence, reason, detail)
        if count > 1:
            self.refuse(feed.ref, sequence + 1, Code.CHAIN_BROKEN, "a message before it was refused", count - 1)

    # -- contradictions

    def _row(self, row_id: int) -> MessageRow | None:
        return self._rows.get(row_id) or self._opened().row(row_id)

    def _examine(self, feed: FeedEnd, run: Run, overlap: int) -> None:
        """Look at a run whose last known message is not the one we have: damage, or a fork?"""
        known, refused, message = find_contradiction(feed, run, overlap, self._row)
        self._known += known
        if message is None:
            if refused:
                self.refuse(feed.ref, run.first, Code.CHAIN_BROKEN, "not the messages held here", refused)
        elif verify_message_signature(message, self._hmac_key):
            ours = self._row(feed.id << SEQUENCE_BITS | message.sequence)
            self._add_fork(feed, message, ours[1] if ours is not None else b"")
            self.refuse(feed.ref, message.sequence, Code.FORKED, "another message than the one held here", refused)
        else:
            self.refuse(feed.ref, message.sequence, Code.SIGNATURE_INVALID, "", refused)

    def _examine_next(self, feed: FeedEnd, run: Run) -> None:
        """Look at a run that begins at the end of its feed, but says that it follows another message."""
        count = len(run.compacts)
        try:
            message = expand(feed.ref, run.first, run.previous, run.compacts[0])
        except InvalidMessage as error:
            self.refuse(feed.ref, run.first, error.reason, error.detail, count)
            return
        if verify_message_signature(message, self._hmac_key):
            self._add_fork(feed, message, b"")
            self.refuse(feed.ref, run.first, Code.FORKED, "it follows another message than the one held here", count)
        else:
            self.refuse(feed.ref, run.first, Code.SIGNATURE_INVALID, "", count)

    def _add_fork(self, feed: FeedEnd, message: Message, ours: bytes) -> None:
        row_id = feed.id << SEQUENCE_BITS | message.sequence
        row = waiting_row((row_id, message.key, *compact(message)), message.previous or b"")
        self._stop_feed(feed, ForkRow(row, ours, self._now_ms()))

    def _stop_feed(self, feed: FeedEnd, fork: ForkRow) -> None:
        self._register(feed)
        self._batch.forks.append(fork)
        feed.forked = True
        self._forked.add(feed.ref)

    # -- verdicts

    def _submit(self) -> None:
        """Hand the chunk over for checking, and take in what others have found meanwhile."""
        if self._checks:
            self._verifier.submit(self._checks)
            self._chunks.append((self._segments, self._chunk_bytes))
            self._bytes_ahead += self._chunk_bytes
            self._checks, self._segments, self._chunk_bytes = [], [], 0
        while self._chunks:
            wait = len(self._chunks) > _CHUNKS_AHEAD or self._bytes_ahead > _BYTES_AHEAD
            verdicts = self._verifier.collect(wait=wait)
            if verdicts is None:
                break
            self._judge(verdicts)
        enough = min(max(_MIN_BATCH, _BATCH_PER_FEED * len(self._batch.heads)), _MAX_BATCH)
        if len(self._rows) + len(self._batch.waiting) >= enough or self._batch_bytes >= _BATCH_BYTES:
            self._write_batch()

    def _settle(self) -> None:
        """Wait until nothing is being checked, and nothing is put off."""
        while True:
            self._submit()
            while self._chunks:
                verdicts = self._verifier.collect(wait=True)
                if verdicts is None:
                    break
                self._judge(verdicts)
            if not self._deferred:
                return
            deferred, self._deferred, self._deferred_bytes = self._deferred, [], 0
            for run, _ in deferred:
                feed = self._feed(run.author)
                feed.guess, feed.guess_key = feed.tail, feed.tail_key
            for run, message in deferred:
                self._add(run, message)

    def _judge(self, verdicts: bytes) -> None:
        segments, size = self._chunks.popleft()
        self._bytes_ahead -= size
        all_good = 0 not in verdicts
        at = 0
        for segment in segments:
            count = len(segment.rows)
            if all_good:
                self._accept(segment)
            else:
                good = verdicts.find(0, at, at + count)
                self._accept_part(segment, count if good < 0 else good - at)
            at += count

    def _accept_part(self, segment: _Segment, good: int) -> None:
        """Accept the messages of a segment up to the first whose signature is wrong."""
        bad = segment.rows[good:]
        if not bad:
            self._accept(segment)
            return
        feed, sequence = segment.feed, segment.first + good
        if not segment.waiting and (
            segment.first > feed.tail + 1 or (segment.first == feed.tail + 1 and segment.previous != feed.tail_key)
        ):
            self._refuse_segment(segment)  # it was chained to a message that is bad itself
            return
        if good:
            facts = [fact for fact in segment.facts if fact[0] < bad[0][0]]
            self._accept(_Segment(feed, segment.first, segment.previous, segment.rows[:good], facts, segment.waiting))
        self.refuse(feed.ref, sequence, Code.SIGNATURE_INVALID, "the author did not sign this")
        if len(bad) > 1:
            self.refuse(feed.ref, sequence + 1, Code.CHAIN_BROKEN, "a message before it was refused", len(bad) - 1)
        if not segment.waiting:
            feed.guess, feed.guess_key = feed.tail, feed.tail_key

    def _accept(self, segment: _Segment) -> None:
        """Put messages that their author signed where they belong, now that everything before them is judged."""
        feed, rows = segment.feed, segment.rows
        feed.touched = self._batch_number
        if feed.forked:
            self.refuse(feed.ref, segment.first, Code.FORKED, "the feed is forked", len(rows))
        elif segment.first <= feed.tail:
            self._accept_overtaken(segment)
        elif segment.first > feed.tail + 1:
            if segment.waiting:
                self._let_wait(segment)
            else:
                self._refuse_segment(segment)
        elif segment.previous == feed.tail_key:
            self._append(segment)
        elif segment.waiting:
            self._stop_feed(feed, ForkRow(waiting_row(rows[0], segment.previous), b"", self._now_ms()))
            self.refuse(
                feed.ref, segment.first, Code.FORKED, "it follows another message than the one held here", len(rows)
            )
        else:
            self._refuse_segment(segment)

    def _refuse_segment(self, segment: _Segment) -> None:
        """Refuse what was chained to a message that turned out bad."""
        feed = segment.feed
        self.refuse(feed.ref, segment.first, Code.CHAIN_BROKEN, "a message before it was refused", len(segment.rows))
        feed.guess, feed.guess_key = feed.tail, feed.tail_key

    def _append(self, segment: _Segment) -> None:
        feed, rows, batch = segment.feed, segment.rows, self._batch
        if not feed.stored:
            self._register(feed)
        started = batch.heads.get(feed.id)
        before = feed.tail if started is None else started[0]
        feed.tail += len(rows)
        feed.tail_key = rows[-1][1]
        if feed.guess < feed.tail:
            feed.guess, feed.guess_key = feed.tail, feed.tail_key
        batch.heads[feed.id] = (before, feed.tail, feed.tail_key)
        for row in rows:
            self._rows[row[0]] = row
            self._batch_bytes += len(row[5])
        if segment.facts:
            batch.facts.extend(segment.facts)

    def _let_wait(self, segment: _Segment) -> None:
        feed, previous = segment.feed, segment.previous
        self._register(feed)
        for row in segment.rows:
            self._batch.waiting.append(waiting_row(row, previous))
            previous = row[1]
            self._batch_bytes += len(row[5])
        self._waited[feed.id] = self._waited.get(feed.id, 0) + len(segment.rows)

    def _accept_overtaken(self, segment: _Segment) -> None:
        """Accept messages of which the first ones got into the feed another way meanwhile."""
        feed, rows = segment.feed, segment.rows
        previous = segment.previous
        for count, row in enumerate(rows):
            if row[0] & SEQUENCE_MASK > feed.tail:
                facts = [fact for fact in segment.facts if fact[0] >= row[0]]
                self._accept(_Segment(feed, segment.first + count, previous, rows[count:], facts, segment.waiting))
                return
            ours = self._row(row[0])
            if ours is None or ours[1] != row[1]:
                if segment.waiting:
                    ours_key = ours[1] if ours is not None else b""
                    self._stop_feed(feed, ForkRow(waiting_row(row, previous), ours_key, self._now_ms()))
                code = Code.FORKED if segment.waiting else Code.CHAIN_BROKEN
                self.refuse(feed.ref, segment.first + count, code, "not the message held here", len(rows) - count)
                return
            self._known += 1
            previous = row[1]

    def _register(self, feed: FeedEnd) -> None:
        """See to it that the store has a row for a feed before anything refers to it."""
        if not feed.stored:
            self._batch.feeds.append((feed.id, feed.ref))
            feed.stored = True

    # -- the store

    def _write_batch(self) -> None:
        """Write what is proven, and count it once it is on the disk."""
        batch, writer = self._batch, self._opened()
        if not (self._rows or batch.waiting or batch.forks):
            return
        batch.rows = list(self._rows.values())
        batch.now_ms = self._now_ms()
        done = writer.commit(batch, self._verifier.keep_busy)
        self._batch, self._rows, self._batch_bytes = Batch(), {}, 0
        self._batch_number += 1
        accepted = len(batch.rows)
        for feed_id, (before, _, _) in batch.heads.items():
            self._note_advance(self._by_id[feed_id].ref, before)
        for feed_id, (sequence, key, count) in done.promoted.items():
            feed = self._by_id[feed_id]
            accepted += count
            self._note_advance(feed.ref, feed.tail)
            feed.tail, feed.tail_key = sequence, key
            if feed.guess < sequence:
                feed.guess, feed.guess_key = sequence, key
        self._accepted += accepted
        self._known += done.repeated
        for row_id in done.forked:
            feed = self._by_id[row_id >> SEQUENCE_BITS]
            feed.forked = True
            self._forked.add(feed.ref)
            self.refuse(feed.ref, row_id & SEQUENCE_MASK, Code.FORKED, "it contradicts another message of its author")
        self._note_crowded(done.crowded)
        self._forget_feeds()
        if self._progress is not None and accepted:
            self._progress(accepted)

    def _note_advance(self, ref: FeedRef, before: int) -> None:
        if before == 0:
            self._new.add(ref)
        self._advanced.add(ref)

    def _note_crowded(self, crowded: list[int]) -> None:
        for row_id in crowded:
            feed = self._by_id.get(row_id >> SEQUENCE_BITS)
            if feed is not None and feed.ref == self._store.own and not self._dry_run:
                # The proof is dropped; that there was one must not be, or we might publish over it.
                self._store.note_claim(feed.ref, None, row_id & SEQUENCE_MASK)
            self.refuse(
                feed.ref if feed is not None else None,
                row_id & SEQUENCE_MASK,
                Code.WAITING_ROOM_FULL,
                "too many messages wait for others that are missing",
            )

    def _forget_feeds(self) -> None:
        """Forget the ends of feeds that nothing has come for lately; the store knows them."""
        if len(self._feeds) <= _MAX_FEEDS:
            return
        busy = {run.author for run, _ in self._deferred}
        for segments, _ in self._chunks:
            busy.update(segment.feed.ref for segment in segments)
        busy.update(segment.feed.ref for segment in self._segments)
        recent = self._batch_number - 1
        for feed in [feed for feed in self._feeds.values() if feed.touched < recent and feed.ref not in busy]:
            del self._feeds[feed.ref]
            self._by_id.pop(feed.id, None)


def _ref(key: bytes) -> MessageRef | None:
    return MessageRef(key) if key else None
