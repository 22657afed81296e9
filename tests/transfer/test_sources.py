"""What is named for import, and what is found in folders."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sneaker.caps import MAIN_CAPS
from sneaker.cli.watch_actions import HomeInbox
from sneaker.clock import VectorClock
from sneaker.errors import ExitCode, NotABundle, OutputError, SourceError
from sneaker.ingest.ingest import Ingest
from sneaker.keys import Keypair
from sneaker.transfer import source_kinds
from sneaker.transfer.import_files import import_sources
from sneaker.transfer.inspect import inspect
from sneaker.transfer.read_log import LogSource
from sneaker.transfer.source_events import SourceEvent
from sneaker.transfer.source_kinds import SOURCE_KINDS, identify_source
from sneaker.transfer.sources import OpenedSource, SourceKind
from sneaker.transfer.verify import verify
from tests.command_line import sneaker, start
from tests.homes import home, take


@pytest.fixture
def alice(tmp_path: Path) -> Path:
    sneaker("init", at=tmp_path / "alice")
    sneaker("publish", "one", at=tmp_path / "alice")
    return tmp_path / "alice"


@pytest.fixture
def bob(tmp_path: Path) -> Path:
    sneaker("init", at=tmp_path / "bob")
    return tmp_path / "bob"


def test_a_folder_with_nothing_in_it_beside_one_whose_name_goes_on(alice: Path, bob: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "ab").mkdir()
    sneaker("export", tmp_path / "ab", at=alice)
    done = sneaker("import", tmp_path / "a", tmp_path / "ab", "--json", at=bob, ok=False)
    found = {Path(source["path"]).name: source["status"] for source in done.json["sources"]}
    assert found.pop("a") == "refused"
    assert list(found.values()) == ["ok"]


@pytest.mark.parametrize("ending", [".ndjson", ".jsonl", ".JSONL"])
def test_logs_are_known_by_one_list_of_endings(alice: Path, bob: Path, tmp_path: Path, ending: str) -> None:
    lines = sneaker("log", "--json", at=alice).out.encode()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / f"log{ending}").write_bytes(lines)
    assert HomeInbox.wanted(lines, f"log{ending}")
    assert sneaker("import", tmp_path / "in", "--json", at=bob).json["messages"]["accepted"] == 1


def test_other_json_in_a_folder_is_nobodys_log(alice: Path) -> None:
    line = sneaker("log", "--json", at=alice).out.encode()
    assert json.loads(line)
    assert not HomeInbox.wanted(line, "settings.json")


# ---- one interface for all kinds


def test_each_kind_is_told_by_its_first_bytes(alice: Path, tmp_path: Path) -> None:
    sneaker("export", tmp_path / "bundle", at=alice)
    sneaker("clock", "--card", tmp_path / "card", at=alice)
    sneaker("export", tmp_path / "encrypted", "--to", sneaker("id", at=alice).out.strip(), at=alice)
    (tmp_path / "log").write_text(sneaker("log", "--json", at=alice).out)
    found = {}
    for name in ("bundle", "card", "encrypted", "log"):
        kind = identify_source((tmp_path / name).read_bytes(), name)
        assert [other for other in SOURCE_KINDS if other.recognises((tmp_path / name).read_bytes())] == [kind]
        found[name] = str(kind.kind)
    assert found == {"bundle": "bundle", "card": "card", "encrypted": "encrypted", "log": "ndjson"}


def test_a_new_kind_is_read_by_all(alice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module and its place in the list: import, inspect and verify know no more of a kind."""

    class Backwards(LogSource):
        kind = "backwards"
        folder_suffixes = inbox_suffixes = (".turned",)

        def recognises(self, start: bytes) -> bool:
            return start.startswith(b"\n}")

        def read_events(
            self, source: OpenedSource, *, hmac_key: bytes | None, keypair: Keypair | None
        ) -> Iterator[SourceEvent]:
            turned = OpenedSource(source.name, b"".join(source.chunks())[::-1], io.BytesIO(), source.progress)
            return super().read_events(turned, hmac_key=hmac_key, keypair=keypair)

    monkeypatch.setattr(source_kinds, "SOURCE_KINDS", (*SOURCE_KINDS, Backwards()))
    data = sneaker("log", "--json", at=alice).out.encode()[::-1]
    (tmp_path / "turned").write_bytes(data)
    assert verify(io.BytesIO(data), "turned", MAIN_CAPS, progress=lambda done: None).valid == 1
    found = inspect(io.BytesIO(data), "turned", MAIN_CAPS, VectorClock(), progress=lambda done: None)
    assert found.messages == 1
    with home(tmp_path / "carol") as carol:
        assert take(carol, tmp_path / "turned").ingested.accepted == 1
    for name, is_ours in (("a.turned", True), ("a.txt", False)):
        assert HomeInbox.wanted(data, name) is is_ours
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(data)
        with home(tmp_path / f"home of {name}") as other:
            report = take(other, tmp_path / name)
            assert report.ingested.accepted == is_ours
            assert report.sources[0].kind == ("backwards" if is_ours else "folder")


