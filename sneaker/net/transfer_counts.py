"""What went over one connection, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

from sneaker.refs import FeedRef

__all__ = ["TransferCounts"]

_MAX_REFUSALS_KEPT = 100


@dataclass(slots=True)
class TransferCounts:
    """Messages new to us, known ones, sent ones, refused ones (the first of them named); and blobs."""

    received: int = 0
    known: int = 0
    sent: int = 0
    refused: int = 0
    blobs_received: int = 0
    blobs_sent: int = 0
    #: Feed, sequence, and why.
    refusals: list[tuple[FeedRef, int, str]] = field(default_factory=list)

    def name_refusal(self, feed: FeedRef, sequence: int, reason: str) -> None:
        """Keep why a message was refused, if not too many are kept; ``refused`` counts them all."""
        if len(self.refusals) < _MAX_REFUSALS_KEPT:
            self.refusals.append((feed, sequence, reason))
