"""What lies on a stick already: ranges of messages and blobs, and how far a reader gets with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sneaker.bundle.format import Cursor, encode_varint
from sneaker.bundle.plan import Range
from sneaker.bundle.records import Index
from sneaker.errors import BundleDamaged
from sneaker.limits import MAX_CLOCK_FEEDS, MAX_SEQUENCE
from sneaker.refs import BlobRef, FeedRef

__all__ = ["Coverage", "index_coverage", "reaches"]

_MAX_BLOBS = 1_000_000
_MAX_RANGES = 4 * MAX_CLOCK_FEEDS


@dataclass(frozen=True, slots=True)
class Coverage:
    """What one bundle holds."""

    ranges: tuple[Range, ...] = ()
    blobs: frozenset[BlobRef] = field(default_factory=frozenset)

    def is_covered_by(self, clock: Mapping[FeedRef, int], wants: frozenset[BlobRef]) -> bool:
        """Say whether a machine with this clock and these wants has no use for the bundle any more."""
        return all(clock.get(item.feed, 0) >= item.last for item in self.ranges) and not (self.blobs & wants)

    def encode(self) -> bytes:
        """Return the coverage as bytes, for the store."""
        parts = [encode_varint(len(self.ranges))]
        for item in self.ranges:
            parts += (item.feed, encode_varint(item.first), encode_varint(item.last))
        parts.append(encode_varint(len(self.blobs)))
        return b"".join([*parts, *sorted(self.blobs)])

    @staticmethod
    def decode(data: bytes) -> Coverage:
        """Read what ``encode`` made; empty if it cannot be read, for it is only a cache."""
        try:
            cursor = Cursor(data)
            ranges = tuple(
                Range(FeedRef(cursor.take(32)), cursor.varint(MAX_SEQUENCE), cursor.varint(MAX_SEQUENCE))
                for _ in range(cursor.varint(_MAX_RANGES))
            )
            blobs = frozenset(BlobRef(cursor.take(32)) for _ in range(cursor.varint(_MAX_BLOBS)))
            cursor.finish()
        except BundleDamaged:
            return Coverage()
        return Coverage(ranges, blobs)


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


def reaches(
    clocks: Iterable[Mapping[FeedRef, int]], coverages: Iterable[Coverage]
) -> list[Mapping[FeedRef, int]]:
    """Return for each clock that of a machine which took everything it can use from ``coverages``.

    A range helps only if it continues what the machine has; ranges may come in any order.
    """
    spans: dict[FeedRef, list[tuple[int, int]]] = {}
    for coverage in coverages:
        for item in coverage.ranges:
            spans.setdefault(item.feed, []).append((item.first, item.last))
    for found in spans.values():
        found.sort()
    return [_reach(clock, spans) for clock in clocks]


def _reach(clock: Mapping[FeedRef, int], spans: Mapping[FeedRef, list[tuple[int, int]]]) -> dict[FeedRef, int]:
    reached = dict(clock)
    for feed, found in spans.items():
        at = reached.get(feed, 0)
        for first, last in found:
            if first > at + 1:
                break
            at = max(at, last)
        reached[feed] = at
    return reached
