"""Every command with ``--json`` is run, and prints what ``guide/json.md`` says, which is what the types say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from scripts import json_contract
from scripts.json_contract import COMMANDS, Result
from sneaker.bundle.events import Status
from sneaker.cli.app import app
from sneaker.cli.json_output import encoder, events, home, import_export, sticks
from sneaker.cli.watch_messages import _DESCRIPTIONS, _describe
from sneaker.devices.device import MountedDevice
from sneaker.devices.events import (
    StickRemoved,
    Trouble,
    UnknownStick,
    VisitDone,
    VisitFailed,
    VisitStarted,
    VisitSummary,
)
from sneaker.devices.inbox import InboxFailed, InboxTaken, Taken
from sneaker.doctor.finding import Level
from sneaker.doctor.own_feed import OwnState
from sneaker.errors import StoreFull
from sneaker.ingest.reports import KNOWN
from sneaker.planning.what_others_have import ClockSource
from sneaker.store.sticks import FileState
from sneaker.transfer.source_kinds import SOURCE_KINDS
from sneaker.transfer.verify import FORKED
from tests.cli.contract import problems
from tests.command_line import sneaker, start
from tests.devices.quick import quick_devices
from tests.feed.bendy import FEED, log_line, metafeed
from tests.homes import fixture_log_file
from tests.net.machines import RunningPeer

pytestmark = pytest.mark.timeout(120)


class Runs:
    """Runs commands, and keeps what they printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.printed: dict[str, list[tuple[Result, list[Any]]]] = {}

    def run(self, at: str, *words: str | Path) -> str:
        """Run a command on the machine ``at``; return what it printed."""
        done = sneaker(*words, at=self.folder / at, ok=False, prepare=quick_devices)
        assert done.code in (0, 3), (words, done.err)
        return done.out

    def json(self, at: str, command: str, *words: str | Path, result: int = 0) -> Any:
        """Run a command with ``--json`` and note what it printed; return its first object."""
        return self.note(command, result, self.run(at, *command.split(), "--json", *words))

    def note(self, command: str, result: int, text: str) -> Any:
        """Note what a command printed."""
        documented = COMMANDS[command][result]
        values = [json.loads(line) for line in text.splitlines()]
        assert values if documented.lines else len(values) == 1, (command, text)
        self.printed.setdefault(command, []).append((documented, values))
        return values[0]


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[tuple[Result, list[Any]]]]]:
    """What all commands printed in the life of two machines and a stick."""
    folder = tmp_path_factory.mktemp("machines")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        runs = Runs(folder)
        _messages_and_bundles(runs, folder)
        _sticks(runs, folder)
        _services(runs, folder)
        _peers(runs, folder)
        runs.json("a", "setup", "--root", folder / "root")
        runs.json("a", "setup", "--print", result=1)
        yield runs.printed


def _messages_and_bundles(runs: Runs, folder: Path) -> None:
    ada = runs.json("a", "init")["id"]
    bob = runs.json("b", "init")["id"]
    runs.json("a", "id")
    (folder / "picture").write_bytes(b"a picture")
    runs.json("a", "publish", "hello", "--attach", folder / "picture")
    for command in ("follow", "unfollow", "block", "unblock", "follow"):
        runs.json("a", command, bob)
    runs.json("b", "publish", "hello back, with &47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=.sha256")
    runs.json("a", "import", fixture_log_file(folder))
    (folder / "bad").write_bytes(b'{"key":"x"}\n')
    runs.json("a", "import", folder / "bad", folder / "nothing")
    (folder / "bendy").write_bytes(b"".join(map(log_line, metafeed(5))))
    runs.json("a", "import", folder / "bendy")
    runs.json("a", "log", "--limit", "5", "--feed", ada)
    runs.json("a", "log", "--limit", "5", "--feed", str(FEED), result=1)
    runs.json("a", "clock", "--card", folder / "a.card")
    runs.json("b", "export", folder / "b.sneaker", "--for", folder / "a.card")
    runs.json("a", "export", folder / "small.sneaker", "--max-size", "64Ki")
    runs.json("a", "import", folder / "b.sneaker")
    for path in (folder / "b.sneaker", folder / "a.card", folder / "log.ndjson"):
        runs.json("a", "inspect", path)
    runs.json("a", "verify", folder / "b.sneaker")
    runs.json("a", "verify", folder / "bad")
    runs.json("a", "status")
    runs.json("b", "status", "--missing", result=1)
    runs.json("a", "check")
    runs.json("a", "doctor")
    runs.run("c", "init", "--secret", folder / "a" / "secret")
    runs.json("c", "doctor")
    runs.run("a", "export", folder / "a.sneaker")
    runs.run("c", "import", folder / "a.sneaker")
    runs.json("c", "doctor", "--last", "6", "--yes", result=1)


