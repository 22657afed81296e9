"""Logs as other programs print them, through import, verify and inspect."""

from __future__ import annotations

import io
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sneaker.caps import MAIN_CAPS
from sneaker.cli.json_output.import_export import import_json
from sneaker.feed.classic.javascript_json import format_json
from sneaker.feed.classic.message import create_message
from sneaker.feed.message import Head, Message
from sneaker.feed.private import box
from sneaker.home.secret_file import load_secret
from sneaker.ingest.reports import SourceReport
from sneaker.keys import Keypair
from sneaker.own_feed.publish import publish
from sneaker.refs import FeedRef
from sneaker.transfer.import_files import import_sources, importing
from sneaker.transfer.inspect import inspect
from sneaker.transfer.read_log import read_log
from sneaker.transfer.verify import verify
from tests import js_oracle
from tests.command_line import sneaker
from tests.homes import NOW_MS, home, log_lines, take
from tests.net.machines import wait_for
from tests.ports import free_port
from tests.store.worlds import feed
from tests.tries import amount

DATA = Path(__file__).parent.parent / "data" / "logs"
SEED = b"\x07" * 32
AUTHOR = Keypair.from_seed(SEED)


def own_messages(count: int, keypair: Keypair = AUTHOR) -> list[Message]:
    made: list[Message] = []
    for number in range(count):
        head = Head(made[-1].sequence, made[-1].key) if made else None
        made.append(create_message(keypair, head, NOW_MS + number, {"type": "post", "text": f"message {number}"}))
    return made


def line(message: Message, **changed: Any) -> bytes:
    value = {**json.loads(message.text), **changed}
    return json.dumps({"key": str(message.key), "value": value, "timestamp": 1}).encode()


def counts(data: bytes | Path, folder: Path) -> Any:
    """Take in a log, and hold the three commands against each other: they see the same messages."""
    data = data.read_bytes() if isinstance(data, Path) else data
    with home(folder / "home") as opened:
        report = import_json(take(opened, "-", data=data))
    assert sum(report["messages"].values()) == report["read"] + report["waited"]
    verified = verify(io.BytesIO(data), "log", MAIN_CAPS, progress=lambda done: None)
    assert verified.valid + verified.invalid + verified.repeated == report["read"]
    inspected = inspect(io.BytesIO(data), "log", MAIN_CAPS, {}, progress=lambda done: None)
    found = [entry.message for entry in read_log([data]) if entry.message is not None]
    unread = [refusal for refusal in report["refused"] if refusal["code"] not in _JUDGED]
    assert len(found) + len(unread) == report["read"]
    assert inspected.messages == len({(message.author, message.sequence) for message in found})
    assert report["sources"][0]["status"] == inspected.status
    return report


_JUDGED = ("signature-invalid", "forked", "chain-broken")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with home(tmp_path / "home"):
        return tmp_path


@pytest.mark.parametrize(
    ("name", "messages"),
    [
        ("pretty.txt", 4),
        ("signed.ndjson", 4),
        ("opened.ndjson", 4),
        ("opened-db2.ndjson", 4),
        ("trailing-object.ndjson", 3),
        ("raw-log-stream.ndjson", 20),
        ("sync-marker.ndjson", 3),
    ],
)
def test_every_form_is_read(folder: Path, name: str, messages: int) -> None:
    report = counts(DATA / name, folder)
    assert report["messages"] == {"accepted": messages, "known": 0, "refused": 0, "waiting": 0, "left_out": 0}
    assert report["sources"][0] | {"path": ""} == {
        "path": "",
        "kind": "ndjson",
        "exporter": None,
        "bundle_id": None,
        "status": "ok",
        "detail": "",
    }
    # The pipe is the same as the file.
    with home(folder / "other") as other, home(folder / "home") as first:
        assert take(other, "-", data=(DATA / name).read_bytes()).complete
        assert log_lines(other) == log_lines(first)


def test_opened_messages_are_what_was_signed(folder: Path) -> None:
    for name in ("opened.ndjson", "opened-db2.ndjson"):
        with home(folder / name) as opened, home(folder / f"{name}-signed") as signed:
            take(opened, DATA / name)
            take(signed, DATA / "signed.ndjson")
            assert log_lines(opened) == log_lines(signed)


