"""Who gets one of the places that there are: for handshakes, for connections, and for the two connections of one peer.

Anybody can make keys and sockets, so the places for those whom we do not know are shared out by the address that they
come from, and nobody keeps one for ever while others wait.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable

from sneaker.net.connection import Connection
from sneaker.net.meeting import Meeting
from sneaker.refs import FeedRef

__all__ = ["MAX_HANDSHAKES", "MAX_MEETINGS", "MAX_STRANGERS", "Handshakes", "find_place", "keeps_old", "source_of"]

# Handshakes in flight: each costs a socket, some kilobytes and half a millisecond of cryptography, and ends after 5 s.
MAX_HANDSHAKES = 64
# Those of one source: a household or a village behind one router, but not one machine that drips bytes into all of them.
_MAX_HANDSHAKES_EACH = 32

# Connections altogether, and those of them that may be strangers'.
MAX_MEETINGS = 100
MAX_STRANGERS = 30

# How long a stranger may stay while others wait: what it asked for and did not get in this time it gets at its next turn.
_TURN_S = 30.0
# One that we know makes place for another one if nothing happened between us for so long.
_IDLE_S = 30.0

# Two connections begun within this time are two peers that dialled each other at once.
_AT_ONCE_S = 10.0


def source_of(host: str) -> str:
    """Return whom an IP address stands for: an IPv4 address for itself, one of IPv6 for its /64, which one machine has."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))


class Handshakes:
    """Those who have connected and not proven a key yet. When there are too many, the oldest one has to go.

    An honest handshake takes some milliseconds, so what has waited longest is the least likely to be one.
    """

    def __init__(self, most: int = MAX_HANDSHAKES, most_each: int = _MAX_HANDSHAKES_EACH) -> None:
        """``most`` altogether, ``most_each`` from one source."""
        self._most = most
        self._most_each = most_each
        #: What ends each of them and where it comes from, the oldest first.
        self._open: dict[Callable[[], None], str] = {}

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, host: str, abort: Callable[[], None]) -> None:
        """Hear of somebody new; ``abort`` ends the handshake, and is called for an older one if there are too many."""
        source = source_of(host)
        same = [other for other, place in self._open.items() if place == source]
        if len(same) >= self._most_each:
            self._drop(same[0])
        elif len(self._open) >= self._most:
            self._drop(next(iter(self._open)))
        self._open[abort] = source

    def end(self, abort: Callable[[], None]) -> None:
        """Hear that a handshake is over, whatever came of it."""
        self._open.pop(abort, None)

    def _drop(self, abort: Callable[[], None]) -> None:
        del self._open[abort]
        abort()


def find_place(meetings: Iterable[Meeting], near: bool, host: str, now: float) -> bool | Meeting:
    """Say whether there is a place for one more peer; or return the one that has to leave for it.

    ``near``: whether it is one of those we replicate; they never wait for strangers.  ``host``: where it comes from.
    """
    present = list(meetings)
    strangers = [meeting for meeting in present if not meeting.is_near]
    if len(present) < MAX_MEETINGS and (near or len(strangers) < MAX_STRANGERS):
        return True
    if not strangers:
        idle = min(present, key=lambda meeting: meeting.active_at)
        return idle if near and now - idle.active_at >= _IDLE_S else False
    counts = Counter(source_of(meeting.connection.host) for meeting in strangers)
    # Whose source has most of the places goes first; of those the one that came first.
    longest = min(
        strangers,
        key=lambda meeting: (-counts[source_of(meeting.connection.host)], meeting.connection.started_at),
    )
    is_greedy = counts[source_of(longest.connection.host)] > counts[source_of(host)] + 1
    return longest if near or is_greedy or now - longest.connection.started_at >= _TURN_S else False


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
