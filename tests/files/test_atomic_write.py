"""Output files: whole or not there, and never in the place of anything of another kind."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sneaker.errors import OutputError
from sneaker.files.atomic_write import new_file
from tests.command_line import sneaker


@pytest.fixture
def home(tmp_path: Path) -> Path:
    sneaker("init", at=tmp_path / "home")
    sneaker("publish", "one", at=tmp_path / "home")
    return tmp_path / "home"


WRITERS = {"card": ["clock", "--card"], "bundle": ["export"]}


@pytest.mark.parametrize("kind", WRITERS)
def test_the_own_kind_is_replaced_and_nothing_else(home: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    sneaker(*WRITERS[kind], out, at=home)
    sneaker(*WRITERS[kind], out, at=home)
    first = out.read_bytes()
    out.write_bytes(b"")
    sneaker(*WRITERS[kind], out, at=home)
    assert out.read_bytes()[:8] == first[:8]

    (other,) = set(WRITERS) - {kind}
    sneaker(*WRITERS[other], tmp_path / other, at=home)
    (tmp_path / "text").write_text("what I wrote")
    for target in (tmp_path / other, tmp_path / "text", home / "secret", home / "config.toml", home / "store.sqlite"):
        before = target.read_bytes()
        done = sneaker(*WRITERS[kind], target, at=home, ok=False)
        assert done.code == 37
        assert "exists and is something else" in done.err
        assert target.read_bytes() == before
    assert not list(tmp_path.glob(".*part"))


@pytest.mark.parametrize("kind", WRITERS)
def test_links_pipes_and_devices_stay(home: Path, tmp_path: Path, kind: str) -> None:
    sneaker(*WRITERS[kind], tmp_path / "good", at=home)
    (tmp_path / "link").symlink_to(tmp_path / "good")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    for name, what in (("link", "a link"), ("dangling", "a link"), ("pipe", "a pipe")):
        done = sneaker(*WRITERS[kind], tmp_path / name, at=home, ok=False)
        assert done.code == 37
        assert f"is {what}" in done.err
    assert (tmp_path / "link").is_symlink()
    assert not (tmp_path / "nothing").exists()
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert sneaker(*WRITERS[kind], "/dev/null", at=home, ok=False).code == 37
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_card_is_not_written_over_a_folder(home: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    done = sneaker("clock", "--card", tmp_path / "folder", at=home, ok=False)
    assert done.code == 37
    assert "is a folder" in done.err


def test_nothing_is_replaced_by_default(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"x")
    with pytest.raises(OutputError), new_file(tmp_path / "there") as file:
        file.write(b"y")
    assert (tmp_path / "there").read_bytes() == b"x"
