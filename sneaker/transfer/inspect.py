"""Inspect: what a bundle holds, without importing it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import BinaryIO

from sneaker.bundle.card import MAX_CARD_BYTES, Card, decode_card
from sneaker.bundle.events import BlobRead, End, HeaderRead, MessagesRead, Status
from sneaker.bundle.indexed_file import IndexedBundle, open_indexed
from sneaker.bundle.records import Header
from sneaker.caps import Caps
from sneaker.clock import VectorClock
from sneaker.errors import BundleDamaged, DecryptionError
from sneaker.keys import Keypair
from sneaker.refs import FeedRef
from sneaker.transfer.message_places import Ranges
from sneaker.transfer.read_log import LogSummary, read_log
from sneaker.transfer.sources import READ_BYTES, Kind, chunks, rejoined, sniff
from sneaker.transfer.verify import bundle_events

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
    kind = sniff(start, name)
    report = InspectReport(kind)
    seekable = seekable and file.seekable()
    if seekable:
        report.bytes = file.seek(0, os.SEEK_END)
        file.seek(len(start))
    if kind is Kind.CARD:
        report.card = decode_card(rejoined(start, file).read(MAX_CARD_BYTES + 1))
        return report
    with Ranges() as ranges:
        if kind is Kind.NDJSON:
            _inspect_log(report, ranges, chunks(start, file, progress), caps)
        elif kind is Kind.ENCRYPTED:
            report.encrypted = True
            _inspect_encrypted(report, ranges, rejoined(start, file), keypair, progress)
        elif seekable and (indexed := open_indexed(file)) is not None:
            _inspect_index(report, ranges, indexed)
        else:
            if seekable:
                file.seek(len(start))
            _inspect_stream(report, ranges, rejoined(start, file), progress)
        for feed, first, last in ranges.merged():
            report.count_messages(feed, first, last, clock.get(feed, 0))
    return report


def _inspect_index(report: InspectReport, ranges: Ranges, bundle: IndexedBundle) -> None:
    report.header, report.signed = bundle.header, True
    report.volumes = bundle.trailer.volumes
    report.blobs = len(bundle.index.blobs)
    report.blob_bytes = sum(entry.size for entry in bundle.index.blobs)
    for record in bundle.index.records:
        for segment in record.segments:
            ranges.add_range(bundle.index.feeds[segment.feed].feed, segment.first, segment.first + segment.messages - 1)


def _inspect_stream(report: InspectReport, ranges: Ranges, file: BinaryIO, progress: Callable[[int], None]) -> None:
    read = 0

    def count(done: int) -> None:
        nonlocal read
        read += done
        progress(done)

    for event in bundle_events(file, count):
        if isinstance(event, HeaderRead):
            report.header = event.header
        elif isinstance(event, MessagesRead):
            try:
                for run in event.runs():
                    ranges.add_range(run.author, run.first, run.last)
            except BundleDamaged as error:
                report.status, report.detail = Status.DAMAGED, error.message
        elif isinstance(event, BlobRead):
            report.blobs += 1
        elif isinstance(event, End):
            report.signed = event.signed
            report.volumes = event.trailer.volumes if event.trailer is not None else 0
            if event.status is not Status.OK:
                report.status, report.detail = event.status, event.detail
    report.bytes = report.bytes or read


def _inspect_encrypted(
    report: InspectReport,
    ranges: Ranges,
    file: BinaryIO,
    keypair: Keypair | None,
    progress: Callable[[int], None],
) -> None:
    from sneaker.transfer.age_encryption import decrypting

    if keypair is None:
        report.detail = "encrypted; there is no identity here to open it with"
        return
    try:
        with decrypting(file, keypair) as plain:
            _inspect_stream(report, ranges, plain.file, progress)
        if plain.damage:
            report.status, report.detail = Status.DAMAGED, plain.damage
    except DecryptionError as error:
        report.status, report.detail = Status.OK, error.message
        report.header = None


def _inspect_log(report: InspectReport, ranges: Ranges, data: Iterable[bytes], caps: Caps) -> None:
    summary = LogSummary()
    for entry in read_log(data, caps.hmac_key):
        summary.count_entry(entry)
        if entry.message is not None:
            ranges.add_range(entry.message.author, entry.message.sequence, entry.message.sequence)
    report.status, report.detail = summary.status, summary.detail
