"""What a person can ask of an export, and what it reports."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from sneaker.clock import VectorClock
from sneaker.errors import UsageError
from sneaker.planning.send_order import Order
from sneaker.refs import FeedRef
from sneaker.transfer.pack import MIN_VOLUME_BYTES, Packed

__all__ = ["DEFAULT_VOLUME_BYTES", "ExportOptions", "ExportReport", "check_options"]

# FAT32 holds files of at most 4 GiB - 1; a little less leaves room for what encryption and parity add.
DEFAULT_VOLUME_BYTES = 4_000_000_000

# Half of all sectors: more would cost several times the bundle.
MAX_PARITY_PERCENT = 50


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


def check_options(options: ExportOptions, destination: str) -> None:
    """Raise UsageError for what cannot be done, or not together."""
    for what, size in (("an export", options.max_bytes), ("a volume", options.volume_bytes)):
        if size is not None and size < MIN_VOLUME_BYTES:
            raise UsageError(
                f"{what} of at most {size:,} bytes is too small: the least is {MIN_VOLUME_BYTES // 1024} KiB"
            )
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