def _opened(where: str) -> dict[str, Any]:
    """The opened message, with its original in one place only, and the value in front or behind."""
    record = json.loads((DATA / "opened.ndjson").read_bytes().splitlines()[3])
    value = record["value"]
    original = value.pop("cyphertext")
    value.pop("meta"), value.pop("private"), value.pop("unbox")
    if where == "value.cyphertext":
        value["cyphertext"] = original
    elif where == "value.meta.original":
        record["value"] = {"meta": {"original": {"content": original}, "private": True}, **value}
    elif where == "value.meta.originalContent":
        value["meta"] = {"originalContent": original}
    elif where == "meta":
        record = {"meta": {"originalContent": original}, "private": True, **record}
    elif where == "raw":
        record = {"seq": 7, "value": record | {"meta": {"originalContent": original}}}
    elif where == "bare":
        record = {**value, "meta": {"original": {"content": original}}, "unbox": "x"}
    elif where == "lie first":
        value["cyphertext"], record["meta"] = "bGll.box", {"originalContent": original}
    else:
        value["more"] = 1
    return record  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "where",
    ["value.cyphertext", "value.meta.original", "value.meta.originalContent", "meta", "raw", "bare", "lie first"],
)
def test_the_original_is_found_wherever_it_is_kept(where: str) -> None:
    (entry,) = read_log([json.dumps(_opened(where)).encode()])
    signed = json.loads((DATA / "signed.ndjson").read_bytes().splitlines()[3])
    assert entry.message is not None
    assert (str(entry.message.key), entry.message.content) == (signed["key"], signed["value"]["content"])


def test_without_its_original_an_opened_message_is_not_taken(folder: Path) -> None:
    report = counts((DATA / "signed.ndjson").read_bytes() + json.dumps(_opened("nowhere")).encode(), folder)
    assert report["messages"] == {"accepted": 4, "known": 0, "refused": 1, "waiting": 0, "left_out": 0}
    assert report["refused"][0]["code"] == "fields-invalid"
    assert report["refused"][0]["sequence"] == 4


def test_a_wrong_key_is_a_remark(folder: Path) -> None:
    report = counts(DATA / "key-wrong.ndjson", folder)
    assert report["messages"] == {"accepted": 20, "known": 0, "refused": 0, "waiting": 0, "left_out": 0}
    assert report["sources"][0]["status"] == "ok"
    assert "line 11" in report["sources"][0]["detail"]
    done = sneaker("import", DATA / "key-wrong.ndjson", at=folder / "home")
    assert "line 11" in done.out
    assert "line 11" in sneaker("verify", DATA / "key-wrong.ndjson").out


@pytest.mark.parametrize(("name", "accepted", "refused"), [("forked.ndjson", 10, 5), ("previous-wrong.ndjson", 2, 2)])
def test_a_log_that_forks(folder: Path, name: str, accepted: int, refused: int) -> None:
    report = counts(DATA / name, folder)
    assert report["messages"] == {"accepted": accepted, "known": 0, "refused": refused, "waiting": 0, "left_out": 0}
    done = sneaker("verify", DATA / name, ok=False)
    assert done.code == 3
    assert "fork" in done.out
    found = sneaker("verify", "--json", DATA / name, ok=False).json
    assert found["status"] == "forked"
    assert [fork["sequence"] for fork in found["forked"]] == [7 if accepted == 10 else 3]


def test_a_fork_is_found_in_any_order(folder: Path) -> None:
    """The other messages come from behind: one by one each is where it should be."""
    messages = [*feed(0, 9)[::-1], *feed(0, 9, shared=3, branch="b")[3:]]
    path = folder / "forked.ndjson"
    path.write_bytes(b"\n".join(map(line, messages)))
    assert sneaker("verify", "--json", path, ok=False).json["forked"] == [
        {"feed": str(messages[0].author), "sequence": 4}
    ]


def test_a_refusal_names_its_place_and_doctor_promises_nothing(folder: Path) -> None:
    report = counts(DATA / "content-wrong.ndjson", folder)
    assert report["messages"] == {"accepted": 1, "known": 0, "refused": 1, "waiting": 1, "left_out": 0}
    (refusal,) = report["refused"]
    assert (refusal["sequence"], refusal["code"]) == (2, "content-invalid")
    assert refusal["feed"].startswith("@NnFEfj")
    assert "in vain" in sneaker("doctor", at=folder / "home", ok=False).out


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"content": {"type": "x"}}, "content-type"),
        ({"content": {"type": "post", "text": "x" * 9000}}, "too-long"),
        ({"hash": "md5"}, "hash-invalid"),
        ({"signature": "x"}, "signature-malformed"),
        ({"timestamp": None}, "timestamp-invalid"),
        ({"content": [[[{}]] * 9] * 99}, "content-invalid"),
    ],
)
def test_every_refusal_names_its_place(changed: dict[str, Any], code: str) -> None:
    (message,) = own_messages(1)
    (entry,) = read_log([line(message, **changed)])
    assert (entry.message, entry.code, entry.feed, entry.sequence) == (None, code, message.author, 1)


