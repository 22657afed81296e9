"""What peers said they have: written into the store, and read from it when they come back."""

from __future__ import annotations

from collections.abc import Callable

from sneaker.net.background import BackgroundWork
from sneaker.planning.what_others_have import ClockSource, Statement, counted_on, is_questioned
from sneaker.refs import FeedRef
from sneaker.store.store import Store

__all__ = ["PeerClocks"]

# A known clock makes us skip feeds in which we were level. After a restored backup both sides would skip the same feeds
# wrongly, so after this many sessions everything is said once more.
_RESUMED_SESSIONS = 8


class PeerClocks:
    """The clocks of peers, for one node."""

    def __init__(self, me: FeedRef, store: Store, background: BackgroundWork, now_ms: Callable[[], int]) -> None:
        self._me = me
        self._store = store
        self._background = background
        self._now_ms = now_ms

    def begin_session(self, peer: FeedRef) -> dict[FeedRef, int]:
        """Return what a peer is known to have, -1 for feeds that it does not replicate; nothing if it is time to say all.

        Our own feed is never in it: whether others have more of it than we do is worth asking every time.
        """
        known = self._store.known_clocks.known(peer)
        clock: dict[FeedRef, int] = {}
        if not is_questioned(known) and self._store.known_clocks.resumed_sessions(peer) < _RESUMED_SESSIONS:
            notes = known.get(ClockSource.EBT)
            clock = {**counted_on(known), **dict.fromkeys(notes.declined if notes is not None else (), -1)}
            clock.pop(self._me, None)
        if clock or known:
            self._background.spawn(self._count_session(peer, resumed=bool(clock)))
        return clock

    async def _count_session(self, peer: FeedRef, *, resumed: bool) -> None:
        await self._background.with_store(lambda store: store.known_clocks.count_session(peer, resumed=resumed))

    async def save_notes(self, said: Statement) -> None:
        """Write down that a peer is here, and what it said; raises StoreError."""
        now_ms = self._now_ms()
        await self._background.with_store(
            lambda store: store.known_clocks.learn_clocks([said], now_ms=now_ms, met=True)
        )

    async def save_claim(self, peer: FeedRef, sequence: int) -> None:
        """Write down how far a peer says that our own feed goes; raises StoreError."""
        await self._background.with_store(lambda store: store.claims.note_claim(self._me, peer, sequence))
