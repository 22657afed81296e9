"""What comes out of an EBT connection: messages, what the peer says it has, and what to send now."""

from __future__ import annotations

from typing import NamedTuple

from sneaker.refs import FeedRef
from sneaker.wire.ebt.notes import MessageItem

__all__ = ["ClockReceived", "EbtEvent", "OwnMessageSeen", "Run"]


class ClockReceived(NamedTuple):
    """What the peer newly says it has: feed to sequence, -1 for not replicated."""

    changes: dict[FeedRef, int]


class OwnMessageSeen(NamedTuple):
    """A message of our own feed, beyond what we hold, that came out of order or was not asked for."""

    item: MessageItem


#: A message is one we asked for, in order as far as this connection goes.
EbtEvent = MessageItem | ClockReceived | OwnMessageSeen


class Run(NamedTuple):
    """Messages to send now, in this order: ``first`` to ``last`` of ``feed``, both included."""

    feed: FeedRef
    first: int
    last: int
