"""Signatures checked by threads and by processes: the same verdicts in the same order, whatever becomes of the workers."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from sneaker.feed.classic.message import signed_bytes
from sneaker.signatures import pool as verification
from sneaker.signatures.pool import Check, SignaturePool, Verifier, process_pool
from tests.store.worlds import feed

MESSAGES = feed(0, 60)
GOOD: list[Check] = [(item.author.key, item.signature, signed_bytes(item.text)) for item in MESSAGES]


def worker_processes(pool: SignaturePool) -> list[subprocess.Popen[bytes]]:
    return [worker.process for worker in pool._workers or ()]


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
        assert bool(worker_processes(made._pool)) is (request.param == "processes")


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
                os.kill(worker_processes(verifier._pool)[number // 60].pid, signal.SIGKILL)
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
    processes = worker_processes(verifier._pool)
    assert len(processes) == 2
    verifier.close()
    assert all(process.poll() is not None for process in processes)
    verifier.close()


def test_all_of_a_process_share_one_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Import, check and peers in one process take turns with the same workers, and each gets its own verdicts."""
    monkeypatch.setattr(verification, "PROCESSES_FROM", 1)
    monkeypatch.setattr(verification, "available_cores", lambda: 2)
    monkeypatch.setattr(verification, "_process_pool", None)
    chunks = [chunk(number) for number in range(60)]
    expected = [verdicts for _, verdicts in chunks]
    with closing(Verifier()) as one, closing(Verifier()) as other:
        answers: tuple[list[bytes | None], list[bytes | None]] = ([], [])
        for checks, _ in chunks:
            one.submit(checks)
            other.submit(checks)
        processes = worker_processes(process_pool())
        assert len(processes) == 2
        while len(one) or len(other):
            for verifier, found in zip((other, one), answers, strict=True):
                if len(verifier):
                    found.append(verifier.collect(wait=True))
        assert answers == (expected, expected)
        one.close()
        assert [process.poll() for process in processes] == [None, None], "the other one is not done"
    assert all(process.poll() is not None for process in processes)


def test_threads_share_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "PROCESSES_FROM", 1)
    monkeypatch.setattr(verification, "available_cores", lambda: 2)
    monkeypatch.setattr(verification, "_process_pool", None)
    chunks = [chunk(number) for number in range(100)]
    answers: dict[int, list[bytes | None]] = {number: [] for number in range(4)}

    def work(number: int) -> None:
        with closing(Verifier()) as verifier:
            for checks, _ in chunks:
                verifier.submit(checks)
                if len(verifier) > 10 + number:
                    answers[number].append(verifier.collect(wait=True))
            while len(verifier):
                answers[number].append(verifier.collect(wait=True))

    threads = [threading.Thread(target=work, args=(number,)) for number in answers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found == [verdicts for _, verdicts in chunks] for found in answers.values())


def test_what_one_leaves_behind_is_nothing_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "PROCESSES_FROM", 1)
    monkeypatch.setattr(verification, "available_cores", lambda: 2)
    monkeypatch.setattr(verification, "_process_pool", None)
    checks, verdicts = chunk(3)
    with closing(Verifier()) as other:
        leaving = Verifier()
        for _ in range(20):
            leaving.submit(checks)
        other.submit(checks)
        leaving.close()
        assert other.collect(wait=True) == verdicts
