"""Messages of all connections are gathered here and handed to the store: one thread in front of the one door in.

It takes what has gathered, has it checked and committed, and only then says so.  While there is nothing to do it holds
no lock, so that ``sneaker publish`` and others can write; while there is much, it lets go now and then.  A single
message is committed at once, under load thousands go into one transaction.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from operator import attrgetter
from typing import NamedTuple, Protocol

from sneaker.caps import Caps
from sneaker.errors import InvalidMessage, SneakerError, StoreLocked
from sneaker.feed.classic.quick_parse import quick_message
from sneaker.feed.classic.validate import parse_message
from sneaker.feed.message import Compact, Message
from sneaker.ingest.ingest import Ingest
from sneaker.ingest.reports import Code, Refusal
from sneaker.net.peer_session import PeerSession
from sneaker.refs import FeedRef
from sneaker.signatures.pool import PROCESSES_FROM, Verifier
from sneaker.store.store import Store

__all__ = ["MAX_WAITING_BYTES", "MessageIntake", "Offer", "Outcome", "Source"]

# Bytes of all connections together that may wait for the store: some seconds of work for a slow machine.
MAX_WAITING_BYTES = 16 * 1024 * 1024

# Under load: a transaction at least so often, so that what came is passed on soon; on a slow disk so rarely that it has
# four fifths of the time for other things.
_COMMIT_AFTER_S = 0.3
_COMMIT_SHARE = 4
# The lock is let go so often, for so long that somebody who waits for it (and asks every 20 ms) gets it,
_HOLD_S = 1.5
_PAUSE_S = 0.03
# and when nothing has come for so long.
_LINGER_S = 0.03
# How long we wait for verdicts before we look whether there are new messages.
_POLL_S = 0.002
# How long the processes that check signatures are kept when nothing comes: it takes 0.1 s to start them.
_KEEP_WORKERS_S = 5.0
# How long another process may hold the lock (a large import) before we ask again.
_RETRY_S = 0.5


class Source(Protocol):
    """Who offers messages."""

    #: Where they come from: what goes wrong with them is the end of it.
    session: PeerSession

    def offers_settled(self, offers: list[Offer], outcome: Outcome) -> None:
        """Hear what became of offers; those beyond ``outcome.heads`` were refused, and ``outcome.reason`` says why."""


class Offer(NamedTuple):
    """A message from a connection; ``source`` wants to hear what became of it."""

    source: Source
    feed: FeedRef
    sequence: int
    raw: bytes


class Outcome(NamedTuple):
    """What a commit did: ``offers`` are dealt with; how far their feeds were (``before``) and are now (``heads``).

    ``refusals`` say why some are not in their feeds; ``forked`` feeds take nothing more.
    """

    offers: list[Offer]
    before: dict[FeedRef, int]
    heads: dict[FeedRef, int]
    refusals: tuple[Refusal, ...] = ()
    forked: frozenset[FeedRef] = frozenset()

    def reason(self, feed: FeedRef) -> str:
        """Return why messages of a feed were refused, "" if that is not known."""
        named = [refusal for refusal in self.refusals if refusal.feed in (feed, None)]
        return f"{named[0].code}: {named[0].detail}" if named else ""


class MessageIntake:
    """The thread, and what the event loop sees of it; ``on_outcome`` and the like are called in the thread."""

    def __init__(
        self,
        store: Store,
        caps: Caps,
        *,
        wanted: Callable[[FeedRef], bool],
        now_ms: Callable[[], int],
        on_outcome: Callable[[Outcome], None],
        on_bug: Callable[[list[Offer], Exception], None],
        on_failure: Callable[[SneakerError], None],
    ) -> None:
        """``wanted`` says, in the thread, of which feeds messages are taken.

        ``on_outcome`` hears what each commit did.  ``on_bug`` hears which offers of one source could not be dealt with, and
        are dropped.  ``on_failure`` hears why the store cannot be written (a full disk); the thread has ended then.
        """
        self._store = store
        self._caps = caps
        self._wanted = wanted
        self._now_ms = now_ms
        self._on_outcome = on_outcome
        self._on_bug = on_bug
        self._on_failure = on_failure
        self._queue: deque[Offer] = deque()
        # What came since the loop last had nothing better to do: one wake-up of the thread for a hundred messages.
        self._gathered: list[Offer] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._much_is_promised = False
        self.waiting_bytes = 0
        self._verifier = Verifier()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)

    def start(self) -> None:
        """Begin; ``offer_message`` and ``outcome_dealt_with`` are to be called in the event loop that runs now."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """Commit what has been offered, and end; to be called in another thread, or when the loop may wait."""
        self._hand_over()
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    @property
    def is_full(self) -> bool:
        """Whether connections should not be read until more is committed."""
        return self.waiting_bytes >= MAX_WAITING_BYTES

    @property
    def is_idle(self) -> bool:
        """Whether everything offered is committed and reported."""
        return self.waiting_bytes == 0

    def expect_messages(self, count: int) -> None:
        """Hear how many messages somebody has promised; for many, the processes that check signatures are started now."""
        if count >= PROCESSES_FROM:
            with self._changed:
                self._much_is_promised = True
                self._changed.notify()

    def offer_message(self, offer: Offer) -> None:
        """Hand over a message; returns at once."""
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append(offer)
        self.waiting_bytes += len(offer.raw)

    def _hand_over(self) -> None:
        gathered, self._gathered = self._gathered, []
        with self._changed:
            self._queue.extend(gathered)
            self._changed.notify()

    def outcome_dealt_with(self, outcome: Outcome) -> None:
        """Say that an outcome has been dealt with."""
        self.waiting_bytes -= sum([len(offer.raw) for offer in outcome.offers])

    # -- in the thread

    def _run(self) -> None:
        try:
            while (batch := self._take(_KEEP_WORKERS_S)) or not self._stopping:
                if self._much_is_promised:
                    self._much_is_promised = False
                    self._verifier.prepare()
                elif not batch:
                    self._verifier.close()
                    self._verifier = Verifier()
                    self._take_nothing()
                if batch:
                    self._work(batch)
        except SneakerError as error:
            self._on_failure(error)
        except Exception as error:
            self._on_failure(SneakerError(f"the store took no more messages: {type(error).__name__}: {error}"))
        finally:
            self._verifier.close()

    def _wait(self, timeout_s: float | None) -> None:
        self._changed.wait_for(lambda: self._queue or self._stopping or self._much_is_promised, timeout_s)

    def _take_nothing(self) -> None:
        """Wait until there is something, for as long as it takes."""
        with self._changed:
            self._wait(None)

    def _take(self, timeout_s: float) -> list[Offer]:
        """Return what has gathered; waits until there is something, for so long."""
        with self._changed:
            if not self._queue:
                self._wait(timeout_s)
            taken = list(self._queue)
            self._queue.clear()
            return taken

    def _work(self, batch: list[Offer]) -> None:
        """Ingest a batch, and what comes meanwhile; after a bug, what each source offered by itself."""
        deadline = time.monotonic() + _HOLD_S
        pending: list[Offer] = []
        try:
            with Ingest(
                self._store,
                caps=self._caps,
                wanted=self._wanted,
                verifier=self._verifier,
                now_ms=self._now_ms,
                holds=True,
            ) as ingest:
                self._take_in_while_locked(_LockedBatch(ingest, self._store, pending), batch, deadline)
        except StoreLocked:  # another process is writing
            with self._changed:
                self._queue.extendleft(reversed(batch))
                if self._changed.wait_for(lambda: self._stopping, _RETRY_S):
                    self._queue.clear()
        except SneakerError:
            raise
        except Exception as error:
            self._verifier.close()
            self._verifier = Verifier()
            self._isolate(pending or batch, error)
        else:
            if time.monotonic() >= deadline:
                time.sleep(_PAUSE_S)

    def _isolate(self, offers: list[Offer], error: Exception) -> None:
        """Find out whose offers cannot be dealt with."""
        by_source: dict[Source, list[Offer]] = {}
        for offer in offers:
            by_source.setdefault(offer.source, []).append(offer)
        if len(by_source) == 1:
            self._on_bug(offers, error)
            return
        for some in by_source.values():
            self._work(some)

    def _take_in_while_locked(self, locked: _LockedBatch, offers: list[Offer], deadline: float) -> None:
        """Take in offers for as long as there are any, but not longer than the lock may be held."""
        while True:
            if offers:
                locked.add_offers(offers)
            in_time = time.monotonic() < deadline
            offers = self._take(0) if in_time else []
            # While some messages are being checked, others may come in time to be checked next, so that nobody stands still.
            goes_on = bool(offers) or (in_time and locked.poll(_POLL_S))
            if goes_on and not locked.is_commit_due:
                continue
            outcome = locked.settle(finish=not goes_on)
            self._on_outcome(outcome)
            if outcome.refusals:
                return  # the next batch has an account of its own
            if not goes_on:
                offers = self._take(_LINGER_S) if in_time else []
                if not offers:
                    return


class _LockedBatch:
    """The time for which the store's lock is held: which offers are taken in and not reported, how far feeds were."""

    def __init__(self, ingest: Ingest, store: Store, pending: list[Offer]) -> None:
        """``pending`` has, at any time, what was taken in and is not reported."""
        self._pending = pending
        self._ingest = ingest
        self._store = store
        self._heads: dict[FeedRef, int] = {}
        self._commit_at = time.monotonic() + _COMMIT_AFTER_S

    @property
    def is_commit_due(self) -> bool:
        return time.monotonic() >= self._commit_at

    def add_offers(self, offers: list[Offer]) -> None:
        self._pending += offers
        for feed in {offer.feed for offer in offers}.difference(self._heads):
            self._heads[feed] = self._head(feed)
        _add_quickly(self._ingest, offers)

    def poll(self, timeout_s: float) -> bool:
        return self._ingest.poll(timeout_s)

    def settle(self, *, finish: bool) -> Outcome:
        """Commit what is proven by now, or with ``finish`` everything, and say what became of it."""
        started = time.monotonic()
        if finish:
            self._ingest.flush()
        else:
            self._ingest.commit()
        now = time.monotonic()
        self._commit_at = now + max(_COMMIT_AFTER_S, _COMMIT_SHARE * (now - started))
        before = {offer.feed: self._heads[offer.feed] for offer in self._pending}
        heads = {feed: self._head(feed) for feed in before}
        self._heads.update(heads)
        done = [offer for offer in self._pending if offer.sequence <= heads[offer.feed]]
        rest = [offer for offer in self._pending if offer.sequence > heads[offer.feed]]
        if finish and rest:  # refused
            report = self._ingest.report()
            self._pending.clear()
            return Outcome(done + rest, before, heads, report.refusals, report.feeds_forked)
        self._pending[:] = rest
        return Outcome(done, before, heads)

    def _head(self, feed: FeedRef) -> int:
        head = self._store.head(feed)
        return head.sequence if head is not None else 0


def _add_quickly(ingest: Ingest, offers: list[Offer]) -> None:
    """Hand over messages, consecutive ones of a feed together."""
    messages: list[Message] = []
    compacts: list[Compact] = []
    for offer in sorted(offers, key=attrgetter("feed")):
        quick = quick_message(offer.raw)
        try:
            message = parse_message(offer.raw) if quick is None else quick[0]
            if message.author != offer.feed or message.sequence != offer.sequence:
                # The connection looked at the offer's place: whether that feed is asked for, and blocked.
                raise InvalidMessage(Code.PLACE_MISMATCH, "it is not the message that it was offered as")
        except InvalidMessage as error:
            ingest.note_refusal(offer.feed, offer.sequence, error.reason, error.detail)
            continue
        if messages and (
            quick is None or message.author != messages[0].author or message.sequence != messages[-1].sequence + 1
        ):
            ingest.add_messages(messages, compacts)
            messages, compacts = [], []
        if quick is None:
            ingest.add_message(message)
        else:
            messages.append(message)
            compacts.append(quick[1])
    if messages:
        ingest.add_messages(messages, compacts)
