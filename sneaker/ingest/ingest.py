"""The one door in: whatever brings a message, it enters a feed here or not at all.

What comes is expanded, chained and hashed in the calling thread, its signatures are checked by others (``signatures.pool``),
and what has proven itself is written to the store, some thousand messages to a transaction, while the next ones are
being checked.

Each feed has two ends meanwhile.  The *proven* end is in the store or in the batch that is next.  The *expected* end is
how far the feed reaches if everything that is being checked turns out well; what comes next is chained to it.  When
verdicts arrive, messages are compared with the proven end once more, so a wrong expectation costs only its own messages.
Repetitions of what is being checked, and contradictions, can only be judged by the proven end, and wait for it.

Messages that begin beyond the end of their feed wait in the store until the gap is filled, so it does not matter in
which order bundles arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Self

from sneaker.caps import Caps
from sneaker.errors import InvalidMessage
from sneaker.feed.chain import Chain, is_chained, place_in_chain
from sneaker.feed.content import Facts
from sneaker.feed.message import Compact, Message
from sneaker.feed.run import Run
from sneaker.ingest.batches import Proven, Segment
from sneaker.ingest.contradictions import refuse_contradiction, refuse_other_end
from sneaker.ingest.fork_evidence import FeedEnd, held_mark, mark
from sneaker.ingest.reports import Code, IngestCounts, IngestReport, Refusal
from sneaker.ingest.under_way import UnderWay
from sneaker.limits import MAX_SEQUENCE
from sneaker.refs import FeedRef, MessageRef
from sneaker.signatures.pool import Check, Verifier, check_signatures
from sneaker.social import Blocks
from sneaker.store.rows import SEQUENCE_BITS, MessageRow
from sneaker.store.store import Store

__all__ = ["Code", "Ingest", "IngestCounts", "IngestReport", "Refusal", "Run"]


# What waits for verdicts on messages before it.
_MAX_DEFERRED_BYTES = 4 * 1024 * 1024

# How long a transaction waits for its turn once there is something to write: others take tenths of seconds.
_LOCK_TIMEOUT_S = 60.0


class Ingest:
    """Takes messages into a store; a context manager, and the store's one writer whenever a transaction is written.

    Between transactions others may write, unless it ``holds`` the store (a dry run does, too), or the next one has new
    messages of the store's owner: nobody may publish beside them.  Call ``give_way`` before you wait for more to take in.

    ``wanted`` says of which feeds messages are taken (all, by default).  Messages of feeds that the store's owner blocks are
    never taken, unless ``heed_blocks`` is false, for a store that is rebuilt: what it held stays in it.  ``workers`` is the
    number of cores to check signatures on; or ``verifier`` does it, and is left open.  ``progress`` is called with the number
    of messages that a transaction has brought in.  With ``dry_run`` everything happens as usual and is then taken back.

    Methods raise StoreError and its subclasses (StoreLocked, on entering after ``lock_timeout_s``; StoreFull).  What was
    reported as accepted before is safe then, and the rest can be brought again.
    """

    def __init__(
        self,
        store: Store,
        *,
        caps: Caps,
        wanted: Callable[[FeedRef], bool] | None = None,
        heed_blocks: bool = True,
        workers: int | None = None,
        verifier: Verifier | None = None,
        now_ms: Callable[[], int],
        progress: Callable[[int], None] | None = None,
        dry_run: bool = False,
        lock_timeout_s: float = 5.0,
        on_wait: Callable[[], None] | None = None,
        holds: bool = False,
    ) -> None:
        self._store = store
        self._hmac_key = caps.hmac_key
        self._wanted = wanted
        self._heed_blocks = heed_blocks
        self._now_ms = now_ms
        self._progress = progress
        self._dry_run = dry_run
        self._lock_timeout_s = lock_timeout_s
        self._on_wait = on_wait
        self._holds = holds
        self._verifier = verifier if verifier is not None else Verifier(workers)
        self._keeps_verifier = verifier is not None
        self._opened: Proven | None = None
        self._report: IngestReport | None = None
        self._under_way = UnderWay(self._verifier)
        self._deferred: list[tuple[Run, Message | None]] = []
        self._deferred_bytes = 0

    # -- what comes in

    def add_run(self, run: Run) -> None:
        """Take in consecutive messages of one feed, as a bundle carries them."""
        if run.compacts:
            self._proven.report.read += len(run.compacts)
            self._add(run, None)

    def add_message(self, message: Message) -> None:
        """Take in one message that has been parsed, or made: what we publish comes this way too."""
        proven = self._proven
        proven.report.read += 1
        feed = proven.feed(message.author)
        sequence = message.sequence
        if feed.wanted and not feed.forked:
            # The two common cases, with as little ado as possible: logs have their messages one by one.
            held = proven.held_key(feed, sequence) if sequence <= feed.proven else None
            place = place_in_chain(feed.expected, feed.expected_key, sequence, message.previous, message.key, held)
            if place is Chain.NEXT:
                before = feed.expected_key
                feed.expected, feed.expected_key = sequence, message.key
                self._hand_over(feed, sequence, before, (message,), (feed.format.compact(message),), waiting=False)
                return
            if place is Chain.KNOWN:
                proven.report.known += 1
                return
        self._add(Run(message.author, sequence, message.previous, (feed.format.compact(message),)), message)

    def add_messages(self, messages: Sequence[Message], compacts: Sequence[Compact]) -> None:
        """Take in consecutive messages of one feed that have been parsed, with their compact forms, as peers send them."""
        first, previous = messages[0].sequence, messages[0].previous
        feed = self._proven.feed(messages[0].author)
        keys = [message.key for message in messages]
        is_next = place_in_chain(
            feed.expected, feed.expected_key, first, previous, keys[0], None
        ) is Chain.NEXT and is_chained(keys, [message.previous for message in messages])
        if not feed.wanted or feed.forked or not is_next:
            for message in messages:
                self.add_message(message)
            return
        at, count = 0, len(messages)
        self._proven.report.read += count
        while at < count:
            end = min(count, at + self._under_way.room)
            before = feed.expected_key
            feed.expected, feed.expected_key = first + end - 1, keys[end - 1]
            self._hand_over(feed, first + at, before, messages[at:end], compacts[at:end], waiting=False)
            at = end

    def wants(self, feed: FeedRef) -> bool:
        """Say whether messages of a feed are taken."""
        return self._proven.wants(feed)

    def start_again(self) -> None:
        """Count from 0 what is left out: the same sources are read once more, because more is wanted now."""
        self._proven.report.read -= self._proven.report.left_out
        self._proven.report.left_out = 0

    def note_refusal(self, feed: FeedRef | None, sequence: int | None, code: str, detail: str) -> None:
        """Put something on the list of what was refused; callers do so with what they cannot even read."""
        self._proven.report.read += 1
        self._proven.report.note_refusal(feed, sequence, code, detail)

    def flush(self) -> None:
        """Return once everything that was taken in is judged, and what is good is on the disk; others may write then."""
        self._settle()
        self._proven.write(self._busy())
        self._proven.let_go()

    def give_way(self) -> None:
        """Put new messages of the store's owner on the disk, so that others may write while we wait."""
        if self._proven.keeps_own:
            self._proven.write(self._busy())
            self._proven.let_go()

    @property
    def keeps_own(self) -> bool:
        """Whether new messages of the store's owner are not on the disk yet, and others are kept out until they are."""
        return self._proven.keeps_own

    def poll(self, timeout_s: float) -> bool:
        """Take in verdicts, and wait so many seconds for the next ones; says whether anything is still being checked."""
        self._submit()
        if self._under_way:
            self._verifier.wait(timeout_s)
            self._submit()
        return bool(self._under_way)

    def commit(self) -> None:
        """Put on the disk what is judged by now, without waiting for what is being checked."""
        self._submit()
        self._proven.write(self._busy())

    def counts(self) -> IngestCounts:
        """Return how many messages were accepted, known, refused and waiting up to the last transaction, and so on."""
        return self._proven.report.counts()

    def report(self) -> IngestReport:
        """Return all that happened up to the last transaction."""
        return self._proven.report.so_far()

    def close(self) -> IngestReport:
        """Flush, let go of the store, and return what happened."""
        if self._report is None:
            try:
                self.flush()
                self._report = self._proven.report.so_far()
            finally:
                self._release()
        return self._report

    def __enter__(self) -> Self:
        writer = self._store.writer(self._lock_timeout_s, dry_run=self._dry_run, on_wait=self._on_wait)
        own = self._store.own if self._heed_blocks else None
        holds = self._holds or self._dry_run
        if not holds:
            writer.pause()
        self._opened = Proven(
            writer,
            self._wanted,
            own,
            lambda: self._store.blocked(own) if own is not None else Blocks(None),
            self._now_ms,
            self._progress,
            self._verifier.keep_busy,
            holds=holds,
            lock_timeout_s=max(self._lock_timeout_s, _LOCK_TIMEOUT_S),
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is None:
            self.close()
        else:
            self._release()

    def _release(self) -> None:
        if not self._keeps_verifier or len(self._verifier):  # nobody will come for what is still being checked
            self._verifier.close()
        if self._opened is not None:
            self._opened.writer.close()
            self._opened = None

    @property
    def _proven(self) -> Proven:
        if self._opened is None:
            raise RuntimeError("this ingest is not open")
        return self._opened

    # -- where it belongs

    def _add(self, run: Run, message: Message | None) -> None:
        feed = self._proven.feed(run.author)
        if not feed.wanted:
            self._proven.report.left_out += len(run.compacts)
            return
        if not 1 <= run.first <= run.last <= MAX_SEQUENCE:
            self._proven.report.note_refusal(run.author, None, "sequence-invalid", "", len(run.compacts))
            return
        if feed.expected != feed.proven and not _is_plain(feed, run):
            self._deferred.append((run, message))
            self._deferred_bytes += sum([len(item.content) + 200 for item in run.compacts])
            if self._deferred_bytes > _MAX_DEFERRED_BYTES:
                self._settle()
            return
        self._place(feed, run, message)

    def _place(self, feed: FeedEnd, run: Run, message: Message | None) -> None:
        """Split a run into what is known, what continues the feed, and what has to wait."""
        proven = self._proven
        overlap = feed.expected - run.first + 1
        if overlap > 0:
            overlap = min(overlap, len(run.compacts))
            last, item = run.first + overlap - 1, run.compacts[overlap - 1]
            held = held_mark(proven.row(feed.id << SEQUENCE_BITS | last), item)
            if place_in_chain(feed.expected, feed.expected_key, last, None, mark(item), held) is Chain.KNOWN:
                proven.report.known += overlap
            else:
                refuse_contradiction(self._proven, feed, run, overlap, self._hmac_key)
            if overlap == len(run.compacts):
                return
            run = Run(run.author, run.first + overlap, None, run.compacts[overlap:])
            message = None
        if feed.forked:
            proven.report.note_refusal(feed.ref, run.first, Code.FORKED, "the feed is forked", len(run.compacts))
            return
        place = _place(feed, run)
        if place is Chain.GAP:
            self._place_waiting(feed, run, message)
        elif place is Chain.NEXT:
            self._enqueue(feed, run.first, feed.expected_key, run.compacts, message, waiting=False)
        else:
            refuse_other_end(self._proven, feed, run, self._hmac_key)

    def _place_waiting(self, feed: FeedEnd, run: Run, message: Message | None) -> None:
        """Let a run wait, but for what waits there already."""
        proven = self._proven
        previous, repeated = run.previous, 0
        for sequence, item in enumerate(run.compacts, run.first):
            there = proven.writer.waiting_row(feed.id << SEQUENCE_BITS | sequence)
            if there is None or there[2] != (previous or b""):
                break
            held = held_mark((*there[:2], *there[3:]), item)
            if (
                place_in_chain(feed.expected, feed.expected_key, sequence, previous, mark(item), held)
                is not Chain.KNOWN
            ):
                break
            previous = MessageRef(there[1])
            repeated += 1
        proven.report.known += repeated
        left = run.compacts[repeated:]
        if not left:
            return
        if previous is None:
            proven.report.note_refusal(
                feed.ref, run.first, "previous-invalid", "it names no message before it", len(left)
            )
            return
        self._enqueue(feed, run.first + repeated, previous, left, None if repeated else message, waiting=True)

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
            room = self._under_way.room
            items = compacts[at : at + room] if at or room < count else compacts
            before, begin = previous, first + at
            messages = (
                [message] if message is not None else feed.format.expand_run(feed.ref, begin, _ref(before), items)
            )
            if messages:
                at += len(messages)
                previous = messages[-1].key
                # Done before it is handed over: a batch may be written meanwhile and take the feed further.
                if not waiting and first + at - 1 > feed.expected:
                    feed.expected, feed.expected_key = first + at - 1, previous
                self._hand_over(feed, begin, before, messages, items, waiting=waiting)
            if len(messages) < len(items):
                self._refuse_invalid(feed, first + at, previous, items[len(messages)], count - at)
                return

    def _hand_over(
        self,
        feed: FeedEnd,
        first: int,
        previous: bytes,
        messages: Sequence[Message],
        compacts: Sequence[Compact],
        *,
        waiting: bool,
    ) -> None:
        """Put consecutive messages into the chunk."""
        self._proven.touch(feed)
        feed_format = feed.format
        checks = feed_format.signature_checks(messages, self._hmac_key)
        read_facts, foreign = feed_format.facts_reader(self._store.read_facts), feed_format.first_foreign_form
        rows: list[MessageRow] = []
        facts: list[tuple[int, Facts]] = []
        row_id = feed.id << SEQUENCE_BITS | first
        for message, item in zip(messages, compacts, strict=False):
            if item[0] >= foreign:
                item = feed_format.compact(message)
            rows.append((row_id, message[7], *item))
            fact = read_facts(message)
            if fact is not None:
                facts.append((row_id, fact))
            row_id += 1
        segment = Segment(feed, first, previous, rows, facts, waiting)
        if feed.ref == self._store.own:
            self._take_own(segment, checks)
            return
        if self._under_way.add(segment, checks):
            self._submit()

    def _take_own(self, segment: Segment, checks: Sequence[Check]) -> None:
        """Judge messages of the store's owner at once: genuine ones keep others out until they are written, no forged one does.

        The store notes that there are such messages before it has them, so a program that is killed does not forget them.
        """
        proven, me = self._proven, segment.feed.ref
        bad = check_signatures(checks).find(0)
        good = len(checks) if bad < 0 else bad
        if good and not proven.holds:
            key = MessageRef(segment.rows[good - 1][1])
            self._store.claims.note_claim(me, me, segment.first + good - 1, key)
            proven.hold()
        proven.note_bytes(sum([len(signed) for _, _, signed in checks]))
        proven.judge(segment, good)
        if proven.is_full:
            proven.write(self._busy())

    def _refuse_invalid(self, feed: FeedEnd, sequence: int, previous: bytes, item: Compact, count: int) -> None:
        """Refuse a message that expand refuses, and those that would have followed it."""
        try:
            feed.format.expand(feed.ref, sequence, _ref(previous), item)
            reason, detail = str(Code.CHAIN_BROKEN), ""
        except InvalidMessage as error:
            reason, detail = error.reason, error.detail
        self._proven.report.note_refusal(feed.ref, sequence, reason, detail)
        self._proven.report.note_refusal(
            feed.ref, sequence + 1, Code.CHAIN_BROKEN, "a message before it was refused", count - 1
        )

    # -- verdicts

    def _submit(self) -> None:
        """Hand the chunk over for checking, and take in what others have found meanwhile."""
        under_way = self._under_way
        under_way.hand_over()
        while under_way and self._judge(wait=under_way.is_much):
            pass
        if self._proven.is_full:
            self._proven.write(self._busy())

    def _settle(self) -> None:
        """Wait until nothing is being checked, and nothing is put off."""
        while True:
            self._submit()
            while self._under_way:
                self._judge(wait=True)
                if self._proven.is_full:
                    self._proven.write(self._busy())
            if not self._deferred:
                return
            deferred, self._deferred, self._deferred_bytes = self._deferred, [], 0
            for run, _ in deferred:
                self._proven.feed(run.author).expect_proven()  # nothing is being checked, so nothing is expected
            for run, message in deferred:
                self._add(run, message)

    def _judge(self, *, wait: bool) -> bool:
        """Take in the verdicts on the oldest chunk, if they are there."""
        found = self._under_way.take_verdicts(wait=wait)
        if found is None:
            return False
        self._proven.note_bytes(found.size)
        for segment, good in found.segments():
            self._proven.judge(segment, good)
        return True

    def _busy(self) -> Iterator[FeedRef]:
        """Yield the feeds that have messages under way."""
        for run, _ in self._deferred:
            yield run.author
        yield from self._under_way.feeds()


def _is_plain(feed: FeedEnd, run: Run) -> bool:
    """Say whether a run can be placed while messages before it are still being checked."""
    return _place(feed, run) in (Chain.NEXT, Chain.GAP)


def _place(feed: FeedEnd, run: Run) -> Chain:
    """Say how a run of which nothing is held stands to what is expected of its feed."""
    return place_in_chain(feed.expected, feed.expected_key, run.first, run.previous, None, None)


def _ref(key: bytes) -> MessageRef | None:
    return MessageRef(key) if key else None
