"""Killed at any moment: real 'sneaker sync' processes and SIGKILL; the store stays whole, and the next visit goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sneaker.bundle.card import decode_card
from sneaker.bundle.file import open_indexed
from sneaker.store.check import check
from tests.exchange.sticks import bundles, cards, machines, names
from tests.homes import log_lines


@dataclasses.dataclass
class Kills:
    """What came of killing: how often, how often the visit was faster, and what was found lying about."""

    killed: int = 0
    finished: int = 0
    parts: int = 0
    cut_imports: int = 0


def whole_names(stick: Path) -> None:
    for path in bundles(stick).glob("*.sneaker"):
        with path.open("rb") as file:
            indexed = open_indexed(file)
            assert indexed is not None, path
            for record in indexed.index.records:
                indexed.read(record)
    for path in cards(stick).glob("*.card"):
        decode_card(path.read_bytes())


def wait_for_visit(process: subprocess.Popen[bytes], stick: Path) -> None:
    """Return when a process has opened the stick: until then Python starts, and nothing can go wrong."""
    descriptors = Path(f"/proc/{process.pid}/fd")
    while process.poll() is None:
        with contextlib.suppress(OSError):
            if any(str(entry.readlink()).startswith(str(stick)) for entry in list(descriptors.iterdir())):
                return
        time.sleep(0.001)


def kill_visits(tmp_path: Path, count: int, seed: int) -> Kills:
    """Kill ``count`` visits in which much comes and much goes, each at another moment of it."""
    chance = random.Random(seed)
    stick = tmp_path / "stick"
    (first, second) = machines(tmp_path, stick, "AB")
    found = Kills()
    for machine in (first, second, first, second):
        machine.sync(stick)
    longest = 0.0
    while found.killed < count:
        first.publish(*(os.urandom(chance.choice((50, 1500))).hex() for _ in range(chance.randint(1, 100))))
        second.publish(*(os.urandom(chance.choice((50, 1500))).hex() for _ in range(chance.randint(1, 100))))
        second.sync(stick)
        wanted = {**second.clock(), first.me: first.clock()[first.me]}
        before = first.clock()
        command = [sys.executable, "-m", "sneaker", "--home", str(first.path), "sync", str(stick), "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait_for_visit(process, stick)
        started = time.monotonic()
        try:
            out, errors = process.communicate(timeout=longest * chance.uniform(0, 1.1) if longest else None)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            found.killed += 1
        else:
            assert process.returncode == 0, out + errors
            assert json.loads(out)["safe_to_remove"]
            longest = max(longest * 0.8, time.monotonic() - started)
            found.finished += 1
        with first.opened() as opened:
            assert check(opened.store).clean
        after = first.clock()
        assert all(after[feed] >= sequence for feed, sequence in before.items())
        found.cut_imports += before != after != wanted
        found.parts += sum(name.endswith(".part") for name in names(bundles(stick)) | names(cards(stick)))
        whole_names(stick)
        # What lies there now is enough for others, and the next visit converges.
        assert second.sync(stick).complete
        assert first.sync(stick).complete
        assert first.clock() == wanted
        assert second.sync(stick).complete
        assert second.clock() == wanted
        assert not any(name.endswith(".part") for name in names(bundles(stick)) | names(cards(stick)))
        assert not list(first.path.glob("staging*"))
    with first.opened() as ours, second.opened() as theirs:
        assert log_lines(ours) == log_lines(theirs)
    shutil.rmtree(stick)
    return found


def test_killed_visits(tmp_path: Path) -> None:
    found = kill_visits(tmp_path, 12, seed=1)
    print(found)
    assert found.killed == 12


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_visits_many_times(tmp_path: Path) -> None:
    total = Kills()
    for seed in range(2, 12):  # new homes now and then, or most of the time goes into checking what was there before
        folder = tmp_path / str(seed)
        folder.mkdir()
        found = kill_visits(folder, 20, seed)
        total = Kills(*(getattr(total, field.name) + getattr(found, field.name) for field in dataclasses.fields(Kills)))
        print(total, flush=True)
    assert total.killed == 200