def _sticks(runs: Runs, folder: Path) -> None:
    stick = folder / "stick"
    stick.mkdir()
    runs.json("a", "drive init", stick, "--label", "the red one")
    runs.json("a", "sync", stick)
    runs.json("b", "drive trust", stick)
    runs.json("b", "sync", stick)
    runs.json("a", "sync", stick, "--dry-run")
    runs.json("a", "drive gc", stick)
    runs.json("a", "drive info", stick)
    runs.json("a", "drive list")
    runs.json("b", "drive forget", stick)


def _services(runs: Runs, folder: Path) -> None:
    inbox = folder / "inbox"
    inbox.mkdir()
    (inbox / "one.sneaker").write_bytes((folder / "b.sneaker").read_bytes())
    runs.json("a", "watch", "--once", "--inbox", inbox)
    (inbox / "two.sneaker").write_bytes((folder / "b.sneaker").read_bytes()[:-5])
    config = folder / "a" / "config.toml"
    config.write_text(config.read_text() + '\n[peer]\nlisten = "127.0.0.1:0"\ndiscovery = false\n')

    command = ["--home", str(folder / "a"), "run", "--json", "--inbox", str(inbox)]
    with start(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, prepare=quick_devices) as running:
        until = time.monotonic() + 60
        while (inbox / "two.sneaker").exists() and time.monotonic() < until:
            time.sleep(0.05)
        running.terminate()
        out, _ = running.communicate(timeout=30)
    runs.note("run", 0, out.decode())


def _peers(runs: Runs, folder: Path) -> None:
    with RunningPeer(["--home", str(folder / "a"), "peer", "--no-discovery"]) as peer:
        runs.json("b", "connect", peer.address)
        runs.json("b", "once", "--no-discovery", "--listen", "127.0.0.1:0", "--connect", peer.address)


def registered() -> dict[str, Any]:
    """Return every command, and those of its groups, by name."""
    group: Any = typer.main.get_command(app)
    found = {}
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        found |= {f"{name} {sub}": it for sub, it in inner.items()} if inner else {name: command}
    return found


def test_every_command_with_json_is_in_the_contract() -> None:
    with_json = {name for name, it in registered().items() if any("--json" in option.opts for option in it.params)}
    assert with_json == set(COMMANDS)


def test_every_field_is_explained() -> None:
    def shapes(kind: Any) -> Iterator[Any]:
        bare, _ = json_contract.plain(kind)
        for inner in (*json_contract.members(bare), *get_args(bare)):
            if inner is not bare:
                yield from shapes(inner)
        if json_contract.is_shape(bare):
            yield bare
            for hint, _ in json_contract.fields(bare).values():
                yield from shapes(hint)

    for results in COMMANDS.values():
        for result in results:
            for shape in shapes(result.shape):
                assert shape.__doc__
                assert all(words or name == "event" for name, (_, words) in json_contract.fields(shape).items()), shape


# The demo takes long: test_commands runs it.
@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "demo"])
def test_a_command_prints_what_the_contract_says(
    command: str, printed: dict[str, list[tuple[Result, list[Any]]]]
) -> None:
    assert {result for result, _ in printed[command]} == set(COMMANDS[command]), "each of its results is printed"
    for result, values in printed[command]:
        for value in values:
            assert not list(problems(value, result.shape, command))


def test_the_contract_is_not_empty_words(printed: dict[str, list[tuple[Result, list[Any]]]]) -> None:
    result, values = printed["sync"][0]
    for change in ({"extra": 1}, {"safe_to_remove": "yes"}, {"removed": [1]}, {"drive": {}}):
        assert list(problems({**values[0], **change}, result.shape))
    assert list(problems({name: it for name, it in values[0].items() if name != "problems"}, result.shape))


