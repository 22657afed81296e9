"""Export: choose what readers lack, and write it to a file, a folder or a pipe; encrypted and split if asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import BinaryIO

from sneaker.clock import VectorClock
from sneaker.errors import UsageError
from sneaker.home.home import Home
from sneaker.own_feed.claims import card_statement, note_card
from sneaker.planning.what_others_have import ClockSource, Statement
from sneaker.planning.what_to_send import make_plan
from sneaker.refs import FeedRef
from sneaker.store.blob_ledger import BlobLedger
from sneaker.store.store import Store
from sneaker.transfer.encrypted_size import padded_size
from sneaker.transfer.export_files import ExportFiles
from sneaker.transfer.export_options import ExportOptions, ExportReport, check_options
from sneaker.transfer.export_readers import Reader, read_reader
from sneaker.transfer.pack import Job, Progress, pack

__all__ = ["DEFAULT_HOPS", "export", "sendable"]


# Feeds are ranked by hops up to this distance; farther ones go last.
DEFAULT_HOPS = 4


def sendable(
    home: Home, feeds: AbstractSet[FeedRef] | None = None, hops: Mapping[FeedRef, int] | None = None
) -> Callable[[FeedRef], bool]:
    """Return a function that says whether a feed may be sent: asked for, within ``hops`` if given, and not blocked by us."""
    me = home.keypair.public
    blocked = home.store.blocked(me)

    def wanted(feed: FeedRef) -> bool:
        if feed in blocked or (feeds is not None and feed not in feeds):
            return False
        return hops is None or feed == me or hops.get(feed, -1) >= 0

    return wanted


def export(
    home: Home,
    destination: str,
    options: ExportOptions,
    *,
    stdout: BinaryIO,
    now_ms: int,
    random_bytes: Callable[[int], bytes],
    progress: Callable[[int], Progress] | None = None,
) -> ExportReport:
    """Write what the readers lack to ``destination``: a file, a folder, or ``-`` for ``stdout``.

    ``progress`` gets the total of messages and returns what is called as they are done.  Raises OutputError if it cannot be
    written; then no incomplete file is left.
    """
    check_options(options, destination)
    files = ExportFiles(destination, options, stdout)
    store, me = home.store, home.keypair.public
    clock = store.clock().classic()
    readers = [read_reader(spec, store, home.caps) for spec in options.readers]
    if not options.dry_run:
        for reader in readers:
            # If a card or clock shows more of our own feed than is here, that is noted, whatever the card was given for.
            if reader.card is not None:
                note_card(home, reader.card)
                if reader.ref != me:
                    store.known_clocks.learn_clocks([card_statement(reader.card, reader.signed)], now_ms=now_ms)
            else:
                store.claims.note_claim(me, reader.ref, reader.clock.get(me, 0))
    _check_blocks(home, options.feeds or (), readers, options.recipients)
    distance = {**store.hops(me, options.hops if options.hops is not None else DEFAULT_HOPS), me: 0}
    wanted = sendable(home, options.feeds, distance if options.hops is not None else None)
    plan = make_plan(
        clock,
        [reader.clock for reader in readers],
        given=_given_before(store, readers),
        wanted=wanted,
        hops=lambda messages: distance,
        order=options.order,
    )
    ranges = plan.ranges
    wants = frozenset(blob for reader in readers for blob in reader.wants)
    ledger = BlobLedger(store, home.blobs)
    job = Job(
        keypair=home.keypair,
        caps=home.caps,
        ranges=ranges,
        now_ms=now_ms,
        random_bytes=random_bytes,
        clock=clock,
        blobs=ledger.to_send(ranges, wants, max_bytes=options.max_blob_bytes) if options.blobs else (),
        max_bytes=files.plain_limit(options.max_bytes),
        volume_bytes=files.plain_limit(options.volume_bytes),
        pad=padded_size if options.pad else None,
        workers=os.cpu_count() or 1,
    )
    done = progress(sum(item.messages for item in ranges)) if progress is not None else None
    packed = pack(store, home.blobs, job, files.open_volume, done)
    sent = VectorClock({item.feed: item.last for item in packed.sent})
    if not options.dry_run and sent:
        given = [Statement(reader.ref, ClockSource.EXPORT, sent) for reader in readers if reader.ref is not None]
        store.known_clocks.learn_clocks(given, now_ms=now_ms)
    after = VectorClock({feed: sequence for feed, sequence in plan.lowest.items() if sequence}).merged(sent)
    return ExportReport(packed, tuple(files.written), after)


def _given_before(store: Store, readers: Iterable[Reader]) -> list[VectorClock]:
    """Return what each reader was sent and has not confirmed, with what it is known to have; nothing if none was sent any."""
    given = [
        (reader, store.known_clocks.known(reader.ref).get(ClockSource.EXPORT) if reader.ref is not None else None)
        for reader in readers
    ]
    if not any(sent is not None for _, sent in given):
        return []
    return [reader.clock.merged(sent.clock) if sent is not None else reader.clock for reader, sent in given]


def _check_blocks(home: Home, feeds: Iterable[FeedRef], readers: Iterable[Reader], recipients: Sequence[str]) -> None:
    """Raise UsageError if something is asked for that a block forbids: an empty bundle would not say why it is empty."""
    blocked = home.store.blocked(home.keypair.public)
    named = [*feeds, *(reader.ref for reader in readers)]
    if recipients:
        from sneaker.transfer.age_encryption import recipients_among

        named += recipients_among(blocked, recipients)
    for feed in named:
        if feed is not None and feed in blocked:
            raise UsageError(
                f"you block {feed}: nothing of that feed is exported, and nothing for it",
                hint=f"to take the block back: sneaker unblock {feed}",
            )
