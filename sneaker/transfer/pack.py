"""How bundles are packed: a plan goes into one bundle or a set of volumes, within byte limits that are never exceeded.

Rows go from the store into message records as they are; records are packed in all cores while the next ones are read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING

from sneaker import __version__
from sneaker.bundle.compression import DEFAULT_LEVEL
from sneaker.bundle.frames import FRAME_BYTES
from sneaker.bundle.message_records import MAX_RECORD_MESSAGES, encode_messages, split_runs
from sneaker.bundle.records import Header, encode_blob, encode_clock
from sneaker.bundle.writer import BundleWriter
from sneaker.caps import Caps
from sneaker.clock import VectorClock
from sneaker.feed.run import Run
from sneaker.keys import Keypair
from sneaker.planning.send_order import Range, joined
from sneaker.refs import FeedRef
from sneaker.store.blob_ledger import BlobToSend
from sneaker.store.blobs import BlobStore
from sneaker.store.store import Store

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["MIN_VOLUME_BYTES", "Job", "OpenVolume", "Packed", "Progress", "Volume", "pack"]

#: Called with the number of messages done since the last call.
Progress = Callable[[int], None]

#: Opens volume number n (from 1) with this bundle id; the context's value writes bytes to it.
OpenVolume = Callable[[int, bytes], AbstractContextManager[Callable[[bytes], object]]]

# Header, index and trailer with one feed take about 1 kB, the largest message 24 kB.
MIN_VOLUME_BYTES = 64 * 1024

# Our own clock is written only if it takes a small part of the allowed bytes; it is a hint.
_CLOCK_SHARE = 8


@dataclass(frozen=True, slots=True)
class Volume:
    """One volume that was written."""

    bundle_id: bytes
    bytes: int


@dataclass(slots=True)
class Packed:
    """What was packed.  ``sent`` and ``left`` are ranges of messages that went in and that stayed behind."""

    volumes: list[Volume] = field(default_factory=list)
    sent: list[Range] = field(default_factory=list)
    left: list[Range] = field(default_factory=list)
    blobs: int = 0
    blobs_left: int = 0

    @property
    def messages(self) -> int:
        """How many messages went in."""
        return sum(item.messages for item in self.sent)

    @property
    def feeds(self) -> int:
        """Of how many feeds."""
        return len({item.feed for item in self.sent})

    @property
    def bytes(self) -> int:
        """Bytes of all volumes together."""
        return sum(volume.bytes for volume in self.volumes)


@dataclass(frozen=True, slots=True)
class Job:
    """What to pack and within which limits.

    ``ranges`` are sent in their order, then ``blobs`` in theirs.  ``max_bytes`` bounds all volumes together,
    ``volume_bytes`` each of them; None is no limit.  ``pad`` returns the size that a bundle of a given size is filled up to.
    """

    keypair: Keypair
    caps: Caps
    ranges: Sequence[Range]
    now_ms: int
    random_bytes: Callable[[int], bytes]
    clock: VectorClock = field(default_factory=VectorClock)
    blobs: Sequence[BlobToSend] = ()
    max_bytes: int | None = None
    volume_bytes: int | None = None
    pad: Callable[[int], int] | None = None
    level: int = DEFAULT_LEVEL
    workers: int = 1


def pack(
    store: Store, blob_store: BlobStore, job: Job, open_volume: OpenVolume, progress: Progress | None = None
) -> Packed:
    """Write the volumes of a job and return what is in them.

    Memory is bounded: some records per core are held at a time.  Raises what the store and the volumes raise; a volume whose
    writing failed is cleaned up by its context manager.
    """
    return _Packing(store, blob_store, job, open_volume, progress).run()


class _Packing:
    def __init__(
        self, store: Store, blob_store: BlobStore, job: Job, open_volume: OpenVolume, progress: Progress | None
    ) -> None:
        self.store = store
        self.blob_store = blob_store
        self.job = job
        self.open_volume = open_volume
        self.progress = progress
        self.packed = Packed()
        self.first_id = b""
        self.writer: BundleWriter | None = None
        self.volume: AbstractContextManager[Callable[[bytes], object]] | None = None
        self.write: Callable[[bytes], object] = len
        self.sent: dict[FeedRef, int] = {}

    def run(self) -> Packed:
        job = self.job
        try:
            self._begin()
            groups = split_runs(_runs(self.store, job.ranges))
            for runs, payload in _encoded(groups, job.level, job.workers):
                if not self._add_group(runs, payload):
                    break
            self._add_blobs()
            self._end(last=True)
        except BaseException as error:
            if self.volume is not None:
                self.volume.__exit__(type(error), error, error.__traceback__)
            raise
        for item in job.ranges:
            last = self.sent.get(item.feed, item.first - 1)
            if last < item.last:
                self.packed.left.append(Range(item.feed, max(item.first, last + 1), item.last))
        self.packed.sent, self.packed.left = joined(self.packed.sent), joined(self.packed.left)
        return self.packed

    # ------------------------------------------------------------------------------------------------ volumes

    def _begin(self) -> None:
        job = self.job
        number = len(self.packed.volumes) + 1
        bundle_id = job.random_bytes(16)
        self.first_id = self.first_id or bundle_id
        header = Header(
            bundle_id=bundle_id,
            network_id=job.caps.network_id,
            exporter=job.keypair.public,
            created_ms=job.now_ms,
            features=("classic-messages", "blobs") if job.blobs else ("classic-messages",),
            volume=number,
            volume_set=self.first_id,
            generator=f"sneaker {__version__}",
        )
        writer = BundleWriter(header, job.keypair)
        prerequisites = VectorClock()
        clock: VectorClock | None = None
        if number == 1:
            room = self._room(writer) // _CLOCK_SHARE
            # A feed may have several ranges: only the first one tells what the reader needs before it.
            for item in job.ranges:
                prerequisites.setdefault(item.feed, item.first - 1)
            prerequisites = VectorClock({feed: sequence for feed, sequence in prerequisites.items() if sequence})
            if len(encode_clock(prerequisites)) > room:
                prerequisites = VectorClock()
            clock = job.clock if len(encode_clock(job.clock)) <= room else None
        volume = self.open_volume(number, bundle_id)
        self.write = volume.__enter__()
        self.volume, self.writer = volume, writer
        self.write(writer.start(prerequisites, clock))

    def _end(self, *, last: bool) -> None:
        writer, volume = self._current()
        volumes = len(self.packed.volumes) + 1
        self.write(writer.finish(volumes if last else 0, self.job.pad))
        self.volume = None
        volume.__exit__(None, None, None)
        self.packed.volumes.append(Volume(writer.bundle_id, writer.bytes_written))

    def _current(self) -> tuple[BundleWriter, AbstractContextManager[Callable[[bytes], object]]]:
        if self.writer is None or self.volume is None:
            raise RuntimeError("no volume is open")
        return self.writer, self.volume

    def _room(self, writer: BundleWriter, *, fresh: bool = False) -> int:
        """Return the bytes that may still be added to this volume (or a fresh one); the end of the volume is not counted."""
        limits = [1 << 62]
        written = 0 if fresh else writer.bytes_written
        if self.job.volume_bytes is not None:
            limits.append(self.job.volume_bytes - written)
        if self.job.max_bytes is not None:
            limits.append(self.job.max_bytes - self.packed.bytes - writer.bytes_written)
        return min(limits)

    # ------------------------------------------------------------------------------------------------ contents

    def _add_group(self, runs: list[Run], payload: bytes) -> bool:
        """Add a record; return False when the budget is used up."""
        while True:
            writer, _ = self._current()
            if writer.has_room(len(runs)) and writer.cost(runs, len(payload)) <= self._room(writer):
                self._write_group(runs, payload)
                return True
            count = self._fitting(runs) if writer.has_room(len(runs)) else 0
            if count:
                head, rest = _cut(runs, count)
                self._write_group(head, encode_messages(head, self.job.level))
                runs = rest
                payload = encode_messages(rest, self.job.level)
            full = self.job.volume_bytes is not None or not writer.has_room(len(runs))
            if not full or not (writer.messages or writer.blobs) or self._budget_is_used(writer):
                return False
            self._end(last=False)
            self._begin()

    def _budget_is_used(self, writer: BundleWriter) -> bool:
        """Say whether another volume could hold no message any more."""
        if self.job.max_bytes is None:
            return False
        left = self.job.max_bytes - self.packed.bytes - writer.bytes_written - writer.finish_bytes
        return left < MIN_VOLUME_BYTES

    def _fitting(self, runs: list[Run]) -> int:
        """Return how many messages of ``runs``, from the front, fit into this volume."""
        writer, _ = self._current()
        low, high = 0, sum(len(run.compacts) for run in runs) - 1  # all of them were tried before
        while low < high:
            middle = (low + high + 1) // 2
            head, _ = _cut(runs, middle)
            if writer.cost(head, len(encode_messages(head, self.job.level))) <= self._room(writer):
                low = middle
            else:
                high = middle - 1
        return low

    def _write_group(self, runs: list[Run], payload: bytes) -> None:
        writer, _ = self._current()
        self.write(writer.add_messages(runs, payload))
        count = 0
        for run in runs:
            count += len(run.compacts)
            last = self.packed.sent[-1] if self.packed.sent else None
            if last is not None and last.feed == run.author and last.last + 1 == run.first:
                self.packed.sent[-1] = last._replace(last=run.last)
            else:
                self.packed.sent.append(Range(run.author, run.first, run.last))
            self.sent[run.author] = run.last
        if self.progress is not None:
            self.progress(count)

    def _add_blobs(self) -> None:
        """Add the blobs that fit; one that does not is skipped for smaller ones."""
        for blob, mention in self.job.blobs:
            if mention is not None and self.sent.get(mention[0], 0) < mention[1]:
                self.packed.blobs_left += 1
                continue
            data = self.blob_store.read(blob)
            if data is None:
                continue
            payload = encode_blob(blob, data)
            writer, _ = self._current()
            if writer.blob_cost(len(payload)) > self._room(writer):
                # A fresh volume costs a header, an index and a trailer of its own: less than MIN_VOLUME_BYTES.
                fresh = MIN_VOLUME_BYTES + FRAME_BYTES + len(payload)
                worthwhile = self.job.volume_bytes is not None and (writer.messages or writer.blobs)
                if not worthwhile or fresh + writer.finish_bytes > self._room(writer, fresh=True):
                    self.packed.blobs_left += 1
                    continue
                self._end(last=False)
                self._begin()
                writer, _ = self._current()
            self.write(writer.add_blob(blob, len(data), payload))
            self.packed.blobs += 1


def _cut(runs: Sequence[Run], count: int) -> tuple[list[Run], list[Run]]:
    """Return the first ``count`` messages of ``runs``, and the rest."""
    head: list[Run] = []
    for position, run in enumerate(runs):
        if count >= len(run.compacts):
            head.append(run)
            count -= len(run.compacts)
            continue
        rest = list(runs[position:])
        if count:
            head.append(run._replace(compacts=run.compacts[:count], keys=run.keys[:count]))
            rest[0] = Run(run.author, run.first + count, run.keys[count - 1], run.compacts[count:], run.keys[count:])
        return head, rest
    return head, []


def _encoded(groups: Iterator[list[Run]], level: int, workers: int) -> Iterator[tuple[list[Run], bytes]]:
    """Encode groups of runs in a pool of threads (zstandard releases the GIL) and yield them in order."""
    first = list(islice(groups, 2))
    if len(first) < 2:  # a few messages are encoded before a pool has started
        for runs in first:
            yield runs, encode_messages(runs, level)
        return
    from concurrent.futures import ThreadPoolExecutor

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
            keys = [row.key for row in chunk]
            yield Run(item.feed, first, previous, [row.compact for row in chunk], keys)
            first += len(chunk)
            previous = keys[-1]
