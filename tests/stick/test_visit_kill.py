"""Killed at any moment: SIGKILL on entering each call that changes something; the store stays whole, and the next visit goes on.

The visit is a process of its own (``killing``), so that the calls of SQLite count as well: half a transaction, a commit that is
not on the disk yet, a checkpoint.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from sneaker.bundle.card import decode_card
from sneaker.bundle.indexed_file import open_indexed
from sneaker.store.check import check
from tests.stick.killing import Call, Killer, killer
from tests.sticks import bundles, cards, machines, names


class Valley:
    """Two machines and a stick before a visit of A's in which everything happens: it takes in four bundles, cleans up and leaves."""

    def __init__(self, folder: Path, seed: int) -> None:
        chance = random.Random(seed)
        self.folder = folder
        self.stick = folder / "stick"
        (self.first, self.second) = machines(folder, self.stick, "AB")
        for machine in (self.first, self.second, self.first, self.second):
            machine.sync(self.stick)
        self.first.publish("left for B, which has it by now")
        self.first.sync(self.stick)
        for _ in range(4):
            self.second.publish(*(os.urandom(chance.choice((50, 1500))).hex() for _ in range(chance.randint(5, 60))))
            self.second.sync(self.stick)
        self.first.publish(*(os.urandom(chance.choice((50, 1500))).hex() for _ in range(chance.randint(5, 100))))
        self.saved = folder / "saved"
        for name in ("A", "B", "stick"):
            shutil.copytree(folder / name, self.saved / name)
        self.before = self.first.clock()
        self.wanted = {**self.second.clock(), self.first.me: self.before[self.first.me]}

    def reset(self) -> None:
        for name in ("A", "B", "stick"):
            shutil.rmtree(self.folder / name)
            shutil.copytree(self.saved / name, self.folder / name)

    def kill(self, process: Killer, call: int | None) -> tuple[list[Call], bool]:
        done = process.visit(self.first.path, self.stick, self.first.now_ms + 1000, call)
        assert not done.output, done.output
        return done.calls, done.killed

    def check(self) -> dict[object, int]:
        """Check what a killed visit left, and that the next visits bring everything to everybody; return A's clock before them."""
        with self.first.opened() as opened:
            assert check(opened.store).clean
        after = self.first.clock()
        assert all(after[feed] >= sequence for feed, sequence in self.before.items())
        whole_names(self.stick)
        # What lies there now is enough for others, and the next visit converges.
        assert self.second.sync(self.stick).complete
        assert self.first.sync(self.stick).complete
        assert self.first.clock() == self.wanted
        assert self.second.sync(self.stick).complete
        assert self.second.clock() == self.wanted
        assert not parts(self.stick)
        assert not list(self.first.path.glob("staging*"))
        return dict(after)


def parts(stick: Path) -> list[str]:
    return [name for name in names(bundles(stick)) | names(cards(stick)) if name.endswith(".part")]


def whole_names(stick: Path) -> None:
    for path in bundles(stick).glob("*.sneaker"):
        with path.open("rb") as file:
            indexed = open_indexed(file)
            assert indexed is not None, path
            for record in indexed.index.records:
                indexed.read(record)
    for path in cards(stick).glob("*.card"):
        decode_card(path.read_bytes())


def phase(calls: list[Call], stick: Path) -> str:
    """Say where in the visit the last of ``calls`` is."""
    last = calls[-1]
    on_stick = [call.path for call in calls if call.path.startswith(str(stick))]
    if last.path.startswith(str(stick)):
        return "card" if any(path.startswith(f"{stick}/SNEAKER/cards") for path in on_stick) else "cleaning and bundle"
    if on_stick:
        return "remembering the stick" if "store.sqlite-" in last.path else "closing"
    if not any("(deleted)" in call.path for call in calls):
        return "opening, cards"
    if "store.sqlite" not in last.path:
        return "staging"
    return "commit of the import" if last.name == "fdatasync" else "import"


def chosen(calls: list[Call], stick: Path, count: int | None) -> list[int]:
    """Return which calls to kill at: all, or ``count`` of them, as many in each phase."""
    if count is None:
        return list(range(len(calls)))
    by_phase: dict[str, list[int]] = {}
    for number in range(len(calls)):
        by_phase.setdefault(phase(calls[: number + 1], stick), []).append(number)
    each = count // len(by_phase)
    return [numbers[len(numbers) * turn // each] for numbers in by_phase.values() for turn in range(each)]


def kill_visits(folder: Path, process: Killer, seed: int, count: int | None) -> tuple[Counter[str], int]:
    """Kill visits; return how many in each phase, and how many left an import half done."""
    valley = Valley(folder, seed)
    calls, killed = valley.kill(process, None)
    assert not killed
    valley.check()
    phases: Counter[str] = Counter()
    half_done = 0
    for number in chosen(calls, valley.stick, count):
        valley.reset()
        made, killed = valley.kill(process, number)
        if killed:  # the calls of one visit are not quite those of the next
            phases[phase(made, valley.stick)] += 1
            half_done += valley.before != valley.check() != valley.wanted
    return phases, half_done


@pytest.mark.parametrize(
    ("seed", "count"),
    [(0, 16), *(pytest.param(seed, None, marks=[pytest.mark.slow, pytest.mark.timeout(900)]) for seed in (2,))],
)
def test_killed_visits(tmp_path: Path, seed: int, count: int | None) -> None:
    """A few in each phase, or at each call; an import is half done if some of its bundles are in the store and others not."""
    with killer() as process:
        phases, half_done = kill_visits(tmp_path, process, seed, count)
    print(f"{phases.total()} kills: {dict(phases)}; imports half done: {half_done}")
    assert phases.total() >= (count or 150) - 8
    assert half_done >= 2
    assert phases.keys() == {
        "opening, cards",
        "staging",
        "import",
        "commit of the import",
        "cleaning and bundle",
        "card",
        "remembering the stick",
        "closing",
    }
