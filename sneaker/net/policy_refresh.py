"""When the follow graph is read again: soon after it has changed, and not so often that nothing else gets done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sneaker.net.context import NetContext
from sneaker.net.feeds_to_replicate import ReplicationPolicy, read_replication_policy

__all__ = ["PolicyRefresh"]

# The follow graph is read again so long after it changed, so that a burst of follows counts as one change; and in a long
# burst not so often that it takes more than a tenth of the time.
_DELAY_S = 0.25
_SHARE = 10


class PolicyRefresh:
    """Reads the follow graph in the background, for one node."""

    def __init__(self, context: NetContext, hops: int, on_policy: Callable[[ReplicationPolicy], None]) -> None:
        """``on_policy`` gets what is replicated now, whether that has changed or not."""
        self._context = context
        self._hops = hops
        self._on_policy = on_policy
        self._due: asyncio.TimerHandle | None = None
        self._not_before = 0.0
        self._reading = False
        self._stopped = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being read, nor about to be."""
        return self._due is None and not self._reading

    def request(self) -> None:
        """Read the follow graph again, soon."""
        if self._due is None and not self._stopped:
            when = max(self._context.now() + _DELAY_S, self._not_before)
            self._due = asyncio.get_running_loop().call_at(when, self._start)

    def stop(self) -> None:
        """Read it no more."""
        self._stopped = True
        if self._due is not None:
            self._due.cancel()

    def _start(self) -> None:
        self._due = None
        if self._reading:
            self.request()
            return
        self._reading = True
        self._context.background.spawn(self._read())

    async def _read(self) -> None:
        context = self._context
        started = context.now()
        try:
            read = context.background.with_store
            self._on_policy(await read(lambda store: read_replication_policy(store, context.me, self._hops)))
        finally:
            self._reading = False
            self._not_before = context.now() + _SHARE * (context.now() - started)
