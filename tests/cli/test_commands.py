"""The commands as a person types them: what they print, what scripts read, and how they fail."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from sneaker.cli import demo
from sneaker.cli.json_output.home import DemoJson
from tests.cli.contract import problems
from tests.command_line import Done, run_forked, sneaker, start
from tests.homes import FIXTURES, fixture_log, fixture_log_file, identity, make_home
from tests.tries import amount


@pytest.fixture
def alice(tmp_path: Path) -> Path:
    return make_home(tmp_path / "alice")


@pytest.fixture
def bob(tmp_path: Path) -> Path:
    return make_home(tmp_path / "bob")


def lines_of(done: Done) -> list[str]:
    """Return the lines of NDJSON; messages may hold other characters that Python takes for line ends."""
    return done.out.split("\n")[:-1]


def test_init_makes_a_private_home(tmp_path: Path) -> None:
    done = sneaker("init", "--json", at=tmp_path / "home")
    assert set(done.json) == {"home", "id"}
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "home/secret").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "home/store.sqlite").stat().st_mode) == 0o600
    assert sneaker("id", at=tmp_path / "home").out.strip() == done.json["id"] == identity(tmp_path / "home")
    made = make_home(tmp_path / "made")  # as other tests do
    assert {path.name for path in made.iterdir()} == {path.name for path in (tmp_path / "home").iterdir()}


def test_init_never_writes_over_a_secret(alice: Path) -> None:
    before = (alice / "secret").read_bytes()
    assert sneaker("init", at=alice, ok=False).code == 11
    assert (alice / "secret").read_bytes() == before


def test_init_adopts_an_identity_and_does_not_fork_it(tmp_path: Path, alice: Path) -> None:
    sneaker("publish", "one", at=alice)
    done = sneaker("init", "--secret", alice / "secret", "--json", at=tmp_path / "new")
    assert done.json["id"] == identity(alice)
    assert sneaker("publish", "two", at=tmp_path / "new", ok=False).code == 23
    sneaker("export", tmp_path / "a.sneaker", at=alice)
    sneaker("import", tmp_path / "a.sneaker", at=tmp_path / "new")
    sneaker("doctor", "--last", "1", "--yes", at=tmp_path / "new")
    sneaker("publish", "two", at=tmp_path / "new")
    assert sneaker("clock", "--json", at=tmp_path / "new").json == {identity(alice): 2}


def test_an_adopted_identity_that_never_published_may_begin(tmp_path: Path, alice: Path) -> None:
    sneaker("init", "--secret", alice / "secret", at=tmp_path / "new")
    assert sneaker("publish", "first", at=tmp_path / "new", ok=False).code == 23
    sneaker("doctor", "--last", "0", "--yes", at=tmp_path / "new")
    sneaker("publish", "first", at=tmp_path / "new")


def test_environment_names_the_home(tmp_path: Path) -> None:
    sneaker("-q", "init", env={**os.environ, "SNEAKER_HOME": str(tmp_path / "there")})
    assert (tmp_path / "there/secret").exists()


def test_publish_prints_the_message(alice: Path) -> None:
    key = sneaker("publish", "hello", at=alice).out.strip()
    line = sneaker("publish", "--content", '{"type":"about","about":"x","name":"A"}', "--json", at=alice).json
    assert line["value"]["previous"] == key
    assert line["value"]["content"] == {"type": "about", "about": "x", "name": "A"}
    assert set(line) == {"key", "value", "timestamp"}


def test_publish_content_from_file_and_stdin(alice: Path, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"type":"post","text":"from a file"}')
    sneaker("publish", "--content", f"@{tmp_path / 'c.json'}", at=alice)
    sneaker("publish", "--content", "-", at=alice, data=b'{"type":"post","text":"from stdin"}')
    texts = [json.loads(line)["value"]["content"]["text"] for line in lines_of(sneaker("log", "--json", at=alice))]
    assert texts == ["from a file", "from stdin"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["publish"], 2),
        (["publish", "a", "--content", "{}"], 2),
        (["publish", "--content", "nonsense"], 2),
        (["publish", "--content", "[1]"], 2),
        (["publish", "--content", '{"type":"x"}'], 22),
        (["publish", "--content", '{"type":"test","empty":{}}'], 22),
        (["publish", "--content", '{"type":"test","half":"\\ud800"}'], 22),
        (["publish", "x" * 9000], 22),
        (["publish", "--content", "@/nonexistent"], 36),
        (["follow", "nobody"], 10),
        (["follow", "%AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.sha256"], 10),
        (["log", "--limit", "-1"], 2),
        (["log", "--feed", "x"], 10),
        (["nonsense"], 2),
        (["export"], 2),
        (["export", "x", "--max-size", "lots"], 2),
        (["export", "x", "--max-size", "1k"], 2),
        (["export", "x", "--for", "nobody"], 2),
        (["export", "x", "--to", "nobody"], 2),
        (["export", "/nonexistent/folder/x"], 37),
        (["inspect", "/nonexistent"], 36),
        (["verify", "/dev/null"], 36),
    ],
)
def test_wrong_use_is_an_error_in_words(alice: Path, arguments: list[str], code: int) -> None:
    done = sneaker(*arguments, at=alice, ok=False)
    assert done.code == code, done.err
    assert done.err.startswith("sneaker: error: ")
    assert not done.err.splitlines()[0].endswith(".")
    assert done.out == ""


def test_no_home_is_an_error_with_a_hint(tmp_path: Path) -> None:
    done = sneaker("status", at=tmp_path / "nothing", ok=False)
    assert done.code == 15
    assert "sneaker: hint: run 'sneaker init'" in done.err
    assert not (tmp_path / "nothing").exists()


def test_contact_messages(alice: Path, bob: Path) -> None:
    friend = identity(bob)
    states = []
    for command in ("follow", "unfollow", "block", "unblock"):
        content = sneaker(command, friend, "--json", at=alice).json["value"]["content"]
        assert (content.pop("type"), content.pop("contact")) == ("contact", friend)
        states.append(content)
    assert states == [
        {"following": True, "blocking": False},
        {"following": False, "blocking": False},
        {"following": False, "blocking": True},
        {"blocking": False},
    ]


def test_private_messages_are_private(alice: Path, bob: Path, tmp_path: Path) -> None:
    content = sneaker("publish", "secret", "--private-to", identity(bob), "--json", at=alice).json["value"]["content"]
    assert content.endswith(".box")
    assert "secret" not in sneaker("log", "--json", at=alice).out
    assert "(private)  post  secret" in sneaker("log", at=alice).out


def test_log_decrypts_what_is_for_us_but_not_for_scripts(alice: Path, bob: Path, tmp_path: Path) -> None:
    sneaker("publish", "for bob's eyes", "--private-to", identity(bob), at=alice)
    sneaker("publish", "for mine", "--private-to", identity(alice), at=alice)
    sneaker("export", tmp_path / "x.sneaker", at=alice)
    sneaker("import", tmp_path / "x.sneaker", at=bob)
    first, second = sneaker("log", at=bob).out.splitlines()
    assert first.endswith("1  (private)  post  for bob's eyes")
    assert second.endswith("2  (private)")
    assert "eyes" not in sneaker("log", "--json", at=bob).out


@pytest.mark.parametrize(
    ("option", "words"), [("--home", "sneaker --home DIR drive list"), ("-q", "sneaker -q drive list")]
)
def test_options_of_sneaker_itself_behind_the_command(option: str, words: str, tmp_path: Path) -> None:
    done = sneaker("drive", "list", option, tmp_path, ok=False)
    assert done.code == 2
    assert f"sneaker: hint: it goes before the command: '{words}'" in done.err


def test_log_filters(alice: Path, tmp_path: Path) -> None:
    sneaker("import", fixture_log_file(tmp_path), at=alice)
    lines = [json.loads(line) for line in lines_of(sneaker("log", "--json", at=alice))]
    newest = [json.loads(line) for line in lines_of(sneaker("log", "--json", "--reverse", "--limit", "5", at=alice))]
    assert newest == lines[:-6:-1]
    author = lines[0]["value"]["author"]
    one = [json.loads(line) for line in lines_of(sneaker("log", "--json", "--feed", author, "--from", "3", at=alice))]
    assert [line["value"]["sequence"] for line in one] == list(range(3, 3 + len(one)))
    votes = [json.loads(line) for line in lines_of(sneaker("log", "--json", "--type", "vote", at=alice))]
    assert votes == [
        line
        for line in lines
        if isinstance(line["value"]["content"], dict) and line["value"]["content"]["type"] == "vote"
    ]
    assert sneaker("log", "--limit", "0", at=alice).out == ""


def test_log_is_safe_for_a_terminal(alice: Path) -> None:
    sneaker("publish", "--content", '{"type":"post","text":"a\\u001b[31mred\\u202eback\\nline"}', at=alice)
    out = sneaker("log", at=alice).out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert len(out.splitlines()) == 1


def test_real_log_round_trip_keeps_every_id(alice: Path, bob: Path, tmp_path: Path) -> None:
    """What the JavaScript stack wrote comes out of a second machine with the ids that JavaScript computed."""
    log = fixture_log_file(tmp_path)
    summary = json.loads((FIXTURES / "small-summary.json").read_text())
    report = sneaker("import", log, "--json", at=alice).json
    assert report["messages"] == {
        "accepted": summary["messages"],
        "known": 0,
        "refused": 0,
        "waiting": 0,
        "left_out": 0,
    }
    assert report["feeds"]["new"] == len(summary["feeds"])
    exported = sneaker("export", tmp_path / "all.sneaker", "--json", at=alice).json
    assert exported["messages"] == summary["messages"]
    assert exported["files"] == [{"path": str(tmp_path / "all.sneaker"), "bytes": exported["bytes"]}]
    assert exported["bytes"] == (tmp_path / "all.sneaker").stat().st_size
    taken = sneaker("import", tmp_path / "all.sneaker", "--json", at=bob).json
    assert taken["messages"]["accepted"] == summary["messages"]
    assert taken["sources"][0]["status"] == "ok"
    assert taken["sources"][0]["exporter"] == identity(alice)
    assert taken["sources"][0]["bundle_id"] == exported["bundle_id"]
    logs = [sneaker("log", "--json", at=home).out for home in (alice, bob)]
    assert logs[0] == logs[1]
    theirs = {json.loads(line)["key"] for line in fixture_log().splitlines()}
    assert {json.loads(line)["key"] for line in logs[1].split("\n")[:-1]} == theirs
    again = sneaker("import", tmp_path / "all.sneaker", "--json", at=bob).json
    assert again["sources"][0]["status"] == "known"
    assert again["messages"]["accepted"] == 0
    assert sneaker("import", "-", at=tmp_path / "bob", data=logs[0].encode()).code == 0


def test_export_for_a_reader_carries_only_what_it_lacks(alice: Path, bob: Path, tmp_path: Path) -> None:
    for number in range(5):
        sneaker("publish", f"message {number}", at=alice)
    sneaker("export", tmp_path / "1.sneaker", at=alice)
    sneaker("import", tmp_path / "1.sneaker", at=bob)
    sneaker("publish", "the sixth", at=alice)
    sneaker("clock", "--card", tmp_path / "bob.card", at=bob)
    (tmp_path / "bob.json").write_text(sneaker("clock", "--json", at=bob).out)
    sneaker("import", tmp_path / "bob.card", at=alice)
    for spec in (tmp_path / "bob.card", tmp_path / "bob.json", identity(bob)):
        report = sneaker("export", tmp_path / "2.sneaker", "--for", spec, "--json", at=alice).json
        assert report["messages"] == 1, spec
        assert report["reader_clock"][identity(alice)] == 6
    sneaker("publish", "from bob", at=bob)
    assert sneaker("export", "-", "--for", tmp_path / "bob.card", "--dry-run", "--json", at=alice).json["messages"] == 1


def test_a_bundle_teaches_what_its_exporter_has(alice: Path, bob: Path, tmp_path: Path) -> None:
    sneaker("publish", "one", at=alice)
    sneaker("export", tmp_path / "a.sneaker", at=alice)
    sneaker("import", tmp_path / "a.sneaker", at=bob)
    assert sneaker("export", tmp_path / "b", "--for", identity(alice), "--json", at=bob).json["messages"] == 0
    sneaker("publish", "two", at=bob)
    (peer,) = sneaker("status", "--json", at=bob).json["peers"]
    assert (peer["id"], peer["has"]) == (identity(alice), 1)
    assert "has 1 of 2 messages" in sneaker("status", at=bob).out


def test_export_through_a_pipe(alice: Path, bob: Path) -> None:
    sneaker("publish", "one", at=alice)
    command = ["--home", str(alice), "export", "-"]
    with start(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        data, _ = running.communicate(timeout=60)
    assert running.returncode == 0
    assert sneaker("import", "-", "--json", at=bob, data=data).json["messages"]["accepted"] == 1
    assert sneaker("verify", "-", data=data).code == 0
    assert sneaker("inspect", "-", "--json", at=bob, data=data).json["messages"] == 1


def test_export_does_not_write_over_other_files(alice: Path, tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("dear diary")
    assert sneaker("export", tmp_path / "diary.txt", at=alice, ok=False).code == 37
    assert (tmp_path / "diary.txt").read_text() == "dear diary"
    sneaker("export", tmp_path / "a.sneaker", at=alice)
    sneaker("export", tmp_path / "a.sneaker", at=alice)
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_bundles_wait_for_the_ones_before_them(alice: Path, bob: Path, tmp_path: Path) -> None:
    for number in range(3):
        sneaker("clock", "--card", tmp_path / f"{number}.card", at=alice)
        sneaker("publish", f"message {number}", at=alice)
        sneaker("export", tmp_path / f"{number}.sneaker", "--for", tmp_path / f"{number}.card", at=alice)
    report = sneaker("import", tmp_path / "2.sneaker", "--json", at=bob).json
    assert report["messages"] == {"accepted": 0, "known": 0, "refused": 0, "waiting": 1, "left_out": 0}
    assert sneaker("status", "--json", at=bob).json["waiting"] == 1
    sneaker("import", tmp_path / "1.sneaker", at=bob)
    report = sneaker("import", tmp_path / "0.sneaker", "--json", at=bob).json
    assert report["messages"]["accepted"] == 3
    assert sneaker("log", "--json", at=bob).out == sneaker("log", "--json", at=alice).out


def test_blocked_feeds_are_neither_taken_nor_given(alice: Path, bob: Path, tmp_path: Path) -> None:
    sneaker("publish", "one", at=alice)
    sneaker("export", tmp_path / "a.sneaker", at=alice)
    sneaker("block", identity(alice), at=bob)
    report = sneaker("import", tmp_path / "a.sneaker", "--json", at=bob).json
    assert report["messages"]["accepted"] == 0
    assert report["messages"]["refused"] == 0
    sneaker("unblock", identity(alice), at=bob)
    sneaker("import", tmp_path / "a.sneaker", at=bob)
    sneaker("block", identity(alice), at=bob)
    assert sneaker("export", tmp_path / "b.sneaker", "--json", at=bob).json["feeds"] == 1


def test_hops_widen_while_contacts_come_in(tmp_path: Path, alice: Path, bob: Path) -> None:
    carol, dave, eve = (tmp_path / name for name in ("carol", "dave", "eve"))
    for home in (carol, dave, eve):
        make_home(home)
        sneaker("publish", "hello", at=home)
    sneaker("follow", identity(carol), at=bob)
    sneaker("follow", identity(dave), at=carol)
    for number, home in enumerate((bob, carol, dave, eve)):
        sneaker("export", tmp_path / f"{9 - number}.sneaker", at=home)
    sneaker("follow", identity(bob), at=alice)
    bundles = sorted(tmp_path.glob("*.sneaker"))
    sneaker("import", *bundles, "--hops", "2", at=alice)
    feeds = set(sneaker("clock", "--json", at=alice).json)
    assert feeds == {identity(alice), identity(bob), identity(carol)}
    sneaker("import", *bundles, "--hops", "3", at=alice)
    assert identity(dave) in sneaker("clock", "--json", at=alice).json
    assert identity(eve) not in sneaker("clock", "--json", at=alice).json


def test_dry_run_changes_nothing(alice: Path, bob: Path, tmp_path: Path) -> None:
    sneaker("publish", "one", at=alice)
    assert sneaker("export", tmp_path / "x.sneaker", "--dry-run", "--json", at=alice).json["messages"] == 1
    assert not (tmp_path / "x.sneaker").exists()
    sneaker("export", tmp_path / "x.sneaker", at=alice)
    assert sneaker("import", tmp_path / "x.sneaker", "--dry-run", "--json", at=bob).json["messages"]["accepted"] == 1
    assert sneaker("clock", "--json", at=bob).json == {}


def test_another_network_is_refused(alice: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    sneaker("init", "--network-key", base64.b64encode(os.urandom(32)).decode(), at=other)
    sneaker("publish", "hi", at=other)
    sneaker("export", tmp_path / "o.sneaker", at=other)
    sneaker("clock", "--card", tmp_path / "o.card", at=other)
    done = sneaker("import", tmp_path / "o.sneaker", "--json", at=alice, ok=False)
    assert done.code == 13
    assert done.json["sources"][0]["status"] == "refused"
    assert sneaker("export", tmp_path / "a.sneaker", "--for", tmp_path / "o.card", at=alice, ok=False).code == 13


def test_hmac_network(tmp_path: Path) -> None:
    keys = [base64.b64encode(os.urandom(32)).decode() for _ in range(2)]
    homes = [tmp_path / "one", tmp_path / "two"]
    for home in homes:
        sneaker("init", "--network-key", keys[0], "--hmac-key", keys[1], at=home)
    sneaker("publish", "hi", at=homes[0])
    sneaker("export", tmp_path / "x.sneaker", at=homes[0])
    assert sneaker("import", tmp_path / "x.sneaker", "--json", at=homes[1]).json["messages"]["accepted"] == 1
    assert sneaker("verify", tmp_path / "x.sneaker", "--json", at=homes[1]).json["messages"] == {
        "valid": 1,
        "invalid": 0,
    }
    assert sneaker("verify", tmp_path / "x.sneaker", "--json", at=tmp_path / "none", ok=False).code == 3


BAD_INPUT = {
    "empty": (lambda path: path.write_bytes(b""), 31),
    "jpeg": (lambda path: path.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF" + os.urandom(5000)), 31),
    "zeros": (lambda path: path.write_bytes(bytes(100_000)), 31),
    "sparse": (lambda path: os.truncate(path, 10_000_000_000) if path.touch() is None else None, 31),
    "folder": (lambda path: path.mkdir(), 31),
    "fifo": (os.mkfifo, 36),
    "missing": (lambda path: None, 36),
    "loop": (lambda path: path.symlink_to(path), 36),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_refused_in_words(name: str, alice: Path, tmp_path: Path) -> None:
    make, code = BAD_INPUT[name]
    path = tmp_path / "input"
    make(path)
    for command in (["import", path, "--json"], ["verify", path], ["inspect", path]):
        done = sneaker(*command, at=alice, ok=False, timeout=20)
        assert done.code in (code, 36), (command, done.err)
        assert done.err.startswith("sneaker: error: ")


def test_device_is_refused(alice: Path) -> None:
    assert sneaker("import", "/dev/null", at=alice, ok=False).code == 36
    assert sneaker("import", "/dev/zero", at=alice, ok=False).code == 36


def test_broken_lines_cost_only_themselves(alice: Path) -> None:
    lines = fixture_log().splitlines()[:20]
    broken = [b"not json", b"{", b"[1,2]", b"{}", b'{"key":"%x","value":null}', b"x" * 300_000, b"\xff\xfe", b""]
    mixed = [line for pair in zip(lines, [*broken, *[b""] * 12], strict=True) for line in pair]
    done = sneaker("import", "-", "--json", at=alice, data=b"\n".join(mixed), ok=False)
    assert done.code == 3
    assert done.json["messages"]["accepted"] == 20
    assert done.json["messages"]["refused"] == 7
    assert done.json["sources"][0]["status"] == "damaged"
    assert all(set(refusal) == {"feed", "sequence", "code", "detail"} for refusal in done.json["refused"])


def test_a_log_whose_last_line_is_cut(alice: Path) -> None:
    data = b"\n".join(fixture_log().splitlines()[:10])
    for cut, accepted in ((200, 9), (20, 1)):  # in the message; behind it, in what stands around it
        done = sneaker("import", "-", "--json", at=alice, data=data[:-cut], ok=False)
        assert done.code == 3
        assert done.json["messages"]["accepted"] == accepted


def test_one_bad_source_does_not_stop_the_others(alice: Path, bob: Path, tmp_path: Path) -> None:
    sneaker("publish", "one", at=alice)
    sneaker("export", tmp_path / "good.sneaker", at=alice)
    (tmp_path / "bad.sneaker").write_bytes(b"nothing")
    done = sneaker("import", tmp_path / "bad.sneaker", tmp_path / "good.sneaker", "--json", at=bob, ok=False)
    assert done.code == 3
    assert [source["status"] for source in done.json["sources"]] == ["refused", "ok"]
    assert done.json["messages"]["accepted"] == 1


def test_a_folder_with_other_things_in_it(alice: Path, bob: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stick"
    (folder / "photos").mkdir(parents=True)
    (folder / "photos/cat.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (folder / "notes.json").write_text('{"a": 1}')
    sneaker("publish", "one", at=alice)
    sneaker("export", folder, at=alice)
    done = sneaker("import", folder, "--json", at=bob)
    assert len(done.json["sources"]) == 1
    assert done.json["messages"]["accepted"] == 1


def test_verify_finds_what_is_wrong(alice: Path, tmp_path: Path) -> None:
    sneaker("import", fixture_log_file(tmp_path), at=alice)
    sneaker("export", tmp_path / "a.sneaker", at=alice)
    good = sneaker("verify", tmp_path / "a.sneaker", "--json").json
    assert good["status"] == "ok"
    assert good["signature"] is True
    assert good["messages"]["invalid"] == 0
    assert set(good) >= {"status", "messages", "exporter", "signature", "detail"}
    data = bytearray((tmp_path / "a.sneaker").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "a.sneaker").write_bytes(data)
    done = sneaker("verify", tmp_path / "a.sneaker", "--json", ok=False)
    assert done.code == 3
    assert done.json["status"] == "damaged"
    assert "messages of" in done.json["detail"]
    log = fixture_log().replace(b"the", b"thE", 1)
    done = sneaker("verify", "-", "--json", data=log, ok=False)
    assert done.code == 3
    assert done.json["messages"]["invalid"] >= 1


def test_inspect_shows_what_is_new(alice: Path, bob: Path, tmp_path: Path) -> None:
    sneaker("publish", "one", at=alice)
    sneaker("export", tmp_path / "a.sneaker", at=alice)
    report = sneaker("inspect", tmp_path / "a.sneaker", "--json", at=bob).json
    assert (report["messages"], report["new"], report["signature"]) == (1, 1, True)
    sneaker("import", tmp_path / "a.sneaker", at=bob)
    assert sneaker("inspect", tmp_path / "a.sneaker", "--json", at=bob).json["new"] == 0
    assert "packed by" in sneaker("inspect", tmp_path / "a.sneaker").out


def test_quiet_is_quiet(tmp_path: Path) -> None:
    assert sneaker("-q", "init", at=tmp_path / "q").err == ""


def test_status(alice: Path) -> None:
    sneaker("publish", "one", at=alice)
    status = sneaker("status", "--json", at=alice).json
    assert (status["messages"], status["feeds"], status["sequence"]) == (1, 1, 1)
    assert identity(alice) in sneaker("status", at=alice).out


def test_a_closed_pipe_is_no_error(alice: Path, tmp_path: Path) -> None:
    sneaker("import", fixture_log_file(tmp_path), at=alice)
    for options in ("--json", ""):
        command = f"{sys.executable} -m sneaker --home {alice} log {options} | head -n 1; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, check=True)
        assert done.stderr == b""
        assert done.stdout.splitlines()[-1] == b"141"


@pytest.mark.parametrize(
    "words", [["publish", "hello"], ["status"], ["status", "--json"], ["log"], ["log", "--json"], ["--help"]], ids=str
)
def test_an_output_that_takes_nothing_is_said(alice: Path, words: list[str]) -> None:
    """And not called a bug: whoever runs publish again publishes twice."""
    sneaker("publish", "something to print", at=alice)
    with (
        open("/dev/full", "wb") as full,
        start(["--home", str(alice), *words], stdout=full, stderr=subprocess.PIPE) as run,
    ):
        _, err = run.communicate(timeout=60)
    assert run.wait() == 37, err
    assert b"cannot be written: No space left on device" in err
    assert b"look before you repeat it" in err
    assert b"bug" not in err


@pytest.mark.parametrize("words", [["publish", "hello"], ["log", "--json"]], ids=str)
def test_an_output_without_a_buffer_that_takes_nothing_is_said(alice: Path, words: list[str]) -> None:
    sneaker("publish", "something to print", at=alice)
    command = [sys.executable, "-u", "-m", "sneaker", "--home", str(alice), *words]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 37
    assert b"cannot be written: No space left on device" in done.stderr


def test_a_second_writer_is_told_so(alice: Path, tmp_path: Path) -> None:
    import fcntl

    with (alice / "store.sqlite.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = sneaker("publish", "two", "--wait", "0.3", at=alice, ok=False)
        assert done.code == 41
        assert "hint" in done.err
        assert sneaker("status", at=alice).code == 0


def test_config_errors_name_the_setting(alice: Path) -> None:
    (alice / "config.toml").write_text("[network]\nkye = 1\n")
    done = sneaker("status", at=alice, ok=False)
    assert done.code == 14
    assert "network.kye" in done.err


def forked_demo() -> None:
    """Let the demo fork for its commands."""

    def run(command: list[str], *, env: dict[str, str], cwd: Path, **_: object) -> subprocess.CompletedProcess[str]:
        assert command[:3] == [sys.executable, "-m", "sneaker"]
        return run_forked(command[3:], env, cwd)

    demo.subprocess = SimpleNamespace(run=run)  # type: ignore[attr-defined, assignment]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("prepare", "messages"),
    [
        pytest.param(forked_demo, amount(quick=100, thorough=1129), id="forked"),
        pytest.param(None, 1129, marks=pytest.mark.slow, id="each started anew"),
    ],
)
def test_demo_ends_with_equal_logs(tmp_path: Path, prepare: Callable[[], None] | None, messages: int) -> None:
    log = tmp_path / "log.ndjson"
    log.write_bytes(b"".join(fixture_log().splitlines(keepends=True)[:messages]))
    report = sneaker("demo", "--json", "--log", log, timeout=120, prepare=prepare).json
    assert not list(problems(report, DemoJson))
    assert report["identical"] is True
    assert report["messages"] == messages + 4


def test_publish_reads_a_text_from_a_pipe(alice: Path) -> None:
    content = sneaker("publish", "-", "--json", at=alice, data=b"zwei\nZeilen\n").json["value"]["content"]
    assert content == {"type": "post", "text": "zwei\nZeilen"}


@pytest.mark.parametrize(
    ("arguments", "data", "code", "words"),
    [
        (["hello", "world"], None, 2, 'put it in quotes: sneaker publish "hello world"'),
        ([""], None, 22, "no text"),
        (["-"], b"", 22, "no text"),
        (["-"], b"\xff", 2, "not UTF-8"),
        pytest.param(["-"], b"x" * 300_000, 22, "more in it than any message takes", id="long"),
        pytest.param(["--content", "-"], b" " * 300_000, 22, "more in it than any message takes", id="long content"),
        (["--content", '"AAAA.box"'], None, 2, "not a JSON object"),
        (["--content", '{"type":"post","text":"x"'], None, 2, "ends too early"),
        (["--content", '{"type":"post","text":"x","text":"y"}'], None, 22, "stands twice"),
        (["--attach", "/dev/zero"], None, 36, "a device"),
    ],
)
def test_what_is_not_published_is_said_in_words(
    alice: Path, arguments: list[str], data: bytes | None, code: int, words: str
) -> None:
    done = sneaker("publish", *arguments, at=alice, data=data, ok=False)
    assert (done.code, done.out) == (code, "")
    assert words in done.err
    assert sneaker("log", "--json", at=alice).out == ""


def test_a_link_to_a_blob_that_is_not_here_is_said(alice: Path, tmp_path: Path) -> None:
    blob = "&AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.sha256"
    assert f"note: {blob} is not on this machine" in sneaker("publish", f"see {blob}", at=alice).err
    (tmp_path / "photo.jpg").write_bytes(b"a photo")
    assert sneaker("publish", "--attach", tmp_path / "photo.jpg", at=alice).err == ""


def test_nobody_follows_or_blocks_themselves(alice: Path) -> None:
    for command in ("follow", "unfollow", "block", "unblock"):
        assert sneaker(command, identity(alice), at=alice, ok=False).code == 22


def test_names_of_attached_files_are_only_text(alice: Path, tmp_path: Path) -> None:
    name = os.path.join(os.fsencode(tmp_path), b"a\xff]\n\x1b[31m.bin")
    Path(os.fsdecode(name)).write_bytes(b"x")
    content = sneaker("publish", "--attach", os.fsdecode(name), "--json", at=alice).json["value"]["content"]
    assert content["mentions"][0]["name"] == "a\ufffd]\ufffd\ufffd[31m.bin"
    assert content["text"].startswith("[a\ufffd)\ufffd\ufffd(31m.bin](&")
