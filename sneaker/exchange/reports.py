"""What ingest reports: how many messages came in, and which were refused and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from sneaker.refs import FeedRef

__all__ = ["Code", "IngestCounts", "IngestReport", "Refusal"]


class Code(StrEnum):
    """Why a message was refused, beside the reasons of ``feed.validate``."""

    #: It follows a message that was refused, or is not the one after the message before it.
    CHAIN_BROKEN = "chain-broken"
    SIGNATURE_INVALID = "signature-invalid"
    #: Its feed is forked; no more of it is taken.
    FORKED = "forked"
    #: The key that came with it is not its own.
    KEY_MISMATCH = "key-mismatch"
    #: Its feed is blocked, or too far away.
    NOT_WANTED = "not-wanted"
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

    ``known`` ones were there before, ``waiting`` ones are stored until those before them arrive.
    """

    accepted: int
    known: int
    refused: int
    waiting: int


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingest did.

    ``feeds_advanced`` got longer, ``feeds_new`` are those of them that were not there before, ``feeds_forked`` turned
    out to be forked.  ``refusals`` are the first ones; ``refused`` is the number of all.
    """

    accepted: int
    known: int
    refused: int
    waiting: int
    feeds_advanced: frozenset[FeedRef]
    feeds_new: frozenset[FeedRef]
    feeds_forked: frozenset[FeedRef]
    refusals: tuple[Refusal, ...]
