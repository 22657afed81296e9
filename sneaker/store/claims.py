"""Whose word about the own feed counts, and which claims are worth a row.

Anybody can make a key, and with it any number of cards, bundles and notes.  So what a *stranger* says of our feed stops
nothing: it needs proof, a message with our own signature.  What counts is our own signature, what the person brought, and
the word of *near* machines: those of people within ``NEAR_HOPS`` of us, whom we do not block.

Neither a machine's card on an enrolled stick nor an address that the person dialled makes a machine near: sticks get lent
and lost, addresses are copied from web pages, and to follow somebody is the one way of saying whom we believe.  A home that
follows nobody yet is held back by its ``standing`` where it was adopted or restored; strangers' claims are shown there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import replace

from sneaker.limits import MAX_SEQUENCE
from sneaker.refs import FeedRef, MessageRef
from sneaker.social import NEAR_HOPS, replicated
from sneaker.store.rows import Claim

__all__ = ["MAX_CLAIMS", "Hops", "may_be_wrong", "superfluous", "weigh", "write_claim"]

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
    """Say whether a person can know better than a claim about ``feed``, our own: not where it is our own word."""
    return claim.source != feed


def superfluous(weighed: Iterable[Claim], is_news: Callable[[Claim], bool]) -> list[Claim]:
    """Return the claims to forget once there are more than MAX_CLAIMS of them.

    First those that have come true (no ``is_news`` any more), then strangers', then those that do not carry our signature,
    then the ones that reach least far.
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
