"""What peers said they have: written into the clock store, and read from it when they come back."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sneaker.net.background import BackgroundWork
from sneaker.refs import FeedRef
from sneaker.store.rows import Note, Peer, PeerKind
from sneaker.store.store import Store

__all__ = ["PeerClocks"]

# A saved clock makes us skip feeds in which we were level. After a restored backup both sides would skip the same feeds
# wrongly, so clocks older than this are not believed.
_CLOCK_MAX_AGE_MS = 24 * 3600 * 1000


class PeerClocks:
    """The clocks of peers, for one node."""

    def __init__(self, me: FeedRef, store: Store, background: BackgroundWork, now_ms: Callable[[], int]) -> None:
        self._me = me
        self._store = store
        self._background = background
        self._now_ms = now_ms

    def saved_clock(self, peer: FeedRef) -> dict[FeedRef, int]:
        """Return what a peer said it had, here or on a card, if that was lately; -1 for feeds that it does not replicate.

        Our own feed is never in it: whether others have more of it than we do is worth asking every time.
        """
        record = next((record for record in self._store.peers.known_peers() if record.ref == peer), None)
        if record is None:
            return {}
        now_ms = self._now_ms()
        # When a card was written its author says; one from the future would stay new for long.
        said_at_ms = max(record.met_at_ms, record.time_ms if record.time_ms <= now_ms else 0)
        if now_ms - said_at_ms > _CLOCK_MAX_AGE_MS:
            return {}
        notes = self._store.peers.peer_clock(peer)
        return {feed: note.sequence if note.replicate else -1 for feed, note in notes.items() if feed != self._me}

    async def save_notes(self, peer: FeedRef, notes: Mapping[FeedRef, Note]) -> None:
        """Write down that a peer is here, and what it said; raises StoreError."""
        record = Peer(peer, PeerKind.EBT, met_at_ms=self._now_ms())

        def write(store: Store) -> None:
            store.peers.set_peer(record)
            if notes:
                store.peers.update_peer_clock(peer, notes)

        await self._background.with_store(write)

    async def save_claim(self, peer: FeedRef, sequence: int) -> None:
        """Write down how far a peer says that our own feed goes; raises StoreError."""
        await self._background.with_store(lambda store: store.claims.note_claim(self._me, peer, sequence))
