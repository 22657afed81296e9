"""SIGKILL at any moment: what was reported is there, the store is sound, and importing again makes it whole."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest

from sneaker.caps import MAIN_CAPS
from sneaker.ingest.ingest import Ingest
from sneaker.store.check import check
from sneaker.store.store import Store
from tests.command_line import Running, start
from tests.homes import fixture_log
from tests.json_messages import add_json
from tests.store.worlds import NOW_MS, contents

# Takes in a log in an order that makes many messages wait, and says how many are accepted whenever it knows.
SCRIPT = """
import sys
from pathlib import Path
from sneaker.caps import MAIN_CAPS
from sneaker.ingest import batches as proving
from sneaker.ingest.ingest import Ingest
from sneaker.transfer.read_log import read_log
from sneaker.signatures import pool as verification
from sneaker.store.store import Store

proving._MIN_BATCH = proving._MAX_BATCH = 150
verification.PROCESSES_FROM = 400
total = 0
def accepted(count):
    global total
    total += count
    print(total, flush=True)
with Store(Path(sys.argv[1])) as store:
    with Ingest(store, caps=MAIN_CAPS, now_ms=lambda: 0, progress=accepted, workers=2) as ingest:
        print("ready", flush=True)
        with open(sys.argv[2], "rb") as log:
            for entry in read_log(iter(lambda: log.read(65536), b"")):
                ingest.add_message(entry.message)
print("done", flush=True)
"""


def shuffled(lines: list[bytes], seed: int) -> list[bytes]:
    """Mix blocks of the log: gaps, and gaps that are filled later."""
    blocks = [lines[start : start + 100] for start in range(0, len(lines), 100)]
    random.Random(seed).shuffle(blocks)
    return [line for block in blocks for line in block]


def import_all(path: Path, lines: list[bytes]) -> None:
    with Store(path) as store, Ingest(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS) as ingest:
        for line in lines:
            add_json(ingest, line.split(b'"value":', 1)[1].rsplit(b',"timestamp":', 1)[0])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kills", [4, pytest.param(24, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_killed_at_any_moment(tmp_path: Path, kills: int) -> None:
    lines = fixture_log().splitlines(keepends=True)
    log = tmp_path / "log.ndjson"
    log.write_bytes(b"".join(shuffled(lines, 1)))
    whole = tmp_path / "whole.sqlite"
    import_all(whole, lines)
    with Store(whole) as store:
        expected = contents(store)

    def begin(path: Path) -> Running:
        return start([str(path), str(log)], program=SCRIPT, stdout=subprocess.PIPE)

    with begin(tmp_path / "timed.sqlite") as process:
        assert process.stdout is not None
        process.stdout.readline()
        began = time.monotonic()
        process.stdout.read()
        duration = time.monotonic() - began
    assert process.returncode == 0

    rng = random.Random(2)
    cut_short = 0
    for attempt in range(kills):
        path = tmp_path / f"{attempt}.sqlite"
        with begin(path) as process:
            assert process.stdout is not None
            # The first ones already while the file is being made.
            if attempt >= max(1, kills // 6):
                process.stdout.readline()
            pause = (attempt + rng.random()) / kills * duration
            time.sleep(pause)
            process.kill()
            said = process.stdout.read().split()
        numbers = [int(word) for word in said if word.isdigit()]
        if b"done" in said:
            duration = pause * 0.75  # the machine is less busy than when the time was taken
        else:
            cut_short += 1
        with Store(path) as store:
            report = check(store)
            assert report.clean, report.problems
            assert report.messages >= max(numbers, default=0)
        import_all(path, shuffled(lines, attempt))
        with Store(path) as store:
            assert contents(store) == expected
    assert cut_short >= kills // 2
