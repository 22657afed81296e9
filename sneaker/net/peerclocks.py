"""What peers said they have: written into the clock store, and read from it when they come back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sneaker.errors import SneakerError
from sneaker.refs import FeedRef
from sneaker.store.rows import Note, Peer, PeerKind
from sneaker.store.store import Store

if TYPE_CHECKING:
    from sneaker.net.meeting import Meeting
    from sneaker.net.node import Node

__all__ = ["PeerClocks"]

# A saved clock makes us skip feeds in which we were level. After a restored backup both sides would skip the same feeds
# wrongly, so clocks older than this are not believed.
_CLOCK_MAX_AGE_MS = 24 * 3600 * 1000


class PeerClocks:
    """The clocks of peers, for one node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def saved(self, peer: FeedRef) -> dict[FeedRef, int]:
        """Return what a peer said it had, here or on a card, if that was lately; -1 for feeds that it does not replicate.

        Our own feed is never in it: whether others have more of it than we do is worth asking every time.
        """
        node = self._node
        record = next((record for record in node.store.peers.known_peers() if record.ref == peer), None)
        if record is None:
            return {}
        now_ms = node.now_ms()
        # When a card was written its author says; one from the future would stay new for long.
        said_at_ms = max(record.met_at_ms, record.time_ms if record.time_ms <= now_ms else 0)
        if now_ms - said_at_ms > _CLOCK_MAX_AGE_MS:
            return {}
        notes = node.store.peers.peer_clock(peer)
        return {feed: note.sequence if note.replicate else -1 for feed, note in notes.items() if feed != node.me}

    async def save(self, peer: FeedRef, notes: Mapping[FeedRef, Note]) -> None:
        """Write down what a peer said; raises StoreError."""
        record = Peer(peer, PeerKind.EBT, met_at_ms=self._node.now_ms())

        def write(store: Store) -> None:
            store.peers.set_peer(record)
            if notes:
                store.peers.update_peer_clock(peer, notes)

        await self._node.in_background(write)

    async def claim(self, peer: FeedRef, sequence: int) -> None:
        """Write down how far a peer says that our own feed goes; raises StoreError."""
        me = self._node.me
        await self._node.in_background(lambda store: store.claims.note_claim(me, peer, sequence))

    async def save_of(self, meeting: Meeting) -> None:
        """Write down what the peer of a meeting said since the last time, if it is somebody to remember."""
        if meeting.peer == self._node.me or not (meeting.is_near or meeting.connection.dialled):
            return
        try:
            await self.save(meeting.peer, meeting.unsaved_notes())
        except SneakerError as error:
            self._node.say(error.message)
