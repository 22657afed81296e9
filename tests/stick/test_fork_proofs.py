"""Proof of a fork travels: who saw one branch learns of the other, and stops that feed alone."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sneaker.bundle.indexed_file import open_indexed
from sneaker.feed.message import Compact
from sneaker.refs import FeedRef, MessageRef
from sneaker.stick.fork_proofs import ForkProof, find_fork_proofs, first_forked
from sneaker.stick.layout import base32
from sneaker.stick.report import VisitReport
from sneaker.store.check import check
from tests.homes import pack, take
from tests.sticks import Machine, bundles, names, snapshot

DAY_MS = 24 * 60 * 60 * 1000


def test_the_id_of_a_proof_is_that_of_the_specification() -> None:
    feed, key = bytes(range(32)), bytes(range(32, 64))
    proof = ForkProof(FeedRef.classic(feed), 4, MessageRef(key), None, Compact(0, 0, b"", b""), 0)
    named = b"sneaker fork proof\0" + feed + b"\4\0\0\0" + key
    assert proof.bundle_id == hashlib.blake2b(named, digest_size=16).digest()


class Valley:
    """Ada writes on two machines: three messages are the same, then each of hers goes its own way.

    Ben has seen both; Cy has the first branch, Dan the second, Eve nothing of Ada's, and Fay what is undisputed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stick = self.new_stick("stick")
        (folder / "twin").mkdir()
        self.one, self.two = Machine(folder, "Ada"), Machine(folder / "twin", "Ada")
        self.ada = self.one.me
        self.ben, self.cy, self.dan, self.eve, self.fay = (
            Machine(folder, name) for name in ("Ben", "Cy", "Dan", "Eve", "Fay")
        )
        self.one.publish("first", "second", "third")
        self.give(self.one, self.two, self.fay)
        self.one.publish("fourth here", "fifth here")
        self.two.publish("fourth there", "fifth there", "sixth there")
        self.give(self.one, self.ben, self.cy)
        self.give(self.two, self.ben, self.dan)

    def new_stick(self, name: str) -> Path:
        path = self.folder / name
        path.mkdir()
        return path

    def give(self, giver: Machine, *takers: Machine) -> None:
        bundle = self.folder / "given.sneaker"
        with giver.opened() as opened:
            pack(opened, bundle)
        for taker in takers:
            with taker.opened() as opened:
                take(opened, bundle)

    def visit(self, machine: Machine, stick: Path | None = None, **options: Any) -> VisitReport:
        place = stick or self.stick
        machine.init(place)
        report = machine.sync(place, **options)
        assert report.safe_to_remove
        assert not report.problems
        return report

    def knows(self, machine: Machine) -> bool:
        with machine.opened() as opened:
            assert check(opened.store).clean
            assert opened.store.forked() <= {self.ada}
            return bool(opened.store.forked())


@pytest.fixture
def valley(tmp_path: Path) -> Valley:
    return Valley(tmp_path)


def fork_proofs(machine: Machine) -> set[str]:
    with machine.opened() as opened:
        return {base32(item.bundle_id) + ".sneaker" for item in find_fork_proofs(opened.store)}


def test_who_saw_one_branch_learns_of_the_other(valley: Valley) -> None:
    assert valley.knows(valley.ben)
    assert not any(valley.knows(machine) for machine in (valley.cy, valley.dan, valley.eve, valley.fay))
    assert valley.visit(valley.ben).fork_proofs == 2
    for machine in (valley.cy, valley.dan, valley.eve, valley.fay):
        report = valley.visit(machine)
        assert valley.knows(machine), machine.name
        assert report.imported.ingested.feeds_forked == {valley.ada}
    # Each keeps its branch, and all go on with everybody else's feeds.
    assert valley.cy.clock()[valley.ada] == 5
    assert valley.dan.clock()[valley.ada] == 6
    assert valley.eve.clock()[valley.ada] == valley.fay.clock()[valley.ada] == 4
    valley.cy.publish("life goes on")
    valley.visit(valley.cy)
    valley.visit(valley.eve)
    assert valley.eve.clock()[valley.cy.me] == 1


def test_the_two_machines_of_the_author_learn_it_too(valley: Valley) -> None:
    valley.visit(valley.ben)
    for machine in (valley.one, valley.two):
        valley.visit(machine)
        assert valley.knows(machine)


def test_it_goes_on_from_stick_to_stick(valley: Valley) -> None:
    valley.visit(valley.ben)
    valley.visit(valley.cy)
    other = valley.new_stick("other")
    assert valley.visit(valley.cy, other).fork_proofs == 2
    valley.visit(valley.dan, other)
    assert valley.knows(valley.dan)


