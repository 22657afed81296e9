"""Inspect: what a bundle holds, without importing it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import BinaryIO

from sneaker.bundle.card import Card
from sneaker.bundle.events import BlobRead, End, HeaderRead, MessagesRead, Status
from sneaker.bundle.indexed_file import IndexedBundle, open_indexed
from sneaker.bundle.records import Header
from sneaker.caps import Caps
from sneaker.clock import VectorClock
from sneaker.errors import BundleDamaged, DecryptionError
from sneaker.keys import Keypair
from sneaker.refs import FeedRef
from sneaker.transfer.message_places import Ranges
from sneaker.transfer.read_encrypted import EncryptedSource
from sneaker.transfer.read_stream import BundleSource
from sneaker.transfer.source_events import CardRead, LogEntry, SourceEvent
from sneaker.transfer.source_kinds import identify_source
from sneaker.transfer.sources import READ_BYTES, OpenedSource

__all__ = ["FeedContents", "InspectReport", "inspect"]


@dataclass(slots=True)
class FeedContents:
    """One feed in a bundle or log: the number of ``messages``, each counted once, and of ``new`` ones beyond our clock."""

    first: int
    last: int
    messages: int
    new: int = 0


@dataclass(slots=True)
class InspectReport:
    """What a bundle or log holds.  Nothing in it has been validated against authors' signatures."""

    kind: str
    status: str = Status.OK
    detail: str = ""
    header: Header | None = None
    signed: bool = False
    bytes: int = 0
    blobs: int = 0
    blob_bytes: int | None = None
    volumes: int = 0
    encrypted: bool = False
    card: Card | None = None
    feeds: dict[FeedRef, FeedContents] = field(default_factory=dict)

    @property
    def messages(self) -> int:
        """How many messages there are."""
        return sum(contents.messages for contents in self.feeds.values())

    @property
    def new(self) -> int:
        """How many of them we lack."""
        return sum(contents.new for contents in self.feeds.values())

    def count_messages(self, feed: FeedRef, first: int, last: int, have: int) -> None:
        """Count messages ``first`` to ``last``, which were not counted before."""
        known = self.feeds.setdefault(feed, FeedContents(first, last, 0))
        known.first, known.last = min(known.first, first), max(known.last, last)
        known.messages += last - first + 1
        known.new += max(0, last - max(first - 1, have))


def inspect(
    file: BinaryIO,
    name: str,
    caps: Caps,
    clock: VectorClock,
    *,
    keypair: Keypair | None = None,
    progress: Callable[[int], None],
    seekable: bool = True,
) -> InspectReport:
    """Say what ``file`` holds and what a reader at ``clock`` lacks of it; raises NotABundle, StoreFull if the disk is full.

    If a bundle is whole and the file can seek, only header, index and trailer are read.  An encrypted bundle is opened with
    ``keypair``; without it, or if it is for somebody else, only its size is known.
    """
    start = file.read(READ_BYTES)
    kind = identify_source(start, name)
    report = InspectReport(kind.kind, encrypted=isinstance(kind, EncryptedSource))
    seekable = seekable and file.seekable()
    if seekable:
        report.bytes = file.seek(0, os.SEEK_END)
        file.seek(len(start))
    with Ranges() as ranges:
        if seekable and isinstance(kind, BundleSource) and (indexed := open_indexed(file)) is not None:
            _inspect_index(report, ranges, indexed)
        else:
            if seekable:
                file.seek(len(start))
            counted = _Counted(progress)
            counted.count_bytes(len(start))
            source = OpenedSource(name, start, file, counted.count_bytes)
            try:
                _inspect_events(report, ranges, kind.read_events(source, hmac_key=caps.hmac_key, keypair=keypair))
            except DecryptionError as error:
                report.status, report.detail = Status.OK, error.message
                report.header = None
            if isinstance(kind, BundleSource):
                report.bytes = report.bytes or counted.bytes
        for feed, first, last in ranges.merged():
            report.count_messages(feed, first, last, clock.get(feed, 0))
    return report


@dataclass(slots=True)
class _Counted:
    progress: Callable[[int], None]
    bytes: int = 0

    def count_bytes(self, done: int) -> None:
        self.bytes += done
        self.progress(done)


def _inspect_index(report: InspectReport, ranges: Ranges, bundle: IndexedBundle) -> None:
    report.header, report.signed = bundle.header, True
    report.volumes = bundle.trailer.volumes
    report.blobs = len(bundle.index.blobs)
    report.blob_bytes = sum(entry.size for entry in bundle.index.blobs)
    for record in bundle.index.records:
        for segment in record.segments:
            ranges.add_range(bundle.index.feeds[segment.feed].feed, segment.first, segment.first + segment.messages - 1)


def _inspect_events(report: InspectReport, ranges: Ranges, events: Iterable[SourceEvent]) -> None:
    for event in events:
        if isinstance(event, LogEntry):
            if event.message is not None:
                ranges.add_range(event.message.author, event.message.sequence, event.message.sequence)
        elif isinstance(event, HeaderRead):
            report.header = event.header
        elif isinstance(event, MessagesRead):
            try:
                for run in event.runs():
                    ranges.add_range(run.author, run.first, run.last)
            except BundleDamaged as error:
                report.status, report.detail = Status.DAMAGED, error.message
        elif isinstance(event, BlobRead):
            report.blobs += 1
        elif isinstance(event, CardRead):
            report.card = event.card
        elif isinstance(event, End):
            report.signed = event.signed
            report.volumes = event.trailer.volumes if event.trailer is not None else 0
            if event.status is not Status.OK or event.detail:
                report.status, report.detail = event.status, event.detail
