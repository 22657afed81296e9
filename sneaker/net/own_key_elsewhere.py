"""Our own key on another machine: two machines with one secret fork their feed sooner or later.

A beacon that names our key from elsewhere is the cheapest sign of it, and anybody can send one.  So it is followed up: whoever
completes a secret handshake with our key, from or at an address that is none of ours, holds our secret.  That is written down
and stops publishing (``own_feed.fork_guard``) until the person has settled it; a mere beacon stops nothing.

There is one way to complete it without the secret: to pass our own bytes on to ourselves.  So what our handshakes with our own
key open with is written down before they begin (``dial_from_home``), and no process of this home takes one of those for
another machine's.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sneaker.errors import SneakerError
from sneaker.net.context import NetContext
from sneaker.net.dial import dial_from_home
from sneaker.net.interfaces import is_own_address
from sneaker.net.peer_session import PeerSession
from sneaker.refs import FeedRef
from sneaker.wire.address import Address

__all__ = ["OwnKeyWatch", "proves_own_key_elsewhere"]

_FIRST_WAIT_S = 30.0
_LONGEST_WAIT_S = 3600.0
_POLITE_S = 2.0


def proves_own_key_elsewhere(me: FeedRef, session: PeerSession) -> bool:
    """Say whether a connection shows that another machine holds our secret.

    Programs on this machine may use our key: over loopback, or from any address of its interfaces.
    """
    return session.peer == me and bool(session.host) and not is_own_address(session.host)


@dataclass(slots=True)
class _Patience:
    """When the next beacon is followed up, wherever it comes from."""

    next_at: float = 0.0
    failures: int = 0


class OwnKeyWatch:
    """Looks for machines with our key, for one node."""

    def __init__(self, context: NetContext, run_session: Callable[[PeerSession], Awaitable[object]]) -> None:
        """``run_session`` does all that is to be done with a peer that was dialled."""
        self._context = context
        self._run_session = run_session
        # Beacons with and without our signature have turns of their own, so that those without take none from the others.
        # One with it may be an old one of ours, sent again.
        self._patience = {False: _Patience(), True: _Patience()}
        self._asking = False
        self._present: set[PeerSession] = set()
        self._suspected = False

    def beacon_heard(self, address: Address, signed: bool) -> None:
        """Follow up a beacon with our key from another machine, now and then."""
        patience = self._patience[signed]
        if self._asking or self._present or self._context.now() < patience.next_at:
            return
        self._asking = True
        self._context.background.spawn(self._follow_up(address, patience))

    async def _follow_up(self, address: Address, patience: _Patience) -> None:
        context = self._context
        try:
            # The other machine hears our beacons as well; one connection is enough.
            await asyncio.sleep(_POLITE_S * random.random())  # noqa: S311 (spreads load)
            if self._present:
                return
            session = await dial_from_home(context.home, address)
        except SneakerError:
            if not self._suspected:
                self._suspected = True
                context.remark(
                    f"a machine at {address.host} says that it has your key, and does not prove it; if you use one identity on"
                    " two machines, stop: that forks your feed"
                )
            patience.failures += 1
            wait = min(_FIRST_WAIT_S * 2.0 ** (patience.failures - 1), _LONGEST_WAIT_S)
            patience.next_at = context.now() + wait * (0.75 + 0.5 * random.random())  # noqa: S311 (spreads load)
            return
        finally:
            self._asking = False
        patience.failures = 0
        patience.next_at = context.now() + _FIRST_WAIT_S
        await self._run_session(session)  # whatever it has of our feed we lack, perhaps

    def session_begun(self, session: PeerSession) -> None:
        """Hear of a connection with our own key that begins."""
        if proves_own_key_elsewhere(self._context.me, session):
            self._context.warn(
                f"ANOTHER MACHINE HAS YOUR SECRET: the one at {session.host} proved it. Two machines with one secret fork your"
                " feed, and that cannot be mended. Nothing is published here until that is settled: see 'sneaker doctor'"
            )
            self._present.add(session)
            session.spawn(self._write_down(session))

    def session_over(self, session: PeerSession) -> None:
        """Hear of a connection that has ended."""
        self._present.discard(session)

    async def _write_down(self, session: PeerSession) -> None:
        """Write it down, and again while it goes on: to say that it is settled does not make the other machine go away."""
        context = self._context
        while True:
            try:
                await context.background.with_store(lambda store: store.own_keys.note_own_key(context.me, session.host))
            except SneakerError as error:
                context.remark(error.message)
            await asyncio.sleep(_FIRST_WAIT_S)
