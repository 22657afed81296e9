"""Who gets what a peer sends for a call."""

from __future__ import annotations

from typing import Protocol

from sneaker.wire.muxrpc.calls import PeerError
from sneaker.wire.muxrpc.packets import BodyKind

__all__ = ["Receiver", "Silent"]


class Receiver(Protocol):
    """Who has a call: gets what the peer sends for it.  Neither method may wait."""

    def item_received(self, kind: BodyKind, body: bytes) -> None:
        """Take an item, and see to it that ``Connection.consumed`` is called for it one day."""

    def end_received(self, error: PeerError | None, *, still_open: bool) -> None:
        """Nothing more comes; if ``still_open``, our side of the call may still send and has to be ended."""


class Silent:
    """For streams on which the peer only listens; whoever sends on them notices when they are gone."""

    def item_received(self, kind: BodyKind, body: bytes) -> None:
        """A source takes nothing."""

    def end_received(self, error: PeerError | None, *, still_open: bool) -> None:
        """Nothing is to be done."""
