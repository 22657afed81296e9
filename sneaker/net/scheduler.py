"""Whom to dial, and when: peers that were found or named, one connection each, again and again but ever less eagerly."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from sneaker.errors import HandshakeError, SneakerError
from sneaker.net.greeting import dial
from sneaker.net.meeting import Meeting
from sneaker.net.node import Node
from sneaker.refs import FeedRef
from sneaker.wire.address import Address

__all__ = ["Scheduler"]

# The first wait after a failure, and the longest.
_FIRST_WAIT_S = 2.0
_LONGEST_WAIT_S = 300.0
# A connection that lasted so long was a good one.
_GOOD_S = 30.0
# Two peers hear of each other at the same time. The one with the higher key waits, so that one connection is made, not two.
_POLITE_S = 1.5
# A LAN peer that is not heard of any more is not dialled any more (ssb-lan's number).
_EXPIRES_S = 10.0
_MAX_KNOWN = 500
_MAX_DIALS = 10


@dataclass(slots=True)
class _Candidate:
    """A peer that could be dialled; ``heard_at`` is None for those that a person named."""

    address: Address
    heard_at: float | None
    next_at: float
    failures: int = 0
    dialling: bool = False


class Scheduler:
    """Dials for a node."""

    def __init__(self, node: Node, *, on_meeting: Callable[[Meeting], None] | None = None) -> None:
        """``on_meeting`` is called when a connection that was dialled begins."""
        self._node = node
        self._on_meeting = on_meeting
        self._candidates: dict[FeedRef, _Candidate] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._node.listeners.append(self._wake.set)
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Dial nobody any more."""
        self._node.listeners.remove(self._wake.set)
        if self._task is not None:
            self._task.cancel()

    def add(self, address: Address) -> None:
        """Keep connected to a peer that a person named."""
        if address.key is not None and address.key != self._node.me:
            self._candidates[address.key] = _Candidate(address, None, self._node.now())
            self._wake.set()

    def found(self, address: Address) -> None:
        """Hear of a peer on the LAN; it is dialled if it is one of those we replicate."""
        key, now = address.key, self._node.now()
        if key is None or key == self._node.me:
            return
        known = self._candidates.get(key)
        if known is None:
            if len(self._candidates) >= _MAX_KNOWN and not self._forget_old(now):
                return
            wait = _POLITE_S + random.random() if self._node.me > key else 0.0  # noqa: S311 (spreads load)
            self._candidates[key] = _Candidate(address, now, now + wait)
            self._wake.set()
        elif known.heard_at is not None:
            if now - known.heard_at > _EXPIRES_S or known.address != address:
                known.failures, known.next_at = 0, now  # it was away, and is back
                self._wake.set()
            known.address, known.heard_at = address, now

    def _forget_old(self, now: float) -> bool:
        old = [
            key
            for key, candidate in self._candidates.items()
            if candidate.heard_at is not None and now - candidate.heard_at > _EXPIRES_S and not candidate.dialling
        ]
        for key in old:
            del self._candidates[key]
        return bool(old)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            now = self._node.now()
            due = [when for key, candidate in self._candidates.items() if (when := self._when(key, candidate, now))]
            dialling = sum(candidate.dialling for candidate in self._candidates.values())
            for when, key in sorted((candidate.next_at, key) for key, candidate in self._candidates.items()):
                candidate = self._candidates[key]
                if dialling < _MAX_DIALS and when <= now and self._when(key, candidate, now) is not None:
                    candidate.dialling = True
                    dialling += 1
                    self._node.keep(asyncio.create_task(self._dial(candidate)))
            wait = min([when - now for when in due if when > now], default=None)
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _when(self, key: FeedRef, candidate: _Candidate, now: float) -> float | None:
        """Return when a peer should be dialled, None for not as things are."""
        if candidate.dialling or key in self._node.meetings or not self._node.policy.is_welcome(key):
            return None
        if candidate.heard_at is not None:
            if not self._node.policy.is_near(key):
                return None  # a stranger may dial us
            if now - candidate.heard_at > _EXPIRES_S:
                return None
        return candidate.next_at

    async def _dial(self, candidate: _Candidate) -> None:
        node = self._node
        started = node.now()
        try:
            connection = await dial(candidate.address, node.home.keypair, node.home.caps)
            candidate.dialling = False
            meeting = await node.meet(connection, on_start=self._on_meeting)
            lasted = meeting is None or node.now() - started > _GOOD_S
        except SneakerError as error:
            lasted = False
            if candidate.failures == 0:
                node.say(f"{candidate.address.host}:{candidate.address.port}: {error.message}")
            if isinstance(error, HandshakeError):
                candidate.failures = max(candidate.failures, 3)  # it will not like us better soon
        finally:
            candidate.dialling = False
        candidate.failures = 0 if lasted else candidate.failures + 1
        wait = min(_FIRST_WAIT_S * 2.0 ** max(0, candidate.failures - 1), _LONGEST_WAIT_S)
        candidate.next_at = node.now() + wait * (0.75 + 0.5 * random.random())  # noqa: S311 (spreads load)
        self._wake.set()
