"""The report of an ingest while it goes on: what became of messages is noted here as it happens."""

from __future__ import annotations

from sneaker.ingest.reports import IngestCounts, IngestReport, Refusal
from sneaker.refs import FeedRef

__all__ = ["RunningReport"]

# Refusals that are kept one by one; of more only the number is known.
_MAX_REFUSALS = 1000


class RunningReport:
    """What has happened so far.  What is accepted, and what waits, is noted once it is on the disk."""

    def __init__(self) -> None:
        #: Messages that were brought, whatever became of them.
        self.read = 0
        #: Messages that are in their feeds now.
        self.accepted = 0
        #: Messages that were there before.
        self.known = 0
        #: Messages of feeds that are not wanted.
        self.left_out = 0
        self._refused = 0
        self._refusals: list[Refusal] = []
        # By feed, how many more of its messages wait than in the beginning; and the sums of what is more and what is less.
        self._room: dict[int, int] = {}
        self._waiting = self._waited = 0
        self._advanced: set[FeedRef] = set()
        self._new: set[FeedRef] = set()
        self._forked: set[FeedRef] = set()

    def note_refusal(self, feed: FeedRef | None, sequence: int | None, code: str, detail: str, count: int = 1) -> None:
        """Note what was refused: ``count`` messages from ``sequence`` on."""
        self._refused += count
        if count and len(self._refusals) < _MAX_REFUSALS:
            if count > 1:
                detail = f"{detail} ({count} messages from here on)" if detail else f"{count} messages from here on"
            self._refusals.append(Refusal(feed, sequence, str(code), detail))

    def note_advance(self, feed: FeedRef, before: int) -> None:
        """Note that a feed got longer; it was at sequence ``before``."""
        if before == 0:
            self._new.add(feed)
        self._advanced.add(feed)

    def note_fork(self, feed: FeedRef) -> None:
        """Note that a feed turned out to be forked."""
        self._forked.add(feed)

    def note_waiting(self, feed_id: int, change: int) -> None:
        """Note that ``change`` more messages of a feed wait in the store, or fewer if it is negative."""
        before = self._room.get(feed_id, 0)
        after = self._room[feed_id] = before + change
        self._waiting += max(0, after) - max(0, before)
        self._waited += max(0, -after) - max(0, -before)

    def counts(self) -> IngestCounts:
        """Return the counts up to now."""
        return IngestCounts(
            self.accepted, self.known, self._refused, self._waiting, self.left_out, self._waited, self.read
        )

    def so_far(self) -> IngestReport:
        """Return all that has happened up to now."""
        return IngestReport(
            *self.counts(),
            feeds_advanced=frozenset(self._advanced),
            feeds_new=frozenset(self._new),
            feeds_forked=frozenset(self._forked),
            refusals=tuple(self._refusals),
        )
