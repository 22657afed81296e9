"""What comes out of a bundle: the events of the reader (``bundles-format.md``, "Reading")."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sneaker.bundle.message_records import decode_messages
from sneaker.bundle.records import Header, Trailer, decode_blob
from sneaker.clock import VectorClock
from sneaker.feed.run import Run
from sneaker.refs import BlobRef, FeedRef

__all__ = [
    "BlobRead",
    "ClockRead",
    "Damage",
    "End",
    "Event",
    "HeaderRead",
    "Lost",
    "MessagesRead",
    "Status",
    "describe_lost",
]


class Status(StrEnum):
    """What a bundle turned out to be, as reports say it."""

    OK = "ok"
    TRUNCATED = "truncated"
    DAMAGED = "damaged"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class HeaderRead:
    """The header was read."""

    header: Header


@dataclass(frozen=True, slots=True)
class ClockRead:
    """The prerequisites (``prerequisites`` true) or the exporter's own clock was read."""

    clock: VectorClock
    prerequisites: bool


@dataclass(frozen=True, slots=True)
class MessagesRead:
    """A message record arrived whole; ``runs()`` decodes it and raises BundleDamaged if its inside is wrong."""

    payload: bytes
    offset: int

    def runs(self) -> list[Run]:
        """Decode; safe to call in any thread."""
        return decode_messages(self.payload)


@dataclass(frozen=True, slots=True)
class BlobRead:
    """A blob record arrived whole; ``blob()`` decodes it and raises BundleDamaged if it does not match its id."""

    payload: bytes
    offset: int

    def blob(self) -> tuple[BlobRef, bytes]:
        """Decode; safe to call in any thread."""
        return decode_blob(self.payload)


@dataclass(frozen=True, slots=True)
class Damage:
    """``length`` bytes from ``offset`` on are no intact record."""

    offset: int
    length: int
    detail: str


@dataclass(frozen=True, slots=True)
class Lost:
    """Messages that the index lists and that did not arrive intact: ``count`` from ``first`` on."""

    feed: FeedRef
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class End:
    """Nothing more will come.

    ``trailer`` is None if none was read.  ``signed`` says that the trailer's signature is its exporter's and covers
    everything that was read.  ``lost_messages`` and ``lost_blobs`` are what the index lists and damage took; None if
    there is no index to tell.
    """

    status: Status
    detail: str
    trailer: Trailer | None = None
    signed: bool = False
    lost_messages: tuple[Lost, ...] | None = None
    lost_blobs: tuple[BlobRef, ...] | None = None


Event = HeaderRead | ClockRead | MessagesRead | BlobRead | Damage | End


def describe_lost(lost: tuple[Lost, ...]) -> str:
    """Return a line that names lost messages: how many of how many feeds, and the first few."""
    count = sum(item.count for item in lost)
    feeds = len({item.feed for item in lost})
    shown = ", ".join(f"{item.feed} {item.first}-{item.first + item.count - 1}" for item in lost[:3])
    return f"{count} messages of {feeds} feeds are damaged: {shown}{', ...' if len(lost) > 3 else ''}"