def test_it_lies_there_once_and_the_stick_comes_to_rest(valley: Valley) -> None:
    everybody = (valley.ben, valley.cy, valley.dan, valley.eve, valley.fay)
    for _ in range(3):
        for machine in everybody:
            valley.visit(machine)
    before = snapshot(valley.stick)
    for machine in everybody:
        report = valley.visit(machine)
        assert report.complete
        assert report.imported.ingested.refused == 0
        assert not report.files
        assert not report.removed
    assert snapshot(valley.stick) == before
    assert names(bundles(valley.stick)) == fork_proofs(valley.ben) == fork_proofs(valley.dan)
    assert len(fork_proofs(valley.ben)) == 2


def test_cleaning_and_compaction_leave_it(valley: Valley) -> None:
    valley.visit(valley.ben)
    valley.visit(valley.cy)
    found = fork_proofs(valley.ben)
    for _ in range(2):
        valley.visit(valley.ben, collect=True)
        assert found <= names(bundles(valley.stick))
    for number in range(20):
        valley.ben.publish(f"small {number}")
        valley.visit(valley.ben)
    assert found <= names(bundles(valley.stick))


def test_after_a_while_it_is_no_news(valley: Valley) -> None:
    valley.visit(valley.ben)
    found = fork_proofs(valley.ben)
    valley.ben.now_ms += 91 * DAY_MS
    report = valley.visit(valley.ben)
    assert {name.rpartition("/")[2] for name in report.removed} >= found
    assert not found & names(bundles(valley.stick))
    assert not valley.visit(valley.ben).fork_proofs
    assert valley.knows(valley.ben)


def test_a_budget_holds_for_it_too(valley: Valley) -> None:
    valley.ben.init(valley.stick)
    assert not valley.ben.sync(valley.stick, max_bytes=600).files
    report = valley.visit(valley.ben, max_bytes=80_000)
    assert report.fork_proofs == 2
    assert sum(size for _, size in report.files) <= 80_000


def test_a_known_message_is_no_news_on_another_stick(valley: Valley) -> None:
    valley.visit(valley.ben)
    valley.visit(valley.cy)
    other = valley.new_stick("other")
    valley.visit(valley.ben, other)
    report = valley.visit(valley.cy, other)
    assert report.imported.complete
    assert report.imported.ingested.refused == 0


def test_it_is_an_ordinary_bundle(valley: Valley) -> None:
    valley.visit(valley.ben)
    reader = Path(__file__).parents[2] / "scripts" / "read_bundle.py"
    for name in fork_proofs(valley.ben):
        path = bundles(valley.stick) / name
        with path.open("rb") as file:
            indexed = open_indexed(file)
        assert indexed is not None
        assert [(entry.feed, entry.first, entry.last) for entry in indexed.index.feeds] == [(valley.ada, 4, 4)]
        done = subprocess.run([sys.executable, reader, path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "fourth " in done.stdout


def test_something_else_of_that_name_changes_nothing(valley: Valley) -> None:
    valley.visit(valley.cy)
    for name in fork_proofs(valley.ben):
        (bundles(valley.stick) / name).write_bytes(b"not a bundle")
    valley.ben.init(valley.stick)
    assert valley.ben.sync(valley.stick).safe_to_remove
    assert all((bundles(valley.stick) / name).read_bytes() == b"not a bundle" for name in fork_proofs(valley.ben))
    valley.visit(valley.ben, valley.new_stick("other"))
    valley.visit(valley.cy, valley.folder / "other")
    assert valley.knows(valley.cy)


def test_a_branch_that_goes_on_beyond_the_head(valley: Valley) -> None:
    """Cy has five messages of the first branch, and is shown only the sixth of the second: it follows another fifth."""
    with valley.dan.opened() as opened:
        (valley.folder / "clock.json").write_text(f'{{"{valley.ada}": 5}}')
        pack(opened, valley.folder / "late.sneaker", readers=[str(valley.folder / "clock.json")])
    with valley.cy.opened() as opened:
        take(opened, valley.folder / "late.sneaker")
        assert first_forked(opened.store) == {valley.ada: 5}
        assert [(item.sequence) for item in find_fork_proofs(opened.store)] == [5, 6]
    valley.visit(valley.cy)
    for machine in (valley.dan, valley.eve, valley.fay):
        valley.visit(machine)
    assert valley.knows(valley.dan)
    assert valley.eve.clock()[valley.ada] >= 4  # all that is undisputed, and one of the fifth


def test_both_messages_wait(valley: Valley) -> None:
    """Eve holds nothing of Ada's; both fourth messages come before the first three."""
    (valley.folder / "clock.json").write_text(f'{{"{valley.ada}": 3}}')
    for machine in (valley.cy, valley.dan):
        with machine.opened() as opened:
            pack(opened, valley.folder / "late.sneaker", readers=[str(valley.folder / "clock.json")])
        with valley.eve.opened() as opened:
            take(opened, valley.folder / "late.sneaker")
    assert valley.knows(valley.eve)
    assert len(fork_proofs(valley.eve)) == 2
    valley.visit(valley.eve)
    valley.visit(valley.cy)
    assert valley.knows(valley.cy)
