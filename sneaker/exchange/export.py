"""Export: write what a reader lacks into a bundle.

Rows go from the store into message records as they are; records are packed in all cores while the next ones are read.
"""

from __future__ import annotations

import os
from base64 import b32encode
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

from sneaker import __version__
from sneaker.bundle.compression import DEFAULT_LEVEL
from sneaker.bundle.format import MAGIC
from sneaker.bundle.messages import MAX_RECORD_MESSAGES, encode_messages, split_runs
from sneaker.bundle.plan import Range, plan, slowest
from sneaker.bundle.records import Header
from sneaker.bundle.writer import BundleWriter
from sneaker.caps import Caps
from sneaker.errors import OutputError
from sneaker.exchange.output import new_file, output_errors
from sneaker.exchange.readers import reader_clock
from sneaker.feed.run import Run
from sneaker.keys import Keypair
from sneaker.refs import FeedRef, MessageRef
from sneaker.store.base import EdgeState, Store

__all__ = ["BUNDLE_SUFFIX", "Bundle", "ExportReport", "Progress", "export", "write_bundle"]

BUNDLE_SUFFIX = ".sneaker"

# How far the follow graph is walked to rank feeds; farther ones go last, in no particular order of distance.
DEFAULT_HOPS = 4

#: Called with the number of messages done since the last call.
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Bundle:
    """What was written into one bundle."""

    bundle_id: bytes
    feeds: int
    messages: int
    blobs: int
    bytes: int


def write_bundle(
    store: Store,
    keypair: Keypair,
    caps: Caps,
    ranges: Iterable[Range],
    write: Callable[[bytes], object],
    *,
    bundle_id: bytes,
    now_ms: int,
    clock: Mapping[FeedRef, int] | None = None,
    level: int = DEFAULT_LEVEL,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """Write the messages in ``ranges`` as one bundle, in their order, through ``write``; return what went in.

    ``bundle_id`` is 16 random bytes; ``clock`` is put in as the exporter's own if given.  Memory is bounded: some
    records per core are held at a time.  Raises what the store and ``write`` raise.
    """
    chosen = list(ranges)
    header = Header(
        bundle_id=bundle_id,
        network_id=caps.network_id,
        exporter=keypair.public,
        created_ms=now_ms,
        generator=f"sneaker {__version__}",
    )
    writer = BundleWriter(header, keypair)
    prerequisites = {item.feed: item.first - 1 for item in chosen if item.first > 1}
    write(writer.start(prerequisites, clock))
    for runs, payload in _packed(split_runs(_runs(store, chosen)), level, workers or os.cpu_count() or 1):
        write(writer.add_messages(runs, payload))
        if progress is not None:
            progress(sum(len(run.compacts) for run in runs))
    write(writer.finish())
    return Bundle(bundle_id, writer.feeds, writer.messages, writer.blobs, writer.bytes_written)


def _packed(groups: Iterator[list[Run]], level: int, workers: int) -> Iterator[tuple[list[Run], bytes]]:
    """Encode groups of runs in a pool of threads (zstandard releases the GIL) and yield them in order."""
    first = list(islice(groups, 2))
    if len(first) < 2:  # a small delta is done before a pool would have started
        for runs in first:
            yield runs, encode_messages(runs, level)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="pack") as pool:
        pending: deque[tuple[list[Run], Future[bytes]]] = deque()
        for runs in chain(first, groups):
            pending.append((runs, pool.submit(encode_messages, runs, level)))
            if len(pending) > workers + 1:
                done, future = pending.popleft()
                yield done, future.result()
        while pending:
            done, future = pending.popleft()
            yield done, future.result()