def test_torn_and_broken_logs(folder: Path) -> None:
    messages = own_messages(3)
    whole = [line(message) for message in messages]
    report = counts(whole[0] + b"\n" + whole[1][:-40], folder)
    assert report["messages"] == {"accepted": 1, "known": 0, "refused": 1, "waiting": 0, "left_out": 0}
    assert report["sources"][0]["status"] == "truncated"
    assert (report["refused"][0]["feed"], report["refused"][0]["sequence"]) == (str(messages[0].author), 2)
    report = counts(b"\n".join([whole[0], whole[1][:-40], whole[2]]) + b"\n\0\0\0", folder)
    assert report["messages"] == {"accepted": 0, "known": 1, "refused": 2, "waiting": 1, "left_out": 0}
    assert report["sources"][0]["status"] == "damaged"


# ---- what a log names of the own feed


def _claims(folder: Path, data: bytes, held: int = 3) -> None:
    """Import what is held and then a log that names message 4: nothing is published until the person settles it."""
    messages = own_messages(4)
    with home(folder / "own", SEED) as opened:
        take(opened, "-", data=b"\n".join(map(line, messages[:held])))
        take(opened, "-", data=data)
        assert opened.store.own_sequence_seen(AUTHOR.public).held == held
    done = sneaker("publish", "x", at=folder / "own", ok=False)
    assert done.code == 23
    assert "message 4" in done.err
    assert "up to 4" in sneaker("doctor", at=folder / "own", ok=False).out


def test_what_is_refused_of_the_own_feed_is_remembered(tmp_path: Path) -> None:
    messages = own_messages(4)
    fourth = line(messages[3])
    forms = {
        "signature": line(messages[3], signature=json.loads(messages[2].text)["signature"]),
        "torn": fourth[:-60],
        "torn in the middle": fourth[:-60] + b"\n" + line(messages[0]),
        "content": line(messages[3], content=7),
        "opened": line(messages[3], content={"type": "post", "text": "secret"}, private=True),
        "broken": fourth.replace(b'"sha256"', b"sha256", 1),
        "torn before its number": line(messages[2])
        + f'\n{{"key":"{messages[3].key}","value":{{"previous":"%","author":"{AUTHOR.public}","sequ'.encode(),
    }
    for name, data in forms.items():
        _claims(tmp_path / name.replace(" ", "-"), data)


def test_a_false_claim_can_be_settled(tmp_path: Path) -> None:
    messages = own_messages(4)
    data = line(messages[3], content=7)
    _claims(tmp_path, data)
    assert sneaker("doctor", "--dismiss", "--yes", at=tmp_path / "own", ok=False).code in (0, 3)
    sneaker("publish", "x", at=tmp_path / "own")
    with home(tmp_path / "own") as opened:  # the same log brings it up no more
        take(opened, "-", data=data)
        seen = opened.store.own_sequence_seen(AUTHOR.public)
        assert seen.claimed <= seen.held == 4


def test_the_claim_is_over_when_the_message_comes(tmp_path: Path) -> None:
    messages = own_messages(4)
    _claims(tmp_path, line(messages[3])[:-60])
    with home(tmp_path / "own") as opened:
        take(opened, "-", data=line(messages[3]))
    sneaker("publish", "x", at=tmp_path / "own")


def test_a_log_that_nobody_chose_claims_nothing(tmp_path: Path) -> None:
    """An inbox or a stick may hold what a stranger wrote: that needs our signature."""
    messages = own_messages(4)
    with home(tmp_path / "own", SEED) as opened:
        take(opened, "-", data=b"\n".join(map(line, messages[:3])))
        with importing(opened, now_ms=lambda: NOW_MS) as session:
            session.import_file(io.BytesIO(line(messages[3], content=7)), SourceReport("inbox"))
        seen = opened.store.own_sequence_seen(AUTHOR.public)
        assert (seen.held, seen.proven) == (3, 3)
        assert seen.claimed <= 3
        take(opened, "-", data=line(messages[3], content=7), dry_run=True)
        assert opened.store.own_sequence_seen(AUTHOR.public).claimed <= 3


def test_publishing_while_a_log_is_read_that_names_the_same_place(tmp_path: Path) -> None:
    """The log comes to it only when it is too late: then it says so."""
    messages = own_messages(4)
    rest = [b"\n".join(map(line, messages[:3])) + b"\n", line(messages[3], content=7)]

    class Slow(io.BytesIO):
        """A pipe; somebody publishes before the last part of it."""

        def read(self, size: int | None = -1, /) -> bytes:
            if len(rest) == 1:
                content = {"type": "post", "text": "meanwhile"}
                publish(own.store, AUTHOR, own.caps, content, now_ms=lambda: NOW_MS, random_bytes=os.urandom)
            return rest.pop(0) if rest else b""

    with home(tmp_path, SEED) as own:
        report = import_sources(own, ["-"], stdin=Slow(), now_ms=lambda: NOW_MS)
        assert own.store.clock() == {AUTHOR.public: 4}
        assert "another message 4 was published" in report.sources[0].detail
        # Brought by a log, in whatever order, it is no other message.
        for copies in (messages[3:], messages[3:] * 2):
            data = b"\n".join([*map(line, copies), line(messages[3], content=7)])
            with home(tmp_path / str(len(copies)), SEED) as other:
                report = take(other, "-", data=b"\n".join(map(line, messages[:3])) + b"\n" + data)
                assert report.sources[0].detail == ""


