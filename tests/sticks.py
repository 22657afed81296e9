"""Machines that visit sticks, for tests: real homes, real folders, and a clock of their own each."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from sneaker.bundle.card import Card, encode_card
from sneaker.caps import MAIN_CAPS
from sneaker.clock import VectorClock
from sneaker.keys import Keypair
from sneaker.refs import FeedRef
from sneaker.stick.enrolment import enrol, trust
from sneaker.stick.layout import base32
from sneaker.stick.visit import VisitOptions, VisitReport, visit
from tests.homes import NOW_MS
from tests.machines import Machine as BaseMachine

# Tests with small sticks leave no room free on them.
SMALL = {"min_free_bytes": 0}


class Machine(BaseMachine):
    """A home called ``name``; its clock goes a second further with each visit."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder / name, Keypair.from_seed(hashlib.sha256(name.encode()).digest()))
        self.name = name
        self.now_ms = NOW_MS

    def publish(self, *texts: str) -> None:
        """Publish posts, all of them in one transaction."""
        self.publish_all(({"type": "post", "text": text} for text in texts), lambda: self.now_ms)

    def init(self, stick: Path) -> None:
        with self.opened() as opened:
            enrol(opened, stick, "", now_ms=self.now_ms, random_bytes=os.urandom)

    def trust(self, stick: Path) -> None:
        with self.opened() as opened:
            trust(opened, stick, "", now_ms=self.now_ms)

    def sync(self, stick: Path, **options: Any) -> VisitReport:
        self.now_ms += 1000
        with self.opened() as opened:
            return visit(
                opened,
                stick,
                VisitOptions(**{**SMALL, **options}),
                now_ms=lambda: self.now_ms,
                random_bytes=os.urandom,
            )

    def clock(self) -> VectorClock:
        with self.opened() as opened:
            return opened.store.clock()

    def card(self, stick: Path, clock: dict[FeedRef, int], counter: int = NOW_MS, **fields: Any) -> Path:
        """Put a card of this machine on a stick that says what it is told to."""
        card = Card(
            machine=self.me,
            network_id=MAIN_CAPS.network_id,
            counter=counter,
            time_ms=self.now_ms,
            clock=VectorClock(clock),
            **fields,
        )
        path = cards(stick) / f"{base32(self.me.key)}-{counter}.card"
        path.write_bytes(encode_card(card, self.keypair))
        return path


def machines(folder: Path, stick: Path, names: str = "ABC") -> list[Machine]:
    """Return machines that all know the stick, the first one made it; each has published one message."""
    stick.mkdir(exist_ok=True)
    made = [Machine(folder, name) for name in names]
    for machine in made:
        machine.publish(f"hello from {machine.name}")
    made[0].init(stick)
    for machine in made[1:]:
        machine.trust(stick)
    return made


def cards(stick: Path) -> Path:
    return stick / "SNEAKER" / "cards"


def bundles(stick: Path) -> Path:
    return stick / "SNEAKER" / "bundles"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return every plain file in a folder and its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }
