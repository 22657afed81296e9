"""doctor: what it finds, what it says, and its exit code."""

from __future__ import annotations

import json
import os
import pty
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sneaker.cli.environment import default_memory
from sneaker.doctor.examine import examine
from sneaker.doctor.finding import Level
from sneaker.doctor.home_folder import examine_folder
from sneaker.doctor.own_feed import own_feed
from sneaker.feed.message import Head
from sneaker.home.config import CONFIG_NAME, Config, format_config
from sneaker.home.home import create_home
from sneaker.keys import Keypair
from sneaker.own_feed.fork_guard import ForkGuard
from sneaker.planning.what_others_have import ClockSource
from sneaker.stick.enrolment import enrol
from sneaker.store.check import check
from tests.command_line import Done, start
from tests.command_line import sneaker as run_sneaker
from tests.homes import NOW_MS, home, pack, take
from tests.known_clocks import tell

ADA = Keypair.from_seed(b"a" * 32)
BEN = Keypair.from_seed(b"b" * 32)
EVE = Keypair.from_seed(b"e" * 32)
DAY_MS = 24 * 60 * 60 * 1000


def say(path: Path, text: str, clock_ms: int | None = None) -> None:
    from sneaker.own_feed.publish import publish

    with home(path) as opened:
        content = {"type": "post", "text": text}
        publish(
            opened.store,
            opened.keypair,
            opened.caps,
            content,
            now_ms=lambda: NOW_MS if clock_ms is None else clock_ms,
            random_bytes=bytes,
        )


@pytest.fixture
def ada(tmp_path: Path) -> Path:
    path = tmp_path / "ada"
    with home(path, ADA.seed):
        pass
    for text in ("one", "two", "three"):
        say(path, text)
    return path


def sneaker(path: Path, *arguments: str) -> Done:
    return run_sneaker(*arguments, at=path, ok=False)


def doctor(path: Path, *options: str) -> tuple[int, dict[str, Any]]:
    done = sneaker(path, "doctor", "--json", *options)
    return done.code, json.loads(done.out)


def codes(path: Path, now_ms: int = NOW_MS) -> dict[str, str]:
    with home(path) as opened:
        return {finding.code: str(finding.level) for finding in examine(opened, own_feed(opened), now_ms=now_ms)}


def test_nothing_is_wrong(ada: Path) -> None:
    code, found = doctor(ada)
    assert code == 0
    assert found["id"] == str(ADA.public)
    assert found["own_feed"] == {
        "state": "fine",
        "held": 3,
        "proven": 3,
        "claimed": 0,
        "claims": [],
        "elsewhere": [],
        "forks": [],
    }
    assert found["findings"] == []
    assert found["attention"] is False
    done = sneaker(ada, "doctor")
    assert "am I forked?  no: 3 messages here" in done.out
    assert "nothing else is wrong here, as far as a glance shows; 'sneaker check' reads every message" in done.out


def test_no_home(tmp_path: Path) -> None:
    assert sneaker(tmp_path / "none", "doctor").code == 15


def test_others_claim_more_and_the_person_knows_better(ada: Path) -> None:
    assert sneaker(ada, "follow", str(BEN.public)).code == 0
    with home(ada) as opened:
        tell(opened.store, BEN.public, {ADA.public: 9})
    code, found = doctor(ada)
    assert code == 3
    assert found["own_feed"]["state"] == "behind"
    (claim,) = found["own_feed"]["claims"]
    assert (claim["source"], claim["sequence"], claim["key"], claim["dismissed"]) == (str(BEN.public), 9, None, False)
    (finding,) = found["findings"]
    assert (finding["code"], finding["level"]) == ("own-feed-claimed", "problem")
    assert finding["message"].startswith("a machine near you says that your feed goes up to message 9")
    assert "--dismiss" in finding["hint"]
    done = sneaker(ada, "publish", "not yet")
    assert done.code == 23
    assert "up to 9 by " + str(BEN.public) in sneaker(ada, "doctor").out

    done = sneaker(ada, "doctor", "--dismiss")
    assert done.code == 2
    assert "--yes" in done.err
    assert sneaker(ada, "publish", "not yet").code == 23
    code, found = doctor(ada, "--dismiss", "--yes")
    assert code == 0
    assert found["dismissed"] == 1
    assert found["own_feed"]["state"] == "fine"
    assert [finding["code"] for finding in found["findings"]] == ["claims-dismissed"]
    assert sneaker(ada, "publish", "now").code == 0


@pytest.mark.parametrize("claimed", ["card", "memory", "fork"])
def test_what_we_signed_or_noted_is_never_dismissed(ada: Path, tmp_path: Path, claimed: str) -> None:
    """Not even together with the claims of others."""
    assert sneaker(ada, "follow", str(BEN.public)).code == 0
    other = tmp_path / "other"
    shutil.copytree(ada, other)
    for _ in range(3):
        say(other, os.urandom(4).hex())
    with home(other) as opened, home(ada) as held:
        last = opened.store.message(ADA.public, 7)
        assert last is not None
        if claimed == "memory":
            ForkGuard(held, default_memory()).memory.remember(Head(7, last.key), last)
        elif claimed == "card":
            held.store.claims.note_claim(ADA.public, ADA.public, 7, last.key)
        else:
            held.store.claims.note_claim(ADA.public, ADA.public, 3, last.key)
        tell(held.store, BEN.public, {ADA.public: 9})
        assert held.store.claims.dismiss_claims(ADA.public) == 1
    done = sneaker(ada, "doctor", "--dismiss", "--yes")
    assert done.code == 3
    assert "dismissed     nothing" in done.out
    assert "'sneaker doctor --dismiss'" not in done.out
    assert sneaker(ada, "publish", "no").code == 23
    if claimed == "memory":
        assert doctor(ada)[1]["own_feed"]["proven"] == 7, "the message itself waits for those before it"


