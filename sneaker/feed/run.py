"""A run: consecutive messages of one feed, as bundles carry them and the store keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sneaker.feed.message import Compact
from sneaker.refs import FeedRef, MessageRef

__all__ = ["Run"]


class Run(NamedTuple):
    """Messages ``first``, ``first + 1``, ... of ``author``.

    ``previous`` is the key of message ``first - 1`` as the carrier states it, None when ``first`` is 1.  ``keys`` are
    those of the messages where they are known already (out of the store), else empty: a bundle does not carry them.
    """

    author: FeedRef
    first: int
    previous: MessageRef | None
    compacts: Sequence[Compact]
    keys: Sequence[MessageRef] = ()

    @property
    def last(self) -> int:
        """The sequence of the last message."""
        return self.first + len(self.compacts) - 1
