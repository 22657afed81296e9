"""Parity: what was promised to come back comes back, and repair believes nobody."""

from __future__ import annotations

import math
import random
import re
import tracemalloc
from functools import cache

import pytest

from sneaker.bundle.events import Status
from sneaker.bundle.frames import FOOTER_BYTES, RecordType, encode_record, parse_footer
from sneaker.bundle.parity import (
    _HEAD,
    MAX_PERCENT,
    SECTOR_BYTES,
    Layout,
    Read,
    find_layout,
    overlaid,
    parity_bytes,
    parity_footer,
    parity_records,
    plan_layout,
    repair,
)
from tests.bundle.bundles import Parts, keypair, make_bundle, posts, read_bundle, records_of
from tests.bundle.vectors import ROOT, load_vectors
from tests.tries import amount

TAG = bytes(range(8))


def reading(data: bytes | bytearray) -> Read:
    return lambda offset, length: bytes(data[offset : offset + length])


def with_parity(bundle: bytes, percent: float) -> bytes:
    """Return a bundle with parity put in before its footer."""
    body = bundle[:-FOOTER_BYTES]
    records = parity_records(reading(body), len(body), TAG, len(records_of(bundle)), percent)
    return b"".join([body, *records, parity_footer(len(body))])


@cache
def bundle_of(size: int) -> bytes:
    """Return a bundle of about ``size`` bytes."""
    chooser = random.Random(size)
    left = size - 4000
    blobs = []
    while left > 0:
        blobs.append(chooser.randbytes(min(left, 5_000_000)))
        left -= 5_000_000
    return make_bundle(Parts([[posts(keypair("ada"), 10)]], blobs=blobs))


@cache
def protected_bundle(size: int, percent: float) -> bytes:
    return with_parity(bundle_of(size), percent)


def hurt(data: bytes, percent: float, seed: object) -> bytes:
    """Overwrite that many percent of the sectors, at random places."""
    chooser = random.Random(f"hurt {seed}")
    sectors = -(-len(data) // SECTOR_BYTES)
    damaged = bytearray(data)
    for sector in chooser.sample(range(sectors), round(sectors * percent / 100)):
        at = sector * SECTOR_BYTES
        length = len(damaged[at : at + SECTOR_BYTES])
        damaged[at : at + length] = bytes(length) if chooser.random() < 0.3 else chooser.randbytes(length)
    return bytes(damaged)


def check_repair(data: bytes, damaged: bytes) -> int:
    """Repair and check every byte; return the number of repaired sectors."""
    found = repair(reading(damaged), len(damaged))
    assert found is not None
    assert found.beyond_repair == 0
    whole = overlaid(reading(damaged), found)(0, found.layout.protected)
    assert whole == data[: found.layout.protected]
    return found.repaired


@pytest.mark.parametrize("size", [5_000, 20_000, 1_000_000])
@pytest.mark.parametrize("percent", [1, 10, 30])
def test_a_bundle_with_parity_is_ok(size: int, percent: float) -> None:
    data = protected_bundle(size, percent)
    body = len(bundle_of(size)) - FOOTER_BYTES
    assert len(data) == body + parity_bytes(body, percent) + FOOTER_BYTES
    outcome = read_bundle(data)
    assert outcome.end.status is Status.OK
    assert len(outcome.messages) == 10
    footer = parse_footer(data[-FOOTER_BYTES:])
    assert footer is not None
    starts = [offset for kind, offset, _ in records_of(data) if kind == RecordType.PARITY]
    assert starts[0] == footer.parity_offset
    assert all(offset % SECTOR_BYTES == 0 for offset in starts)
    assert find_layout(reading(data), len(data)) == plan_layout(body, percent)
    assert check_repair(data, data) == 0


@pytest.mark.parametrize("size", [5_000, 20_000, 1_000_000])
@pytest.mark.parametrize("percent", [1, 10, 30])
def test_random_sectors_come_back(size: int, percent: float) -> None:
    data = protected_bundle(size, percent)
    repaired = sum(check_repair(data, hurt(data, percent, seed)) for seed in range(30 if size < 100_000 else 6))
    assert repaired or percent == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("size", "percent", "seeds"), [(20_000, 10, 300), (1_000_000, 10, 60), (30_000_000, 10, 30)])
