"""SIGKILL at any moment: what was reported is there, the store is clean, and repeating ends in the same store."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.command_line import sneaker, start
from tests.homes import fixture_log, home, log_lines, pack, take
from tests.tries import amount


def bundles(folder: Path) -> list[Path]:
    """Write the fixture as a set of volumes and return them."""
    with home(folder / "source", b"\x02" * 32) as opened:
        take(opened, "-", data=fixture_log())
        report = pack(opened, folder / "set.sneaker", volume_bytes=70_000)
    paths = [Path(path) for path, _ in report.files]
    assert len(paths) > 3
    return paths


def check_kills(tmp_path: Path, kills: int) -> None:
    volumes = bundles(tmp_path)
    with home(tmp_path / "reference") as opened:
        take(opened, *volumes)
        expected = log_lines(opened)
    assert len(expected) == 1129
    generator = random.Random(5)
    target = tmp_path / "target"
    sneaker("init", at=target)
    started = time.monotonic()
    sneaker("import", *volumes, at=tmp_path / "reference")
    usual = time.monotonic() - started
    killed = 0
    rounds = 0
    while killed < kills:
        rounds += 1
        order = generator.sample(volumes, len(volumes))
        arguments = ["--home", str(target), "import", "--json", *map(str, order)]
        process = start(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(generator.uniform(0.1, 1.5) * usual)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
        if rounds % 5 == 0:
            done = sneaker("check", "--json", at=target)
            assert done.json["clean"] is True
        if rounds % 10 == 0:  # begin anew, so that there is something to interrupt
            target = tmp_path / f"target{rounds}"
            sneaker("init", at=target)
    sneaker("import", *generator.sample(volumes, len(volumes)), at=target)
    sneaker("import", *volumes, at=target)
    assert sneaker("check", "--json", at=target).json["clean"] is True
    with home(target) as opened:
        assert log_lines(opened) == expected
        assert opened.store.counts().waiting == 0


@pytest.mark.timeout(300)
def test_a_few_kills(tmp_path: Path) -> None:
    check_kills(tmp_path, 4)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifty_kills(tmp_path: Path) -> None:
    check_kills(tmp_path, 50)


def test_any_order_of_volumes_twice(tmp_path: Path) -> None:
    volumes = bundles(tmp_path)
    generator = random.Random(3)
    expected: list[tuple[str, bytes]] = []
    for number in range(amount(quick=2, thorough=6)):
        order = generator.sample(volumes, len(volumes))
        with home(tmp_path / f"home{number}") as opened:
            for path in order:  # one after the other, as separate visits
                assert take(opened, path).complete
            lines = log_lines(opened)
            assert opened.store.counts().waiting == 0
            again = take(opened, *order)
            assert again.ingested.accepted == 0
            assert all(source.status == "known" for source in again.sources)
        expected = expected or lines
        assert lines == expected
        assert len(lines) == 1129
