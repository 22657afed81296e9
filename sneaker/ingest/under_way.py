"""Messages whose signatures are being checked: in chunks, many at once, judged in the order in which they came."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sneaker.ingest.batches import Segment
from sneaker.refs import FeedRef
from sneaker.signatures.pool import Check, Verifier

__all__ = ["UnderWay", "Verdicts"]

# Messages handed over for checking at once: 2.7 ms of work, and little enough to share out evenly.
_CHUNK = 64

# Chunks being checked at once: work for two cores for 90 ms, about as long as it takes to write a batch.
_CHUNKS_AHEAD = 64
_BYTES_AHEAD = 8 * 1024 * 1024


class Verdicts(NamedTuple):
    """The verdicts on one chunk: a byte for each message, 0 for a signature that is not its author's; ``size`` in bytes."""

    chunk: list[Segment]
    verdicts: bytes
    size: int

    def segments(self) -> Iterator[tuple[Segment, int]]:
        """Yield each segment, and how many of its first messages have valid signatures."""
        bad = self.verdicts.find(0)
        at = 0
        for segment in self.chunk:
            count = len(segment.rows)
            if at <= bad < at + count:
                yield segment, bad - at
                bad = self.verdicts.find(0, at + count)
            else:
                yield segment, count
            at += count


class UnderWay:
    """The chunk that is being filled, and those that are being checked: true if there are any of the latter."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._checks: list[Check] = []
        self._segments: list[Segment] = []
        # Each with its size in bytes.
        self._chunks: deque[tuple[list[Segment], int]] = deque()
        self._bytes_ahead = 0

    @property
    def room(self) -> int:
        """How many messages the chunk still has room for."""
        return _CHUNK - len(self._checks)

    def add(self, segment: Segment, checks: Sequence[Check]) -> bool:
        """Put messages into the chunk, with one check for each; say whether it is full now."""
        self._checks += checks
        self._segments.append(segment)
        return len(self._checks) >= _CHUNK

    def hand_over(self) -> None:
        """Have the chunk checked, if there is anything in it."""
        if self._checks:
            size = self._verifier.submit(self._checks)
            self._chunks.append((self._segments, size))
            self._bytes_ahead += size
            self._checks, self._segments = [], []

    def __bool__(self) -> bool:
        return bool(self._chunks)

    @property
    def is_much(self) -> bool:
        """Whether so much is being checked that it is time to wait for verdicts."""
        return len(self._chunks) > _CHUNKS_AHEAD or self._bytes_ahead > _BYTES_AHEAD

    def take_verdicts(self, *, wait: bool) -> Verdicts | None:
        """Return the verdicts on the oldest chunk that is being checked; None if they are not there, unless we ``wait``."""
        verdicts = self._verifier.collect(wait=wait)
        if verdicts is None:
            return None
        segments, size = self._chunks.popleft()
        self._bytes_ahead -= size
        return Verdicts(segments, verdicts, size)

    def feeds(self) -> Iterator[FeedRef]:
        """Yield the feeds of all these messages."""
        for segments, _ in self._chunks:
            for segment in segments:
                yield segment.feed.ref
        for segment in self._segments:
            yield segment.feed.ref
