"""What the commands for sticks print: for people, and in the right words."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.command_line import sneaker


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Return two homes that know one stick."""
    first, second, stick = tmp_path / "A", tmp_path / "B", tmp_path / "stick"
    stick.mkdir()
    for path in (first, second):
        sneaker("init", at=path)
        sneaker("drive", "init", stick, at=path)
    sneaker("publish", "hello", at=first)
    return first, second, stick


def test_commands_without_words_print_their_help(tmp_path: Path) -> None:
    for words in ((), ("drive",)):
        done = sneaker(*words, ok=False)
        assert done.code == 2
        assert "\nCommands:\n" in done.err
        assert "error" not in done.err


def test_a_round_in_words(pair: tuple[Path, Path, Path]) -> None:
    first, second, stick = pair
    done = sneaker("sync", stick, "--max-size", "3", at=first, ok=False)
    assert done.code == 3
    assert "did not fit: 1 message\n" in done.out
    assert "problem: no bundle is as small as was asked for: 1 message was not put on it" in done.out
    assert "lack nothing" not in done.out
    assert "left 1 message of 1 feed for others" in sneaker("sync", stick, at=first).out
    assert "took 1 new message of 1 feed" in sneaker("sync", stick, at=second).out
    sneaker("publish", "more", at=first)
    shown = sneaker("drive", "info", stick, at=first).out.splitlines()
    machines = {line.split()[1].rstrip(","): line.partition(", ")[2] for line in shown if line.startswith("machine")}
    me, other = (sneaker("id", at=path).out.strip() for path in (first, second))
    assert machines == {me: "this one", other: "lacks 1 message of what is here"}


def test_a_restored_home_is_told_so_at_the_stick(pair: tuple[Path, Path, Path], tmp_path: Path) -> None:
    first, second, stick = pair
    shutil.copytree(first, tmp_path / "backup")
    for text in ("after the backup", "and once more: the memory outside of the home holds only the last one"):
        sneaker("publish", text, at=first)
    for path in (first, second, first):
        sneaker("sync", stick, at=path)
    shutil.rmtree(first)
    shutil.copytree(tmp_path / "backup", first)
    for bundle in (stick / "SNEAKER" / "bundles").iterdir():
        bundle.unlink()
    done = sneaker("sync", stick, at=first)
    assert "your own feed is known up to message 3, which is not here: do not publish before it is" in done.out
    assert sneaker("publish", "no", at=first, ok=False).code == 23
    sneaker("sync", stick, at=second)
    done = sneaker("sync", stick, at=first)
    assert "known up to" not in done.out
    assert sneaker("clock", "--json", at=first).json[sneaker("id", at=first).out.strip()] == 3
