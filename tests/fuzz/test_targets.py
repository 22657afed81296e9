"""The targets without a fuzzer: what each begins with, and what was found and kept, in every run of the tests."""

from __future__ import annotations

import random
import sys
import time
import tracemalloc
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from sneaker.bundle.frames import encode_varint
from tests.bundle.bundles import read_bundle
from tests.bundle.vectors import Vector, load_vectors
from tests.fuzz.corpus import saved
from tests.fuzz.rules import little_stack
from tests.fuzz.targets import TARGETS

# What one input may cost a target, which reads it twice and writes it again. Steps are calls in Python; the largest thing that
# a few bytes may become is a message record of 12 MiB.
STEPS = 20_000
STEPS_PER_BYTE = 50
MEMORY_BYTES = 32 * 1024 * 1024
MEMORY_PER_BYTE = 100
SECONDS = 10.0


@pytest.fixture(autouse=True)
def room() -> Iterator[None]:
    with little_stack():
        yield


@pytest.mark.parametrize("name", TARGETS)
def test_kept_inputs(name: str) -> None:
    """Each promise is kept for every input, within its share of steps, memory and time."""
    target = TARGETS[name]
    for data in [*target.seeds(), *(path.read_bytes() for path in saved(name))]:
        target.check(data)
        check_cost(name, data)


def check_cost(name: str, data: bytes) -> None:
    steps = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal steps
        steps += event == "call"

    check = TARGETS[name].check
    began = time.thread_time()
    sys.setprofile(count)
    try:
        check(data)
    finally:
        sys.setprofile(None)
    seconds = time.thread_time() - began
    tracemalloc.start()
    try:
        check(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert steps <= STEPS + STEPS_PER_BYTE * len(data), (name, len(data), data[:100])
    assert peak <= MEMORY_BYTES + MEMORY_PER_BYTE * len(data), (name, len(data), data[:100])
    assert seconds <= SECONDS, (name, len(data), data[:100])


@pytest.mark.parametrize("name", TARGETS)
def test_mutations(name: str, request: pytest.FixtureRequest) -> None:
    """A fixed number of inputs like those; a fuzzer that is led by coverage tries millions (``scripts/fuzz``)."""
    chooser = random.Random(f"fuzz {name}")
    target = TARGETS[name]
    kept = [*target.seeds(), *(path.read_bytes() for path in saved(name))]
    for _ in range(5000 if request.config.getoption("--slow") else 100):
        data = mutate(chooser.choice(kept), chooser)[: target.max_bytes]
        try:
            target.check(data)
        except BaseException as error:
            error.add_note(f"the input of {name}: {data!r}")
            raise


def mutate(data: bytes, chooser: random.Random) -> bytes:
    """Return ``data`` with a few things done to it that parsers get wrong."""
    out = bytearray(data)
    for _ in range(chooser.choice((1, 1, 2, 5))):
        place = chooser.randrange(len(out) + 1)
        action = chooser.randrange(7)
        if action == 0 and out:
            out[place % len(out)] ^= 1 << chooser.randrange(8)
        elif action == 1:
            del out[place : place + chooser.randrange(1, 20)]
        elif action == 2:
            out[place:place] = chooser.randbytes(chooser.randrange(1, 20))
        elif action == 3:
            out[place : place + 9] = encode_varint(chooser.choice((0, 127, 2**14, 2**31, 2**32, 2**62, 2**63 - 1)))
        elif action == 4:
            out[place : place + 8] = b"\xff" * 8
        elif action == 5:
            other = chooser.randrange(len(out) + 1)
            out[place:place] = out[other : other + chooser.randrange(1, 200)]
        else:
            del out[place:]
    return bytes(out)


def test_mutated_bundles_never_give_a_wrong_message() -> None:
    chooser = random.Random(1)
    vectors = load_vectors()
    known = {text for vector in vectors for text in read_bundle(vector.data).texts}
    for _ in range(300):
        vector: Vector = chooser.choice(vectors)
        outcome = read_bundle(mutate(vector.data, chooser))
        assert set(outcome.texts) <= known
