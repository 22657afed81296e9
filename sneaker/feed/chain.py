"""How a message stands to what is held of its feed: the one place where that is decided, for every feed format.

A feed is a chain: each message names the key of the one before it.  So three things decide: where the feed that we hold
ends (sequence and key of its last message), which message we hold at the new one's sequence, if any, and what the new one
says of itself.  Nothing here reads a message, a store or a signature; a fork is proven only once the signature is valid,
for anybody can make up a message that contradicts what we hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from operator import eq

__all__ = ["UNKNOWN_END", "Chain", "is_chained", "place_in_chain"]

#: The ``end`` of a feed of which nobody can say where it ends: nothing continues it.
UNKNOWN_END = -1


class Chain(Enum):
    """How a message stands to its feed."""

    #: It continues the feed.
    NEXT = "next"
    #: It is the message held there.
    KNOWN = "known"
    #: Messages before it are missing.
    GAP = "gap"
    #: It contradicts what is held: another message at its sequence, or another one before it.
    FORK = "fork"


_NEXT, _KNOWN, _GAP, _FORK = Chain.NEXT, Chain.KNOWN, Chain.GAP, Chain.FORK


def place_in_chain(
    end: int, end_key: bytes, sequence: int, previous: bytes | None, key: bytes | None, held: bytes | None
) -> Chain:
    """Say how a message stands to a feed that ends at sequence ``end`` with the message ``end_key`` (0 and b"": it is empty).

    ``sequence``, ``previous`` and ``key`` are the message's.  ``previous`` is None in a feed's first message, and where the
    carrier does not say what a message follows: it is taken to follow the end then, and its key or signature shows whether
    that was right.  ``held`` is the key of the message that is held at ``sequence``, in the feed or waiting; None if there
    is none.  Any two values that tell messages apart will do for keys, as long as ``key`` and ``held`` are of one kind.
    """
    if held is not None:
        return _KNOWN if held == key else _FORK
    if sequence == end + 1:
        return _NEXT if previous is None or previous == end_key else _FORK
    return _GAP if sequence > end else _FORK


def is_chained(keys: Sequence[bytes], previous: Sequence[bytes | None]) -> bool:
    """Say whether consecutive messages follow each other: each one's ``previous`` but the first one's is the key before."""
    return all(map(eq, keys, previous[1:]))
