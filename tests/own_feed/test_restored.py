"""An image of the whole card is put back: nothing on the machine can tell, but the sticks that it has visited can.

Each own card on a stick has a counter and our signature, and the store knows the cards that it made.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from sneaker.errors import ForkError
from sneaker.home import copy_detection
from sneaker.own_feed.fork_guard import Doubt, ForkGuard
from sneaker.own_feed.publish import publish
from tests.command_line import sneaker
from tests.homes import take
from tests.sticks import Machine, cards, names


class Ada(Machine):
    """A machine with a memory outside of its home, and images of both."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "Ada")
        self.folder = folder
        self.memory = folder / "memory"

    def say(self) -> int:
        self.now_ms += 1000
        with self.opened() as opened:
            message = publish(
                opened.store,
                opened.keypair,
                opened.caps,
                {"type": "post", "text": os.urandom(8).hex()},
                now_ms=lambda: self.now_ms,
                random_bytes=os.urandom,
                guard=ForkGuard(opened, self.memory),
            )
        return message.sequence

    def doubt(self) -> Doubt | None:
        with self.opened() as opened:
            return ForkGuard(opened, self.memory).doubt()

    def refuses(self) -> str:
        with pytest.raises(ForkError) as caught:
            self.say()
        return caught.value.message

    def declare(self, sequence: int) -> None:
        with self.opened() as opened:
            ForkGuard(opened, self.memory).declare_last(sequence, self.now_ms)

    def take_image(self) -> None:
        for path in (self.path, self.memory):
            shutil.rmtree(self.folder / "image" / path.name, ignore_errors=True)
            shutil.copytree(path, self.folder / "image" / path.name)

    def put_back(self) -> None:
        """Bring back every byte as it was; to the file system the files stay the same, as they do in an image."""
        for path in (self.path, self.memory):
            image = self.folder / "image" / path.name
            for file in path.rglob("*"):
                if file.is_file() and not (image / file.relative_to(path)).exists():
                    file.unlink()
            for file in image.rglob("*"):
                if file.is_file():
                    (path / file.relative_to(image)).write_bytes(file.read_bytes())
        for note in (self.path / "origin.json", *self.memory.glob("published-*.json")):
            with note.open("r+b") as kept:
                fields = {**json.load(kept), "place": copy_detection._place(kept.fileno())}
                kept.seek(0)
                kept.truncate()
                kept.write(json.dumps(fields).encode())


@pytest.fixture
def ada(tmp_path: Path) -> Ada:
    ada = Ada(tmp_path)
    for name in ("boat", "island"):
        (tmp_path / name).mkdir()
        ada.init(tmp_path / name)
    assert [ada.say() for _ in range(3)] == [1, 2, 3]
    return ada


def test_a_stick_shows_a_card_that_the_home_did_not_make(ada: Ada, tmp_path: Path) -> None:
    """The card names no more messages than are here: what was published after it, only others know."""
    ada.take_image()
    ada.sync(tmp_path / "boat")
    assert ada.say() == 4
    ada.put_back()
    assert ada.doubt() is None  # nothing on this machine can tell
    ada.sync(tmp_path / "boat")
    assert ada.doubt() is Doubt.RESTORED
    assert "put back to an earlier state" in ada.refuses()
    ada.sync(tmp_path / "boat")
    ada.refuses()
    ada.declare(3)
    assert ada.say() == 4
    ada.sync(tmp_path / "boat")
    assert ada.say() == 5


def test_also_if_another_stick_came_first(ada: Ada, tmp_path: Path) -> None:
    """The home makes new cards then, with higher counters than that of the card that it does not know."""
    ada.take_image()
    ada.sync(tmp_path / "boat")
    ada.put_back()
    for _ in range(3):
        ada.sync(tmp_path / "island")
    assert ada.say() == 4
    ada.sync(tmp_path / "island")
    ada.sync(tmp_path / "boat")
    assert ada.doubt() is Doubt.RESTORED


def test_what_the_person_said_holds_for_all_older_cards(ada: Ada, tmp_path: Path) -> None:
    ada.take_image()
    for name in ("boat", "island"):
        ada.sync(tmp_path / name)
    ada.put_back()
    ada.sync(tmp_path / "boat")
    ada.declare(3)
    ada.sync(tmp_path / "island")
    assert ada.doubt() is None
    assert ada.say() == 4


def test_what_the_card_says_of_more_messages_is_waited_for(ada: Ada, tmp_path: Path) -> None:
    ada.take_image()
    ada.say()
    ada.say()
    ada.sync(tmp_path / "boat")
    (own,) = names(cards(tmp_path / "boat"))
    (tmp_path / "mine.card").write_bytes((cards(tmp_path / "boat") / own).read_bytes())
    ada.put_back()
    with ada.opened() as opened:
        take(opened, tmp_path / "mine.card")
    assert "known up to message 5, this machine has it up to 3" in ada.refuses()
    ada.sync(tmp_path / "boat")
    assert ada.say() == 6


def test_a_card_in_a_file_is_as_good(ada: Ada, tmp_path: Path) -> None:
    ada.take_image()
    sneaker("clock", "--card", tmp_path / "mine.card", at=ada.path)
    ada.put_back()
    with ada.opened() as opened:
        take(opened, tmp_path / "mine.card", dry_run=True)
    assert ada.doubt() is None
    sneaker("export", tmp_path / "out.sneaker", "--for", tmp_path / "mine.card", at=ada.path)
    assert ada.doubt() is Doubt.RESTORED
    done = sneaker("doctor", "--json", at=ada.path, ok=False)
    assert done.json["own_feed"]["state"] == "restored"
    assert "home-restored" in [finding["code"] for finding in done.json["findings"]]


def test_nothing_is_asked_on_ordinary_rounds(ada: Ada, tmp_path: Path) -> None:
    """Old cards of our own lie on sticks, come back from others and are cut short; clocks jump."""
    for year in (0, 50, 1):
        ada.now_ms = 1_000 + year * 365 * 24 * 3600 * 1000
        for name in ("boat", "island"):
            ada.say()
            ada.sync(tmp_path / name)
            sneaker("clock", "--card", tmp_path / f"{name}.card", at=ada.path)
            old = {path: path.read_bytes() for path in cards(tmp_path / name).iterdir()}
            ada.say()
            ada.sync(tmp_path / name)
            for path, data in old.items():
                path.write_bytes(data)
            ada.sync(tmp_path / name)
            with ada.opened() as opened:
                take(opened, tmp_path / f"{name}.card")
            assert ada.doubt() is None


def test_a_rebuilt_store_still_knows_its_cards(ada: Ada, tmp_path: Path) -> None:
    from sneaker.caps import MAIN_CAPS
    from sneaker.ingest.rebuild_store import rebuild

    ada.sync(tmp_path / "boat")
    ada.sync(tmp_path / "island")
    with ada.opened() as opened:
        rebuild(opened.store, caps=MAIN_CAPS, now_ms=lambda: ada.now_ms, workers=1)
    ada.sync(tmp_path / "boat")
    assert ada.doubt() is None