def _runs(store: Store, ranges: Iterable[Range]) -> Iterator[Run]:
    """Yield runs of bounded length out of the store."""
    for item in ranges:
        previous = store.key_at(item.feed, item.first - 1) if item.first > 1 else None
        first = item.first
        rows = store.rows(item.feed, first, item.last)
        while chunk := list(islice(rows, MAX_RECORD_MESSAGES)):
            keys = [MessageRef(row.key) for row in chunk]
            yield Run(item.feed, first, previous, [row.compact for row in chunk], keys)
            first += len(chunk)
            previous = keys[-1]


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote: ``files`` are (path, bytes)."""

    bundle_id: bytes
    files: tuple[tuple[str, int], ...]
    feeds: int
    messages: int
    blobs: int
    bytes: int


def export(
    store: Store,
    keypair: Keypair,
    caps: Caps,
    destination: str,
    *,
    stdout: BinaryIO,
    now_ms: int,
    random_bytes: Callable[[int], bytes],
    readers: Sequence[str] = (),
    feeds: AbstractSet[FeedRef] | None = None,
    hops: int | None = None,
    dry_run: bool = False,
    workers: int | None = None,
    progress: Callable[[int], Progress] | None = None,
) -> ExportReport:
    """Write what ``readers`` lack (see ``reader_clock``; everything if there are none) to ``destination``.

    ``destination`` is a file, a folder, or ``-`` for ``stdout``.  ``feeds`` and ``hops`` narrow what is sent.
    ``progress`` gets the total of messages and returns what is called as they are done.  Raises OutputError.
    """
    clock = store.clock()
    theirs = slowest([reader_clock(spec, store, caps) for spec in readers], clock)
    distance = store.hops(keypair.public, hops if hops is not None else DEFAULT_HOPS)
    wanted = _selection(keypair.public, feeds, distance if hops is not None else None, store)
    ranges = plan(clock, theirs, wanted=wanted, hops={**distance, keypair.public: 0})
    bundle_id = random_bytes(16)
    done = progress(sum(item.messages for item in ranges)) if progress is not None else None

    def write_to(write: Callable[[bytes], object]) -> Bundle:
        return write_bundle(
            store,
            keypair,
            caps,
            ranges,
            write,
            bundle_id=bundle_id,
            now_ms=now_ms,
            clock=clock,
            workers=workers,
            progress=done,
        )

    files: tuple[tuple[str, int], ...] = ()
    if dry_run:
        bundle = write_to(len)
    elif destination == "-":
        with output_errors("standard output"):
            bundle = write_to(stdout.write)
            stdout.flush()
    else:
        path = _destination(Path(destination), bundle_id)
        with output_errors(path), new_file(path) as file:
            bundle = write_to(file.write)
        files = ((str(path), bundle.bytes),)
    return ExportReport(bundle_id, files, bundle.feeds, bundle.messages, bundle.blobs, bundle.bytes)


def _selection(
    me: FeedRef, feeds: AbstractSet[FeedRef] | None, distance: Mapping[FeedRef, int] | None, store: Store
) -> Callable[[FeedRef], bool]:
    """Return what says whether a feed may be sent: asked for, near enough, and not blocked by us."""
    blocked = {edge.contact for edge in store.edges(me) if edge.state == EdgeState.BLOCK}

    def wanted(feed: FeedRef) -> bool:
        if feed in blocked or (feeds is not None and feed not in feeds):
            return False
        return distance is None or feed == me or distance.get(feed, -1) >= 0

    return wanted


def _destination(path: Path, bundle_id: bytes) -> Path:
    """Return the file to write: a new name in a folder, or the file itself if nothing is lost by replacing it."""
    if path.is_dir():
        name = b32encode(bundle_id).decode("ascii").rstrip("=").lower()
        return path / f"{name}{BUNDLE_SUFFIX}"
    if not path.exists():
        return path
    try:
        if path.is_file():
            with path.open("rb") as file:
                start = file.read(len(MAGIC))
            if not start or start == MAGIC:
                return path
    except OSError:
        pass
    raise OutputError(f"{path} exists and is not a bundle", hint="nothing was written; choose another name")
