"""A home that was adopted, copied or restored does not publish before the person has said which message is the last one."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sneaker.errors import ForkError, StoreFull, StoreLocked, UsageError
from sneaker.home import copy_detection
from sneaker.home.config import CONFIG_NAME, Config, format_config
from sneaker.home.home import create_home
from sneaker.home.secret_file import save_secret
from sneaker.ingest.ingest import Ingest
from sneaker.keys import Keypair
from sneaker.own_feed.fork_guard import Doubt, ForkGuard
from sneaker.own_feed.last_published import PublishMemory
from sneaker.own_feed.publish import publish
from tests.command_line import sneaker as run_sneaker
from tests.command_line import start
from tests.homes import NOW_MS, home, pack, take

ADA = Keypair.from_seed(b"a" * 32)
BEN = Keypair.from_seed(b"b" * 32)


class Ada:
    """Ada's machine: a folder for homes, and one for what it remembers outside of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.memory = folder / "state" / "sneaker"

    def make(self, name: str = "home", *, adopted: bool = False) -> Path:
        path = self.folder / name
        create_home(path, ADA, format_config(Config()), CONFIG_NAME, adopted=adopted)
        return path

    def say(self, path: Path, count: int = 1, wait_s: float = 60) -> int:
        """Publish some posts that are unlike any others; return the last one's sequence."""
        with home(path) as opened:
            for _ in range(count):
                message = publish(
                    opened.store,
                    opened.keypair,
                    opened.caps,
                    {"type": "post", "text": os.urandom(8).hex()},
                    now_ms=lambda: NOW_MS,
                    random_bytes=os.urandom,
                    guard=ForkGuard(opened, self.memory),
                    wait_s=wait_s,
                )
        return message.sequence

    def doubt(self, path: Path) -> Doubt | None:
        with home(path) as opened:
            return ForkGuard(opened, self.memory).doubt()

    def declare(self, path: Path, sequence: int) -> None:
        with home(path) as opened:
            ForkGuard(opened, self.memory).declare_last(sequence, NOW_MS)

    def refuses(self, path: Path) -> str:
        """Assert that nothing can be published, and return what is said about it."""
        with home(path) as opened:
            before = opened.store.clock()
        with pytest.raises(ForkError) as caught:
            self.say(path)
        with home(path) as opened:
            assert opened.store.clock() == before
        return f"{caught.value.message}; {caught.value.hint}"

    def pack(self, path: Path, last: int | None = None) -> Path:
        """Return a bundle of Ada's messages, or of the first ones."""
        bundle = self.folder / f"messages-{last}.ndjson"
        with home(path) as opened:
            texts = [message.text for message in opened.store.messages(ADA.public, 1, last)]
        bundle.write_bytes(b"".join(json.dumps(json.loads(text)).encode() + b"\n" for text in texts))
        return bundle


@pytest.fixture
def ada(tmp_path: Path) -> Ada:
    return Ada(tmp_path)


@pytest.fixture
def as_root(ada: Ada) -> Ada:
    """The same machine, used by somebody with another memory."""
    other = Ada(ada.folder)
    other.memory = ada.folder / "root" / "state" / "sneaker"
    return other


