"""What comes out of a source, whatever its kind: events of bundles, what is in logs, and cards."""

from __future__ import annotations

from typing import NamedTuple

from sneaker.bundle.card import Card
from sneaker.bundle.events import Event
from sneaker.feed.message import Message
from sneaker.refs import FeedRef

__all__ = ["CardRead", "LogEntry", "SourceEvent"]


class LogEntry(NamedTuple):
    """Something in a log: a message, or why there is none.

    ``feed`` and ``sequence`` are what it names, as far as that can be read, even if it is no message.  ``code`` and
    ``detail`` say what is wrong with it.  ``is_broken``: it is no message at all; ``is_torn``: the log ends in it.
    ``is_mislabelled``: the key that stands beside it is not its own.
    """

    line: int
    message: Message | None = None
    feed: FeedRef | None = None
    sequence: int | None = None
    code: str = ""
    detail: str = ""
    is_mislabelled: bool = False
    is_broken: bool = False
    is_torn: bool = False


class CardRead(NamedTuple):
    """A card was read; ``data`` are its bytes, as they were signed."""

    card: Card
    data: bytes


#: Bundles and logs end with an ``End``, which says whether they were whole.
SourceEvent = Event | LogEntry | CardRead
