"""How a visit to a stick is to go, and what it did: the values that its steps share."""

from __future__ import annotations

from dataclasses import dataclass, field

from sneaker.clock import VectorClock
from sneaker.home.config import DEFAULT_MIN_FREE_BYTES, DEFAULT_STALE_DAYS
from sneaker.ingest.reports import ImportReport
from sneaker.planning.send_order import Order, Range
from sneaker.store.sticks import StickRecord
from sneaker.transfer.pack import Packed

__all__ = ["DAY_MS", "VisitOptions", "VisitReport", "add_packed"]

DAY_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True, slots=True)
class VisitOptions:
    """How to visit; sizes in bytes."""

    max_bytes: int | None = None
    export: bool = True
    dry_run: bool = False
    #: Measured by scripts/simulate compare (8 machines, 3 sticks, 300 visits, 3 seeds) with 64 KiB a visit, where bursts do not
    #: fit: depth delivers 90 % of the messages within 161 visits and the last after 243, breadth within 261 and 369, and needs
    #: 416 visits to level out instead of 670. Breadth is kinder to those who say little (last one after 67 visits, not 91).
    #: With 192 KiB both are the same.
    order: Order = Order.DEPTH
    stale_days: int = DEFAULT_STALE_DAYS
    min_free_bytes: int = DEFAULT_MIN_FREE_BYTES
    #: Read all own bundles again, and replace them by one that holds exactly what others still lack.
    collect: bool = False

    @property
    def writes(self) -> bool:
        """Whether anything on the stick may change."""
        return self.export and not self.dry_run


@dataclass(slots=True)
class VisitReport:
    """What a visit did.

    ``fork_proofs`` are messages left that prove a fork; ``own_elsewhere`` is how far the own feed is known to go if that is
    farther than here; ``problems`` are sentences for people; ``safe_to_remove`` is true once nothing will be written.
    """

    stick: StickRecord
    imported: ImportReport
    exported: Packed | None = None
    files: list[tuple[str, int]] = field(default_factory=list)
    reader_clock: VectorClock = field(default_factory=VectorClock)
    removed: list[str] = field(default_factory=list)
    fork_proofs: int = 0
    fork_proof_bytes: int = 0
    own_elsewhere: int | None = None
    machines: int = 0
    foreign: int = 0
    damaged: int = 0
    free_bytes: int = 0
    problems: list[str] = field(default_factory=list)
    safe_to_remove: bool = False

    @property
    def complete(self) -> bool:
        """Whether all went as it should."""
        return self.imported.complete and not self.problems and self.safe_to_remove


def add_packed(total: Packed | None, part: Packed) -> Packed:
    """Return what two packings put on the stick together; what the later one left behind is what is left."""
    if total is None:
        return part
    joined: list[Range] = [*total.sent, *part.sent]
    return Packed([*total.volumes, *part.volumes], joined, part.left, total.blobs + part.blobs, part.blobs_left)
