"""What ingest and import report: what came in, and what was refused and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from sneaker.bundle.events import Status
from sneaker.errors import SneakerError
from sneaker.refs import FeedRef

__all__ = ["KNOWN", "BlobCounts", "Code", "ImportReport", "IngestCounts", "IngestReport", "Refusal", "SourceReport"]

# The status of a source that was read, or needed no reading, and had nothing new.
KNOWN = "known"


class Code(StrEnum):
    """Why a message was refused, beside the reasons of ``feed.classic.validate``."""

    #: It follows a message that was refused, or is not the one after the message before it.
    CHAIN_BROKEN = "chain-broken"
    SIGNATURE_INVALID = "signature-invalid"
    #: Its feed is forked; no more of it is taken.
    FORKED = "forked"
    #: The place in a feed that came with it is not its own.
    PLACE_MISMATCH = "place-mismatch"
    #: There are gaps before it, and no room left to let it wait until they are filled.
    WAITING_ROOM_FULL = "waiting-room-full"


class Refusal(NamedTuple):
    """One message that was refused; ``feed`` and ``sequence`` are None where that was not to be found out.

    ``detail`` is a sentence for people; it says how many if it stands for several messages.
    """

    feed: FeedRef | None
    sequence: int | None
    code: str
    detail: str


class IngestCounts(NamedTuple):
    """Messages so far.  ``accepted`` ones are in their feeds and on the disk.

    ``known`` ones were there before, ``waiting`` ones are stored until those before them arrive, ``left_out`` ones are of
    feeds that we block or that are too far away: to leave them is what was asked for.  ``waited`` are those of all these
    that came with an earlier import, and waited since; all the others were ``read`` now, as were those that are still
    being checked.
    """

    accepted: int
    known: int
    refused: int
    waiting: int
    left_out: int
    waited: int
    read: int


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingest did; for the numbers see ``IngestCounts``.

    ``feeds_advanced`` got longer, ``feeds_new`` are those of them that were not there before, ``feeds_forked`` turned
    out to be forked.  ``refusals`` are the first ones; ``refused`` is the number of all.
    """

    accepted: int
    known: int
    refused: int
    waiting: int
    left_out: int
    waited: int
    read: int
    feeds_advanced: frozenset[FeedRef]
    feeds_new: frozenset[FeedRef]
    feeds_forked: frozenset[FeedRef]
    refusals: tuple[Refusal, ...]


@dataclass(slots=True)
class SourceReport:
    """What became of one source.  ``status``: ok, known (nothing new in it), truncated, damaged or refused."""

    path: str
    kind: str = ""
    exporter: str | None = None
    bundle_id: str | None = None
    status: str = Status.OK
    detail: str = ""
    error: SneakerError | None = None

    @property
    def whole(self) -> bool:
        """Whether it was read to its end and nothing in it was damaged."""
        return self.status in (Status.OK, KNOWN)


@dataclass(slots=True)
class BlobCounts:
    """What became of blobs.

    ``waiting`` ones are kept until a message comes that mentions them; ``refused`` were damaged, or there was no room for
    them to wait.
    """

    accepted: int = 0
    known: int = 0
    refused: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did.

    ``complete`` is false if anything was refused, damaged or cut.
    """

    sources: list[SourceReport]
    ingested: IngestReport
    blobs: BlobCounts
    dry_run: bool = False

    @property
    def complete(self) -> bool:
        """Whether everything that was there and wanted is in the store now."""
        return not self.ingested.refused and not self.blobs.refused and all(source.whole for source in self.sources)