def test_a_bug_in_one_reader_stops_no_other_source(
    alice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(SourceKind):
        kind = "broken"

        def recognises(self, start: bytes) -> bool:
            return start.startswith(b"broken")

        def read_events(
            self, source: OpenedSource, *, hmac_key: bytes | None, keypair: Keypair | None
        ) -> Iterator[SourceEvent]:
            raise KeyError("nobody thought of this")

    monkeypatch.setattr(source_kinds, "SOURCE_KINDS", (Broken(), *SOURCE_KINDS))
    (tmp_path / "broken").write_bytes(b"broken")
    (tmp_path / "log").write_text(sneaker("log", "--json", at=alice).out)
    with home(tmp_path / "carol") as carol:
        report = import_sources(
            carol, [str(tmp_path / "broken"), str(tmp_path / "log")], stdin=io.BytesIO(), now_ms=lambda: 0
        )
    assert [source.status for source in report.sources] == ["refused", "ok"]
    assert "this is a bug in sneaker, please report it: KeyError" in report.sources[0].detail
    assert report.ingested.accepted == 1


def test_a_bug_in_what_takes_messages_is_not_laid_at_a_source(
    alice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("the store's own")

    monkeypatch.setattr(Ingest, "add_message", fail)
    (tmp_path / "log").write_text(sneaker("log", "--json", at=alice).out)
    with home(tmp_path / "carol") as carol, pytest.raises(KeyError, match="the store's own"):
        take(carol, tmp_path / "log")


def test_a_named_pipe_is_not_waited_for_by_whatever_way_it_is_named(alice: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in (tmp_path / "pipe", f"/proc/self/../..{tmp_path}/pipe"):
        done = sneaker("import", name, at=alice, ok=False, timeout=20)
        assert "is a named pipe" in done.err


def test_standard_input_that_does_not_wait_is_waited_for(alice: Path, bob: Path) -> None:
    lines = sneaker("log", "--json", at=alice).out.encode()
    for command, words in (("import", "1 new message"), ("verify", "1 message is valid"), ("inspect", "1 message")):
        source, target = os.pipe()
        os.set_blocking(source, False)
        with (
            os.fdopen(source, "rb") as stdin,
            start(["--home", str(bob), command, "-"], stdin=stdin, stdout=subprocess.PIPE) as running,
        ):
            with os.fdopen(target, "wb", buffering=0) as pipe:
                pipe.write(lines[:100])
                time.sleep(0.5)
                pipe.write(lines[100:])
            out, _ = running.communicate(timeout=30)
            assert (running.wait(), words in out.decode()) == (0, True), out


LONG = "n" * 300


@pytest.mark.parametrize(
    "arguments",
    [["import", LONG], ["verify", LONG], ["inspect", LONG], ["export", LONG], ["export", "x", "--for", LONG]],
)
def test_a_name_that_no_file_can_have_is_refused_in_words(alice: Path, tmp_path: Path, arguments: list[str]) -> None:
    done = sneaker(*arguments, at=alice, ok=False, cwd=tmp_path)
    assert "its name is too long" in done.err
    assert done.code == (OutputError if arguments[1] == LONG and arguments[0] == "export" else SourceError).exit_code


@pytest.mark.parametrize("command", ["import", "verify", "inspect"])
def test_a_file_that_cannot_be_read_is_refused_in_words(alice: Path, command: str) -> None:
    """It opens, and its first bytes are not to be had, as on a stick that fails."""
    done = sneaker(command, "/proc/self/mem", at=alice, ok=False)
    assert "cannot read /proc/self/mem: the device reports an error" in done.err
    assert done.code == SourceError.exit_code


def test_a_home_cannot_have_such_a_name(tmp_path: Path) -> None:
    done = sneaker("init", at=tmp_path / LONG, ok=False)
    assert (done.code, "its name is too long" in done.err) == (OutputError.exit_code, True)


def test_beside_a_name_that_no_file_can_have_the_rest_comes_in(alice: Path, bob: Path, tmp_path: Path) -> None:
    sneaker("export", tmp_path / "good", at=alice)
    done = sneaker("import", LONG, tmp_path / "good", "--json", at=bob, ok=False)
    assert [source["status"] for source in done.json["sources"]] == ["refused", "ok"]
    assert done.json["messages"]["accepted"] == 1


@pytest.mark.parametrize(
    ("name", "is_told"), [("aaa", True), ("lost+found", False), ("System Volume Information", False)]
)
def test_behind_a_folder_that_cannot_be_read_the_rest_comes_in(
    alice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, is_told: bool
) -> None:
    (tmp_path / "in" / name).mkdir(parents=True)
    (tmp_path / "in" / "zzz").mkdir()
    sneaker("export", tmp_path / "in" / "zzz" / "good", at=alice)
    scan = os.scandir

    def scan_some(folder: Path | int) -> object:
        if isinstance(folder, Path) and folder.name == name:
            raise PermissionError(errno.EACCES, "Permission denied")
        return scan(folder)

    monkeypatch.setattr(os, "scandir", scan_some)
    with home(tmp_path / "carol") as carol:
        report = take(carol, tmp_path / "in")
    told = [(Path(source.path).name, source.detail) for source in report.sources if source.status == "refused"]
    assert told == ([(name, f"cannot read {tmp_path / 'in' / name}: permission denied")] if is_told else [])
    assert report.complete is not is_told
    assert report.ingested.accepted == 1


def test_behind_a_folder_that_is_too_deep_the_rest_comes_in(alice: Path, bob: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    sneaker("export", tmp_path / "in" / "zzz", at=alice)
    (tmp_path / "in" / "sub").mkdir()
    sneaker("export", tmp_path / "in" / "sub" / "good", at=alice)
    folder = os.open(tmp_path / "in", os.O_RDONLY)
    for _ in range(25):
        os.mkdir("d" * 200, dir_fd=folder)
        inner = os.open("d" * 200, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    done = sneaker("import", tmp_path / "in", "--json", at=bob, ok=False)
    assert done.code == ExitCode.PARTIAL
    assert sorted(source["status"] for source in done.json["sources"]) == ["known", "ok", "refused"]


def test_a_database_is_refused_in_words(alice: Path, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "toy.db")) as database, database:
        database.execute("CREATE TABLE messages (text)")
        database.execute("INSERT INTO messages VALUES (?)", (sneaker("log", "--json", at=alice).out,))
    for command in ("import", "inspect", "verify"):
        done = sneaker(command, tmp_path / "toy.db", at=alice, ok=False)
        assert (done.code, "is a database file" in done.err) == (NotABundle.exit_code, True)


def test_a_name_that_ends_like_a_folder_never_becomes_a_file(alice: Path, tmp_path: Path) -> None:
    done = sneaker("clock", "--card", f"{tmp_path}/STICK/", at=alice, ok=False)
    assert (done.code, "the name of a folder" in done.err) == (OutputError.exit_code, True)
    done = sneaker("export", f"{tmp_path}/STICK/", at=alice, ok=False)
    assert (done.code, "there is no such folder" in done.err) == (OutputError.exit_code, True)
    assert not (tmp_path / "STICK").exists()
    (tmp_path / "STICK").write_bytes(b"")
    assert "it is not a folder" in sneaker("export", f"{tmp_path}/STICK/", at=alice, ok=False).err
    (tmp_path / "STICK").unlink()
    (tmp_path / "STICK").mkdir()
    sneaker("export", f"{tmp_path}/STICK/", at=alice)
    assert len(list((tmp_path / "STICK").glob("*.sneaker"))) == 1


def test_a_file_in_the_place_of_a_folder_is_called_so(alice: Path, tmp_path: Path) -> None:
    file = tmp_path / "afile"
    file.write_text("x")
    for arguments in (("sync", file), ("drive", "trust", file)):
        assert "it is not a folder" in sneaker(*arguments, at=alice, ok=False).err
    for command in ("init", "status"):
        assert "is not a folder" in sneaker(command, at=file, ok=False).err
    for command in ("import", "export"):
        done = sneaker(command, file / "x.sneaker", at=alice, ok=False)
        assert "a file where its folder should be" in done.err


def test_numbers_are_said_as_people_say_them(alice: Path, bob: Path, tmp_path: Path) -> None:
    sneaker("publish", "two", at=alice)
    log = tmp_path / "log.ndjson"
    first, second = sneaker("log", "--json", at=alice).out.splitlines()
    log.write_text(second)
    assert "1 message waits for earlier messages" in sneaker("import", log, at=bob).out
    assert "waits for 1 of the same feed" in sneaker("doctor", at=bob, ok=False).out
    log.write_text(f"{first}\n{second}\n")
    assert "took 2 new messages of 1 feed" in sneaker("import", log, at=bob).out
    again = sneaker("import", log, at=bob).out
    assert "2 messages known already" in again
    assert "took" not in again
    log.write_text(f"{first}\n{second.replace('two', 'six')}\n")
    assert "1 message is valid, 1 is not" in sneaker("verify", log, at=bob, ok=False).out
