"""The follow graph: who follows and blocks whom, and how far everybody is from a start.

PROTOCOL.md, section 14.  Of what an author says about a contact only the newest contact message counts, the one
with the highest sequence; in which order messages arrive does not matter.  Distances are those of ssb-friends
(layered-graph over dynamic-dijkstra), to the sign.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any

from sneaker.errors import RefError
from sneaker.refs import FeedRef

__all__ = [
    "NEAR_HOPS",
    "Blocks",
    "EdgeState",
    "contact_edge",
    "find_blockers",
    "find_hops",
    "linked_feed",
    "replicated",
]

#: Who is so far from us, or less, is near: what ssb-config and Manyverse replicate.
NEAR_HOPS = 2


class EdgeState(IntEnum):
    """What one feed says of another, by its newest contact message."""

    FOLLOW = 1
    BLOCK = -1
    NEITHER = -2


Edges = Mapping[FeedRef, Mapping[FeedRef, int]]


class Blocks(set[FeedRef]):
    """The feeds that an author blocks: whoever has to know asks this.  Nobody blocks themselves.

    On every way in and out, a feed is blocked if it is in here; ``Store.blocked`` reads it.
    """

    def __init__(self, author: FeedRef | None, contacts: Iterable[tuple[FeedRef, int]] = ()) -> None:
        """``contacts`` are what ``author`` says of others, as feed and EdgeState."""
        super().__init__()
        self._author = author
        for contact, state in contacts:
            self.learn_contact(contact, state)

    def learn_contact(self, contact: FeedRef, state: int) -> None:
        """Take over what a newer contact message of the author's says."""
        if state == EdgeState.BLOCK and contact != self._author:
            self.add(contact)
        else:
            self.discard(contact)


def find_blockers(edges: Edges) -> dict[FeedRef, frozenset[FeedRef]]:
    """Return for each feed that somebody blocks those who do."""
    found: dict[FeedRef, set[FeedRef]] = {}
    for author, contacts in edges.items():
        for contact in Blocks(author, contacts.items()):
            found.setdefault(contact, set()).add(author)
    return {feed: frozenset(authors) for feed, authors in found.items()}


def contact_edge(content: Any) -> tuple[FeedRef, EdgeState] | None:
    """Return whom a contact message is about, and what it says, as ssb-friends reads it.

    ``blocking`` or ``flagged`` count if JavaScript takes them for true, ``following`` only if it is true.  Works on
    decrypted content too.  None if it is no contact message about a classic feed.
    """
    if not isinstance(content, dict) or content.get("type") != "contact":
        return None
    contact = linked_feed(content.get("contact"))
    if contact is None:
        return None
    if _is_truthy(content.get("blocking")) or _is_truthy(content.get("flagged")):
        return contact, EdgeState.BLOCK
    return contact, EdgeState.FOLLOW if content.get("following") is True else EdgeState.NEITHER


def linked_feed(value: object) -> FeedRef | None:
    """Return the classic feed that a field of content names, None if it names none."""
    if not isinstance(value, str) or not value.startswith("@"):
        return None
    try:
        return FeedRef.parse_classic(value)
    except RefError:
        return None


def _is_truthy(value: object) -> bool:
    """Say what JavaScript's ``if (value)`` says; unlike in Python, empty arrays and objects count."""
    return isinstance(value, dict | list) or bool(value)


def find_hops(edges: Edges, start: FeedRef, limit: int) -> dict[FeedRef, int]:
    """Return the distance of every feed that ``start`` reaches over follows, in at most ``limit`` steps.

    ``edges`` is author -> contact -> EdgeState.  ``start`` is at 0, whom it follows at 1, and so on; the shortest way
    counts.  A feed that somebody at distance n blocks is at -(n+1), one that somebody has unfollowed at -(n+2), unless
    a way of follows is as short.  Nobody's follows count beyond a negative distance.  So -1 means blocked by ``start``;
    anything below is known and not replicated.
    """
    hops: dict[FeedRef, int] = {start: 0}
    level = [start]
    # Level by level this is Dijkstra's algorithm, for every follow is one step long. A negative distance is final before
    # any follow of that feed is looked at, because it comes from an earlier level.
    for distance in range(limit):
        if not level:
            break
        reached: dict[FeedRef, None] = {}
        for author in level:
            if hops[author] != distance:
                continue
            for contact, state in edges.get(author, {}).items():
                candidate = distance + 1 if state == EdgeState.FOLLOW else -distance + state
                known = hops.get(contact)
                if known is None or (abs(candidate), -candidate) < (abs(known), -known):
                    hops[contact] = candidate
                    if candidate > 0:
                        reached[contact] = None
        level = list(reached)
    return hops


def replicated(hops: Mapping[FeedRef, int], limit: int) -> set[FeedRef]:
    """Return the feeds to replicate: those at distances from 0 to ``limit``."""
    return {feed for feed, distance in hops.items() if 0 <= distance <= limit}
