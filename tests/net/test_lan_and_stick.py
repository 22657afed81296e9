"""Machines that meet on the LAN and share a stick: what one way brought, the other need not carry; and nobody starves of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from sneaker.planning.what_others_have import QUESTIONED_VISITS, UNCONFIRMED_VISITS
from sneaker.stick.enrolment import enrol, trust
from sneaker.stick.report import VisitOptions
from sneaker.stick.visit import visit
from sneaker.transfer.export import export
from sneaker.transfer.export_options import ExportOptions
from tests.net.machines import Machine, now_ms

NEWS = 5


def sync(machine: Machine, stick: Path, *, dry_run: bool = False) -> int:
    """Visit the stick; return how many messages were put on it."""
    with machine.home() as home:
        options = VisitOptions(min_free_bytes=0, dry_run=dry_run)
        report = visit(home, stick, options, now_ms=now_ms, random_bytes=os.urandom)
    return sum(item.messages for item in report.exported.sent) if report.exported is not None else 0


def exported(machine: Machine, reader: Machine, path: Path) -> int:
    """Export for another machine; return how many messages that held."""
    with machine.home() as home, open(os.devnull, "wb") as nowhere:
        options = ExportOptions(readers=(reader.id,))
        report = export(home, str(path), options, stdout=nowhere, now_ms=now_ms(), random_bytes=os.urandom)
    return sum(item.messages for item in report.packed.sent)


def meet(one: Machine, two: Machine) -> None:
    with one.peer() as peer:
        assert two.connect(peer.address)["level"]


def say(machine: Machine, text: str, count: int = NEWS) -> None:
    for number in range(count):
        machine.publish({"type": "post", "text": f"{text} {number}"})


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    path = tmp_path / "stick"
    path.mkdir()
    return path


@pytest.fixture
def pair(tmp_path: Path, stick: Path) -> tuple[Machine, Machine]:
    """Two machines that follow each other and have visited the stick, so that each has a card there."""
    a, b = Machine(tmp_path / "a"), Machine(tmp_path / "b")
    a.follow(b.id)
    b.follow(a.id)
    with a.home() as home:
        enrol(home, stick, "", now_ms=now_ms(), random_bytes=os.urandom)
    with b.home() as home:
        trust(home, stick, "", now_ms=now_ms())
    for machine in (a, b, a, b):
        sync(machine, stick)
    return a, b


def test_what_went_over_the_lan_is_neither_exported_nor_put_on_a_stick(
    pair: tuple[Machine, Machine], stick: Path, tmp_path: Path
) -> None:
    a, b = pair
    sync(a, stick)  # A has seen the newest card of B
    say(a, "news")
    meet(a, b)
    assert exported(a, b, tmp_path / "for-b") == 0
    assert [sync(a, stick) for _ in range(2)] == [0, 0]
    assert exported(a, b, tmp_path / "for-b-2") == 0
    sync(b, stick)
    assert sync(a, stick) == 0


def test_an_older_card_that_comes_later_changes_nothing_at_first(
    pair: tuple[Machine, Machine], stick: Path, tmp_path: Path
) -> None:
    """B's newest card was made before the LAN meeting, and A sees it after: nobody can tell whether B has lost its disk."""
    a, b = pair
    say(b, "card", 1)
    sync(b, stick)
    say(a, "news")
    meet(a, b)
    assert exported(a, b, tmp_path / "for-b") == 0
    assert sync(a, stick, dry_run=True) == 0
    assert [sync(a, stick) for _ in range(QUESTIONED_VISITS)] == [0] * QUESTIONED_VISITS
    assert exported(a, b, tmp_path / "for-b-2") == sync(a, stick) == NEWS
    sync(b, stick)
    assert sync(a, stick) == 0


def test_who_lost_what_came_over_the_lan_gets_it_from_the_stick(
    pair: tuple[Machine, Machine], stick: Path, tmp_path: Path
) -> None:
    """A backup is put back whose card is the newest that A knows: B says nothing new, and gets what it lacks all the same."""
    a, b = pair
    sync(a, stick)
    shutil.copytree(b.path, tmp_path / "backup")
    say(a, "news")
    meet(a, b)
    assert b.clock()[a.id] == 1 + NEWS
    shutil.rmtree(b.path)
    shutil.copytree(tmp_path / "backup", b.path)
    for _ in range(UNCONFIRMED_VISITS):
        assert sync(a, stick) == 0
        sync(b, stick)
        assert b.clock()[a.id] == 1
    assert sync(a, stick) == NEWS
    sync(b, stick)
    assert b.clock()[a.id] == 1 + NEWS


def test_an_export_that_was_lost_keeps_nothing_from_anybody(
    pair: tuple[Machine, Machine], stick: Path, tmp_path: Path
) -> None:
    a, b = pair
    sync(a, stick)
    say(a, "news")
    assert [exported(a, b, tmp_path / f"for-b-{number}") for number in range(2)] == [NEWS, NEWS]
    assert sync(a, stick) == NEWS
