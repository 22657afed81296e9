"""What lies on a stick already: ranges of messages and blobs, and how far a reader gets with them."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from sneaker.bundle.records import Index
from sneaker.clock import VectorClock
from sneaker.planning.send_order import Range
from sneaker.refs import BlobRef, FeedRef

__all__ = ["Coverage", "index_coverage", "lacking", "reach"]

# Of fixed width, so that a visit reads what it knows of a hundred thousand ranges in some milliseconds.
_COUNTS = struct.Struct("<BII")
_RANGE = struct.Struct("<33sII")
_VERSION = 3


@dataclass(frozen=True, slots=True)
class Coverage:
    """What one bundle holds."""

    ranges: tuple[Range, ...] = ()
    blobs: frozenset[BlobRef] = field(default_factory=frozenset)

    def encode(self) -> bytes:
        """Return the coverage as bytes, for the store."""
        parts = [_COUNTS.pack(_VERSION, len(self.ranges), len(self.blobs))]
        parts += [_RANGE.pack(*item) for item in self.ranges]
        return b"".join([*parts, *sorted(self.blobs)])

    @staticmethod
    def decode(data: bytes) -> Coverage | None:
        """Read what ``encode`` made; None if it cannot be read: then nobody knows what that bundle holds."""
        if len(data) < _COUNTS.size:
            return None
        version, ranges, blobs = _COUNTS.unpack_from(data)
        start = _COUNTS.size + _RANGE.size * ranges
        if version != _VERSION or len(data) != start + 32 * blobs:
            return None
        return Coverage(
            # As dictionary keys plain bytes are as good as FeedRefs, and a hundred thousand of them are made at once.
            tuple(map(Range._make, _RANGE.iter_unpack(data[_COUNTS.size : start]))),
            frozenset(BlobRef(data[at : at + 32]) for at in range(start, len(data), 32)),
        )


def index_coverage(index: Index) -> Coverage:
    """Return what a bundle with this index holds, with neighbouring runs of a feed joined."""
    runs: dict[int, list[tuple[int, int]]] = {}
    for record in index.records:
        for segment in record.segments:
            found = runs.setdefault(segment.feed, [])
            last = segment.first + segment.messages - 1
            if found and found[-1][1] + 1 == segment.first:
                found[-1] = (found[-1][0], last)
            else:
                found.append((segment.first, last))
    ranges = tuple(Range(index.feeds[feed].feed, first, last) for feed, spans in runs.items() for first, last in spans)
    return Coverage(ranges, frozenset(entry.blob for entry in index.blobs))


class Lacking(NamedTuple):
    """Ranges of a bundle that a reader lacks: those it can use now, and those that come after a gap."""

    usable: tuple[Range, ...]
    later: tuple[Range, ...]


def lacking(coverage: Coverage, clock: VectorClock) -> Lacking:
    """Return what a reader at ``clock`` lacks of a bundle."""
    usable: list[Range] = []
    later: list[Range] = []
    for item in coverage.ranges:
        feed, first, last = item
        held = clock.get(feed, 0)
        if last > held:
            (usable if first <= held + 1 else later).append(item)
    return Lacking(tuple(usable), tuple(later))


def reach(clock: VectorClock, coverages: Iterable[Coverage]) -> VectorClock:
    """Return the clock of a machine at ``clock`` that took everything it can use from ``coverages``.

    Only feeds in ``clock`` count.  A range helps only if it continues what the machine has; ranges may come in any order.
    The slower of two machines stays the slower one, so what serves the slowest serves all.
    """
    spans: dict[FeedRef, list[tuple[int, int]]] = {}
    for coverage in coverages:
        for feed, first, last in coverage.ranges:
            if last > clock.get(feed, last):
                spans.setdefault(feed, []).append((first, last))
    reached = VectorClock(clock)
    for feed, found in spans.items():
        at = reached[feed]
        for first, last in sorted(found):
            if first > at + 1:
                break
            at = max(at, last)
        reached[feed] = at
    return reached
