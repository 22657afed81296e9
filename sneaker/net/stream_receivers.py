"""Who gets what a peer sends for a call."""

from __future__ import annotations

from typing import Protocol

from sneaker.wire.muxrpc.calls import PeerError
from sneaker.wire.muxrpc.packets import BodyKind

__all__ = ["SendOnly", "StreamReceiver"]


class StreamReceiver(Protocol):
    """Who gets what the peer sends for a call.  Neither method may wait."""

    def item_received(self, kind: BodyKind, body: bytes) -> None:
        """Take an item, and see to it that ``PeerSession.consumed`` is called for it one day."""

    def end_received(self, error: PeerError | None, *, still_open: bool) -> None:
        """Nothing more comes; if ``still_open``, our side of the call may still send and has to be ended."""


class SendOnly:
    """The receiver of a stream on which only we send; whoever sends on it notices when it is gone."""

    def item_received(self, kind: BodyKind, body: bytes) -> None:
        """Do nothing: on a source the caller sends nothing."""

    def end_received(self, error: PeerError | None, *, still_open: bool) -> None:
        """Do nothing."""
