"""What the store remembers of other machines: who they are and what they said they have.

One place for what came over EBT, from cards and from bundles.  All of it is what somebody said, and may be wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sneaker.limits import MAX_CLOCK_FEEDS, MAX_SEQUENCE
from sneaker.refs import FeedRef
from sneaker.store.claims import OwnClaims
from sneaker.store.database import Database
from sneaker.store.rows import Note, Peer, PeerKind

__all__ = ["PeerTables"]


class PeerTables:
    """The part of the store that deals with other machines."""

    def __init__(self, database: Database, claims: OwnClaims) -> None:
        self._database = database
        self._claims = claims

    def set_peer(self, peer: Peer) -> None:
        """Remember a peer, or update what is known of it.

        The counter and times never go back: cards arrive in any order, and an old one must not undo a newer one.
        """
        with self._database.transaction() as connection:
            self._peer_id(peer.ref, peer.kind)
            connection.execute(
                "UPDATE peer SET kind = ?, counter = max(counter, ?), time_ms = max(time_ms, ?),"
                " met_at_ms = max(met_at_ms, ?) WHERE ref = ?",
                (str(peer.kind), peer.counter, peer.time_ms, peer.met_at_ms, peer.ref),
            )

    def known_peers(self) -> list[Peer]:
        """Return the peers, those met last first."""
        rows = self._database.all(
            "SELECT ref, kind, counter, time_ms, met_at_ms FROM peer ORDER BY met_at_ms DESC, ref"
        )
        return [Peer(FeedRef(ref), PeerKind(kind), *numbers) for ref, kind, *numbers in rows]

    def peer_clock(self, peer: FeedRef) -> dict[FeedRef, Note]:
        """Return what a peer said it has; empty if it said nothing."""
        rows = self._database.all(
            "SELECT feed, sequence, replicate FROM peer_clock WHERE peer = (SELECT id FROM peer WHERE ref = ?)", peer
        )
        return {FeedRef(feed): Note(sequence, bool(replicate)) for feed, sequence, replicate in rows}

    def update_peer_clock(self, peer: FeedRef, notes: Mapping[FeedRef, Note]) -> None:
        """Take over new notes; feeds not mentioned keep theirs.  At most MAX_CLOCK_FEEDS are kept for a peer.

        A sequence may go down: what a peer says is how things are, even if it has lost data.
        """
        with self._database.transaction():
            peer_id = self._peer_id(peer)
            room = MAX_CLOCK_FEEDS - int(
                self._database.first("SELECT count(*) FROM peer_clock WHERE peer = ?", peer_id)[0]
            )
            chosen: list[tuple[FeedRef, Note]] = []
            if len(notes) <= room:
                chosen.extend(notes.items())
            else:
                for feed, note in notes.items():
                    known = self._database.first("SELECT 1 FROM peer_clock WHERE peer = ? AND feed = ?", peer_id, feed)
                    if known is None and room <= 0:
                        continue
                    room -= known is None
                    chosen.append((feed, note))
            self._write_notes(peer_id, chosen)
            self._claims.write_note(peer, notes)

    def _peer_id(self, ref: FeedRef, kind: PeerKind = PeerKind.EBT) -> int:
        self._database.connection.execute(
            "INSERT OR IGNORE INTO peer (ref, kind, counter, time_ms, met_at_ms) VALUES (?, ?, 0, 0, 0)",
            (ref, str(kind)),
        )
        return int(self._database.first("SELECT id FROM peer WHERE ref = ?", ref)[0])

    def _write_notes(self, peer_id: int, notes: Iterable[tuple[FeedRef, Note]]) -> None:
        self._database.connection.executemany(
            "INSERT OR REPLACE INTO peer_clock (peer, feed, sequence, replicate) VALUES (?, ?, ?, ?)",
            (
                (peer_id, feed, max(0, min(note.sequence, MAX_SEQUENCE)), int(note.replicate))
                for feed, note in sorted(notes)
            ),
        )
