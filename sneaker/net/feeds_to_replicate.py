"""Which feeds are replicated over the network, and who gets what: computed from the follow graph in the store.

What we replicate is our own feed and everybody within ``hops`` of it, explicit follows in any case; feeds that we hold
besides (a stick brought them) are given to those who ask, and not asked for.  Whoever we block gets nothing at all, and
nothing of their feeds is passed on; an author's feed is withheld from those the author blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sneaker.refs import FeedRef
from sneaker.social import NEAR_HOPS, Blocks, find_blockers, find_hops
from sneaker.store.store import Store

__all__ = ["DEFAULT_HOPS", "ReplicationPolicy", "read_replication_policy"]

DEFAULT_HOPS = NEAR_HOPS


@dataclass(frozen=True, slots=True)
class ReplicationPolicy:
    """One state of the follow graph, seen from us.

    ``hops``: distance of the feeds to replicate; ``blocked`` by us; ``forked`` feeds, which take nothing more;
    ``blockers``: who is blocked -> by whom.
    """

    me: FeedRef
    hops: dict[FeedRef, int]
    blocked: frozenset[FeedRef] = frozenset()
    forked: frozenset[FeedRef] = frozenset()
    blockers: dict[FeedRef, frozenset[FeedRef]] = field(default_factory=dict)

    def is_welcome(self, peer: FeedRef) -> bool:
        """Whether a peer may connect at all: strangers may."""
        return peer not in self.blocked

    def wants(self, feed: FeedRef) -> bool:
        """Whether messages of a feed are taken from peers: those we replicate, if they are not blocked."""
        return feed in self.hops and feed not in self.blocked

    def is_near(self, peer: FeedRef) -> bool:
        """Whether a peer is one of those we replicate."""
        return peer in self.hops

    @property
    def wanted(self) -> set[FeedRef]:
        """The feeds to ask for."""
        return self.hops.keys() - self.forked

    def withheld(self, peer: FeedRef) -> frozenset[FeedRef]:
        """Return the feeds whose authors block ``peer``."""
        return self.blockers.get(peer, frozenset())


def read_replication_policy(store: Store, me: FeedRef, hops: int = DEFAULT_HOPS) -> ReplicationPolicy:
    """Read the follow graph; takes a while if it is large."""
    edges: dict[FeedRef, dict[FeedRef, int]] = {}
    for author, contact, state, _ in store.edges():
        edges.setdefault(author, {})[contact] = state
    distances = find_hops(edges, me, max(hops, 1))
    near = {feed: distance for feed, distance in distances.items() if distance >= 0}
    near[me] = 0
    return ReplicationPolicy(
        me,
        near,
        frozenset(Blocks(me, edges.get(me, {}).items())),
        frozenset(store.forked()),
        find_blockers(edges),
    )
