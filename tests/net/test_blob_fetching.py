"""Which blobs a node wants for itself: what came in another way no more, and of too many each in its turn."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sneaker.net.node import Node
from sneaker.net.services import blob_fetching
from sneaker.refs import BlobRef
from tests.net.machines import Machine
from tests.net.nodes import running, until

DATA = [b"blob %d" % number for number in range(7)]
BLOBS = [BlobRef.of(data) for data in DATA]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine whose messages mention blobs that are not here."""
    made = Machine(tmp_path / "one")
    for blob in BLOBS:
        made.publish({"type": "post", "text": "see", "mentions": [{"link": str(blob)}]})
    return made


async def look(node: Node) -> set[BlobRef]:
    """Have a node look for what is missing; return what it wants then."""
    fetching = node.blob_fetching
    await until(lambda: not fetching.is_busy)
    fetching.want_missing()
    await until(lambda: not fetching.is_busy)
    return set(fetching.exchange.wanted)


def test_what_came_in_another_way_is_wanted_no_more(machine: Machine) -> None:
    async def main() -> None:
        async with running(machine) as (node, _):
            assert await look(node) == set(BLOBS)
            machine.add_blob(DATA[2])
            assert await look(node) == {*BLOBS} - {BLOBS[2]}

    asyncio.run(main())


def test_of_too_many_each_has_its_turn(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand blobs that nobody has any more do not keep us from those that somebody has."""
    monkeypatch.setattr(blob_fetching, "_MAX_OWN_WANTS", 3)
    monkeypatch.setattr(blob_fetching, "_TURN", 2)

    async def main() -> None:
        async with running(machine) as (node, _):
            rounds = [await look(node) for _ in range(10)]
            assert {len(wanted) for wanted in rounds} == {3}
            assert set().union(*rounds[:4]) == set().union(*rounds[5:9]) == set(BLOBS)

    asyncio.run(main())


def test_more_are_found_beside_many_that_are_wanted(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_fetching, "_MAX_OWN_WANTS", 8)

    async def main() -> None:
        async with running(machine) as (node, _):
            assert await look(node) == set(BLOBS)
            new = BlobRef.of(b"one more")
            machine.publish({"type": "post", "text": "see", "mentions": [{"link": str(new)}]})
            assert await look(node) == {*BLOBS, new}

    asyncio.run(main())
