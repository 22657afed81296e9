"""Two connections with one peer: which of them stays."""

from __future__ import annotations

from sneaker.net.peer_session import PeerSession
from sneaker.refs import FeedRef

__all__ = ["older_one_stays"]

# Two connections begun within this time are two peers that dialled each other at once.
_AT_ONCE_S = 10.0


def older_one_stays(me: FeedRef, older: PeerSession, newer: PeerSession, now: float) -> bool:
    """Say whether of two connections with the same peer the older one is to stay.

    If both sides dialled at once they must agree: the connection that the lower key dialled stays. Otherwise the newer one
    does; the peer would not have dialled again without a reason.
    """
    if older.closing:
        return False
    if older.dialled != newer.dialled and now - older.started_at < _AT_ONCE_S:
        return older.dialled == (me < older.peer)
    return False
