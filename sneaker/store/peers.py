"""The tables about other machines, in SQLite: who they are and what they said they have.

One place for what came over EBT, from cards and from bundles.  All of it is hearsay.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from sneaker.limits import MAX_CLOCK_FEEDS, MAX_SEQUENCE
from sneaker.refs import FeedRef, MessageRef
from sneaker.store.claims import MAX_CLAIMS, may_be_wrong, superfluous, weigh, write_claim
from sneaker.store.database import store_errors, transaction
from sneaker.store.rows import SEQUENCE_BITS, Claim, Note, OwnKeyElsewhere, Peer, PeerKind

__all__ = ["PeerTables"]

# Addresses of machines with our secret that are told apart: one moves about.
_MAX_HOSTS = 20
# Handshakes with our own key that may be under way at once.
_MAX_OPENINGS = 50


class PeerTables(ABC):
    """The part of ``SqliteStore`` that deals with peers, and its way of asking SQLite."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._connection = connection
        #: The identity this store is kept for: what others claim to have of its feed is remembered for good.
        self.own: FeedRef | None = None
        self._writing = threading.Lock()

    def set_peer(self, peer: Peer) -> None:
        """Remember a peer, or update what is known of it.

        The counter and times never go back: cards arrive in any order, and an old one must not undo a newer one.
        """
        with self._transaction():
            self._peer_id(peer.ref, peer.kind)
            self._connection.execute(
                "UPDATE peer SET kind = ?, counter = max(counter, ?), time_ms = max(time_ms, ?),"
                " met_at_ms = max(met_at_ms, ?) WHERE ref = ?",
                (str(peer.kind), peer.counter, peer.time_ms, peer.met_at_ms, peer.ref),
            )

    def peers(self) -> list[Peer]:
        """Return the peers, those met last first."""
        rows = self._all("SELECT ref, kind, counter, time_ms, met_at_ms FROM peer ORDER BY met_at_ms DESC, ref")
        return [Peer(FeedRef(ref), PeerKind(kind), *numbers) for ref, kind, *numbers in rows]

    def peer_clock(self, peer: FeedRef) -> dict[FeedRef, Note]:
        """Return what a peer said it has; empty if it said nothing."""
        rows = self._all(
            "SELECT feed, sequence, replicate FROM peer_clock WHERE peer = (SELECT id FROM peer WHERE ref = ?)", peer
        )
        return {FeedRef(feed): Note(sequence, bool(replicate)) for feed, sequence, replicate in rows}

    def update_peer_clock(self, peer: FeedRef, notes: Mapping[FeedRef, Note], *, keep_higher: bool = False) -> None:
        """Take over new notes; feeds not mentioned keep theirs.  At most MAX_CLOCK_FEEDS are kept for a peer."""
        with self._transaction():
            peer_id = self._peer_id(peer)
            room = MAX_CLOCK_FEEDS - int(self._row("SELECT count(*) FROM peer_clock WHERE peer = ?", peer_id)[0])
            chosen: list[tuple[FeedRef, Note]] = []
            if len(notes) <= room and not keep_higher:
                chosen.extend(notes.items())
            else:
                for feed, note in notes.items():
                    known = self._first("SELECT sequence FROM peer_clock WHERE peer = ? AND feed = ?", peer_id, feed)
                    if known is None and room <= 0:
                        continue
                    room -= known is None
                    if not (keep_higher and known is not None and known[0] > note.sequence):
                        chosen.append((feed, note))
            self._write_notes(peer_id, chosen)
            self._note_own(peer, notes)

    def replace_peer_clock(self, peer: FeedRef, notes: Mapping[FeedRef, Note]) -> None:
        """Take over a whole clock, as a card gives it."""
        with self._transaction():
            peer_id = self._peer_id(peer)
            self._connection.execute("DELETE FROM peer_clock WHERE peer = ?", (peer_id,))
            self._write_notes(peer_id, islice(notes.items(), MAX_CLOCK_FEEDS))
            self._note_own(peer, notes)

    def forget_peer_clock(self, peer: FeedRef | None = None) -> None:
        """Forget what one peer said, or all of them: necessary after data loss.  Claims about the own feed stay."""
        with self._transaction():
            if peer is None:
                self._connection.execute("DELETE FROM peer_clock")
            else:
                self._connection.execute(
                    "DELETE FROM peer_clock WHERE peer = (SELECT id FROM peer WHERE ref = ?)", (peer,)
                )

    # -- claims about the own feed

    def note_claim(self, feed: FeedRef, source: FeedRef | None, sequence: int, key: MessageRef | None = None) -> None:
        """Remember a claim about the own feed, if it says more than we hold, or another message than we hold."""
        if not self._is_news(feed, sequence, key):
            return
        with self._transaction():
            self._write_claim(feed, source, sequence, key)

    def claims(self, feed: FeedRef) -> list[Claim]:
        """Return what was claimed about a feed, the farthest first, each weighed by who said it."""
        rows = self._all(
            "SELECT source, sequence, key, seen_at_ms, dismissed FROM own_claim WHERE feed = ?"
            " ORDER BY sequence DESC, seen_at_ms, source",
            feed,
        )
        found = [
            Claim(
                FeedRef(source) if source else None,
                sequence,
                MessageRef(key) if key else None,
                seen_at_ms,
                dismissed >= sequence,
            )
            for source, sequence, key, seen_at_ms, dismissed in rows
        ]
        return weigh(feed, found, self.hops)

    def dismiss_claims(self, feed: FeedRef) -> int:
        """Let nothing that others claim about a feed count from now on, until they claim more; return how many claims did."""
        with self._transaction():
            wrong = [claim for claim in self.claims(feed) if may_be_wrong(feed, claim) and not claim.dismissed]
            self._connection.executemany(
                "UPDATE own_claim SET dismissed = sequence WHERE feed = ? AND source = ? AND key = ?",
                [(feed, claim.source or b"", claim.key or b"") for claim in wrong],
            )
        return sum(claim.counts for claim in wrong)

    @abstractmethod
    def hops(self, start: FeedRef, limit: int) -> dict[FeedRef, int]:
        """Return the distance of every feed within ``limit`` of ``start``: who is near is known by messages."""

    def note_own_key(self, feed: FeedRef, host: str) -> None:
        """Remember that another machine holds the secret of a feed of ours."""
        with self._transaction():
            self._connection.execute(
                "INSERT OR REPLACE INTO own_key VALUES (?, ?, ?)", (feed, host, time.time_ns() // 1_000_000)
            )
            self._connection.execute(
                "DELETE FROM own_key WHERE feed = ?1 AND host NOT IN"
                " (SELECT host FROM own_key WHERE feed = ?1 ORDER BY seen_at_ms DESC, host LIMIT ?2)",
                (feed, _MAX_HOSTS),
            )

    def own_key_elsewhere(self, feed: FeedRef) -> list[OwnKeyElsewhere]:
        """Return the machines that were seen with the secret of a feed since that was last settled, the newest first."""
        rows = self._all("SELECT host, seen_at_ms FROM own_key WHERE feed = ? ORDER BY seen_at_ms DESC, host", feed)
        return [OwnKeyElsewhere(*row) for row in rows]

    def settle_own_key(self, feed: FeedRef) -> None:
        """Forget them: the person says that no other machine uses the secret any more."""
        with self._transaction():
            self._connection.execute("DELETE FROM own_key WHERE feed = ?", (feed,))

    def note_opened(self, opening: bytes) -> None:
        """Remember what a handshake of this home opens with, for a while."""
        with self._transaction():
            self._connection.execute("INSERT INTO own_opening (opening) VALUES (?)", (opening,))
            self._connection.execute(
                "DELETE FROM own_opening WHERE id <= (SELECT max(id) FROM own_opening) - ?", (_MAX_OPENINGS,)
            )

    def has_opened(self, opening: bytes) -> bool:
        """Say whether a handshake was opened by this home lately."""
        return self._first("SELECT 1 FROM own_opening WHERE opening = ?", opening) is not None

    def _is_news(self, feed: FeedRef, sequence: int, key: MessageRef | None) -> bool:
        found = self._first("SELECT id, sequence FROM feed WHERE ref = ?", feed)
        if found is None or sequence > found[1]:
            return sequence > 0
        if key is None or sequence < 1:
            return False
        ours = self._first("SELECT key FROM message WHERE id = ?", found[0] << SEQUENCE_BITS | sequence)
        return ours is not None and ours[0] != key

    def _note_own(self, source: FeedRef, notes: Mapping[FeedRef, Note]) -> None:
        note = notes.get(self.own) if self.own is not None else None
        if note is not None and self.own is not None and self._is_news(self.own, note.sequence, None):
            self._write_claim(self.own, source, note.sequence, None)

    def _write_claim(self, feed: FeedRef, source: FeedRef | None, sequence: int, key: MessageRef | None) -> None:
        write_claim(self._connection, feed, source, sequence, key, time.time_ns() // 1_000_000)
        if self._row("SELECT count(*) FROM own_claim WHERE feed = ?", feed)[0] > MAX_CLAIMS:
            forgotten = superfluous(self.claims(feed), lambda claim: self._is_news(feed, claim.sequence, claim.key))
            self._connection.executemany(
                "DELETE FROM own_claim WHERE feed = ? AND source = ? AND key = ?",
                [(feed, claim.source or b"", claim.key or b"") for claim in forgotten],
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._writing, transaction(self._connection):
            yield

    def _peer_id(self, ref: FeedRef, kind: PeerKind = PeerKind.EBT) -> int:
        self._connection.execute(
            "INSERT OR IGNORE INTO peer (ref, kind, counter, time_ms, met_at_ms) VALUES (?, ?, 0, 0, 0)",
            (ref, str(kind)),
        )
        return int(self._row("SELECT id FROM peer WHERE ref = ?", ref)[0])

    def _write_notes(self, peer_id: int, notes: Iterable[tuple[FeedRef, Note]]) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO peer_clock (peer, feed, sequence, replicate) VALUES (?, ?, ?, ?)",
            (
                (peer_id, feed, max(0, min(note.sequence, MAX_SEQUENCE)), int(note.replicate))
                for feed, note in sorted(notes)
            ),
        )

    def _all(self, sql: str, *parameters: object) -> list[Any]:
        with store_errors():
            return self._connection.execute(sql, parameters).fetchall()

    def _first(self, sql: str, *parameters: object) -> Any:
        with store_errors():
            return self._connection.execute(sql, parameters).fetchone()

    def _row(self, sql: str, *parameters: object) -> Any:
        return self._first(sql, *parameters)
