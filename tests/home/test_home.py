"""A home is one identity's: what is lost or exchanged of it is named, and nothing is made over what is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from sneaker.errors import KeysError, OutputError
from sneaker.home.config import CONFIG_NAME, Config, format_config
from sneaker.home.home import create_home
from sneaker.home.secret_file import load_secret, save_secret
from sneaker.keys import Keypair
from tests.command_line import sneaker
from tests.homes import home

ADA = Keypair.from_seed(b"a" * 32)
BEN = Keypair.from_seed(b"b" * 32)
CONFIG = format_config(Config())


@pytest.fixture
def lost(tmp_path: Path) -> Path:
    """A home with two messages whose secret is gone; a copy of it is at ``kept``."""
    path = tmp_path / "home"
    sneaker("init", at=path)
    sneaker("publish", "one", at=path)
    sneaker("publish", "two", at=path)
    (path / "secret").rename(tmp_path / "kept")
    return path


def held(path: Path) -> int:
    with home(path) as opened:
        return opened.store.counts().messages


@pytest.mark.parametrize("words", [["status"], ["id"], ["publish", "x"], ["log"], ["clock"], ["doctor", "--last", "2"]])
def test_commands_name_the_missing_secret(lost: Path, words: list[str]) -> None:
    done = sneaker(*words, at=lost, ok=False)
    assert done.code == 11
    assert f"is missing: {lost / 'secret'}" in done.err
    assert "run 'sneaker init'" not in done.err


def test_doctor_names_the_missing_secret(lost: Path) -> None:
    done = sneaker("doctor", "--json", at=lost, ok=False)
    assert done.code == 3
    assert "is missing" in done.json["findings"][0]["message"]


def test_init_makes_no_second_identity_over_it(lost: Path, tmp_path: Path) -> None:
    before = sorted(
        (path.name, path.read_bytes()) for path in lost.iterdir() if path.name in ("origin.json", CONFIG_NAME)
    )
    assert sneaker("init", at=lost, ok=False).code == 11
    save_secret(tmp_path / "other", BEN)
    done = sneaker("init", "--secret", tmp_path / "other", at=lost, ok=False)
    assert done.code == 11
    assert "is missing" in done.err
    assert before == sorted(
        (path.name, path.read_bytes()) for path in lost.iterdir() if path.name in ("origin.json", CONFIG_NAME)
    )
    assert not (lost / "secret").exists()


def test_the_kept_copy_brings_it_back(lost: Path, tmp_path: Path) -> None:
    sneaker("init", "--secret", tmp_path / "kept", at=lost)
    assert load_secret(lost / "secret") == load_secret(tmp_path / "kept")
    assert held(lost) == 2
    assert sneaker("publish", "three", at=lost, ok=False).code == 23
    sneaker("doctor", "--last", "2", "--yes", at=lost)
    sneaker("publish", "three", at=lost)
    assert held(lost) == 3


def test_a_home_that_does_not_say_whose_it_was_is_not_adopted_into(lost: Path, tmp_path: Path) -> None:
    (lost / "origin.json").unlink()
    assert sneaker("init", "--secret", tmp_path / "kept", at=lost, ok=False).code == 11


def test_a_secret_that_is_a_link_to_nothing(tmp_path: Path) -> None:
    """A drive that is not mounted yet: its secret is there tomorrow, and its feed is somewhere else."""
    path = tmp_path / "home"
    path.mkdir()
    (path / "secret").symlink_to(tmp_path / "away" / "secret")
    for words in (["init"], ["id"], ["publish", "x"], ["status"]):
        done = sneaker(*words, at=path, ok=False)
        assert done.code == 11
        assert "a link to" in done.err
    (tmp_path / "away").mkdir()
    save_secret(tmp_path / "away" / "secret", ADA)
    assert sneaker("publish", "x", at=path, ok=False).code == 23
    assert held(path) == 0


def test_init_goes_on_where_a_power_cut_stopped_it(tmp_path: Path) -> None:
    path = tmp_path / "home"
    create_home(path, ADA, CONFIG, CONFIG_NAME)
    (path / "secret").unlink()
    done = sneaker("status", at=path, ok=False)
    assert done.code == 15
    assert "sneaker init" in done.err
    create_home(path, BEN, CONFIG, CONFIG_NAME)
    assert load_secret(path / "secret") == BEN


def test_init_writes_over_no_settings_of_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "home"
    path.mkdir()
    (path / CONFIG_NAME).write_text("[theirs]\n")
    with pytest.raises(OutputError):
        create_home(path, ADA, CONFIG, CONFIG_NAME)
    assert (path / CONFIG_NAME).read_text() == "[theirs]\n"
    assert not (path / "secret").exists()


def test_a_home_is_made_once(tmp_path: Path) -> None:
    create_home(tmp_path / "home", ADA, CONFIG, CONFIG_NAME)
    with pytest.raises(KeysError, match="there is a home"):
        create_home(tmp_path / "home", BEN, CONFIG, CONFIG_NAME, adopted=True)


@pytest.mark.parametrize(
    "start", ["# J\u00f6rg\n".encode("latin-1"), b"\xef\xbb\xbf", b"\xef\xbb\xbf# caf\xe9 \xff\xfe\n"]
)
def test_what_stands_in_the_comments_of_a_secret_is_nobodys_business(tmp_path: Path, start: bytes) -> None:
    """ssb-keys reads such files: bytes that are no UTF-8 become replacement characters, in comments."""
    save_secret(tmp_path / "secret", ADA)
    (tmp_path / "copy").write_bytes(start + (tmp_path / "secret").read_bytes())
    assert load_secret(tmp_path / "copy") == ADA


def test_bytes_that_are_no_text_in_the_key_itself(tmp_path: Path) -> None:
    save_secret(tmp_path / "secret", ADA)
    data = (tmp_path / "secret").read_bytes()
    (tmp_path / "copy").write_bytes(data.replace(b'"private": "', b'"private": "\xe9'))
    with pytest.raises(KeysError):
        load_secret(tmp_path / "copy")
