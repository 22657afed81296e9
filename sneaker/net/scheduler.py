"""Whom to dial, and when: peers that were found or named, one connection each, again and again but ever less eagerly."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from sneaker.bugs import what_went_wrong
from sneaker.errors import HandshakeError
from sneaker.net.greeting import dial
from sneaker.net.meeting import Meeting, Tally
from sneaker.net.node import Node
from sneaker.net.places import EXPIRES_S, Places
from sneaker.refs import FeedRef
from sneaker.wire.address import Address

__all__ = ["Scheduler"]

# The first wait after a failure, and the longest.
_FIRST_WAIT_S = 2.0
_LONGEST_WAIT_S = 300.0
# A connection that lasted so long was a good one; and one in which both sides told each other what they have, if it lasted
# so long: ssb-server ends each connection once nothing has happened for 10 s.
_GOOD_S = 30.0
_WORKED_S = 5.0
# Two peers hear of each other at the same time. The one with the higher key waits, so that one connection is made, not two.
_POLITE_S = 1.5
_MAX_KNOWN = 500
_MAX_DIALS = 10


@dataclass(slots=True)
class _Candidate:
    """A peer that could be dialled: at the ``address`` that a person named, else where it is heard.

    How eagerly it is dialled hangs on the peer alone, so that nobody can make us dial more by naming more places.
    """

    next_at: float
    address: Address | None = None
    places: Places = field(default_factory=Places)
    failures: int = 0
    dialling: bool = False

    def place(self, now: float) -> Address | None:
        """Return where to dial it, None if it is not heard any more."""
        return self.address or self.places.choose(now)


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
        self._task = asyncio.create_task(self._node.go_on(self._run))

    async def stop(self) -> None:
        """Dial nobody any more."""
        self._node.listeners.remove(self._wake.set)
        if self._task is not None:
            self._task.cancel()

    def add(self, address: Address) -> None:
        """Keep connected to a peer that a person named."""
        if address.key is not None and address.key != self._node.me:
            self._candidates[address.key] = _Candidate(self._node.now(), address)
            self._wake.set()

    def found(self, address: Address, signed: bool = False) -> None:
        """Hear of a peer on the LAN; it is dialled if it is one of those we replicate.

        ``signed``: its own key says that it is there.
        """
        key, now = address.key, self._node.now()
        if key is None or key == self._node.me or not self._node.policy.is_near(key):
            return  # a stranger may dial us; any number of them takes nobody's place
        known = self._candidates.get(key)
        if known is None:
            if len(self._candidates) >= _MAX_KNOWN and not self._forget_old(now):
                return
            wait = _POLITE_S + random.random() if self._node.me > key else 0.0  # noqa: S311 (spreads load)
            known = self._candidates[key] = _Candidate(now + wait)
            known.places.hear(address, signed, now)
            self._wake.set()
        elif known.address is None:
            silent_for = now - known.places.heard_at
            is_sure_now = known.places.hear(address, signed, now)
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
            if candidate.place(now) is None and not candidate.dialling
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
                address = candidate.place(now)
                if address is None or self._when(key, candidate, now) is None:
                    continue
                if dialling < _MAX_DIALS and when <= now:
                    candidate.dialling = True
                    dialling += 1
                    self._node.keep(asyncio.create_task(self._dial(candidate, address)))
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
        if candidate.address is None and not self._node.policy.is_near(key):
            return None  # it was near when it was found
        return candidate.next_at if candidate.place(now) is not None else None

    async def _dial(self, candidate: _Candidate, address: Address) -> None:
        node = self._node
        started = node.now()
        lasted = False
        try:
            connection = await dial(address, node.home.keypair, node.home.caps)
            candidate.places.met(address)
            candidate.dialling = False
            meeting = await node.meet(connection, on_start=self._on_meeting)
            lasted = meeting is None or _was_good(meeting, node.now() - started)
        except Exception as error:
            candidate.places.missed(address)
            if candidate.failures == 0:
                node.say(f"{address.host}:{address.port}: {what_went_wrong(error)}")
            if isinstance(error, HandshakeError):
                candidate.failures = max(candidate.failures, 3)  # it will not like us better soon
        finally:
            candidate.dialling = False
        candidate.failures = 0 if lasted else candidate.failures + 1
        wait = min(_FIRST_WAIT_S * 2.0 ** max(0, candidate.failures - 1), _LONGEST_WAIT_S)
        candidate.next_at = node.now() + wait * (0.75 + 0.5 * random.random())  # noqa: S311 (spreads load)
        self._wake.set()


def _was_good(meeting: Meeting, seconds: float) -> bool:
    """Say whether a connection that has ended was no failure: it did its work, and then there was no more to do."""
    if seconds > _GOOD_S:
        return True
    in_order = meeting.connection.error is None
    return meeting.has_worked and (seconds > _WORKED_S or (in_order and meeting.tally != Tally()))
