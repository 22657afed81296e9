"""What a store is: the values that go in and out, and the interface that every store keeps to.

A store holds feeds without gaps, a waiting room for messages that arrived before their predecessors, evidence of
forks, what can be derived from messages (follow edges, names, blob links), and what peers said they have.  It
validates nothing: ``sneaker.ingest.ingest`` is the one door in, and hands over batches that are proven already.

One suite in ``tests/store`` runs against every store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol, Self

from sneaker.clock import VectorClock
from sneaker.feed.classic.compact import Compact
from sneaker.feed.classic.message import Head, Message
from sneaker.feed.content import Facts, FactsReader
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
    "Note",
    "OwnKeyElsewhere",
    "OwnSeen",
    "Peer",
    "PeerKind",
    "Row",
    "Store",
    "WaitingRow",
    "Writer",
]

# A message's row id is its feed's id above its sequence, so that a feed lies together on disk, in order, and neither
# needs a column or an index.  Sequences stay below 2^31 (limits.MAX_SEQUENCE).
SEQUENCE_BITS = 32
SEQUENCE_MASK = (1 << SEQUENCE_BITS) - 1

#: (id, key, form, timestamp, signature, content): a message as it is stored; ``id`` is feed id << 32 | sequence, the
#: last four are a ``feed.classic.compact.Compact``.  Plain tuples: import makes one per message.
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


class PeerKind(StrEnum):
    """How we last learnt what a peer has."""

    EBT = "ebt"
    CARD = "card"
    BUNDLE = "bundle"


class Note(NamedTuple):
    """What a peer said about one feed: the last sequence it has, and whether it wants the feed at all."""

    sequence: int
    replicate: bool = True


@dataclass(frozen=True, slots=True)
class Peer:
    """Another machine; ``counter`` and ``time_ms`` are what its newest card claims, ``met_at_ms`` is our own time."""

    ref: FeedRef
    kind: PeerKind
    counter: int = 0
    time_ms: int = 0
    met_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class OwnSeen:
    """The highest sequence of a feed that anybody has shown or claimed.

    ``held`` is our head, ``proven`` comes from messages signed by the author (waiting room and forks count),
    ``claimed`` from have-lists, which are only hints, of those whose word counts.
    """

    held: int
    proven: int
    claimed: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody's claim that our own feed reaches to ``sequence``, made while we held less.

    ``source`` is who said so (ourselves: a card with our own signature), None for a list or log that the person gave us.
    ``key`` is the id of that message, which only cards of our own state.  ``dismissed`` ones were declared wrong by the
    person; ``counts`` says that the source is somebody to be believed (``store.claims``).
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
    ``forked``: ids of messages that turned out to be forks of their feeds while doing so; ``stopped``: ids of messages that
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


class Writer(Protocol):
    """The one who may extend feeds; at most one exists per store on the whole machine."""

    def feed_state(self, ref: FeedRef) -> FeedState:
        """Return where a feed stands."""

    def next_feed_id(self) -> int:
        """Return an id for a feed that has none; each call returns another one."""

    def row(self, row_id: int) -> MessageRow | None:
        """Return a stored message."""

    def waiting_row(self, row_id: int) -> WaitingRow | None:
        """Return a message of the waiting room."""

    def commit(self, batch: Batch, idle: Callable[[], None] | None = None) -> Committed:
        """Write a batch in one transaction, promote what it makes possible, and return once it is on the disk.

        ``idle`` is called now and then meanwhile, so that the caller can keep its workers fed.  Raises StoreFull, StoreLocked, StoreDamaged; then nothing of the batch is in the store.
        """

    def pause(self) -> None:
        """Let others write until ``resume``; reading goes on."""

    def resume(self, timeout_s: float = 5.0) -> bool:
        """Become the one writer again, and say whether anybody has written meanwhile; raises StoreLocked.

        What was read before may not hold any more then, and ids that ``next_feed_id`` gave may be taken.
        """

    def close(self) -> None:
        """Let the next writer in."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class Store(Protocol):
    """Everything that reads; and small writes that do not extend feeds."""

    #: The identity this store is kept for, if it was opened for one.
    own: FeedRef | None

    #: Reads what a message says, for what is derived from messages.
    read_facts: FactsReader

    # -- feeds and messages

    def clock(self) -> VectorClock:
        """Return the sequence of every feed of which at least one message is held."""

    def head(self, feed: FeedRef) -> Head | None:
        """Return the last message's sequence and key, or None if no message of the feed is held."""

    def heads(self) -> Iterator[tuple[FeedRef, Head]]:
        """Yield every feed with its head."""

    def rows(self, feed: FeedRef, first: int = 1, last: int | None = None) -> Iterator[Row]:
        """Yield the messages of a feed in order, as stored."""

    def key_at(self, feed: FeedRef, sequence: int) -> MessageRef | None:
        """Return the id of one message."""

    def message(self, feed: FeedRef, sequence: int) -> Message | None:
        """Return one message, rebuilt."""

    def messages(self, feed: FeedRef, first: int = 1, last: int | None = None) -> Iterator[Message]:
        """Yield the messages of a feed in order, rebuilt."""

    def log(
        self,
        *,
        feeds: Iterable[FeedRef] | None = None,
        first: int = 1,
        kind: str | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Iterator[Message]:
        """Yield messages of all or some feeds, merged by their authors' timestamps, lazily.

        Each feed stays in its own order, whatever its timestamps say.  ``first`` is the first sequence of each feed,
        ``kind`` the content's type.
        """

    def counts(self) -> Counts:
        """Return sizes."""

    def forks(self) -> Iterator[Fork]:
        """Yield the evidence of every fork seen."""

    def forked(self) -> set[FeedRef]:
        """Return the feeds that accept nothing more."""

    def waiting(self) -> dict[FeedRef, list[tuple[int, int]]]:
        """Return for each feed in the waiting room the (first, last) ranges that wait."""

    def own_sequence_seen(self, feed: FeedRef) -> OwnSeen:
        """Return the highest sequence of a feed that was shown or claimed; neither dismissed claims count nor strangers'."""

    def data_version(self) -> int:
        """Return a number that changes when anybody but this object has written to the store; cheap to ask for."""

    # -- derived from messages

    def edges(self, author: FeedRef | None = None) -> Iterator[Edge]:
        """Yield follow-graph edges: the newest of each author about each contact."""

    def blocked(self, by: FeedRef) -> set[FeedRef]:
        """Return the feeds that ``by`` blocks; nobody blocks themselves."""

    def hops(self, start: FeedRef, limit: int) -> dict[FeedRef, int]:
        """Return the distance of every feed within ``limit`` of ``start``; -1 for blocked by ``start``."""

    def names(self, about: FeedRef) -> list[Name]:
        """Return the names given to a feed; those it gave itself come first."""

    def blob_links(self, feed: FeedRef | None = None, first: int = 1, last: int | None = None) -> Iterator[BlobLink]:
        """Yield the blobs that messages mention."""

    def blob_is_linked(self, blob: BlobRef) -> bool:
        """Say whether any message held mentions this blob."""

    # -- what peers have

    def set_peer(self, peer: Peer) -> None:
        """Remember a peer, or update what is known of it."""

    def peers(self) -> list[Peer]:
        """Return the peers, those met last first."""

    def peer_clock(self, peer: FeedRef) -> dict[FeedRef, Note]:
        """Return what a peer said it has; empty if it said nothing."""

    def update_peer_clock(self, peer: FeedRef, notes: Mapping[FeedRef, Note], *, keep_higher: bool = False) -> None:
        """Take over new notes; feeds not mentioned keep theirs.  At most MAX_CLOCK_FEEDS are kept for a peer.

        With ``keep_higher`` a sequence never goes down: for cards and bundles, which arrive in any order.  What a peer
        says over EBT is how things are, even if it has lost data.
        """

    def replace_peer_clock(self, peer: FeedRef, notes: Mapping[FeedRef, Note]) -> None:
        """Take over a whole clock, as a card gives it."""

    def forget_peer_clock(self, peer: FeedRef | None = None) -> None:
        """Forget what one peer said, or all of them: necessary after data loss.  Claims about the own feed stay."""

    def note_claim(self, feed: FeedRef, source: FeedRef | None, sequence: int, key: MessageRef | None = None) -> None:
        """Remember a claim about the own feed, if it says more than we hold, or another message than we hold.

        Whoever claims what: no more than MAX_CLAIMS are kept, strangers' go first.  Stores that were opened for an identity do so by themselves for what goes into peers' clocks.
        """

    def claims(self, feed: FeedRef) -> list[Claim]:
        """Return what was claimed about a feed, the farthest first, each weighed by who said it."""

    def dismiss_claims(self, feed: FeedRef) -> int:
        """Let nothing that others claim about a feed count from now on, until they claim more; return how many claims did.

        What we ourselves signed or noted goes on counting: there is no being wrong about that.
        What strangers claimed is dismissed with the rest: it does not come to count when they become near.
        """

    def note_own_key(self, feed: FeedRef, host: str) -> None:
        """Remember that another machine holds the secret of a feed of ours."""

    def own_key_elsewhere(self, feed: FeedRef) -> list[OwnKeyElsewhere]:
        """Return the machines that were seen with the secret of a feed since that was last settled, the newest first."""

    def settle_own_key(self, feed: FeedRef) -> None:
        """Forget them: the person says that no other machine uses the secret any more."""

    def note_opened(self, opening: bytes) -> None:
        """Remember what a handshake of this home opens with, for a while."""

    def has_opened(self, opening: bytes) -> bool:
        """Say whether a handshake was opened by this home lately."""

    # -- writing

    def writer(
        self, timeout_s: float = 5.0, *, dry_run: bool = False, on_wait: Callable[[], None] | None = None
    ) -> Writer:
        """Become the one writer; raises StoreLocked if another has not finished after ``timeout_s`` seconds.

        ``on_wait`` is called once if that takes longer than a person would wait without a word.

        With ``dry_run`` the writer sees what it writes, but nothing of it is there once it is closed.
        """

    def close(self) -> None:
        """Close all files."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...