def test_random_sectors_come_back_often(size: int, percent: float, seeds: int) -> None:
    data = protected_bundle(size, percent)
    for seed in range(seeds):
        check_repair(data, hurt(data, percent, seed))


def simulate(layout: Layout, percent: float, chooser: random.Random) -> bool:
    """Say whether everything comes back, by counting alone."""
    sectors = -(-(layout.end + FOOTER_BYTES) // SECTOR_BYTES)
    lost = set(chooser.sample(range(sectors), round(sectors * percent / 100)))
    per_stripe = [0] * layout.stripes
    for sector in lost:
        if sector < layout.sectors:
            per_stripe[sector % layout.stripes] += 1
    for stripe in range(layout.stripes):
        for share in range(layout.parity):
            per_stripe[stripe] += layout.parity_offset(layout.parity_number(stripe, share)) // SECTOR_BYTES in lost
    if max(per_stripe) > layout.parity:
        return False
    tables = (
        {layout.table_offset(number, copy) // SECTOR_BYTES for copy in range(layout.copies)}
        for number in range(layout.tables)
    )
    return not any(table <= lost for table in tables)


@pytest.mark.parametrize("percent", [1, 10, 50])
@pytest.mark.parametrize("size", [1_000, 20_000, 1_000_000])
def test_a_model_of_many_seeds(size: int, percent: float) -> None:
    layout = plan_layout(size, percent)
    chooser = random.Random(f"{size} {percent}")
    assert all(simulate(layout, percent, chooser) for _ in range(150))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("percent", [1, 3, 10, 20, 50])
@pytest.mark.parametrize("size", [1_000, 5_000, 20_000, 100_000, 1_000_000, 30_000_000])
def test_a_model_of_a_thousand_seeds(size: int, percent: float) -> None:
    layout = plan_layout(size, percent)
    chooser = random.Random(f"{size} {percent}")
    runs = 4000 if size <= 1_000_000 else 1000
    failed = sum(not simulate(layout, percent, chooser) for _ in range(runs))
    print(f"{size} bytes, {percent} percent: {failed} of {runs}")
    assert failed <= runs / 1000


def test_one_scratch() -> None:
    data = protected_bundle(1_000_000, 10)
    layout = plan_layout(len(bundle_of(1_000_000)) - FOOTER_BYTES, 10)
    chooser = random.Random(5)
    long = layout.parity * layout.stripes * SECTOR_BYTES
    for length in (SECTOR_BYTES, long - SECTOR_BYTES):
        for _ in range(4):
            at = chooser.randrange(layout.protected - length)
            check_repair(data, data[:at] + bytes(length) + data[at + length :])
    # Across the border, and everything behind it but one table.
    border = layout.protected - 10 * SECTOR_BYTES
    check_repair(data, data[:border] + bytes(30 * SECTOR_BYTES) + data[border + 30 * SECTOR_BYTES :])
    last = layout.table_offset(layout.tables - 1, layout.copies - 1)
    check_repair(data, data[: layout.protected] + bytes(last - layout.protected) + data[last:])


def test_one_sector_too_many() -> None:
    """That stripe stays bad, the others come back, and nothing wrong is given out."""
    data = bytearray(protected_bundle(1_000_000, 10))
    layout = plan_layout(len(bundle_of(1_000_000)) - FOOTER_BYTES, 10)
    for row in range(layout.parity + 1):
        at = row * layout.stripes * SECTOR_BYTES
        data[at : at + SECTOR_BYTES] = bytes(SECTOR_BYTES)
    data[SECTOR_BYTES : 2 * SECTOR_BYTES] = bytes(SECTOR_BYTES)
    found = repair(reading(data), len(data))
    assert found is not None
    assert found.beyond_repair == layout.parity + 1
    assert list(found.sectors) == [1]
    assert found.sectors[1] == protected_bundle(1_000_000, 10)[SECTOR_BYTES : 2 * SECTOR_BYTES]


def test_without_all_copies_of_a_table() -> None:
    """Sectors that no table knows count as lost, and most often that is few enough."""
    whole = with_parity(bundle_of(6_000_000), 30)
    big = bytearray(whole)
    layout = plan_layout(len(bundle_of(6_000_000)) - FOOTER_BYTES, 30)
    assert layout.tables > 2
    for copy in range(layout.copies):
        at = layout.table_offset(0, copy)
        big[at : at + SECTOR_BYTES] = bytes(SECTOR_BYTES)
    big[50_000:60_000] = bytes(10_000)
    check_repair(whole, bytes(big))


def test_a_repaired_bundle_is_ok() -> None:
    data = protected_bundle(20_000, 10)
    damaged = bytearray(data)
    damaged[4096:8192] = bytes(4096)
    assert read_bundle(bytes(damaged)).end.status is Status.DAMAGED
    found = repair(reading(damaged), len(damaged))
    assert found is not None
    again = overlaid(reading(damaged), found)(0, found.layout.protected) + found.footer
    assert again == bundle_of(20_000)
    assert read_bundle(again).end.status is Status.OK


def test_damage_in_parity_costs_no_message() -> None:
    data = protected_bundle(20_000, 10)
    for at in range(len(bundle_of(20_000)), len(data), 1500):
        damaged = bytearray(data)
        damaged[at] ^= 1
        outcome = read_bundle(bytes(damaged))
        assert outcome.end.status is Status.DAMAGED
        assert outcome.end.signed
        assert outcome.end.lost_messages == ()
        assert len(outcome.messages) == 10
        assert check_repair(data, bytes(damaged)) == 0


def test_cut_files() -> None:
    """A cut takes the tables first: then there is nothing to repair with, and nothing to repair either."""
    data = protected_bundle(20_000, 10)
    layout = plan_layout(len(bundle_of(20_000)) - FOOTER_BYTES, 10)
    for length in range(0, len(data), 3000):
        outcome = read_bundle(data[:length])
        assert outcome.end.status is Status.TRUNCATED, length
        found = repair(reading(data[:length]), length)
        assert (found is not None) is (length >= layout.tables_start + SECTOR_BYTES)


def test_the_overlay_reads_like_the_file() -> None:
    data = protected_bundle(20_000, 10)
    damaged = hurt(data, 10, "overlay")
    found = repair(reading(damaged), len(damaged))
    assert found is not None
    read = overlaid(reading(damaged), found)
    chooser = random.Random(2)
    protected = found.layout.protected
    for _ in range(300):
        offset, length = chooser.randrange(protected), chooser.randrange(9000)
        length = min(length, protected - offset)
        assert read(offset, length) == data[offset : offset + length]


def test_no_parity() -> None:
    for data in (b"", bundle_of(20_000), bytes(100_000), random.Random(1).randbytes(50_000)):
        assert repair(reading(data), len(data)) is None


def test_tables_that_lie() -> None:
    """Whatever a table says, repair ends, in memory bounded by the file."""
    chooser = random.Random(4)
    for _ in range(300):
        protected = chooser.choice([0, 1, 4096, 20_000, 2**40, 2**63, 2**64 - 1])
        stripes, data, parity = (chooser.choice([0, 1, 2, 5, 200, 256, 65535]) for _ in range(3))
        head = _HEAD.pack(
            0, chooser.choice([0, 1, 3, 255]), 0, protected, stripes, data, parity, chooser.choice([0, 1, 2**32 - 1])
        )
        payload = head.ljust(4048, b"\xaa")
        file = bytes(24_576) + encode_record(RecordType.PARITY, 0, TAG, payload) * 20
        found = repair(reading(file), len(file))
        if found is not None:
            assert found.layout.protected < len(file)
            assert found.repaired + found.beyond_repair <= len(file) // SECTOR_BYTES


def test_percentages() -> None:
    for percent in (0, -1, MAX_PERCENT + 1, math.nan):
        with pytest.raises(ValueError, match="percent"):
            plan_layout(1000, percent)
    sizes = [parity_bytes(10_000_000, percent) for percent in (0.1, 1, 2, 5, 10, 20, 40, 50)]
    assert sizes == sorted(sizes)


def test_memory_does_not_grow_with_the_file() -> None:
    """The first records for 4 GiB, of which all would take minutes."""
    size = 4 << 30
    zeros = bytes(1 << 16)
    tracemalloc.start()
    try:
        records = parity_records(lambda offset, length: zeros[:length], size, TAG, 5, 10)
        for _ in range(amount(quick=1, thorough=3)):
            next(records)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50_000_000


def test_the_table_on_the_page() -> None:
    page = (ROOT / "bundles-format.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (\d+) kB \| (\d+)% \| (\d+)% \| (\d+)% \| (\d+), (\d+) \|$", page, re.MULTILINE)
    assert len(rows) == 5
    for row in rows:
        percent, small, *others, k, m = map(int, row)
        assert round(parity_bytes(20_000, percent) / 1000) == small
        assert [round(100 * parity_bytes(size, percent) / size) for size in (10**6, 3 * 10**7, 4 << 30)] == others
        layout = plan_layout(3 * 10**7, percent)
        assert (layout.data, layout.parity) == (k, m)


def test_the_vectors() -> None:
    whole, broken, hurt_parity = (
        vector.data
        for name in ("parity", "parity-repairs", "parity-flipped")
        for vector in load_vectors()
        if vector.name == name
    )
    assert check_repair(whole, whole) == 0
    assert check_repair(whole, broken) == 1
    assert check_repair(whole, hurt_parity) == 0


# ------------------------------------------------------------------------- the code, as the page describes it


def multiply(a: int, b: int) -> int:
    """Multiply in GF(2^8) with the polynomial x^8 + x^4 + x^3 + x^2 + 1."""
    product = 0
    while b:
        product ^= a * (b & 1)
        a = a << 1 ^ (0x11D if a & 0x80 else 0)
        b >>= 1
    return product


def inverse(matrix: list[list[int]]) -> list[list[int]]:
    size = len(matrix)
    rows = [[*row, *(int(column == number) for column in range(size))] for number, row in enumerate(matrix)]
    for column in range(size):
        pivot = next(row for row in range(column, size) if rows[row][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        factor = next(n for n in range(256) if multiply(n, rows[column][column]) == 1)
        rows[column] = [multiply(factor, value) for value in rows[column]]
        for row in range(size):
            if row != column and (factor := rows[row][column]):
                rows[row] = [a ^ multiply(factor, b) for a, b in zip(rows[row], rows[column], strict=True)]
    return [row[size:] for row in rows]


def test_the_code_is_the_one_on_the_page() -> None:
    """So that a repair needs no zfec."""
    data = protected_bundle(20_000, 10)
    layout = plan_layout(len(bundle_of(20_000)) - FOOTER_BYTES, 10)
    assert layout.stripes == 1
    powers = [1]
    while len(powers) < 255:
        powers.append(multiply(powers[-1], 2))
    k = layout.data
    rows = [[int(column == 0) for column in range(k)]]
    rows += [[powers[row * column % 255] for column in range(k)] for row in range(k + layout.parity - 1)]
    top = inverse(rows[:k])
    for share in range(layout.parity):
        row = rows[k + share]
        coefficients = [0] * k
        for column in range(k):
            for inner in range(k):
                coefficients[column] ^= multiply(row[inner], top[inner][column])
        at = layout.parity_offset(layout.parity_number(0, share))
        for place in (0, 1, 777, 4095):
            expected = 0
            for number, coefficient in enumerate(coefficients):
                position = number * SECTOR_BYTES + place
                expected ^= multiply(coefficient, data[position] if position < layout.protected else 0)
            assert data[at + place] == expected
