"""What comes out of an EBT connection: messages, what the peer says it has, and what to send now."""

from __future__ import annotations

from typing import NamedTuple

from sneaker.refs import FeedRef
from sneaker.wire.ebt.notes import MessageItem

__all__ = ["ClockReceived", "EbtEvent", "OwnMessageSeen", "Run"]


class ClockReceived(NamedTuple):
    """What the peer says it has, where that changed: feed to sequence, -1 for not replicated."""

    changes: dict[FeedRef, int]


class OwnMessageSeen(NamedTuple):
    """A message of our own feed, beyond what we hold, that came out of order or was not asked for."""

    item: MessageItem


#: A MessageItem is a message that we asked for, and that follows the last one that this connection brought.
EbtEvent = MessageItem | ClockReceived | OwnMessageSeen


class Run(NamedTuple):
    """Messages to send now, in this order: ``first`` to ``last`` of ``feed``, both included."""

    feed: FeedRef
    first: int
    last: int
