"""What a peer announced and does not send by EBT: which feeds to ask it for by createHistoryStream, and when.

A peer may say that it has more of a feed than we do, be asked for it, and never send it.  ssb-server 16 remembers how
far everybody was and believes nothing lower: when we come back with less (a lost store, an older backup) it waits for
us to grow.  A note of -1 before our real one makes it forget that; but it says for a moment that we do not replicate
the feed, which others remember, and helps against this one reason only.  createHistoryStream is served by all, asks for
exactly what is missing, and leaves to EBT what EBT does.

A slow peer is not a silent one: while it sends something else by EBT, it gets far more time and one such call at once.

Time comes in as seconds of any monotonic clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice

from sneaker.refs import FeedRef

__all__ = ["PATIENCE_S", "OverdueFeeds"]

# Longer than the three seconds after which another peer is asked: that one may have it, and send it by EBT.
PATIENCE_S = 4.0
# With a peer that sends other feeds: it may only be slow.
_LONG_PATIENCE_S = 20.0

# How many calls may be open at once.
_MAX_CALLS = 8
_MAX_CALLS_OF_A_BUSY_PEER = 1

# How often one feed is asked for in vain on a connection, and how long we wait before the second time; then longer.
_MAX_TRIES = 3
_RETRY_S = 10.0
_RETRY_FACTOR = 3

# A peer that gave nothing so many times in a row is not asked any more: it says what it pleases.
_MAX_IN_VAIN = 16

# How often we look through the announcements at most, and how many feeds we pick out each time.
_LOOK_S = 1.0
_PICKED = 64


class OverdueFeeds:
    """For one connection: what its peer announced, and when that should have come."""

    def __init__(self) -> None:
        self._announced: dict[FeedRef, float] = {}
        self._picked: deque[FeedRef] = deque()
        self._look_at = 0.0
        self._calls = 0
        self._tries: dict[FeedRef, tuple[int, float]] = {}
        self._in_vain = 0
        self._refused = False

    def announced(self, feed: FeedRef, now: float) -> None:
        """The peer has more of a feed than we do."""
        self._announced.setdefault(feed, now)

    def any_missing(self, is_missing: Callable[[FeedRef], bool]) -> bool:
        """Whether something announced is still missing; forgets what is not."""
        over = []
        for feed in self._announced:
            if is_missing(feed):
                break
            over.append(feed)
        self._forget(over)
        return bool(self._announced)

    def next_overdue(
        self,
        now: float,
        *,
        heard_at: float,
        first: FeedRef | None,
        is_missing: Callable[[FeedRef], bool],
        moved_at: Callable[[FeedRef], float | None],
    ) -> FeedRef | None:
        """Return a feed to ask for now, or None; ``fetch_ended`` has to be called for it.

        ``heard_at``: when the peer last sent a message by EBT; ``first`` goes before all others; ``is_missing`` says
        whether the peer still has more of a feed, ``moved_at`` when something of it last came from anybody, None for a
        feed that is on its way now.
        """
        quiet = now - heard_at >= PATIENCE_S
        if self._refused or self._calls >= (_MAX_CALLS if quiet else _MAX_CALLS_OF_A_BUSY_PEER):
            return None
        before = now - (PATIENCE_S if quiet else _LONG_PATIENCE_S)

        def is_due(feed: FeedRef) -> bool:
            since = self._announced.get(feed)
            if since is None or since > before or self._tries.get(feed, (0, now))[1] > now:
                return False
            moved = moved_at(feed)
            return moved is not None and moved <= before

        if not self._picked and now >= self._look_at:
            self._look_at = now + _LOOK_S
            self._forget([feed for feed in self._announced if not is_missing(feed)])
            if first is not None and is_due(first):
                self._picked.append(first)
            self._picked.extend(islice((feed for feed in self._announced if feed != first and is_due(feed)), _PICKED))
        while self._picked:
            feed = self._picked.popleft()
            if is_missing(feed) and is_due(feed):
                self._calls += 1
                return feed
        return None

    def _forget(self, feeds: Iterable[FeedRef]) -> None:
        for feed in feeds:
            del self._announced[feed]

    def fetch_ended(
        self, feed: FeedRef, now: float, *, moved: bool, error: bool = False, refused: bool = False
    ) -> None:
        """The call for a feed is over, and what it gave is committed.

        ``moved``: we have more of it now; ``error``: the peer ended it with one; ``refused``: it does not serve such calls.
        """
        self._calls -= 1
        self._refused = self._refused or refused
        if moved:
            self._in_vain = 0
            self._tries.pop(feed, None)
            return
        self._in_vain += 1
        self._refused = self._refused or self._in_vain >= _MAX_IN_VAIN
        count = self._tries.get(feed, (0, 0.0))[0] + 1
        wait = float("inf") if error or count >= _MAX_TRIES else _RETRY_S * _RETRY_FACTOR ** (count - 1)
        self._tries[feed] = (count, now + wait)
