"""Our own key on another machine: two machines with one secret fork their feed sooner or later.

A beacon that names our key from elsewhere is the cheapest sign of it, and anybody can send one.  So it is followed up: whoever
completes a secret handshake with our key, from or at an address that is none of ours, holds our secret.  That is written down
and stops publishing (``own_feed.fork_guard``) until the person has settled it; a mere beacon stops nothing.

There is one way to complete it without the secret: to pass our own bytes on to ourselves.  So what our handshakes with our own
key open with is written down before they begin, and no process of this home takes one of those for another machine's.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sneaker.errors import SneakerError
from sneaker.home.home import Home
from sneaker.net.connection import Connection
from sneaker.net.greeting import dial
from sneaker.net.interfaces import is_own_address
from sneaker.wire.address import Address

if TYPE_CHECKING:
    from sneaker.net.node import Node

__all__ = ["OwnKeyWatch", "dial_from", "proves_own_key_elsewhere"]

_FIRST_WAIT_S = 30.0
_LONGEST_WAIT_S = 3600.0
_POLITE_S = 2.0


async def dial_from(home: Home, address: Address) -> Connection:
    """Connect to a peer of any key, our own too; raises AddressError, NetworkError, HandshakeError or StoreError."""

    is_for_us = any(way.key == home.keypair.public for way in (address, *address.others))

    def note_opening(host: str, opening: bytes) -> None:
        if is_for_us and not is_own_address(host):
            home.store.own_keys.note_opened(opening)

    return await dial(address, home.keypair, home.caps, on_opening=note_opening)


def proves_own_key_elsewhere(home: Home, connection: Connection) -> bool:
    """Say whether a connection shows that another machine holds our secret.

    Programs on this machine may use our key: over loopback, or from any address of its interfaces.
    """
    return connection.peer == home.keypair.public and bool(connection.host) and not is_own_address(connection.host)


@dataclass(slots=True)
class _Patience:
    """When the next beacon is followed up, wherever it comes from."""

    next_at: float = 0.0
    failures: int = 0


class OwnKeyWatch:
    """Looks for machines with our key, for one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        # Beacons without our signature cost those with one no turn. The latter can be old ones of our own, replayed.
        self._patience = {False: _Patience(), True: _Patience()}
        self._asking = False
        self._present: set[Connection] = set()
        self._suspected = False

    def heard(self, address: Address, signed: bool) -> None:
        """Follow up a beacon with our key from another machine, now and then."""
        patience = self._patience[signed]
        if self._asking or self._present or self._node.now() < patience.next_at:
            return
        self._asking = True
        self._node.keep(asyncio.create_task(self._ask(address, patience)))

    async def _ask(self, address: Address, patience: _Patience) -> None:
        node = self._node
        try:
            # The other machine hears our beacons as well; one connection is enough.
            await asyncio.sleep(_POLITE_S * random.random())  # noqa: S311 (spreads load)
            if self._present:
                return
            connection = await dial_from(node.home, address)
        except SneakerError:
            if not self._suspected:
                self._suspected = True
                node.say(
                    f"a machine at {address.host} says that it has your key, and does not prove it; if you use one identity on"
                    " two machines, stop: that forks your feed"
                )
            patience.failures += 1
            wait = min(_FIRST_WAIT_S * 2.0 ** (patience.failures - 1), _LONGEST_WAIT_S)
            patience.next_at = node.now() + wait * (0.75 + 0.5 * random.random())  # noqa: S311 (spreads load)
            return
        finally:
            self._asking = False
        patience.failures = 0
        patience.next_at = node.now() + _FIRST_WAIT_S
        await node.meet(connection)  # whatever it has of our feed we lack, perhaps

    def met(self, connection: Connection) -> None:
        """Hear of a connection with our own key that begins."""
        if proves_own_key_elsewhere(self._node.home, connection):
            self._node.warn(
                f"ANOTHER MACHINE HAS YOUR SECRET: the one at {connection.host} proved it. Two machines with one secret fork your"
                " feed, and that cannot be mended. Nothing is published here until that is settled: see 'sneaker doctor'"
            )
            self._present.add(connection)
            connection.spawn(self._note(connection))

    def left(self, connection: Connection) -> None:
        """Hear of a connection with our own key that has ended."""
        self._present.discard(connection)

    async def _note(self, connection: Connection) -> None:
        """Write it down, and again while it goes on: to say that it is settled does not make the other machine go away."""
        node = self._node
        while True:
            try:
                await node.in_background(lambda store: store.own_keys.note_own_key(node.me, connection.host))
            except SneakerError as error:
                node.say(error.message)
            await asyncio.sleep(_FIRST_WAIT_S)
