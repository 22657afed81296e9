"""The way of messages from all connections into the store: one thread in front of the one door in.

It takes what has gathered, has it checked and committed, and only then says so.  While there is nothing to do it holds
no lock, so that ``sneaker publish`` and others can write; while there is much, it lets go now and then.  A single
message is committed at once, under load thousands go into one transaction.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol

from sneaker.caps import Caps
from sneaker.errors import SneakerError, StoreLocked
from sneaker.exchange.ingest import Ingest
from sneaker.exchange.reports import Refusal
from sneaker.feed.compact import Compact
from sneaker.feed.quick import quick_look
from sneaker.feed.run import Run
from sneaker.refs import FeedRef
from sneaker.store.base import Store

__all__ = ["MAX_WAITING_BYTES", "Intake", "Offer", "Outcome", "Source"]

# Bytes of all connections together that may wait for the store: some seconds of work for a slow machine.
MAX_WAITING_BYTES = 16 * 1024 * 1024

# Under load: a transaction at least so often, so that what came is passed on soon,
_COMMIT_AFTER_S = 0.2
_COMMIT_AFTER = 4000
# and the lock let go so often, for so long that somebody who waits for it (and asks every 20 ms) gets it.
_HOLD_S = 1.5
_PAUSE_S = 0.03
# How long to wait for more before the lock is let go.
_LINGER_S = 0.01
# How long another process may hold the lock (a large import) before we ask again.
_RETRY_S = 0.5


class Source(Protocol):
    """Who offers messages."""

    def settled(self, offers: list[Offer], before: Mapping[FeedRef, int], outcome: Outcome) -> None:
        """Hear what became of offers; ``before`` is how far their feeds were.

        Those beyond ``outcome.heads`` were refused; ``outcome.reason`` says why.
        """


class Offer(NamedTuple):
    """A message from a connection; ``source`` wants to hear what became of it."""

    source: Source
    feed: FeedRef
    sequence: int
    raw: bytes


class Outcome(NamedTuple):
    """What a commit did: ``offers`` are dealt with, ``heads`` is how far each of their feeds is now.

    ``accepted`` messages are new; ``refusals`` say why some are not in their feeds; ``forked`` feeds take nothing more.
    """

    offers: list[Offer]
    heads: dict[FeedRef, int]
    accepted: int
    refusals: tuple[Refusal, ...] = ()
    forked: frozenset[FeedRef] = frozenset()

    def reason(self, feed: FeedRef) -> str:
        """Return why messages of a feed were refused, "" if that is not known."""
        named = [refusal for refusal in self.refusals if refusal.feed in (feed, None)]
        return f"{named[0].code}: {named[0].detail}" if named else ""


class Intake:
    """The thread, and what the event loop sees of it; ``on_outcome`` and ``on_failure`` are called in the thread."""

    def __init__(
        self,
        store: Store,
        caps: Caps,
        *,
        now_ms: Callable[[], int],
        on_outcome: Callable[[Outcome], None],
        on_failure: Callable[[SneakerError], None],
    ) -> None:
        """``on_failure`` hears why the store cannot be written (a full disk); the thread has ended then."""
        self._store = store
        self._caps = caps
        self._now_ms = now_ms
        self._on_outcome = on_outcome
        self._on_failure = on_failure
        self._queue: deque[Offer] = deque()
        # What came since the loop last had nothing better to do: one wake-up of the thread for a hundred messages.
        self._gathered: list[Offer] = []
        self._changed = threading.Condition()
        self._stopping = False
        self.waiting_bytes = 0
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)

    def start(self) -> None:
        """Begin; ``offer`` and ``reported`` are to be called in the event loop that runs now."""
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

    def offer(self, offer: Offer) -> None:
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

    def reported(self, outcome: Outcome) -> None:
        """Say that an outcome has been dealt with."""
        self.waiting_bytes -= sum([len(offer.raw) for offer in outcome.offers])

    # -- in the thread

    def _run(self) -> None:
        try:
            while batch := self._take(None):
                started = time.monotonic()
                batch = self._work(batch)
                if batch:  # somebody else is writing
                    with self._changed:
                        if self._stopping:
                            return
                        self._queue.extendleft(reversed(batch))
                    time.sleep(_RETRY_S)
                elif time.monotonic() - started > _HOLD_S:
                    time.sleep(_PAUSE_S)
        except SneakerError as error:
            self._on_failure(error)
        except Exception as error:
            self._on_failure(SneakerError(f"the store took no more messages: {type(error).__name__}: {error}"))

    def _take(self, timeout_s: float | None) -> list[Offer]:
        """Return what has gathered; waits until there is something, for so long, or (None) for ever."""
        with self._changed:
            if not self._queue:
                self._changed.wait_for(lambda: self._queue or self._stopping, timeout_s)
            taken = list(self._queue)
            self._queue.clear()
            return taken

    def _work(self, batch: list[Offer]) -> list[Offer]:
        """Ingest a batch, and what comes meanwhile; returns what could not be, because somebody else writes."""
        deadline = time.monotonic() + _HOLD_S
        accepted = 0
        try:
            with Ingest(self._store, caps=self._caps, now_ms=self._now_ms) as ingest:
                while batch:
                    heads = self._ingest(ingest, batch)
                    before, accepted = accepted, ingest.counts().accepted
                    if any(heads[offer.feed] < offer.sequence for offer in batch):
                        break  # something was refused: why is said at the end
                    self._on_outcome(Outcome(batch, heads, accepted - before))
                    batch = self._take(_LINGER_S) if time.monotonic() < deadline else []
        except StoreLocked:
            return batch
        if batch:
            report = ingest.close()
            self._on_outcome(Outcome(batch, heads, accepted - before, report.refusals, report.feeds_forked))
        return []

    def _ingest(self, ingest: Ingest, batch: list[Offer]) -> dict[FeedRef, int]:
        """Take in a batch, which grows by what comes until it is time to commit; returns how far its feeds are then."""
        deadline = time.monotonic() + _COMMIT_AFTER_S
        at = 0
        while at < len(batch):
            _add_quickly(ingest, batch[at:])
            at = len(batch)
            if at < _COMMIT_AFTER and time.monotonic() < deadline:
                batch.extend(self._take(0))
        ingest.flush()
        heads = self._heads({offer.feed for offer in batch})
        doubtful = {offer.feed for offer in batch if heads[offer.feed] < offer.sequence}
        if doubtful:
            # Before anything is called invalid it is read with all care: a quick look may see what is not there.
            for offer in batch:
                if offer.feed in doubtful:
                    ingest.add_json(offer.raw)
            ingest.flush()
            heads.update(self._heads(doubtful))
        return heads

    def _heads(self, feeds: Iterable[FeedRef]) -> dict[FeedRef, int]:
        heads: dict[FeedRef, int] = {}
        for feed in feeds:
            head = self._store.head(feed)
            heads[feed] = head.sequence if head is not None else 0
        return heads


def _add_quickly(ingest: Ingest, offers: list[Offer]) -> None:
    """Hand over messages in runs, as far as they look like what they should be.

    Parsing, printing and comparing one message after the other costs 35 us each, this 20 us; the check of the signature
    is over what was made of a message, so nothing that its author did not sign can get in this way.
    """
    author, first, previous = FeedRef(bytes(32)), 0, None
    run: list[Compact] = []
    for offer in sorted(offers, key=_feed_of):
        quick = quick_look(offer.raw)
        if quick is None:
            ingest.add_run(Run(author, first, previous, run))
            run = []
            ingest.add_json(offer.raw)
        elif run and quick.author == author and quick.sequence == first + len(run):
            run.append(quick.compact)
        else:
            ingest.add_run(Run(author, first, previous, run))
            author, first, previous = quick.author, quick.sequence, quick.previous
            run = [quick.compact]
    ingest.add_run(Run(author, first, previous, run))


def _feed_of(offer: Offer) -> FeedRef:
    return offer.feed
