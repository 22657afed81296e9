"""Export: choose what readers lack, and write it to a file, a folder or a pipe; encrypted and split if asked for."""

from __future__ import annotations

import contextlib
import os
from base64 import b32encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from sneaker.bundle.frames import MAGIC
from sneaker.clock import VectorClock
from sneaker.errors import OutputError, UsageError
from sneaker.files.atomic_write import new_file, output_errors
from sneaker.home.home import Home
from sneaker.own_feed.claims import card_statement, note_card
from sneaker.planning.others import ClockSource, Statement
from sneaker.planning.plan import make_plan
from sneaker.planning.send_order import Order
from sneaker.refs import FeedRef
from sneaker.store.blob_ledger import BlobLedger
from sneaker.store.store import Store
from sneaker.transfer.add_parity import append_parity, plain_limit
from sneaker.transfer.export_readers import Reader, read_reader
from sneaker.transfer.pack import MIN_VOLUME_BYTES, Job, Packed, Progress, pack
from sneaker.transfer.sources import BUNDLE_SUFFIX, ENCRYPTED_SUFFIX

__all__ = [
    "DEFAULT_HOPS",
    "DEFAULT_VOLUME_BYTES",
    "ExportOptions",
    "ExportReport",
    "export",
    "padded_size",
    "sendable",
]


# Feeds are ranked by hops up to this distance; farther ones go last.
DEFAULT_HOPS = 4

# FAT32 holds files of at most 4 GiB - 1; a little less leaves room for what encryption and parity add.
DEFAULT_VOLUME_BYTES = 4_000_000_000

# Half of all sectors: more would cost several times the bundle.
MAX_PARITY_PERCENT = 50

# What age adds: a header with a stanza for each recipient (and one of random length that means nothing), and 16 bytes
# for each 64 KiB.
_AGE_HEAD_BYTES = 2048
_AGE_RECIPIENT_BYTES = 128
_AGE_CHUNK_BYTES = 64 * 1024
_AGE_TAG_BYTES = 16


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What the person asked for; sizes in bytes.

    ``readers`` as ``read_reader`` takes them: what any of them lacks is sent; without any, everything.  ``feeds`` and ``hops``
    narrow what is sent.  ``recipients`` are feed ids or age recipients to encrypt to.
    """

    readers: Sequence[str] = ()
    feeds: AbstractSet[FeedRef] | None = None
    hops: int | None = None
    order: Order = Order.DEPTH
    blobs: bool = True
    max_blob_bytes: int | None = None
    max_bytes: int | None = None
    volume_bytes: int | None = None
    recipients: Sequence[str] = ()
    pad: bool = False
    parity: int = 0
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote.

    ``files`` are (path, bytes).  ``left`` is what did not fit, and ``reader_clock`` what a reader will have after taking all of it.
    """

    packed: Packed
    files: tuple[tuple[str, int], ...]
    reader_clock: VectorClock = field(default_factory=VectorClock)

    @property
    def bytes(self) -> int:
        """Bytes of all files, or of what went to the pipe."""
        return sum(size for _, size in self.files) if self.files else self.packed.bytes


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


def padded_size(size: int) -> int:
    """Round a size up by Padme (Nikitin et al., PETS 2019): at most an eighth is added, usually far less."""
    if size < 2:
        return size
    exponent = size.bit_length() - 1
    low_bits = exponent - exponent.bit_length()
    mask = (1 << max(0, low_bits)) - 1
    return (size + mask) & ~mask


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
    _check(options, destination)
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
    files = _Files(destination, options, stdout)
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