def copy(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


# ---------------------------------------------------------------------------------------------------- nothing to ask


def test_a_new_home_is_never_asked(ada: Ada) -> None:
    path = ada.make()
    assert ada.doubt(path) is None
    assert ada.say(path, 3) == 3
    path.rename(ada.folder / "elsewhere")
    assert ada.say(ada.folder / "elsewhere") == 4


def test_a_home_is_not_asked_for_want_of_a_memory(ada: Ada) -> None:
    """People clean up, and some machines give no place for it: the home knows by itself that it is no copy."""
    path = ada.make()
    ada.say(path, 2)
    shutil.rmtree(ada.memory)
    assert ada.say(path) == 3
    shutil.rmtree(ada.memory)
    ada.memory.write_text("not a folder")
    assert ada.say(path) == 4


def test_other_networks_and_other_feeds_have_memories_of_their_own(ada: Ada) -> None:
    path = ada.make()
    ada.say(path, 3)
    create_home(ada.folder / "ben", Keypair.from_seed(b"b" * 32), format_config(Config()), CONFIG_NAME)
    assert ada.say(ada.folder / "ben") == 1


def test_a_home_in_its_place_has_as_many_memories_as_it_has_users(ada: Ada, as_root: Ada) -> None:
    """sudo, a service with a HOME of its own, a container that is thrown away, a folder that is emptied at each start."""
    path = ada.make()
    assert ada.say(path) == 1
    assert as_root.say(path, 2) == 3
    assert ada.say(path) == 4
    assert as_root.say(path) == 5
    shutil.rmtree(as_root.memory)
    assert as_root.say(path) == 6
    assert ada.doubt(path) is None


# ---------------------------------------------------------------------------------------------------- restored copies


def test_who_moved_house_is_asked_once(ada: Ada) -> None:
    """To a larger disk, say: the memory agrees with the copy to the last message, but may not know all of the old home."""
    path = ada.make()
    ada.say(path, 3)
    moved = copy(path, ada.folder / "moved")
    shutil.rmtree(path)
    assert ada.doubt(moved) is Doubt.MOVED
    assert "message 3, the last one here" in ada.refuses(moved)
    ada.declare(moved, 3)
    assert ada.say(moved, 2) == 5
    shutil.rmtree(ada.memory)
    assert ada.say(moved) == 6


def test_a_backup_of_a_home_that_published_with_another_memory(ada: Ada, as_root: Ada) -> None:
    path = ada.make()
    ada.say(path)
    backup = copy(path, ada.folder / "backup")
    assert as_root.say(path) == 2
    path.rename(ada.folder / "broken")
    backup.rename(path)
    assert ada.doubt(path) is Doubt.MOVED
    assert "message 1, the last one here" in ada.refuses(path)


def test_a_copy_whose_home_goes_on_with_another_memory(ada: Ada, as_root: Ada) -> None:
    path = ada.make()
    ada.say(path)
    copied = copy(path, ada.folder / "copy")
    ada.refuses(copied)
    assert as_root.say(path) == 2


def test_a_copy_whose_home_went_on_with_another_memory(ada: Ada, as_root: Ada) -> None:
    path = ada.make()
    ada.say(path)
    copied = copy(path, ada.folder / "copy")
    assert as_root.say(path) == 2
    ada.refuses(copied)
    assert ada.say(path) == 3


@pytest.mark.parametrize("messages", [1, 3])
def test_a_home_put_back_over_itself_that_published_with_another_memory(ada: Ada, as_root: Ada, messages: int) -> None:
    """The memory knows nothing of it; but the origin was written anew, and the old one does not fit its file."""
    path = ada.make()
    ada.say(path)
    backup = copy(path, ada.folder / "backup")
    before = (path / "origin.json").stat().st_ino
    as_root.say(path, messages)
    place = json.loads((path / "origin.json").read_text())["place"]
    if messages > 1 and place["inode"] == before and "generation" not in place:
        pytest.skip("this file system gives numbers again, and does not say so")
    write_over(backup, path)
    for leftover in path.glob("store.sqlite-*"):
        leftover.unlink()
    ada.refuses(path)
    assert ada.doubt(path) is Doubt.MOVED


def test_the_memory_knows_what_a_restored_home_has_forgotten(ada: Ada) -> None:
    """Nobody else has shown or claimed anything: no stick, no card, no peer."""
    path = ada.make()
    ada.say(path, 3)
    backup = copy(path, ada.folder / "backup")
    ada.say(path, 2)
    messages = ada.pack(path)
    copy(backup, path)
    assert "known up to message 5, this machine has it up to 3" in ada.refuses(path)
    with home(path) as opened:
        (claim,) = opened.store.claims.claims_about(ADA.public)
        assert (claim.source, claim.sequence) == (ADA.public, 5)
        take(opened, messages)
    assert "message 5, the last one here" in ada.refuses(path)
    ada.declare(path, 5)
    assert ada.say(path, 2) == 7


def test_a_home_restored_in_place(ada: Ada) -> None:
    """The files are written over, as some backup programs do, and stay the same to the file system."""
    path = ada.make()
    ada.say(path, 3)
    backup = copy(path, ada.folder / "backup")
    ada.say(path, 2)
    for name in ("secret", "config.toml", "store.sqlite", "origin.json"):
        (path / name).write_bytes((backup / name).read_bytes())
    for leftover in path.glob("store.sqlite-*"):
        leftover.unlink()
    assert ada.doubt(path) is Doubt.MOVED
    assert "known up to message 5" in ada.refuses(path)


def test_a_home_restored_together_with_the_memory(ada: Ada) -> None:
    """A whole user's folder comes back from a backup: neither note lies where it was written."""
    path = ada.make()
    ada.say(path, 3)
    backups = [copy(path, ada.folder / "backup"), copy(ada.memory, ada.folder / "memory-backup")]
    ada.say(path, 2)
    messages = ada.pack(path)
    copy(backups[0], path)
    copy(backups[1], ada.memory)
    assert ada.doubt(path) is Doubt.MOVED
    said = ada.refuses(path)
    assert "copied or restored" in said
    assert "message 3, the last one here" in said
    assert "--last" not in said  # to be pasted without a thought
    with home(path) as opened:
        take(opened, messages)
    ada.refuses(path)
    ada.declare(path, 5)
    assert ada.say(path, 2) == 7


def replace_what_changed(backup: Path, target: Path) -> None:
    """Put a folder back like ``rsync -a --delete``: what has the same size and time is left alone, the rest comes anew."""
    for path in [path for path in target.rglob("*") if path.is_file()]:
        old = backup / path.relative_to(target)
        if not old.exists():
            path.unlink()
        elif (old.stat().st_size, old.stat().st_mtime_ns) != (path.stat().st_size, path.stat().st_mtime_ns):
            shutil.copy2(old, path.with_name("new"))
            path.with_name("new").replace(path)


def write_over(backup: Path, target: Path) -> None:
    """Put a folder back like ``cp -a``: into the files that are there."""
    shutil.copytree(backup, target, dirs_exist_ok=True)


@pytest.mark.parametrize("missing", [1, 2, 3])
@pytest.mark.parametrize("put_back", [replace_what_changed, write_over])
def test_a_whole_folder_put_back_over_itself(ada: Ada, put_back: Callable[[Path, Path], None], missing: int) -> None:
    """The note in the home stays the same file; that of the memory does not, nor with a number that was given again."""
    path = ada.make()
    ada.say(path, 3)
    person, backup = ada.folder, ada.folder.with_name(f"{ada.folder.name}-backup")
    copy(person, backup)
    (note,) = ada.memory.glob("*.json")
    before = note.stat().st_ino
    ada.say(path, missing)
    if note.stat().st_ino == before and "generation" not in json.loads(note.read_text())["place"]:
        pytest.skip("this file system gives numbers again, and does not say so")
    put_back(backup, person)
    ada.refuses(path)
    assert ada.doubt(path) is Doubt.MOVED
    ada.declare(path, 3)
    assert ada.doubt(path) is None


@pytest.mark.parametrize("put_back", [replace_what_changed, write_over])
def test_a_whole_folder_put_back_that_has_forgotten_nothing(ada: Ada, put_back: Callable[[Path, Path], None]) -> None:
    path = ada.make()
    ada.say(path, 3)
    backup = copy(ada.folder, ada.folder.with_name(f"{ada.folder.name}-backup"))
    put_back(backup, ada.folder)
    (note,) = ada.memory.glob("*.json")
    note.chmod(0o640)
    (ada.folder / "link").hardlink_to(note)  # as some programs make backups
    assert ada.doubt(path) is None
    assert ada.say(path) == 4


def test_two_copies_on_one_machine_stop_each_other(ada: Ada) -> None:
    one = ada.make("one")
    ada.say(one, 3)
    two = copy(one, ada.folder / "two")
    assert ada.say(one, 2) == 5
    assert "known up to message 5" in ada.refuses(two)
    with home(one) as opened:
        pack(opened, ada.folder / "one.sneaker")
    with home(two) as opened:
        take(opened, ada.folder / "one.sneaker")
    assert "copied or restored" in ada.refuses(two)
    ada.declare(two, 5)
    assert ada.say(two, 2) == 7
    assert "known up to message 7" in ada.refuses(one)


def test_two_copies_never_publish_at_once(ada: Ada, monkeypatch: pytest.MonkeyPatch) -> None:
    """From before the memory is read until the message is in the store."""
    one = ada.make("one")
    ada.say(one, 3)
    two = copy(one, ada.folder / "two")
    ada.declare(two, 3)
    others: list[str] = []
    flush = Ingest.flush

    def flush_beside(ingest: Ingest) -> None:
        for before in (True, False):
            with pytest.raises(StoreLocked) as caught:
                ada.say(two, wait_s=0)
            others.append(caught.value.message)
            if before:
                monkeypatch.setattr(Ingest, "flush", flush)
                flush(ingest)

    monkeypatch.setattr(Ingest, "flush", flush_beside)
    assert ada.say(one) == 4
    assert others == ["another sneaker is writing to the store"] * 2
    assert ada.say(two) == 5, "what the first one published is taken out of the memory"


def test_a_copy_that_published_where_nothing_can_be_locked(ada: Ada, monkeypatch: pytest.MonkeyPatch) -> None:
    one = ada.make("one")
    ada.say(one, 3)
    two = copy(one, ada.folder / "two")
    ada.declare(two, 3)

    def be_overtaken(*_: object) -> None:
        monkeypatch.undo()
        ada.say(two)

    monkeypatch.setattr(ForkGuard, "alone", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(ForkGuard, "check_no_doubt", be_overtaken)
    assert "another home with this identity published message 4 at this moment" in ada.refuses(one)
    with home(one) as opened, pytest.raises(UsageError):
        ForkGuard(opened, ada.memory).declare_last(4, NOW_MS)
    with pytest.raises(ForkError):
        ada.declare(one, 3)


def test_a_copy_that_lacks_one_message_takes_it_out_of_the_memory(ada: Ada) -> None:
    path = ada.make()
    ada.say(path, 3)
    backup = copy(path, ada.folder / "backup")
    ada.say(path)
    with home(path) as opened:
        last = opened.store.head(ADA.public)
    copy(backup, path)
    with pytest.raises(ForkError, match="more than message 4, the last one here"):
        ada.say(path)
    ada.declare(path, 4)
    assert ada.say(path) == 5
    with home(path) as opened:
        assert last is not None
        assert opened.store.key_at(ADA.public, 4) == last.key


def test_two_copies_that_wrote_already(ada: Ada) -> None:
    one = ada.make("one")
    ada.say(one, 3)
    two = copy(one, ada.folder / "two")
    ada.say(one)
    ada.memory.rename(ada.folder / "lost")
    ada.declare(two, 3)
    ada.say(two)
    assert "another machine writes with your key" in ada.refuses(one)


# ---------------------------------------------------------------------------------------------------- other machines


@pytest.fixture
def machine_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "machine-id"
    set_machine(path, "1")
    monkeypatch.setattr(copy_detection, "_MACHINE_IDS", (str(path),))
    # Virtual machines and containers show no numbers of drives; where these tests run may be anything.
    monkeypatch.setattr(copy_detection, "_BLOCK_DEVICES", str(tmp_path / "none"))
    return path


def set_machine(path: Path, digit: str, *, made_now: bool = False) -> None:
    path.write_text(digit * 32 + "\n")
    if not made_now:
        os.utime(path, (1_000_000_000, 1_000_000_000))


def test_a_home_on_another_machine(ada: Ada, machine_id: Path) -> None:
    path = ada.make()
    ada.say(path, 3)
    set_machine(machine_id, "2")
    assert ada.doubt(path) is Doubt.MOVED  # the memory came along, as if the whole disk had
    ada.refuses(path)
    with pytest.raises(UsageError):
        ada.declare(path, 2)
    with pytest.raises(UsageError):
        ada.declare(path, 4)
    ada.refuses(path)
    ada.declare(path, 3)
    assert ada.say(path, 2) == 5
    set_machine(machine_id, "1")
    ada.refuses(path)


def test_a_cloned_memory_card_in_another_board(ada: Ada, machine_id: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = ada.folder / "serial-number"
    board.write_bytes(b"10000000deadbeef\0")
    monkeypatch.setattr(copy_detection, "_BOARD_NUMBERS", (str(board),))
    path = ada.make()
    ada.say(path)
    board.write_bytes(b"10000000cafecafe\0")
    assert ada.doubt(path) is Doubt.MOVED


def test_the_note_does_not_give_the_machine_away(ada: Ada, machine_id: Path) -> None:
    path = ada.make()
    ada.say(path)
    for note in (path / "origin.json", *ada.memory.iterdir()):
        assert "1111" not in note.read_text()
        assert note.stat().st_mode & 0o077 == 0


@pytest.mark.root
def test_a_really_different_machine_id(ada: Ada) -> None:
    """The program itself, where another file is mounted over /etc/machine-id."""
    path = ada.make()
    run_sneaker("publish", "one", at=path)
    other = ada.folder / "etc" / "machine-id"
    other.parent.mkdir()
    other.write_text("f" * 32 + "\n")
    script = (
        'if [ -e /etc/machine-id ]; then mount --bind "$1" /etc/machine-id; else mount --bind "$(dirname "$1")" /etc; fi;'
        ' exec "$2" -m sneaker --home "$3" publish two'
    )
    command = ["unshare", "-m", "sh", "-ec", script, "sh", str(other), sys.executable, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 23, done.stderr
    assert "came from another machine" in done.stderr
    run_sneaker("publish", "two", at=path)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'{"place": {"machine": 1, "inode": "x"}}',
        b'{"feed": 1, "name": [], "adopted": 0, "place": 7}',
        b"[" * 4096,
        b'{"place":' + b" " * 200_000 + b"1}",
    ],
)
def test_damaged_notes_make_us_ask(ada: Ada, text: bytes) -> None:
    path = ada.make()
    ada.say(path)
    (path / "origin.json").write_bytes(text)
    for note in ada.memory.glob("*.json"):
        note.write_bytes(text)
    assert ada.doubt(path) is Doubt.MOVED
    ada.refuses(path)
    ada.declare(path, 1)
    assert ada.say(path) == 2


def test_a_memory_that_says_nonsense(ada: Ada) -> None:
    path = ada.make()
    ada.say(path)
    (note,) = ada.memory.glob("*.json")
    fields = json.loads(note.read_text())
    other = {"feed": str(Keypair.from_seed(b"b" * 32).public)}
    for wrong in ({"sequence": -1}, {"sequence": "2"}, {"sequence": True}, {"key": "%x"}, {"key": None}, other):
        note.write_text(json.dumps({**fields, **wrong}))
        assert ada.doubt(path) is None
        assert ada.say(path)


def test_a_memory_with_a_message_that_is_not_its_own(ada: Ada) -> None:
    path = ada.make()
    ada.say(path, 2)
    (note,) = ada.memory.glob("*.json")
    fields = json.loads(note.read_text())
    for wrong in (
        {"sequence": 3},
        {"message": "{}"},
        {"message": 1},
        {"sequence": 3, "message": fields["message"][:-9]},
    ):
        note.write_text(json.dumps({**fields, **wrong}))
        with home(path) as opened:
            ForkGuard(opened, ada.memory).recall_forgotten(lambda: NOW_MS)
            assert opened.store.clock()[ADA.public] == 2
            assert max([claim.sequence for claim in opened.store.claims.claims_about(ADA.public)], default=0) in (0, 3)


# ---------------------------------------------------------------------------------------------------- adopted identities


def test_an_adopted_identity_with_a_part_of_its_log(ada: Ada) -> None:
    old = ada.make("old")
    ada.say(old, 9)
    shutil.rmtree(ada.memory)  # the old program was another one
    new = ada.make("new", adopted=True)
    assert "none are here" in ada.refuses(new)
    with home(new) as opened:
        take(opened, ada.pack(old, 4))
    assert "message 4, the last one here" in ada.refuses(new)
    with home(new) as opened:
        take(opened, ada.pack(old))
    assert "message 9, the last one here" in ada.refuses(new)  # all of it, but who could know that?
    ada.declare(new, 9)
    assert ada.say(new) == 10
    assert ada.doubt(new) is None


def test_an_adopted_identity_that_never_published(ada: Ada) -> None:
    new = ada.make(adopted=True)
    ada.declare(new, 0)
    assert ada.say(new) == 1


def test_the_persons_word_does_not_outweigh_what_others_show(ada: Ada) -> None:
    old = ada.make("old")
    ada.say(old, 9)
    with home(old) as opened:
        (ada.folder / "clock.json").write_text(json.dumps({str(ADA.public): 7}))
        pack(opened, ada.folder / "late.sneaker", readers=[str(ada.folder / "clock.json")])
    shutil.rmtree(ada.memory)
    new = ada.make("new", adopted=True)
    with home(new) as opened:
        take(opened, ada.pack(old, 4))
        take(opened, ada.folder / "late.sneaker")
    ada.declare(new, 4)
    assert "known up to message 9" in ada.refuses(new)


def test_a_home_made_anew_from_the_secret_alone(ada: Ada) -> None:
    """What people are told to keep is the secret; on the same machine its memory says how much is missing."""
    path = ada.make()
    ada.say(path, 3)
    shutil.rmtree(path)
    path = ada.make(adopted=True)
    assert "known up to message 3, this machine has it up to 0" in ada.refuses(path)


# ---------------------------------------------------------------------------------------------------- other secrets


def test_a_secret_copied_over_the_one_of_the_home(ada: Ada) -> None:
    """The identity of another program; that home may hold messages already."""
    path = ada.make()
    ada.say(path, 2)
    (path / "secret").unlink()
    save_secret(path / "secret", BEN)
    assert ada.doubt(path) is Doubt.EXCHANGED
    assert "not the one that it was made with" in ada.refuses(path)
    ada.declare(path, 0)
    assert ada.say(path) == 1
    (path / "secret").unlink()
    save_secret(path / "secret", ADA)
    ada.refuses(path)


def test_a_secret_that_is_a_link(ada: Ada) -> None:
    """What it leads to may be another one tomorrow."""
    path = ada.make()
    for name, keypair in (("ada.secret", ADA), ("ben.secret", BEN)):
        save_secret(ada.folder / name, keypair)
    (path / "secret").unlink()
    (path / "secret").symlink_to(ada.folder / "ada.secret")
    assert ada.say(path) == 1
    (path / "secret").unlink()
    (path / "secret").symlink_to(ada.folder / "ben.secret")
    ada.refuses(path)


def test_a_home_that_holds_messages_and_does_not_say_whose_it_is(ada: Ada) -> None:
    path = ada.make()
    ada.say(path, 2)
    (path / "origin.json").unlink()
    assert ada.doubt(path) is Doubt.MOVED
    ada.refuses(path)


def test_a_home_that_was_adopted_and_copied_is_still_adopted(ada: Ada) -> None:
    old = ada.make("old")
    ada.say(old, 3)
    new = ada.make("new", adopted=True)
    with home(new) as opened:
        take(opened, ada.pack(old))
    assert ada.doubt(copy(new, ada.folder / "copy")) is Doubt.ADOPTED


# ---------------------------------------------------------------------------------------------------- the memory itself


def test_nothing_is_forgotten_when_the_program_dies_before_the_store_is_written(
    ada: Ada, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory is written first and holds the message, so it is published by whoever comes next, once."""
    path = ada.make()
    ada.say(path, 2)

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Ingest, "flush", die)
        patch.setattr(PublishMemory, "restore", lambda *_: None)  # nothing runs any more in a process that is dead
        with pytest.raises(Killed):
            ada.say(path)
    with home(path) as opened:
        assert opened.store.clock()[ADA.public] == 2
    (note,) = ada.memory.glob("*.json")
    lost = json.loads(note.read_text())
    assert lost["sequence"] == 3
    assert ada.say(path) == 4
    with home(path) as opened:
        assert str(opened.store.key_at(ADA.public, 3)) == lost["key"]
        assert opened.store.claims.claims_about(ADA.public) == []


def test_what_could_not_be_stored_was_not_published(ada: Ada, monkeypatch: pytest.MonkeyPatch) -> None:
    """The person is told that it failed, and will say it again: it must not come back from the memory."""
    path = ada.make()

    def full(*_: object) -> None:
        raise StoreFull("no room")

    for held in (0, 1):
        with monkeypatch.context() as patch:
            patch.setattr(Ingest, "flush", full)
            with pytest.raises(StoreFull):
                ada.say(path)
        assert ada.say(path) == held + 1


def test_a_place_that_cannot_be_written_is_told(ada: Ada) -> None:
    path = ada.make()
    ada.memory.parent.mkdir()
    ada.memory.write_text("not a folder")
    with home(path) as opened:
        guard = ForkGuard(opened, ada.memory)
        assert guard.memory.probe()
        assert guard.memory.problem
    assert ada.say(path) == 1
    ada.memory.unlink()
    with home(path) as opened:
        assert ForkGuard(opened, ada.memory).memory.probe() is None
    assert list(ada.memory.iterdir()) == []
    ada.say(path)
    (note,) = ada.memory.glob("*.json")
    note.rename(ada.folder / "note")
    note.symlink_to(ada.folder / "note")  # written through, it would be somewhere else tomorrow
    with home(path) as opened:
        assert "is a link" in str(ForkGuard(opened, ada.memory).memory.probe())


# ---------------------------------------------------------------------------------------------------- the commands


def test_the_command_line_asks_and_takes_the_answer(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    run_sneaker("init", at=old)
    run_sneaker("publish", "the first", at=old)
    run_sneaker("publish", "the \x1b[31mlast", at=old)
    log = run_sneaker("log", "--json", at=old).out
    shutil.rmtree(Path(os.environ["HOME"]) / ".local/state/sneaker")
    run_sneaker("init", "--secret", old / "secret", at=new)
    run_sneaker("import", "-", at=new, data=log.encode())

    for words in (("publish", "more"), ("follow", "@" + "A" * 43 + "=.ed25519")):
        done = run_sneaker(*words, at=new, ok=False)
        assert done.code == 23
        assert "'sneaker doctor' shows the last one here" in done.err
        assert "--last" not in done.err
    done = run_sneaker("doctor", at=new, ok=False)
    assert done.code == 3
    assert "am I forked?  not known: 2 messages here" in done.out
    assert "last message  2, of " in done.out
    assert ": the ?[31mlast" in done.out.replace("\\u001b", "?").replace("\N{REPLACEMENT CHARACTER}", "?")
    assert "cannot be mended" in done.out
    assert re.search(r"--last \d", done.out) is None
    assert run_sneaker("doctor", "--last", "1", "--yes", at=new, ok=False).code == 2
    done = run_sneaker("doctor", "--last", "2", at=new, data=b"2\n", ok=False)
    assert done.code == 2
    assert "--yes" in done.err
    done = run_sneaker("doctor", "--last", "2", "--yes", at=new)
    assert done.out == "noted: you go on from message 2\n"
    assert "am I forked?  no" in run_sneaker("doctor", at=new).out
    run_sneaker("publish", "more", at=new)

    # The old one stands aside: it learns from the memory that the new one went on.
    run_sneaker("publish", "and more", at=new)
    assert run_sneaker("publish", "once more", at=old, ok=False).code == 23
    done = run_sneaker("doctor", "--last", "2", "--yes", at=old, ok=False)
    assert done.code == 23
    assert "known up to message 4" in done.err


def test_the_commands_with_another_home_folder(tmp_path: Path) -> None:
    """As with sudo: what is published then is not remembered where a copy would look."""
    path, copied = tmp_path / "home", tmp_path / "copy"
    run_sneaker("init", at=path)
    run_sneaker("publish", "one", at=path)
    copy(path, copied)
    run_sneaker("publish", "two", at=path, env={**os.environ, "HOME": str(tmp_path / "root")})
    assert run_sneaker("publish", "two again", at=copied, ok=False).code == 23
    done = run_sneaker("doctor", at=copied, ok=False)
    assert done.code == 3
    assert "am I forked?  not known: 1 message here, and this home is a copy" in done.out
    run_sneaker("publish", "three", at=path)
    assert "known up to message 3" in run_sneaker("doctor", "--last", "1", "--yes", at=copied, ok=False).err
    assert run_sneaker("publish", "two again", at=copied, ok=False).code == 23


@pytest.mark.root
def test_what_root_publishes_leaves_the_home_to_its_owner(ada: Ada) -> None:
    path = ada.make()
    for place in (path, *path.rglob("*")):
        os.chown(place, 12345, 12345)
    ada.say(path)
    status = (path / "origin.json").stat()
    assert (status.st_uid, status.st_gid) == (12345, 12345)


@pytest.mark.parametrize(("answer", "code"), [("2", 0), ("", 2), ("y", 2), ("1", 2)])
def test_on_a_terminal_the_last_message_is_shown_and_its_number_wanted(tmp_path: Path, answer: str, code: int) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    run_sneaker("init", at=old)
    run_sneaker("publish", "the first", at=old)
    run_sneaker("publish", "the last", at=old)
    log = run_sneaker("log", "--json", at=old).out
    shutil.rmtree(Path(os.environ["HOME"]) / ".local/state/sneaker")
    run_sneaker("init", "--secret", old / "secret", at=new)
    run_sneaker("import", "-", at=new, data=log.encode())
    ours, theirs = pty.openpty()
    command = ["--home", str(new), "doctor", "--last", "2"]
    with start(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asked:
        os.write(ours, answer.encode() + b"\n")
        out, err = (printed.decode() for printed in asked.communicate(timeout=60))
    os.close(ours)
    os.close(theirs)
    assert asked.returncode == code, err
    assert "the last" in err
    assert time.strftime("%Y") in err
    assert "in the program that you used before" in err
    assert out == ("noted: you go on from message 2\n" if code == 0 else "")
    assert run_sneaker("publish", "more", at=new, ok=False).code == (0 if code == 0 else 23)


def test_the_commands_tell_of_a_memory_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").write_text("not a folder")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert "not remembered outside of the home" in run_sneaker("init", at=tmp_path / "home").err
    assert "not remembered outside of the home" in run_sneaker("-q", "publish", "one", at=tmp_path / "home").err
    done = run_sneaker("doctor", "--json", at=tmp_path / "home", ok=False)
    assert done.code == 3
    (finding,) = done.json["findings"]
    assert (finding["code"], finding["level"]) == ("memory-unwritable", "problem")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    assert run_sneaker("publish", "two", at=tmp_path / "home").err == ""
    assert run_sneaker("doctor", "--json", at=tmp_path / "home").json["findings"] == []
