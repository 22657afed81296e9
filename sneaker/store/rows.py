"""The values that go into a store and come out of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from sneaker.feed.content import Facts
from sneaker.feed.message import Compact
from sneaker.planning.what_others_have import ClockSource
from sneaker.refs import BlobRef, FeedRef, MessageRef
from sneaker.social import EdgeState

__all__ = [
    "SEQUENCE_BITS",
    "SEQUENCE_MASK",
    "Batch",
    "BlobLink",
    "Claim",
    "Committed",
    "Counts",
    "Edge",
    "EdgeState",
    "FeedState",
    "Fork",
    "ForkRow",
    "MessageRow",
    "Name",
    "OwnKeyElsewhere",
    "OwnSeen",
    "Peer",
    "Row",
    "WaitingRow",
]

# A message's row id is its feed's id above its sequence, so that a feed lies together on disk, in order, and neither
# needs a column or an index.  Sequences stay below 2^31 (limits.MAX_SEQUENCE).
SEQUENCE_BITS = 32
SEQUENCE_MASK = (1 << SEQUENCE_BITS) - 1

#: (id, key, form, timestamp, signature, content): a message as it is stored; ``id`` is feed id << 32 | sequence, the
#: last four are a ``feed.message.Compact``.  Plain tuples: import makes one per message.
MessageRow = tuple[int, bytes, int, int, bytes, bytes]

#: (id, key, previous, form, timestamp, signature, content): a message in the waiting room; ``previous`` is b"" if null.
WaitingRow = tuple[int, bytes, bytes, int, int, bytes, bytes]


class Row(NamedTuple):
    """One stored message of a feed: what export needs of it."""

    sequence: int
    key: MessageRef
    compact: Compact


class Edge(NamedTuple):
    """A follow-graph edge; ``sequence`` is that of the contact message of ``author``'s it comes from."""

    author: FeedRef
    contact: FeedRef
    state: EdgeState
    sequence: int


class Name(NamedTuple):
    """A name that ``author`` gave to the feed ``about``; anything from the network, not safe to print as it is."""

    about: FeedRef
    author: FeedRef
    name: str
    sequence: int


class BlobLink(NamedTuple):
    """A message that mentions a blob."""

    blob: BlobRef
    feed: FeedRef
    sequence: int


@dataclass(frozen=True, slots=True)
class Fork:
    """Proof that an author signed two messages for one place.

    ``ours`` is the key of the message that we had at ``sequence``.  It is None if the other message sits beyond our head:
    it names a ``previous`` that is not the message held there.  ``key``, ``previous`` and ``compact`` are the other
    message's.
    """

    feed: FeedRef
    sequence: int
    ours: MessageRef | None
    key: MessageRef
    previous: MessageRef | None
    compact: Compact
    seen_at_ms: int


@dataclass(frozen=True, slots=True)
class Peer:
    """Another machine, and how we last learnt what it has.

    ``counter`` and ``time_ms`` are what its newest card claims, ``met_at_ms`` is our own time.
    """

    ref: FeedRef
    source: ClockSource
    counter: int = 0
    time_ms: int = 0
    met_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class OwnSeen:
    """The highest sequence of a feed that anybody has shown or claimed.

    ``held`` is our head, ``proven`` comes from messages that the author signed (also in the waiting room and in
    forks), ``claimed`` from the have-lists of those whose word counts.
    """

    held: int
    proven: int
    claimed: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody's claim that our own feed reaches to ``sequence``, made while we held less.

    ``source`` is who said so (ourselves: a card with our own signature), None for a list or log that the person gave us.
    ``key`` is the id of that message, which only cards of our own state.  ``dismissed`` ones were declared wrong by the
    person; ``counts`` says that the source is somebody to be believed (``store.own_feed_claims``).
    """

    source: FeedRef | None
    sequence: int
    key: MessageRef | None
    seen_at_ms: int
    dismissed: bool
    counts: bool = True


class OwnKeyElsewhere(NamedTuple):
    """Another machine, at the IP address ``host``, proved that it holds our secret."""

    host: str
    seen_at_ms: int


@dataclass(frozen=True, slots=True)
class Counts:
    """Sizes for ``status``; ``bytes`` is what the store takes on disk."""

    feeds: int
    messages: int
    waiting: int
    waiting_bytes: int
    forks: int
    peers: int
    bytes: int


@dataclass(slots=True)
class FeedState:
    """Where a feed stands for the writer.  ``id`` is 0 if the store does not know the feed yet."""

    ref: FeedRef
    id: int = 0
    sequence: int = 0
    key: bytes = b""
    forked: bool = False


class ForkRow(NamedTuple):
    """A fork to be stored: the waiting-room row of the other message, and our key at that sequence or b""."""

    row: WaitingRow
    ours: bytes
    seen_at_ms: int


@dataclass(slots=True)
class Batch:
    """What one transaction writes.  Everything in it is validated already.

    ``feeds``: ids for feeds the store has no id for.  ``heads``: feed id -> (sequence before, sequence after, key
    after), one entry for each feed that ``rows`` extends.  ``rows`` are sorted by the store.  ``facts`` are what the
    messages in ``rows`` say (the store's ``read_facts``), by message id.
    """

    feeds: list[tuple[int, bytes]] = field(default_factory=list)
    rows: list[MessageRow] = field(default_factory=list)
    facts: list[tuple[int, Facts]] = field(default_factory=list)
    heads: dict[int, tuple[int, int, bytes]] = field(default_factory=dict)
    waiting: list[WaitingRow] = field(default_factory=list)
    forks: list[ForkRow] = field(default_factory=list)
    now_ms: int = 0


@dataclass(slots=True)
class Committed:
    """What a committed batch caused beyond itself.

    ``promoted``: feed id -> (sequence, key, how many) for feeds that messages in the waiting room continued;
    ``forked``: ids of messages that turned out then to be forks of their feeds; ``stopped``: ids of messages that
    wait no longer because their feeds are forked; ``crowded``: ids of messages that the waiting room had no place for; they
    may all have been there for long.  ``repeated``: how many messages were there before, in the feed or waiting;
    ``room``: feed id -> how many more of its messages wait now, or fewer.
    """

    promoted: dict[int, tuple[int, bytes, int]] = field(default_factory=dict)
    forked: list[int] = field(default_factory=list)
    stopped: list[int] = field(default_factory=list)
    crowded: list[int] = field(default_factory=list)
    repeated: int = 0
    room: dict[int, int] = field(default_factory=dict)