@pytest.mark.parametrize(
    ("name", "held", "code"),
    [("own-key-wrong.ndjson", 4, 0), ("own-bad-signature.ndjson", 3, 23), ("opened.ndjson", 4, 0)],
)
def test_an_adopted_identity_and_its_log(tmp_path: Path, name: str, held: int, code: int) -> None:
    secret = DATA / ("own.secret" if name.startswith("own") else "signed.secret")
    sneaker("init", "--secret", secret, at=tmp_path / "home")
    sneaker("import", DATA / name, at=tmp_path / "home", ok=False)
    with home(tmp_path / "home") as opened:
        assert opened.store.clock() == {load_secret(secret).public: held}
        seen = opened.store.own_sequence_seen(opened.keypair.public)
        assert max(seen.held, seen.claimed) == 4
    assert sneaker("publish", "x", at=tmp_path / "home", ok=False).code == 23  # until the person says which is the last


def test_hostile_logs_take_little(tmp_path: Path) -> None:
    count = amount(quick=5000, thorough=20_000)
    wide = b'{"value":' + b"[" * 3 * count + b"1" + b"]" * 3 * count + b"}\n"
    deep = b'{"author":' + b'{"a":' * count + b"1" + b"}" * count + b"}\n"
    many = b'{"author":[' + b"[]," * 4 * count + b"1]}\n"
    for data in (wide, deep, many):
        (entry,) = read_log([data])
        assert entry.message is None
    with home(tmp_path / "home") as opened:
        report = take(opened, "-", data=wide + deep + many + line(own_messages(1)[0]))
        assert (report.ingested.accepted, report.ingested.refused) == (1, 3)


def test_the_network_of_the_home_counts(tmp_path: Path) -> None:
    """An opened message is put back together under the HMAC key of its network."""
    caps = replace(MAIN_CAPS, hmac_key=b"\x01" * 32)
    content = box({"type": "post"}, [AUTHOR.public], os.urandom)
    made = create_message(AUTHOR, None, NOW_MS, content, caps.hmac_key)
    value = {**json.loads(made.text), "content": {"type": "post"}, "cyphertext": made.content}
    data = format_json(value).encode()
    (entry,) = read_log([data], caps.hmac_key)
    assert entry.message == made
    for network, found in ((caps, 1), (MAIN_CAPS, 0)):
        assert inspect(io.BytesIO(data), "log", network, {}, progress=lambda done: None).messages == found


@pytest.mark.node
@pytest.mark.timeout(180)
def test_what_ssb_server_prints(folder: Path) -> None:
    """The line of the README, with the real program: its own log, and its own log with what is private opened."""
    if reason := js_oracle.available(js_oracle.PEERS):
        pytest.skip(reason)
    program = ["node", str(js_oracle.PEERS / "node_modules/ssb-server/bin.js")]
    where = ["--host", "127.0.0.1", "--port", str(free_port())]
    environment = {**os.environ, "HOME": str(folder)}

    def ask(*words: str) -> bytes:
        done = subprocess.run([*program, *words, *where], env=environment, capture_output=True, timeout=60, check=False)
        return done.stdout if done.returncode == 0 else b""

    with subprocess.Popen(
        [*program, "start", *where, "--ws.port", str(free_port())],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            # A client that is started before the server has its secret makes one, too, and is a stranger then.
            wait_for((folder / ".ssb/manifest.json").exists, timeout_s=60, what="the manifest of ssb-server")
            wait_for(lambda: ask("whoami"), timeout_s=60, what="ssb-server")
            me = json.loads(ask("whoami"))["id"]
            assert ask("publish", "--type", "post", "--text", "hello")
            assert ask("publish", "--type", "post", "--text", "secret", "--recps", me)
            shut, opened = ask("createLogStream"), ask("createLogStream", "--private")
        finally:
            server.terminate()
    assert b"secret" in opened
    assert b"secret" not in shut
    for data in (opened, shut):
        sneaker("import", "-", at=folder / "home", data=data)
        with home(folder / "home") as here:
            assert here.store.clock() == {FeedRef.parse(me): 2}
