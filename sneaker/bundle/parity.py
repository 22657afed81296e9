"""Parity: what lets a reader repair bad sectors (``bundles-format.md``, "Parity").

Pure: the bundle is given as a function that reads it, and what is computed comes back as bytes.  All that repair needs
stands in whole sectors of the file.  So one bad sector costs one sector of data or of parity, or one copy of a table.
The only module that imports zfec, and only where it is needed: that takes as long as all else of a small command.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import lru_cache
from struct import Struct

from sneaker.bundle.frames import (
    FRAME_BYTES,
    SYNC,
    Footer,
    RecordType,
    encode_footer,
    encode_record,
    parse_frame,
    payload_digest,
)
from sneaker.bundle.records import TRAILER_BYTES

__all__ = [
    "MAX_PERCENT",
    "SECTOR_BYTES",
    "Layout",
    "Read",
    "Repair",
    "find_layout",
    "overlaid",
    "parity_bytes",
    "parity_footer",
    "parity_records",
    "plan_layout",
    "repair",
    "repaired_sectors",
]

#: Returns exactly the bytes at (offset, length) of a file, fewer only at its end.
Read = Callable[[int, int], bytes]

SECTOR_BYTES = 4096
#: If more than half of a file is lost, parity is not what helps.
MAX_PERCENT = 50

# The code works on bytes, so a stripe has at most 256 sectors; beyond 200 of data there is too little room for parity.
_MAX_DATA = 200
_MAX_STRIPE = 256
# Stripes that are computed together: 200 rows of 32 KiB are read at a time.
_BAND = 8
# Parity sectors in one record: frames take one sector in 512, and a writer holds 2 MiB.
_GROUP = 512
# How many digests fill a sector behind frame and head.
_HEAD = Struct("<BBHQIHHI")
_DIGESTS = (SECTOR_BYTES - FRAME_BYTES - _HEAD.size) // 8
_TABLE_PAYLOAD = SECTOR_BYTES - FRAME_BYTES
_KIND_DIGESTS = 0
_KIND_SECTORS = 1
# The chance that repair fails: half of it for want of parity, half for want of tables.
_MAX_FAILURE = 1e-4
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is: follows from these numbers, which each table of digests repeats.

    ``protected``: bytes from the bundle's start.  ``stripes``: S.  ``data`` and ``parity``: sectors of a stripe, k and
    m.  ``copies``: how often each table of digests is there.
    """

    protected: int
    stripes: int
    data: int
    parity: int
    copies: int

    @property
    def sectors(self) -> int:
        """How many sectors are protected."""
        return -(-self.protected // SECTOR_BYTES)

    @property
    def start(self) -> int:
        """The offset of the first parity record: the next sector with room for the frame of padding before it."""
        return -(-(self.protected + FRAME_BYTES) // SECTOR_BYTES) * SECTOR_BYTES

    @property
    def parity_sectors(self) -> int:
        """How many parity sectors there are."""
        return self.stripes * self.parity

    @property
    def tables(self) -> int:
        """How many tables hold the digests of all sectors."""
        return -(-(self.sectors + self.parity_sectors) // _DIGESTS)

    @property
    def tables_start(self) -> int:
        """The offset of the first table."""
        return self.parity_offset(self.parity_sectors - 1) + SECTOR_BYTES

    @property
    def end(self) -> int:
        """The offset of the footer."""
        return self.table_offset(self.tables, self.copies - 1)

    def parity_offset(self, number: int) -> int:
        """Return where in the file a parity sector stands."""
        return self.start + SECTOR_BYTES * (1 + number // _GROUP + number)

    def table_offset(self, number: int, copy: int) -> int:
        """Return where in the file a table of digests stands."""
        return self.tables_start + SECTOR_BYTES * (copy * self.tables + number)

    def parity_number(self, stripe: int, share: int) -> int:
        """Return the number of parity sector ``share`` (from 0) of a stripe: they stand band by band, then share by share."""
        first = stripe // _BAND * _BAND
        return first * self.parity + share * min(_BAND, self.stripes - first) + stripe - first

    def head(self, kind: int, number: int) -> bytes:
        """Return what a parity payload begins with."""
        return _HEAD.pack(kind, self.copies, 0, self.protected, self.stripes, self.data, self.parity, number)


@lru_cache(maxsize=4096)
def _tail(draws: int, most: int, chance: float) -> float:
    """Return the chance that of ``draws`` sectors, each lost with ``chance``, more than ``most`` are lost."""
    return math.fsum(
        math.comb(draws, lost) * chance**lost * (1 - chance) ** (draws - lost) for lost in range(most + 1, draws + 1)
    )


def plan_layout(size: int, percent: float) -> Layout:
    """Return the layout for a bundle whose trailer ends at ``size``, of whose sectors ``percent`` may go bad.

    The bad sectors may be anywhere, in parity and tables too; in more than 9,999 of 10,000 cases everything can be
    computed again.  Raises ValueError for percentages that are not between 0 and MAX_PERCENT.
    """
    if not 0 < percent <= MAX_PERCENT:
        raise ValueError(f"parity against the loss of {percent} percent")
    sectors = -(-size // SECTOR_BYTES)
    # Rounded up: half a sector cannot go bad, so a small file loses one more than the percentage says.
    chance = min(0.9, percent / 100 + 1 / (sectors + 8))
    for most in range(min(_MAX_DATA, sectors), 0, -1):
        stripes = -(-sectors // most)
        data = -(-sectors // stripes)
        low, high = 1, _MAX_STRIPE - data
        if stripes * _tail(data + high, high, chance) > _MAX_FAILURE / 2:
            continue
        while low < high:
            middle = (low + high) // 2
            if stripes * _tail(data + middle, middle, chance) <= _MAX_FAILURE / 2:
                high = middle
            else:
                low = middle + 1
        tables = Layout(size, stripes, data, high, 1).tables
        copies = max(3, math.ceil(math.log(_MAX_FAILURE / 2 / tables) / math.log(chance)))
        return Layout(size, stripes, data, high, copies)
    raise ValueError(
        f"parity against the loss of {percent} percent"
    )  # never reached: stripes of one data sector always do


def parity_bytes(size: int, percent: float) -> int:
    """Return how many bytes ``parity_records`` will make, for budgets."""
    return plan_layout(size, percent).end - size


def parity_footer(size: int) -> bytes:
    """Return the footer of a bundle whose trailer record ends at ``size`` and is followed by ``parity_records``."""
    return encode_footer(Footer(size - FRAME_BYTES - TRAILER_BYTES, Layout(size, 1, 1, 1, 1).start))


def _sector_digest(sector: bytes | memoryview) -> bytes:
    return hashlib.blake2b(sector, digest_size=16).digest()[:8]


def parity_records(read: Read, size: int, tag: bytes, first_record_number: int, percent: float) -> Iterator[bytes]:
    """Yield the bytes that stand between a trailer that ends at ``size`` and the footer.

    ``read`` reads the bundle up to there, once and in order of stripes; ``tag`` and ``first_record_number`` continue
    its records.  Takes 30 MiB of memory, and 8 bytes for each sector.
    """
    layout = plan_layout(size, percent)
    number = first_record_number
    yield encode_record(RecordType.PADDING, number, tag, bytes(layout.start - size - FRAME_BYTES))
    digests = bytearray(8 * _DIGESTS * layout.tables)
    group = bytearray()
    done = 0
    for band in _bands(read, layout, digests):
        group += band
        while len(group) >= _GROUP * SECTOR_BYTES or (
            group and done + len(group) // SECTOR_BYTES == layout.parity_sectors
        ):
            number += 1
            body = bytes(group[: _GROUP * SECTOR_BYTES])
            lead = layout.head(_KIND_SECTORS, done).ljust(_TABLE_PAYLOAD, b"\0")
            yield encode_record(RecordType.PARITY, number, tag, lead + body)
            del group[: len(body)]
            done += len(body) // SECTOR_BYTES
    for _ in range(layout.copies):
        for table in range(layout.tables):
            number += 1
            body = layout.head(_KIND_DIGESTS, table) + digests[8 * _DIGESTS * table : 8 * _DIGESTS * (table + 1)]
            yield encode_record(RecordType.PARITY, number, tag, body)


def _bands(read: Read, layout: Layout, digests: bytearray) -> Iterator[bytes]:
    """Yield the parity sectors of each band, and fill in the digests of all sectors."""
    import zfec

    encoder = zfec.Encoder(layout.data, layout.data + layout.parity)
    shares = list(range(layout.data, layout.data + layout.parity))
    for first in range(0, layout.stripes, _BAND):
        width = min(_BAND, layout.stripes - first)
        rows = [_row(read, layout, row * layout.stripes + first, width) for row in range(layout.data)]
        for row, piece in enumerate(rows):
            at = row * layout.stripes + first
            for sector in range(at, min(at + width, layout.sectors)):
                inside = (sector - at) * SECTOR_BYTES
                digests[8 * sector : 8 * sector + 8] = _sector_digest(piece[inside : inside + SECTOR_BYTES])
        band = b"".join(encoder.encode(rows, shares))
        at = 8 * (layout.sectors + first * layout.parity)
        for inside in range(0, len(band), SECTOR_BYTES):
            digests[at : at + 8] = _sector_digest(band[inside : inside + SECTOR_BYTES])
            at += 8
        yield band


def _row(read: Read, layout: Layout, sector: int, width: int) -> bytes:
    """Return ``width`` sectors of data from ``sector`` on, with zeros behind what is protected."""
    offset = sector * SECTOR_BYTES
    length = max(0, min(width * SECTOR_BYTES, layout.protected - offset))
    return (read(offset, length) if length else b"").ljust(width * SECTOR_BYTES, b"\0")


# ------------------------------------------------------------------------------------------------------ repair


@dataclass(frozen=True, slots=True)
class Repair:
    """What repair found: ``sectors`` maps the number of a bad sector to what it held, cut where protection ends.

    ``beyond_repair``: how many bad sectors stay bad.
    """

    layout: Layout
    sectors: Mapping[int, bytes] = field(default_factory=dict)
    beyond_repair: int = 0

    @property
    def repaired(self) -> int:
        """How many sectors were computed again."""
        return len(self.sectors)

    @property
    def footer(self) -> bytes:
        """A footer that makes the protected bytes a whole bundle again, without its parity."""
        return encode_footer(Footer(self.layout.protected - FRAME_BYTES - TRAILER_BYTES, 0))


def repair(read: Read, size: int, sectors: MutableMapping[int, bytes] | None = None) -> Repair | None:
    """Return what is bad in the ``size`` bytes that ``read`` reads, computed again; None if there is no parity.

    Where the file cannot be read, ``read`` returns any bytes of the right length; it must not raise.  Repaired sectors go
    into ``sectors``, an empty mapping (a dict by default); for large files give one that does not keep them in memory.
    """
    layout = find_layout(read, size)
    if layout is None:
        return None
    kept = {} if sectors is None else sectors
    lost = 0
    for number, sector in repaired_sectors(read, layout):
        if sector is None:
            lost += 1
        else:
            kept[number] = sector
    return Repair(layout, kept, lost)


def overlaid(read: Read, repaired: Repair) -> Read:
    """Return a function that reads the repaired file."""

    def read_repaired(offset: int, length: int) -> bytes:
        data = bytearray(read(offset, length))
        # What is cut off at the end comes back too.
        missing = min(offset + length, repaired.layout.protected) - offset - len(data)
        data += bytes(max(0, missing))
        for number in range(offset // SECTOR_BYTES, -(-(offset + len(data)) // SECTOR_BYTES)):
            sector = repaired.sectors.get(number)
            if sector is not None:
                at = number * SECTOR_BYTES - offset
                piece = sector[max(0, -at) :]
                at = max(0, at)
                piece = piece[: len(data) - at]
                data[at : at + len(piece)] = piece
        return bytes(data)

    return read_repaired


def find_layout(read: Read, size: int) -> Layout | None:
    """Return the layout out of any intact table of digests, looked for from the end; None if there is none."""
    end = size // SECTOR_BYTES * SECTOR_BYTES
    while end > 0:
        start = max(0, end - _CHUNK_BYTES)
        chunk = read(start, end - start)
        for at in range(end - start - SECTOR_BYTES, -1, -SECTOR_BYTES):
            if chunk[at : at + len(SYNC)] == SYNC:
                parsed = _parse_table(chunk[at : at + SECTOR_BYTES])
                if parsed is not None and _stands_right(parsed, start + at):
                    return parsed.layout
        end = start
    return None


@dataclass(frozen=True, slots=True)
class _Table:
    layout: Layout
    number: int
    digests: bytes


def _parse_table(sector: bytes) -> _Table | None:
    """Return the table of digests in a sector, or None."""
    if len(sector) != SECTOR_BYTES:
        return None
    frame = parse_frame(sector)
    if frame is None or frame.type != RecordType.PARITY or frame.length != _TABLE_PAYLOAD:
        return None
    payload = sector[FRAME_BYTES:]
    if payload_digest(payload) != frame.digest:
        return None
    kind, copies, _, protected, stripes, data, parity, number = _HEAD.unpack_from(payload)
    layout = Layout(protected, stripes, data, parity, copies)
    if (
        kind != _KIND_DIGESTS
        or not 1 <= data <= _MAX_DATA
        or not 1 <= parity <= _MAX_STRIPE - data
        or not 1 <= stripes <= layout.sectors
        or data != -(-layout.sectors // stripes)
        or number >= layout.tables
    ):
        return None
    return _Table(layout, number, payload[_HEAD.size :])


def _stands_right(table: _Table, offset: int) -> bool:
    """Say whether a table stands where its layout has it. So a layout cannot claim more than the file has bytes."""
    layout = table.layout
    return any(layout.table_offset(table.number, copy) == offset for copy in range(layout.copies))


def repaired_sectors(read: Read, layout: Layout) -> Iterator[tuple[int, bytes | None]]:
    """Yield the number of each bad sector and what it held, or None if that cannot be computed, in order of stripes."""
    digests = _load_digests(read, layout)
    bad = _bad_data(read, layout, digests)
    by_band: dict[int, list[int]] = {}
    for sector in bad:
        by_band.setdefault(sector % layout.stripes // _BAND * _BAND, []).append(sector)
    for first in sorted(by_band):
        width = min(_BAND, layout.stripes - first)
        rows = [_row(read, layout, row * layout.stripes + first, width) for row in range(layout.data)]
        by_stripe: dict[int, list[int]] = {}
        for sector in by_band[first]:
            by_stripe.setdefault(sector % layout.stripes, []).append(sector)
        for stripe in sorted(by_stripe):
            inside = (stripe - first) * SECTOR_BYTES
            column = [piece[inside : inside + SECTOR_BYTES] for piece in rows]
            yield from _solve(read, layout, digests, stripe, column, by_stripe[stripe])


def _load_digests(read: Read, layout: Layout) -> list[bytes | None]:
    """Return the tables of digests, None for those of which no copy is intact."""
    tables: list[bytes | None] = []
    for number in range(layout.tables):
        found = None
        for copy in range(layout.copies):
            table = _parse_table(read(layout.table_offset(number, copy), SECTOR_BYTES))
            if table is not None and table.layout == layout and table.number == number:
                found = table.digests
                break
        tables.append(found)
    return tables


def _is_good(tables: list[bytes | None], number: int, sector: bytes | memoryview) -> bool | None:
    """Say whether a sector has its digest; None if no table says what it is."""
    table = tables[number // _DIGESTS]
    if table is None:
        return None
    at = 8 * (number % _DIGESTS)
    return _sector_digest(sector) == table[at : at + 8]


def _bad_data(read: Read, layout: Layout, tables: list[bytes | None]) -> list[int]:
    """Return the numbers of the sectors of data that are bad, and of those of which nobody knows."""
    bad = []
    for start in range(0, layout.sectors, _CHUNK_BYTES // SECTOR_BYTES):
        count = min(_CHUNK_BYTES // SECTOR_BYTES, layout.sectors - start)
        chunk = memoryview(_row(read, layout, start, count))
        for number in range(start, start + count):
            at = (number - start) * SECTOR_BYTES
            if not _is_good(tables, number, chunk[at : at + SECTOR_BYTES]):
                bad.append(number)
    return bad


def _solve(
    read: Read, layout: Layout, tables: list[bytes | None], stripe: int, column: list[bytes], bad: list[int]
) -> Iterator[tuple[int, bytes | None]]:
    """Compute the bad sectors of one stripe; ``column`` is its data as it was read."""
    lost = {sector // layout.stripes for sector in bad}
    shares = [row for row in range(layout.data) if row not in lost]
    blocks = [column[row] for row in shares]
    for share in range(layout.parity):
        if len(shares) == layout.data:
            break
        number = layout.parity_number(stripe, share)
        sector = read(layout.parity_offset(number), SECTOR_BYTES)
        if len(sector) == SECTOR_BYTES and _is_good(tables, layout.sectors + number, sector):
            shares.append(layout.data + share)
            blocks.append(sector)
    solved: list[bytes] | None = None
    if len(shares) == layout.data:
        import zfec

        solved = zfec.Decoder(layout.data, layout.data + layout.parity).decode(blocks, shares)
    for number in bad:
        sector = solved[number // layout.stripes] if solved is not None else b""
        # No table knows this sector: it may be right as it is, and what is computed for it is right in any case.
        if solved is None or _is_good(tables, number, sector) is False:
            yield number, None
        else:
            yield number, sector[: layout.protected - number * SECTOR_BYTES]
