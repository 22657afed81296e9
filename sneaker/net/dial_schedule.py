"""Which known peer is dialled next, and when.

Peers that were found or named are dialled again and again, for one connection each, but ever less eagerly.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from sneaker.bugs import what_went_wrong
from sneaker.errors import HandshakeError
from sneaker.net.connected_peer import ConnectedPeer
from sneaker.net.dial import dial
from sneaker.net.node import Node
from sneaker.net.peer_addresses import EXPIRES_S, PeerAddresses
from sneaker.net.services.ebt import EbtService
from sneaker.net.transfer_counts import TransferCounts
from sneaker.refs import FeedRef
from sneaker.wire.address import Address

__all__ = ["DialSchedule"]

# The first wait after a failure, and the longest.
_FIRST_WAIT_S = 2.0
_LONGEST_WAIT_S = 300.0
# A connection that lasted so long was a good one. For one in which both sides told each other what they have, the second
# time is enough: ssb-server ends each connection once nothing has happened for 10 s.
_GOOD_S = 30.0
_WORKED_S = 5.0
# Two peers hear of each other at the same time. The one with the higher key waits, so that one connection is made, not two.
_POLITE_S = 1.5
_MAX_KNOWN = 500
_MAX_DIALS = 10


@dataclass(slots=True)
class _Candidate:
    """A peer that could be dialled: at the ``address`` that a person named, else where it is heard.

    How eagerly it is dialled hangs on the peer alone, so that nobody can make us dial more by naming more addresses.
    """

    next_at: float
    address: Address | None = None
    addresses: PeerAddresses = field(default_factory=PeerAddresses)
    failures: int = 0
    dialling: bool = False

    def address_now(self, now: float) -> Address | None:
        """Return where to dial it, None if it is not heard any more."""
        return self.address or self.addresses.best_address(now)


class DialSchedule:
    """Dials for a node."""

    def __init__(self, node: Node, *, on_connected: Callable[[ConnectedPeer], None] | None = None) -> None:
        """``on_connected`` is called when a connection that was dialled begins."""
        self._node = node
        self._context = node.context
        self._on_connected = on_connected
        self._candidates: dict[FeedRef, _Candidate] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._node.listeners.append(self._wake.set)
        self._task = asyncio.create_task(self._context.background.repeat_for_ever(self._run))

    async def stop(self) -> None:
        """Dial nobody any more."""
        self._node.listeners.remove(self._wake.set)
        if self._task is not None:
            self._task.cancel()

    def keep_connected(self, address: Address) -> None:
        """Keep connected to a peer that a person named."""
        if address.key is not None and address.key != self._node.me:
            self._candidates[address.key] = _Candidate(self._context.now(), address)
            self._wake.set()

    def beacon_heard(self, address: Address, signed: bool = False) -> None:
        """Hear of a peer on the LAN; it is dialled if it is one of those we replicate.

        ``signed``: its own key says that it is there.
        """
        key, now = address.key, self._context.now()
        if key is None or key == self._node.me or not self._context.policy.is_near(key):
            return  # a stranger may dial us; any number of them takes nobody's place
        known = self._candidates.get(key)
        if known is None:
            if len(self._candidates) >= _MAX_KNOWN and not self._forget_old(now):
                return
            wait = _POLITE_S + random.random() if self._node.me > key else 0.0  # noqa: S311 (spreads load)
            known = self._candidates[key] = _Candidate(now + wait)
            known.addresses.beacon_heard(address, signed, now)
            self._wake.set()
        elif known.address is None:
            silent_for = now - known.addresses.heard_at
            is_sure_now = known.addresses.beacon_heard(address, signed, now)
            if silent_for > _LONGEST_WAIT_S or (is_sure_now and known.failures):
                # It was away for long; or it was sought in vain only where others said that it is.
                known.failures, known.next_at = 0, now
                self._wake.set()
            elif silent_for > EXPIRES_S:
                self._wake.set()

    def _forget_old(self, now: float) -> bool:
        old = [
            key
            for key, candidate in self._candidates.items()
            if candidate.address_now(now) is None and not candidate.dialling
        ]
        for key in old:
            del self._candidates[key]
        return bool(old)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            now = self._context.now()
            due = [when for key, candidate in self._candidates.items() if (when := self._when(key, candidate, now))]
            dialling = sum(candidate.dialling for candidate in self._candidates.values())
            for when, key in sorted((candidate.next_at, key) for key, candidate in self._candidates.items()):
                candidate = self._candidates[key]
                address = candidate.address_now(now)
                if address is None or self._when(key, candidate, now) is None:
                    continue
                if dialling < _MAX_DIALS and when <= now:
                    candidate.dialling = True
                    dialling += 1
                    self._context.background.spawn(self._dial(candidate, address))
            wait = min([when - now for when in due if when > now], default=None)
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _when(self, key: FeedRef, candidate: _Candidate, now: float) -> float | None:
        """Return when a peer should be dialled; None if it should not be, as things are."""
        if candidate.dialling or key in self._node.peers or not self._context.policy.is_welcome(key):
            return None
        if candidate.address is None and not self._context.policy.is_near(key):
            return None  # it was near when it was found
        return candidate.next_at if candidate.address_now(now) is not None else None

    async def _dial(self, candidate: _Candidate, address: Address) -> None:
        node, context = self._node, self._context
        started = context.now()
        lasted = False
        try:
            session = await dial(address, context.home.keypair, context.home.caps)
            candidate.addresses.reached_at(address)
            candidate.dialling = False
            peer = await node.run_session(session, on_start=self._on_connected)
            lasted = peer is None or _was_good(peer, context.now() - started)
        except Exception as error:
            candidate.addresses.not_reached_at(address)
            if candidate.failures == 0:
                context.remark(f"{address.host}:{address.port}: {what_went_wrong(error)}")
            if isinstance(error, HandshakeError):
                candidate.failures = max(candidate.failures, 3)  # it will not like us better soon
        finally:
            candidate.dialling = False
        candidate.failures = 0 if lasted else candidate.failures + 1
        wait = min(_FIRST_WAIT_S * 2.0 ** max(0, candidate.failures - 1), _LONGEST_WAIT_S)
        candidate.next_at = context.now() + wait * (0.75 + 0.5 * random.random())  # noqa: S311 (spreads load)
        self._wake.set()


def _was_good(peer: ConnectedPeer, seconds: float) -> bool:
    """Say whether a connection that has ended was no failure: it did its work, and then there was no more to do."""
    if seconds > _GOOD_S:
        return True
    in_order = peer.session.error is None
    has_worked = peer.service(EbtService).has_worked
    return has_worked and (seconds > _WORKED_S or (in_order and peer.counts != TransferCounts()))
