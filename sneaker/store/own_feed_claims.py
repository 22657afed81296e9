"""Whose word about the own feed counts, and which claims are worth a row.

Anybody can make a key, and with it any number of cards, bundles and notes.  So what a *stranger* says of our feed stops
nothing: it needs proof, a message with our own signature.  What counts is our own signature, what the person brought, and
the word of *near* machines: those of people within ``NEAR_HOPS`` of us, whom we do not block.

A card on an enrolled stick does not make its machine near, and neither does an address that the person dialled: sticks
get lent and lost, and addresses are copied from web pages.  To follow somebody is the one way to say whom we believe.
A home that follows nobody yet, and was adopted or restored, is kept from publishing by ``own_feed.fork_guard``.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from sneaker.clock import VectorClock
from sneaker.limits import MAX_SEQUENCE
from sneaker.refs import FeedRef, MessageRef
from sneaker.social import NEAR_HOPS, replicated
from sneaker.store.database import Database
from sneaker.store.rows import SEQUENCE_BITS, Claim

__all__ = ["MAX_CLAIMS", "Hops", "OwnClaims", "may_be_wrong", "superfluous", "weigh", "write_claim"]

#: Claims that a store keeps; when there are more, it goes down to half of them.
MAX_CLAIMS = 200

#: ``Store.hops``.
Hops = Callable[[FeedRef, int], dict[FeedRef, int]]


def weigh(feed: FeedRef, claims: Iterable[Claim], hops: Hops) -> list[Claim]:
    """Return the claims about ``feed``, our own, each saying whether it ``counts``; strangers' do not."""
    found = list(claims)
    trusted: set[FeedRef | None] = {None, feed}
    if any(claim.source not in trusted for claim in found):  # the follow graph takes a while to read
        trusted |= replicated(hops(feed, NEAR_HOPS), NEAR_HOPS)
    return [replace(claim, counts=claim.source in trusted) for claim in found]


def may_be_wrong(feed: FeedRef, claim: Claim) -> bool:
    """Say whether a claim about ``feed``, our own, may be dismissed: others may be wrong, our own signature is not."""
    return claim.source != feed


def superfluous(weighed: Iterable[Claim], is_news: Callable[[Claim], bool]) -> list[Claim]:
    """Return the claims to forget once there are more than MAX_CLAIMS of them.

    First go those that have come true (``is_news`` says no), then strangers', then those without our signature, then
    those that reach least far.
    """

    def worth(claim: Claim) -> tuple[bool, bool, bool, int]:
        return (is_news(claim), claim.counts, claim.key is not None, claim.sequence)

    return sorted(weighed, key=worth, reverse=True)[MAX_CLAIMS // 2 :]


def write_claim(
    connection: sqlite3.Connection,
    feed: FeedRef,
    source: FeedRef | None,
    sequence: int,
    key: MessageRef | None,
    seen_at_ms: int,
) -> None:
    """Write a claim down, in the transaction that is open, if its source did not claim as much before."""
    connection.execute(
        "INSERT INTO own_claim (feed, source, key, sequence, seen_at_ms) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
        " SET sequence = excluded.sequence, seen_at_ms = excluded.seen_at_ms WHERE excluded.sequence > sequence",
        (feed, source or b"", key or b"", min(sequence, MAX_SEQUENCE), seen_at_ms),
    )


class OwnClaims:
    """The part of the store that keeps claims about the own feed."""

    def __init__(self, database: Database, own: FeedRef | None, hops: Hops) -> None:
        """``own`` is the identity the store is kept for: what others claim to have of its feed is remembered for good."""
        self._database = database
        self._own = own
        self._hops = hops

    def note_claim(self, feed: FeedRef, source: FeedRef | None, sequence: int, key: MessageRef | None = None) -> None:
        """Remember a claim about the own feed, if it says more than we hold, or another message than we hold.

        At most MAX_CLAIMS are kept; strangers' go first.
        """
        if not self._is_news(feed, sequence, key):
            return
        with self._database.transaction():
            self._write(feed, source, sequence, key)

    def write_clock(self, source: FeedRef, clock: VectorClock) -> None:
        """Remember, in the transaction that is open, what a machine's clock claims about the feed the store is kept for."""
        if self._own is not None and self._is_news(self._own, clock.get(self._own, 0), None):
            self._write(self._own, source, clock[self._own], None)

    def claims_about(self, feed: FeedRef) -> list[Claim]:
        """Return what was claimed about a feed, the farthest first, each weighed by who said it."""
        rows = self._database.all(
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
        return weigh(feed, found, self._hops)

    def dismiss_claims(self, feed: FeedRef) -> int:
        """Dismiss what others claim about a feed, until they claim more; return how many claims counted before.

        What we ourselves signed or noted still counts: it cannot be wrong.  Strangers' claims are dismissed too, so they do
        not begin to count when we follow their authors.
        """
        with self._database.transaction() as connection:
            wrong = [claim for claim in self.claims_about(feed) if may_be_wrong(feed, claim) and not claim.dismissed]
            connection.executemany(
                "UPDATE own_claim SET dismissed = sequence WHERE feed = ? AND source = ? AND key = ?",
                [(feed, claim.source or b"", claim.key or b"") for claim in wrong],
            )
        return sum(claim.counts for claim in wrong)

    def _is_news(self, feed: FeedRef, sequence: int, key: MessageRef | None) -> bool:
        found = self._database.first("SELECT id, sequence FROM feed WHERE ref = ?", feed)
        if found is None or sequence > found[1]:
            return sequence > 0
        if key is None or sequence < 1:
            return False
        ours = self._database.first("SELECT key FROM message WHERE id = ?", found[0] << SEQUENCE_BITS | sequence)
        return ours is not None and ours[0] != key

    def _write(self, feed: FeedRef, source: FeedRef | None, sequence: int, key: MessageRef | None) -> None:
        connection = self._database.connection
        write_claim(connection, feed, source, sequence, key, time.time_ns() // 1_000_000)
        if self._database.first("SELECT count(*) FROM own_claim WHERE feed = ?", feed)[0] > MAX_CLAIMS:
            forgotten = superfluous(
                self.claims_about(feed), lambda claim: self._is_news(feed, claim.sequence, claim.key)
            )
            connection.executemany(
                "DELETE FROM own_claim WHERE feed = ? AND source = ? AND key = ?",
                [(feed, claim.source or b"", claim.key or b"") for claim in forgotten],
            )
