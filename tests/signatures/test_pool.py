"""Signatures checked by threads and by processes: the same verdicts in the same order, whatever becomes of the workers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing

import pytest

from sneaker.feed.classic.message import signed_bytes
from sneaker.signatures import pool as verification
from sneaker.signatures.pool import Check, Verifier
from tests.store.worlds import feed

MESSAGES = feed(0, 60)
GOOD: list[Check] = [(item.author, item.signature, signed_bytes(item.text)) for item in MESSAGES]


def chunk(number: int) -> tuple[list[Check], bytes]:
    """Return a chunk of checks, some of them bad in one way or another, and the verdicts."""
    checks, verdicts = [], []
    for place, (author, signature, signed) in enumerate(GOOD[number % 7 : 20 + number % 40]):
        kind = (place * 7 + number) % 9
        if kind == 0:
            checks.append((author, signature, signed + b" "))
        elif kind == 1:
            checks.append((author, bytes(64), signed))
        elif kind == 2:
            checks.append((bytes(32), signature, signed))
        else:
            checks.append((author, signature, signed))
        verdicts.append(kind > 2)
    return checks, bytes(verdicts)


@pytest.fixture(params=["threads", "processes"])
def verifier(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Verifier]:
    monkeypatch.setattr(verification, "PROCESSES_FROM", 1 if request.param == "processes" else 10**9)
    with closing(Verifier(2)) as made:
        yield made
        assert (made._workers is not None) is (request.param == "processes")


def test_verdicts_come_in_order(verifier: Verifier) -> None:
    chunks = [chunk(number) for number in range(200)]
    answers = []
    for checks, _ in chunks:
        verifier.submit(checks)
        while (verdicts := verifier.collect(wait=len(verifier) > 50)) is not None:
            answers.append(verdicts)
    while len(verifier):
        answers.append(verifier.collect(wait=True))
    assert answers == [verdicts for _, verdicts in chunks]
    assert verifier.collect(wait=True) is None


def test_empty_and_large_ones(verifier: Verifier) -> None:
    author, signature, _ = GOOD[0]
    verifier.submit([])
    verifier.submit([(author, signature, b"x" * 3_000_000), GOOD[0], (author, signature, b"")])
    assert verifier.collect(wait=True) == b""
    assert verifier.collect(wait=True) == bytes([0, 1, 0])


def test_waiting_for_verdicts(verifier: Verifier) -> None:
    verifier.wait(10)  # for nothing
    checks, verdicts = chunk(5)
    verifier.submit(checks)
    verifier.submit(checks)
    for _ in range(2):
        verifier.wait(0)
        verifier.wait(60)
        assert verifier.collect(wait=False) == verdicts


def test_nothing_is_lost_if_workers_die(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "PROCESSES_FROM", 1)
    chunks = [chunk(number) for number in range(120)]
    with closing(Verifier(2)) as verifier:
        answers = []
        for number, (checks, _) in enumerate(chunks):
            verifier.submit(checks)
            if number in (30, 60):
                os.kill(verifier._workers[number // 60]._process.pid, signal.SIGKILL)
        while len(verifier):
            answers.append(verifier.collect(wait=True))
    assert answers == [verdicts for _, verdicts in chunks]


def test_where_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "PROCESSES_FROM", 1)
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    with closing(Verifier(2)) as verifier:
        checks, verdicts = chunk(3)
        verifier.submit(checks)
        assert verifier.collect(wait=True) == verdicts


def test_workers_end_with_the_verifier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "PROCESSES_FROM", 1)
    verifier = Verifier(2)
    verifier.submit(GOOD)
    processes = [worker._process for worker in verifier._workers or ()]
    assert len(processes) == 2
    verifier.close()
    assert all(process.poll() is not None for process in processes)
    verifier.close()