def _check(options: ExportOptions, destination: str) -> None:
    for name, size in (("--max-size", options.max_bytes), ("--volume-size", options.volume_bytes)):
        if size is not None and size < MIN_VOLUME_BYTES:
            raise UsageError(f"{name} has to be at least {MIN_VOLUME_BYTES // 1024} KiB")
    if options.parity and (options.recipients or destination == "-"):
        raise UsageError(
            "--parity is for bundles in files that are not encrypted",
            hint="a bad sector in an encrypted file ends the decryption before parity could help",
        )
    if not 0 <= options.parity <= MAX_PARITY_PERCENT:
        raise UsageError(f"--parity takes 1 to {MAX_PARITY_PERCENT} percent")
    if options.pad and not options.recipients:
        raise UsageError("--pad hides the size of an encrypted bundle; it needs --to")
    for feed in options.feeds or ():
        if not feed.is_classic:
            raise UsageError(
                f"{feed} is no classic feed, and bundles cannot carry others yet",
                hint="'sneaker log --feed ID --json' prints it, and 'sneaker import' reads that",
            )


class _Files:
    """Where volumes go."""

    def __init__(self, destination: str, options: ExportOptions, stdout: BinaryIO) -> None:
        self.options = options
        self.stdout = stdout
        self.written: list[tuple[str, int]] = []
        self.to_stdout = destination == "-"
        self.path = Path(destination)
        self.into_folder = not self.to_stdout and self.path.is_dir()

    def plain_limit(self, size: int | None) -> int | None:
        """Return how large a bundle may be so that the file made of it is not larger than ``size``."""
        if size is None:
            return None
        if self.options.parity:
            return plain_limit(size, self.options.parity)
        if not self.options.recipients:
            return size
        room = size - _AGE_HEAD_BYTES - _AGE_RECIPIENT_BYTES * len(self.options.recipients)
        room -= _AGE_TAG_BYTES * (room // _AGE_CHUNK_BYTES + 1)
        if self.options.pad:  # the largest size class that still fits
            step = 1 << max(0, (exponent := room.bit_length() - 1) - exponent.bit_length())
            room = room // step * step
        return max(room, 1)

    def open_volume(self, number: int, bundle_id: bytes) -> AbstractContextManager[Callable[[bytes], object]]:
        if self.options.dry_run:
            return contextlib.nullcontext(len)
        if self.to_stdout:
            if number > 1:
                raise OutputError(
                    "the bundle does not fit into one volume", hint="export to a folder, or use --max-size"
                )
            return self._to_stdout()
        return self._to_file(number, bundle_id)

    @contextlib.contextmanager
    def _to_stdout(self) -> Iterator[Callable[[bytes], object]]:
        with output_errors("standard output"), self._encrypted(self.stdout) as file:
            yield file.write
        self.stdout.flush()

    @contextlib.contextmanager
    def _to_file(self, number: int, bundle_id: bytes) -> Iterator[Callable[[bytes], object]]:
        path = self._name(number, bundle_id)
        with output_errors(path):
            with new_file(path, replaces=_is_bundle) as file:
                with self._encrypted(file) as plain:
                    yield plain.write
                if self.options.parity:
                    # Larger than any record number of the bundle: the numbers only have to grow.
                    append_parity(file, bundle_id[:8], 1 << 31, self.options.parity)
                size = file.tell()
            self.written.append((str(path), size))

    def _encrypted(self, file: BinaryIO) -> AbstractContextManager[BinaryIO]:
        if not self.options.recipients:
            return contextlib.nullcontext(file)
        from sneaker.transfer.age_encryption import encrypting

        return encrypting(file, self.options.recipients)

    def _name(self, number: int, bundle_id: bytes) -> Path:
        """Return the file of a volume: a random name in a folder, or the given one, numbered from the second volume on."""
        if self.into_folder:
            name = b32encode(bundle_id).decode("ascii").rstrip("=").lower()
            return self.path / (name + (ENCRYPTED_SUFFIX if self.options.recipients else BUNDLE_SUFFIX))
        return self.path if number == 1 else self.path.with_name(f"{self.path.stem}.{number}{self.path.suffix}")


def _is_bundle(start: bytes) -> bool:
    return start.startswith((MAGIC, b"age-encryption.org/"))
