"""Messages read from the store to be sent, as their authors signed them."""

from __future__ import annotations

from sneaker.errors import StoreDamaged
from sneaker.feed.classic.compact import expand_run
from sneaker.feed.message import Message
from sneaker.refs import FeedRef
from sneaker.store.store import Store

__all__ = ["read_messages"]


def read_messages(store: Store, feed: FeedRef, first: int, last: int) -> list[Message]:
    """Return messages ``first`` to ``last`` of a feed; raises StoreDamaged if some are missing or are not what they were."""
    previous = store.key_at(feed, first - 1) if first > 1 else None
    rows = list(store.rows(feed, first, last))
    messages = expand_run(feed, first, previous, [row.compact for row in rows])
    if len(messages) != last - first + 1 or messages[-1].key != rows[-1].key:
        raise StoreDamaged(f"messages {first} to {last} of {feed} cannot be read", hint="run 'sneaker check --repair'")
    return messages
