"""One log out of many feeds: merged by the authors' timestamps, lazily, forwards and backwards.

Timestamps are claims.  A feed stays in its own order whatever it claims; a message without a number for a timestamp
sorts as the one before it.  Equal stores give equal logs: feeds that claim the same time go by their refs.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter

__all__ = ["Stamp", "merge_feeds"]

#: (sequence, timestamp or None)
Stamp = tuple[int, float | None]

_Entry = tuple[float, bytes, int]


def merge_feeds(
    feeds: Iterable[bytes],
    stamps: Callable[[bytes], Iterator[Stamp]],
    *,
    reverse: bool = False,
) -> Iterator[tuple[bytes, int]]:
    """Yield (feed, sequence) of all messages, merged.

    ``stamps`` gives the messages of a feed in its order, or in reverse order with ``reverse``.
    """
    cursors = [_backwards(feed, stamps(feed)) if reverse else _forwards(feed, stamps(feed)) for feed in feeds]
    for _, feed, sequence in heapq.merge(*cursors, key=itemgetter(0, 1), reverse=reverse):
        yield feed, sequence


def _forwards(feed: bytes, stamps: Iterator[Stamp]) -> Iterator[_Entry]:
    last = 0.0
    for sequence, timestamp in stamps:
        # The latest time in this feed so far. A message with an earlier one sorts there: feeds keep their own order.
        last = last if timestamp is None else timestamp
        yield last, feed, sequence


def _backwards(feed: bytes, stamps: Iterator[Stamp]) -> Iterator[_Entry]:
    nameless: list[int] = []
    for sequence, timestamp in stamps:
        if timestamp is None:
            nameless.append(sequence)
            continue
        for later in nameless:
            yield timestamp, feed, later
        nameless.clear()
        yield timestamp, feed, sequence
    for later in nameless:
        yield 0.0, feed, later
