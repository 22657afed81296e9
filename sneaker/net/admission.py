"""Who gets one of the places that there are, and which of two connections with one peer stays."""

from __future__ import annotations

from collections.abc import Iterable

from sneaker.net.connection import Connection
from sneaker.net.meeting import Meeting
from sneaker.refs import FeedRef

__all__ = ["MAX_MEETINGS", "MAX_STRANGERS", "find_place", "keeps_old"]

# Connections altogether, and those of them that may be strangers'.
MAX_MEETINGS = 100
MAX_STRANGERS = 30

# A stranger for whom nothing has happened for so long makes place for another one.
_STRANGER_IDLE_S = 30.0

# Two connections begun within this time are two peers that dialled each other at once.
_AT_ONCE_S = 10.0


def find_place(meetings: Iterable[Meeting], near: bool, now: float) -> bool | Meeting:
    """Say whether there is a place for one more peer; or return the stranger that has to leave for it.

    ``near``: whether it is one of those we replicate; they never wait for strangers.
    """
    present = list(meetings)
    strangers = [meeting for meeting in present if not meeting.is_near]
    if len(present) < MAX_MEETINGS and (near or len(strangers) < MAX_STRANGERS):
        return True
    idle = min(strangers, key=lambda meeting: meeting.active_at, default=None)
    if idle is None or (not near and now - idle.active_at < _STRANGER_IDLE_S):
        return False
    return idle


def keeps_old(me: FeedRef, old: Connection, new: Connection, now: float) -> bool:
    """Say whether of two connections with the same peer the older one is to stay.

    If both sides dialled at once they must agree: the connection that the lower key dialled stays. Otherwise the newer one
    does; the peer would not have dialled again without a reason.
    """
    if old.closing:
        return False
    if old.dialled != new.dialled and now - old.started_at < _AT_ONCE_S:
        return old.dialled == (me < old.peer)
    return False