def test_every_event_is_in_the_contract() -> None:
    device = MountedDevice(Path("/media/x"), "/dev/sdx1", "vfat", None, "RED")
    summary = VisitSummary(1, 1, 2, True, False, "something")
    happened = [
        VisitStarted(device),
        VisitDone(device, summary, 1.0),
        VisitFailed(device, StoreFull("the disk is full"), 3.0),
        VisitFailed(device, OSError(5, "an error"), None),
        StickRemoved(device, False),
        StickRemoved(device, True, summary),
        UnknownStick(device),
        Trouble("/dev/sdx", "it does not answer"),
        InboxTaken(Path("a"), Taken(1, 1, True, "one"), Path("done/a")),
        InboxFailed(Path("a"), "it cannot be read"),
    ]
    assert {type(event) for event in happened} == set(_DESCRIPTIONS)
    for event in happened:
        assert not list(problems(_describe(event)[1], events.Event))


def test_words_of_the_contract_are_those_of_the_code() -> None:
    def values(shape: Any, name: str) -> set[str]:
        said = json_contract.plain(json_contract.fields(shape)[name][0])[1]
        assert isinstance(said, encoder.OneOf)
        return set(said.values)

    assert values(import_export.SourceRead, "kind") == {"", "folder", *(kind.kind for kind in SOURCE_KINDS)}
    assert values(import_export.SourceRead, "status") == {KNOWN, *map(str, Status)}
    assert values(import_export.InspectJson, "kind") == {kind.kind for kind in SOURCE_KINDS}
    assert values(import_export.InspectJson, "status") == {str(status) for status in Status}
    assert values(import_export.VerifyJson, "status") == {FORKED, *map(str, Status)}
    assert values(home.OwnFeedState, "state") == {str(state) for state in OwnState}
    assert values(home.DoctorFinding, "level") == {str(level) for level in Level}
    assert values(home.KnownPeer, "kind") == {str(source) for source in ClockSource} - {ClockSource.EXPORT}
    assert values(sticks.BundleOnStick, "state") == {"new", *map(str, FileState)}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["id", "--json"], "home-missing"),
        (["follow", "--json"], "usage"),
        (["status", "--json", "--no-such-option"], "usage"),
        (["--json", "status"], "usage"),
        (["no-such-command", "--json"], "usage"),
        (["verify", "--json", "/nonexistent"], "source-unreadable"),
        (["log", "--json", "--feed", "nobody"], "ref-invalid"),
    ],
)
def test_an_error_is_an_object_too(words: list[str], code: str, tmp_path: Path) -> None:
    done = sneaker(*words, at=tmp_path, ok=False)
    assert not list(problems(done.json, encoder.ErrorJson))
    assert done.json["error"]["code"] == code
    assert done.err.startswith(f"sneaker: error: {done.json['error']['message'][:20]}")


def test_a_text_that_looks_like_the_option_asks_for_nothing(tmp_path: Path) -> None:
    done = sneaker("publish", "--", "--json", at=tmp_path, ok=False)
    assert (done.code, done.out) == (15, "")


def test_one_refused_source_is_one_object(tmp_path: Path) -> None:
    sneaker("init", at=tmp_path / "home")
    done = sneaker("import", "--json", tmp_path / "nothing", at=tmp_path / "home", ok=False)
    assert done.json["sources"][0]["status"] == "refused"
    assert done.code == 36
    assert "error: cannot read" in done.err


def test_nobody_has_to_read_the_error(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with start(["--home", str(tmp_path), "id", "--json"], stdout=writing, stderr=subprocess.PIPE) as running:
        os.close(writing)
        _, errors = running.communicate(timeout=30)
        assert running.wait() == 15
    assert errors.startswith(b"sneaker: error: there is no sneaker home")
    assert b"Traceback" not in errors
    assert b"Exception" not in errors


@pytest.mark.parametrize("words", ["id", "id --json", "init --json"])
def test_a_closed_output_ends_no_command(words: str, tmp_path: Path) -> None:
    command = f"exec {sys.executable} -m sneaker --home {tmp_path / 'home'} {words} >&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == (0 if "init" in words else 15)
    assert "Traceback" not in done.stderr
