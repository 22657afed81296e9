"""Who is let in: the places that there are for handshakes and for connections.

Anybody can make keys and sockets, so the places for those whom we do not know are shared out by the address that they
come from, and nobody keeps one for ever while others wait.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable

from sneaker.net.connected_peer import ConnectedPeer

__all__ = ["MAX_CONNECTIONS", "MAX_HANDSHAKES", "MAX_STRANGERS", "PendingHandshakes", "find_place", "source_of"]

# Handshakes in flight: each costs a socket, some kilobytes and half a millisecond of cryptography, and ends after 5 s.
MAX_HANDSHAKES = 64
# Those of one source: enough for a household or a village behind one router, while one machine alone cannot hold them all.
_MAX_HANDSHAKES_EACH = 32

# Connections altogether, and those of them that may be strangers'.
MAX_CONNECTIONS = 100
MAX_STRANGERS = 30

# How long a stranger may stay while others wait. What it did not get in this time, it gets at its next turn.
_TURN_S = 30.0
# One that we know makes place for another one if nothing happened between us for so long.
_IDLE_S = 30.0


def source_of(host: str) -> str:
    """Return whom an IP address stands for.

    An IPv4 address stands for itself, an IPv6 address for its /64, all of which one machine may have.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))


class PendingHandshakes:
    """Those who have connected, and have not proven a key yet. When there are too many, the oldest one has to go.

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

    def handshake_begun(self, host: str, abort: Callable[[], None]) -> None:
        """Hear of somebody new; ``abort`` ends the handshake, and is called for an older one if there are too many."""
        source = source_of(host)
        same = [other for other, place in self._open.items() if place == source]
        if len(same) >= self._most_each:
            self._abort_oldest(same[0])
        elif len(self._open) >= self._most:
            self._abort_oldest(next(iter(self._open)))
        self._open[abort] = source

    def handshake_over(self, abort: Callable[[], None]) -> None:
        """Hear that a handshake is over, whatever came of it."""
        self._open.pop(abort, None)

    def _abort_oldest(self, abort: Callable[[], None]) -> None:
        del self._open[abort]
        abort()


def find_place(peers: Iterable[ConnectedPeer], near: bool, host: str, now: float) -> bool | ConnectedPeer:
    """Say whether there is a place for one more peer; or return the one that has to leave for it.

    ``near``: whether it is one of those we replicate; they never wait for strangers.  ``host``: where it comes from.
    """
    present = list(peers)
    strangers = [peer for peer in present if not peer.is_near]
    if len(present) < MAX_CONNECTIONS and (near or len(strangers) < MAX_STRANGERS):
        return True
    if not strangers:
        idle = min(present, key=lambda peer: peer.active_at)
        return idle if near and now - idle.active_at >= _IDLE_S else False
    counts = Counter(source_of(peer.session.host) for peer in strangers)
    # Whose source has most of the places goes first; of those the one that came first.
    longest = min(
        strangers,
        key=lambda peer: (-counts[source_of(peer.session.host)], peer.session.started_at),
    )
    is_greedy = counts[source_of(longest.session.host)] > counts[source_of(host)] + 1
    return longest if near or is_greedy or now - longest.session.started_at >= _TURN_S else False
