"""How a damaged copy and a forked feed are told apart.

Both look the same: a message is not the one that we hold.  Only a second message for the same place, signed by the
author, proves a fork.  Everything else anybody can make up.
"""

from __future__ import annotations

from collections.abc import Callable

from sneaker.errors import InvalidMessage
from sneaker.feed.chain import Chain, place_in_chain
from sneaker.feed.formats import format_of
from sneaker.feed.message import Compact, Message
from sneaker.feed.run import Run
from sneaker.refs import FeedRef, MessageRef
from sneaker.store.rows import SEQUENCE_BITS, MessageRow, WaitingRow

__all__ = ["FeedEnd", "find_contradiction", "held_mark", "mark", "waiting_row"]


class FeedEnd:
    """Where a feed ends for ``Ingest``; see there for the proven and the expected end.  ``id`` is that of the store."""

    __slots__ = (
        "expected",
        "expected_key",
        "forked",
        "format",
        "id",
        "proven",
        "proven_key",
        "ref",
        "stored",
        "touched",
        "wanted",
    )

    def __init__(
        self,
        ref: FeedRef,
        feed_id: int = 0,
        sequence: int = 0,
        key: bytes = b"",
        forked: bool = False,
        *,
        wanted: bool = True,
    ) -> None:
        self.ref = ref
        self.format = format_of(ref)
        self.id = feed_id
        self.proven = self.expected = sequence
        self.proven_key = self.expected_key = key
        self.forked = forked
        self.wanted = wanted
        #: Whether the store has a row for it, or will have one with the next batch.
        self.stored = False
        #: The batch in which something came for it last.
        self.touched = 0

    def expect_proven(self) -> None:
        """Begin again at what is proven."""
        self.expected, self.expected_key = self.proven, self.proven_key


def mark(item: Compact) -> bytes:
    """Return what tells a message from others without expanding it: a signature belongs to one text.

    A message that is kept raw has its signature only in its text, so it has another mark than in compact form.
    """
    return item.signature or item.content


def held_mark(stored: MessageRow | None, item: Compact) -> bytes | None:
    """Return what ``mark(item)`` is to be compared with; None if nothing is stored."""
    return None if stored is None else stored[4] if item.signature else stored[5]


def waiting_row(row: MessageRow, previous: bytes) -> WaitingRow:
    """Return a message as the waiting room keeps it: with the key of the one before it."""
    return (row[0], row[1], previous, *row[2:])


def find_contradiction(
    feed: FeedEnd, run: Run, overlap: int, row_of: Callable[[int], MessageRow | None]
) -> tuple[int, int, Message | None]:
    """Compare the first ``overlap`` messages of a run with those we hold.

    Returns how many are the same, how many are not, and the first that is not, rebuilt on what it follows in the run
    (None if all are the same, or it is no valid message).  Whether its author signed it is for the caller to check.
    """
    known = 0
    refused = 0
    found: Message | None = None
    previous = run.previous
    base = feed.id << SEQUENCE_BITS
    if previous is None and run.first > 1:
        before = row_of(base | run.first - 1)
        previous = MessageRef(before[1]) if before is not None else None
    for sequence, item in enumerate(run.compacts[:overlap], run.first):
        ours = row_of(base | sequence)
        held = held_mark(ours, item)
        if place_in_chain(feed.proven, feed.proven_key, sequence, previous, mark(item), held) is Chain.KNOWN:
            known += 1
        elif refused:
            refused += 1
        else:
            try:
                message = feed.format.expand(feed.ref, sequence, previous, item)
            except InvalidMessage:
                refused += 1
            else:
                held = ours[1] if ours is not None else None
                if place_in_chain(feed.proven, feed.proven_key, sequence, previous, message.key, held) is Chain.KNOWN:
                    known += 1
                else:
                    refused += 1
                    found = message
        previous = MessageRef(ours[1]) if ours is not None else None
    return known, refused, found
