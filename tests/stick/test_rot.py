"""A bundle that rots on a stick: those who cannot read it say so on their cards, and others bring its contents again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sneaker.bundle.card import decode_card
from sneaker.stick.layout import BUNDLES, CARDS, FOLDER
from tests.homes import home
from tests.own_feed.test_never_fork import ADA, BEN, EVE, bundles, held, say, sync


def flip(path: Path, place: int) -> None:
    """Change a byte where it lies; the date stays, as it does when a cell of a stick loses its charge."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("reader_of_rot_first", [False, True])
def test_somebody_who_has_everything_brings_it_again(tmp_path: Path, reader_of_rot_first: bool) -> None:
    ada, ben, eve, stick = tmp_path / "ada", tmp_path / "ben", tmp_path / "eve", tmp_path / "stick"
    with home(ada, ADA.seed) as opened:
        message = say(opened, 3)[1]
        sync(opened, stick)
    with home(eve, EVE.seed) as opened:  # has everything, and knows the bundle as a good one
        sync(opened, stick)
        assert held(opened) == 3
    (bundle,) = bundles(stick)
    before = bundle.read_bytes()
    flip(bundle, before.find(message.signature))
    with home(ben, BEN.seed) as opened:
        report = sync(opened, stick)
        assert report.damaged == 1
        assert held(opened) < 3
        if reader_of_rot_first:
            sync(opened, stick)
    card = max((stick / FOLDER / CARDS).iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert decode_card(card.read_bytes()).machine == BEN.public
    assert len(decode_card(card.read_bytes()).unreadable) == 1
    with home(eve, EVE.seed) as opened:
        report = sync(opened, stick)
        assert report.exported is not None
        assert not report.removed  # it is Ada's
    with home(ben, BEN.seed) as opened:
        sync(opened, stick)
        assert held(opened) == 3
    with home(ada, ADA.seed) as opened:
        assert f"{BUNDLES}/{bundle.name}" in sync(opened, stick).removed


def test_its_own_machine_replaces_it(tmp_path: Path) -> None:
    ada, ben, stick = tmp_path / "ada", tmp_path / "ben", tmp_path / "stick"
    with home(ada, ADA.seed) as opened:
        message = say(opened, 3)[1]
        sync(opened, stick)
    (bundle,) = bundles(stick)
    flip(bundle, bundle.read_bytes().find(message.signature))
    with home(ben, BEN.seed) as opened:
        sync(opened, stick)
    with home(ada, ADA.seed) as opened:
        report = sync(opened, stick)
        assert report.removed == [f"{BUNDLES}/{bundle.name}"]
        assert len(report.files) == 1
    with home(ben, BEN.seed) as opened:
        sync(opened, stick)
        assert held(opened) == 3


def test_a_lie_about_an_intact_bundle_changes_nothing(tmp_path: Path) -> None:
    """Ben cannot read it because of his own drive, or says so to fill the stick: it is intact, and stays as it is."""
    ada, ben, stick = tmp_path / "ada", tmp_path / "ben", tmp_path / "stick"
    with home(ada, ADA.seed) as opened:
        message = say(opened, 3)[1]
        sync(opened, stick)
    (bundle,) = bundles(stick)
    place = bundle.read_bytes().find(message.signature)
    flip(bundle, place)
    with home(ben, BEN.seed) as opened:
        sync(opened, stick)
    flip(bundle, place)
    with home(ada, ADA.seed) as opened:
        report = sync(opened, stick)
        assert not report.removed
        assert not report.files