@pytest.mark.parametrize(("answer", "code"), [("3", 0), ("", 2), ("9", 2)])
def test_on_a_terminal_the_claims_are_shown_and_the_last_number_wanted(ada: Path, answer: str, code: int) -> None:
    with home(ada) as opened:
        opened.store.claims.note_claim(ADA.public, None, 9)
    ours, theirs = pty.openpty()
    command = ["--home", str(ada), "doctor", "--dismiss"]
    with start(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asked:
        os.write(ours, answer.encode() + b"\n")
        _, err = asked.communicate(timeout=600)
    os.close(ours)
    os.close(theirs)
    assert asked.returncode == code, err
    assert b"up to message 9: a list or log that you gave" in err
    with home(ada) as opened:
        assert opened.store.own_sequence_seen(ADA.public).claimed == (0 if code == 0 else 9)


def test_what_strangers_claim_is_a_note_and_never_to_be_dismissed(ada: Path) -> None:
    with home(ada) as opened:
        opened.store.claims.note_claim(ADA.public, EVE.public, 9)
    code, found = doctor(ada)
    assert (code, found["own_feed"]["state"], found["own_feed"]["claimed"]) == (0, "fine", 0)
    assert [claim["counts"] for claim in found["own_feed"]["claims"]] == [False]
    (finding,) = found["findings"]
    assert (finding["code"], finding["level"]) == ("strangers-claim", "note")
    assert f"{EVE.public}, who is not near you, said that your feed goes up to message 9" in finding["message"]
    done = sneaker(ada, "doctor")
    assert "--dismiss" not in done.out
    assert "claimed  " not in done.out
    assert sneaker(ada, "publish", "four").code == 0
    assert sneaker(ada, "follow", str(EVE.public)).code == 0
    assert sneaker(ada, "publish", "not yet").code == 23, "the word of somebody whom we follow counts"


def test_ones_own_messages_wait(ada: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    shutil.copytree(ada, backup)
    for text in ("four", "five", "six"):
        say(ada, text)
    (tmp_path / "clock.json").write_text(f'{{"{ADA.public}": 5}}')
    with home(ada) as opened:
        pack(opened, tmp_path / "late.sneaker", readers=[str(tmp_path / "clock.json")])
    with home(backup) as opened:
        take(opened, tmp_path / "late.sneaker")
    found = doctor(backup)[1]
    assert found["own_feed"]["proven"] == 6
    by_code = {finding["code"]: finding for finding in found["findings"]}
    assert by_code["own-feed-behind"]["level"] == "problem"
    assert "waits for 4-5" in by_code["messages-waiting"]["message"]
    assert by_code["messages-waiting"]["level"] == "note"


def test_forked_shows_both_messages(ada: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(ada, other)
    say(ada, "what I said here")
    say(other, "what I said \x1b[31melsewhere")
    with home(other) as opened:
        pack(opened, tmp_path / "other.sneaker")
    with home(ada) as opened:
        take(opened, tmp_path / "other.sneaker")
    code, found = doctor(ada)
    assert code == 3
    assert found["own_feed"]["state"] == "forked"
    (fork,) = found["own_feed"]["forks"]
    assert fork["sequence"] == 4
    assert "what I said here" in fork["ours"]["text"]
    assert "elsewhere" in fork["theirs"]["text"]
    assert fork["ours"]["previous"] == fork["theirs"]["previous"]
    text = sneaker(ada, "doctor").out
    assert "am I forked?  YES" in text
    assert "what I said here" in text
    assert "elsewhere" in text
    assert "\x1b" not in text
    assert sneaker(ada, "publish", "no").code == 23

    with home(tmp_path / "ben", BEN.seed) as opened:
        with home(ada) as first:
            pack(first, tmp_path / "ada.sneaker")
        take(opened, tmp_path / "ada.sneaker", tmp_path / "other.sneaker")
    assert codes(tmp_path / "ben") == {"feed-forked": "note"}


def test_a_card_with_ones_own_signature_names_another_message(ada: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(ada, other)
    say(ada, "here")
    say(other, "there")
    assert sneaker(other, "clock", "--card", str(tmp_path / "mine.card")).code == 0
    assert sneaker(ada, "import", str(tmp_path / "mine.card")).code == 0
    found = doctor(ada)[1]
    assert found["own_feed"]["state"] == "forked"
    assert [finding["code"] for finding in found["findings"]] == ["own-key-elsewhere"]
    assert sneaker(ada, "publish", "no").code == 23


def test_adopted_without_messages(tmp_path: Path) -> None:
    create_home(tmp_path / "ada", ADA, format_config(Config()), CONFIG_NAME, adopted=True)
    code, found = doctor(tmp_path / "ada")
    assert (code, found["own_feed"]["state"]) == (3, "adopted")
    (finding,) = found["findings"]
    assert (finding["code"], finding["level"]) == ("identity-adopted", "problem")
    assert "nothing was ever published with this identity" in finding["hint"]
    assert "--last 0" not in finding["hint"]
    assert sneaker(tmp_path / "ada", "publish", "no").code == 23


def test_damaged_store(ada: Path) -> None:
    with home(ada) as opened:
        opened.store._database.connection.execute("UPDATE message SET content = x'00' WHERE (id & 0xffffffff) = 3")
    assert codes(ada) == {"store-damaged": "problem"}
    with home(ada) as opened:
        check(opened.store, caps=opened.caps, repair=True)
    assert codes(ada) == {"own-feed-behind": "problem"}


@pytest.mark.parametrize("table", ["total", "peer"])
def test_a_check_mends_what_only_counting_needs(ada: Path, table: str) -> None:
    ruin(ada, table)
    done = sneaker(ada, "check")
    assert done.code == 3
    assert "'sneaker check --repair' makes a new one" in done.out
    done = sneaker(ada, "check", "--repair")
    assert done.code == 0, done.err
    assert "a new file was made out of what can be read" in done.out
    assert sneaker(ada, "check").out.startswith("clean: 3 messages of 1 feed")


def test_a_repair_says_what_it_could_not_save(ada: Path) -> None:
    ruin(ada, "message")
    done = sneaker(ada, "check", "--repair")
    assert "3 messages are missing from it: import them again" in done.out


def test_what_is_beyond_repair_is_not_told_to_be_repaired(ada: Path) -> None:
    (ada / "store.sqlite").write_bytes(b"no database" * 100)
    assert "check --repair" in sneaker(ada, "check").err
    done = sneaker(ada, "check", "--repair")
    assert done.code == 42
    assert "check --repair" not in done.err
    assert "restore a backup" in done.err


def ruin(path: Path, table: str) -> None:
    """Overwrite the page in which a table begins."""
    store = path / "store.sqlite"
    with closing(sqlite3.connect(store)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    with store.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)


def test_a_store_that_is_none_still_gets_an_answer(ada: Path) -> None:
    (ada / "store.sqlite").write_bytes(b"no database" * 100)
    code, found = doctor(ada)
    assert code == 3
    assert found["own_feed"] is None
    assert found["findings"][0]["code"] == "store-damaged"
    assert "cannot be said" in sneaker(ada, "doctor").out


def test_wrong_settings(ada: Path) -> None:
    (ada / "config.toml").write_text("[network]\nkay = 1\n")
    code, found = doctor(ada)
    assert code == 3
    assert [finding["code"] for finding in found["findings"]] == ["config-invalid"]
    assert found["own_feed"]["state"] == "fine"


def test_permissions(ada: Path) -> None:
    (ada / "secret").chmod(0o644)
    (ada / "store.sqlite").chmod(0o640)
    ada.chmod(0o777)
    found = {finding.code: finding.level for finding in examine_folder(ada)}
    assert found == {
        "secret-readable": Level.PROBLEM,
        "store-readable": Level.NOTE,
        "home-writable": Level.PROBLEM,
    }


def test_little_room(ada: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(ada)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1 << 20))
    assert codes(ada) == {"disk-low": "problem"}


@pytest.mark.parametrize("now_ms", [0, 1_500_000_000_000, 10**14, 10**18])
def test_a_clock_that_cannot_be_right(ada: Path, now_ms: int) -> None:
    assert codes(ada, now_ms)["clock-wrong"] == "problem"


def test_a_clock_that_is_behind(ada: Path) -> None:
    assert codes(ada, NOW_MS - 3 * DAY_MS) == {"clock-behind": "problem"}
    with home(ada) as opened:
        tell(opened.store, BEN.public, {}, ClockSource.CARD, counter=1, time_ms=NOW_MS + 9 * DAY_MS)
    assert codes(ada) == {}
    with home(ada) as opened:
        tell(opened.store, EVE.public, {}, ClockSource.CARD, counter=1, time_ms=NOW_MS + 9 * DAY_MS)
    assert codes(ada) == {"clock-behind": "problem"}


def test_sticks_that_did_not_come_for_long(ada: Path, tmp_path: Path) -> None:
    (tmp_path / "stick").mkdir()
    with home(ada) as opened:
        enrol(opened, tmp_path / "stick", "boat", now_ms=NOW_MS, random_bytes=lambda count: bytes(count))
    assert codes(ada, NOW_MS + 50 * DAY_MS) == {}
    assert codes(ada, NOW_MS + 70 * DAY_MS) == {"stick-long-ago": "note"}
