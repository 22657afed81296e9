"""Peers that are gone, silent, or take nothing: noticed, asked for a sign of life, and left."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from sneaker.net.peer_session import PeerSession

__all__ = ["SILENCE_S", "KeepAlive"]

# Silence after which the peer is asked something, and after which it counts as gone. JavaScript peers drop connections
# that are silent for 600 s and ping every 300.
KEEPALIVE_S = 100.0
SILENCE_S = 240.0

# A peer that takes nothing for so long is not worth the memory.
STUCK_S = 60.0


class KeepAlive:
    """Looks after one session."""

    def __init__(self, session: PeerSession, ask: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """``ask`` asks the peer anything that makes it answer."""
        self._session = session
        self._ask = ask
        self._asked_at = 0.0

    def check(self, now: float) -> None:
        """To be called about once a second, with the loop's time."""
        session = self._session
        silent_for = now - session.heard_at
        if session.muxrpc.outgoing_bytes and now - session.sent_at > STUCK_S:
            session.abort("the peer takes nothing any more")
        elif silent_for > SILENCE_S and not session.is_paused:
            session.abort("the peer is silent")
        elif silent_for > KEEPALIVE_S and now - self._asked_at > KEEPALIVE_S and not session.closing:
            self._asked_at = now
            session.spawn(self._ask())
