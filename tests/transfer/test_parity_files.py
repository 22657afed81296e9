"""Parity in real files: bad sectors come back on import, and what cannot come back is said."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import pytest

from sneaker.bundle import parity
from sneaker.bundle.frames import FOOTER_BYTES, FRAME_BYTES
from sneaker.bundle.parity import SECTOR_BYTES, Layout
from sneaker.transfer.repair_from_parity import repaired_file
from tests.command_line import sneaker
from tests.homes import home, log_lines, pack, take
from tests.tries import amount


def corrupt(path: Path, percent: float, seed: int) -> int:
    """Fill random sectors of a file with noise, ``percent`` of its bytes in all."""
    generator = random.Random(seed)
    data = bytearray(path.read_bytes())
    sectors = range(-(-len(data) // SECTOR_BYTES))
    bad = generator.sample(sectors, int(len(data) * percent / 100) // SECTOR_BYTES)
    for sector in bad:
        at = sector * SECTOR_BYTES
        data[at : at + SECTOR_BYTES] = generator.randbytes(len(data[at : at + SECTOR_BYTES]))
    path.write_bytes(data)
    return len(bad)


@pytest.mark.parametrize("percent", [1, 5, 20])
def test_bad_sectors_are_repaired(filled: Path, tmp_path: Path, percent: int) -> None:
    with home(filled) as a:
        expected = log_lines(a)
        pack(a, tmp_path / "x.sneaker", parity=percent)
    whole = (tmp_path / "x.sneaker").read_bytes()
    repaired = 0
    for seed in range(amount(quick=2, thorough=8)):
        (tmp_path / "x.sneaker").write_bytes(whole)
        bad = corrupt(tmp_path / "x.sneaker", percent, seed)
        with home(tmp_path / f"b{seed}") as b:
            report = take(b, tmp_path / "x.sneaker")
            assert report.complete, report.sources
            assert log_lines(b) == expected
            repaired += bad and "repaired" in report.sources[0].detail
    assert repaired or percent == 1


def test_damage_in_the_parity_itself_costs_nothing(filled: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.sneaker"
    with home(filled) as a, home(tmp_path / "b") as b:
        pack(a, path, parity=5)
        data = bytearray(path.read_bytes())
        at = len(data) - FOOTER_BYTES - SECTOR_BYTES  # the frame of the last table
        data[at : at + FRAME_BYTES] = bytes(FRAME_BYTES)
        path.write_bytes(data)
        report = take(b, path)
        assert report.complete
        assert report.sources[0].detail == "the damage is behind the trailer; nothing is lost"
        assert log_lines(b) == log_lines(a)


def test_too_much_damage_is_said(filled: Path, tmp_path: Path) -> None:
    with home(filled) as a:
        pack(a, tmp_path / "x.sneaker", parity=1)
    corrupt(tmp_path / "x.sneaker", 60, 1)
    with home(tmp_path / "b") as b:
        report = take(b, tmp_path / "x.sneaker")
        assert not report.complete
        assert report.sources[0].detail


def test_what_is_repaired_takes_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a file is gone, and there is a parity sector for each of its sectors."""
    size = 16 * 1024 * 1024 - 1000
    monkeypatch.setattr(parity, "plan_layout", lambda size, percent: Layout(size, -(-size // SECTOR_BYTES), 1, 1, 3))
    data = random.Random(1).randbytes(size)
    path = tmp_path / "x"
    with path.open("wb") as file:
        file.write(bytes(size))
        for piece in parity.parity_records(lambda at, length: data[at : at + length], size, b"tagtagta", 1, 50):
            file.write(piece)
        file.write(parity.parity_footer(size))
    tracemalloc.start()
    try:
        with path.open("rb") as file:
            mended = repaired_file(file, tmp_path)
            assert mended is not None
            whole, found = mended
            _, peak = tracemalloc.get_traced_memory()
            with whole:
                assert (found.repaired, found.beyond_repair) == (len(found.sectors), 0) == (4096, 0)
                assert whole.read() == data + found.footer
    finally:
        tracemalloc.stop()
    assert peak < size // 3
    assert list(tmp_path.iterdir()) == [path]


def test_a_bundle_with_parity_is_an_ordinary_one(filled: Path, tmp_path: Path) -> None:
    with home(filled) as a, home(tmp_path / "b") as b:
        pack(a, tmp_path / "x.sneaker", parity=5)
        data = (tmp_path / "x.sneaker").read_bytes()
        assert take(b, "-", data=data).complete
        assert take(b, tmp_path / "x.sneaker").sources[0].status == "known"
    assert sneaker("verify", tmp_path / "x.sneaker", "--json").json["status"] == "ok"
    assert sneaker("inspect", tmp_path / "x.sneaker", "--json").json["status"] == "ok"


def test_budgets_include_parity(filled: Path, tmp_path: Path) -> None:
    with home(filled) as a:
        for budget in (150_000, 300_000):
            report = pack(a, tmp_path / "x.sneaker", parity=5, max_bytes=budget)
            assert (tmp_path / "x.sneaker").stat().st_size == report.bytes <= budget
            assert report.packed.messages


def test_wrong_use(tmp_path: Path) -> None:
    at = tmp_path / "home"
    sneaker("init", at=at)
    assert sneaker("export", "-", "--parity", "5", at=at, ok=False).code == 2
    assert sneaker("export", tmp_path / "x", "--parity", "90", at=at, ok=False).code == 2
    me = sneaker("id", at=at).out.strip()
    assert sneaker("export", tmp_path / "x", "--parity", "5", "--to", me, at=at, ok=False).code == 2
    assert not (tmp_path / "x").exists()
