"""Check finds what is wrong, repair mends it without losing anything, and importing again makes it whole."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sneaker.caps import MAIN_CAPS
from sneaker.errors import StoreLocked
from sneaker.ingest.ingest import Ingest
from sneaker.store.check import CheckReport, check
from sneaker.store.rows import OwnSeen
from sneaker.store.store import Store
from tests.json_messages import add_json
from tests.store.worlds import NOW_MS, contents, feed, keypair, run

LENGTH = 90
ME = keypair(0).public


def fill(store: Store) -> None:
    with Ingest(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS, workers=1) as ingest:
        for number in range(3):
            ingest.add_run(run(feed(number, LENGTH)))
        ingest.add_run(run(feed(4, 40)[10:]))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound store, closed."""
    path = tmp_path_factory.mktemp("sound") / "store.sqlite"
    with Store(path) as opened:
        fill(opened)
    return path


@pytest.fixture
def store(tmp_path: Path, sound: Path) -> Iterator[Store]:
    """A copy of it."""
    with Store(shutil.copy(sound, tmp_path / "store.sqlite")) as opened:
        yield opened


def feed_id(store: Store, number: int = 0) -> int:
    return int(store._database.first("SELECT id FROM feed WHERE ref = ?", keypair(number).public)[0])


def change(store: Store, sql: str, *parameters: Any) -> None:
    connection = sqlite3.connect(store.path, isolation_level=None)
    assert connection.execute(sql, parameters).rowcount
    connection.close()


def codes(report: CheckReport) -> set[str]:
    return {problem.code for problem in report.problems}


def test_a_clean_store(store: Store) -> None:
    done: list[int] = []
    report = check(store, progress=done.append)
    assert report.clean
    assert (report.messages, report.feeds, report.waiting) == (3 * LENGTH, 3, 30)
    assert sum(done) == 3 * LENGTH
    assert "0 problems" in report.summary
    before = contents(store)
    assert check(store, repair=True).clean
    assert contents(store) == before


CHANGES = {
    "content": ("UPDATE message SET content = CAST(replace(content, 'message', 'massage') AS BLOB) WHERE id = ?", 41),
    "signature": ("UPDATE message SET signature = zeroblob(64) WHERE id = ?", 41),
    "timestamp": ("UPDATE message SET timestamp = timestamp + 1 WHERE id = ?", 41),
    "key": ("UPDATE message SET key = zeroblob(32) WHERE id = ?", 41),
    "short key": ("UPDATE message SET key = x'00' WHERE id = ?", 41),
    "form": ("UPDATE message SET form = 15 WHERE id = ?", 41),
    "rubbish": ("UPDATE message SET content = x'ff00' WHERE id = ?", 41),
    "missing": ("DELETE FROM message WHERE id = ?", 41),
    "first": ("DELETE FROM message WHERE id = ?", 1),
    "first signature": ("UPDATE message SET signature = zeroblob(64) WHERE id = ?", 1),
    "last": ("DELETE FROM message WHERE id = ?", LENGTH),
    "last content": ("UPDATE message SET content = x'' WHERE id = ?", LENGTH),
}


@pytest.mark.parametrize("name", CHANGES)
def test_one_bad_message(store: Store, name: str) -> None:
    whole = contents(store)
    sql, sequence = CHANGES[name]
    base = feed_id(store) << 32
    change(store, sql, base | sequence)

    report = check(store)
    assert not report.clean
    assert {problem.feed for problem in report.problems if problem.feed} == {ME}
    assert f"{report.found} problems" in report.summary
    # Looking does not change anything.
    assert check(store).found == report.found

    mended = check(store, repair=True, now_ms=lambda: NOW_MS)
    assert mended.repaired
    assert not mended.clean
    after = check(store)
    assert after.clean, after.problems
    end = sequence - 1
    assert store.clock().get(ME, 0) == end
    assert list(store.messages(ME)) == list(feed(0, LENGTH)[:end])
    # The others are untouched, and what was there is there still, or waits.
    assert store.clock()[keypair(1).public] == LENGTH
    # Nobody forgets how far the own feed went.
    seen = store.own_sequence_seen(ME)
    assert seen == OwnSeen(end, LENGTH, 0) or (name == "last" and end == LENGTH - 1)

    fill(store)
    assert contents(store) == whole
    assert check(store).clean


def test_what_is_good_behind_the_cut_waits(store: Store) -> None:
    change(store, "UPDATE message SET signature = zeroblob(64) WHERE id = ?", feed_id(store) << 32 | 41)
    report = check(store, repair=True)
    assert report.removed == LENGTH - 40
    assert store.waiting()[ME] == [(42, LENGTH)]
    assert store._database.first("SELECT count(*), min(sequence), min(reason) FROM salvage") == (1, 41, "message")
    with Ingest(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS) as ingest:
        add_json(ingest, feed(0, LENGTH)[40].text)
        assert ingest.close().accepted == LENGTH - 40


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("UPDATE feed SET sequence = sequence - 3 WHERE id = 1", "head-wrong"),
        ("UPDATE feed SET key = zeroblob(32) WHERE id = 1", "head-wrong"),
        ("UPDATE edge SET state = -state", "derived-wrong"),
        ("DELETE FROM edge WHERE author = 1", "derived-wrong"),
        ("UPDATE name SET name = 'Mallory'", "derived-wrong"),
        ("DELETE FROM blob_link WHERE message & 255 = 9", "derived-wrong"),
        ("INSERT INTO blob_link VALUES (4294967300, zeroblob(32))", "derived-wrong"),
        ("UPDATE total SET value = 7 WHERE name = 'waiting'", "waiting-total"),
        ("UPDATE waiting SET content = x'00' WHERE id & 255 = 20", "json-invalid"),
        ("UPDATE waiting SET signature = zeroblob(64) WHERE id & 255 = 20", "key-mismatch"),
        ("UPDATE waiting SET previous = zeroblob(32) WHERE id & 255 = 20", "key-mismatch"),
        ("INSERT INTO message SELECT 999 << 32 | 1, key, form, timestamp, signature, content FROM message LIMIT 1", "orphan"),
    ],
)  # fmt: skip
def test_everything_else(store: Store, sql: str, code: str) -> None:
    whole = contents(store)
    change(store, sql)
    report = check(store)
    assert codes(report) == {code}
    assert str(report.problems[0])
    check(store, repair=True)
    assert check(store).clean
    fill(store)
    assert contents(store) == whole


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Store]:
    """A store that is ours, and holds what ``store`` does."""
    with Store(tmp_path / "ours.sqlite", ME) as opened:
        fill(opened)
        change(opened, "DELETE FROM own_claim")  # what was noted on the way, and has come true
        yield opened


@pytest.mark.parametrize(("first", "last"), [(86, LENGTH), (41, 43), (1, LENGTH)])
def test_how_far_the_own_feed_went_is_not_forgotten(ours: Store, first: int, last: int) -> None:
    """Messages that are simply gone leave nothing behind but the note of their number."""
    whole = contents(ours)
    base = feed_id(ours) << 32
    change(ours, "DELETE FROM message WHERE id BETWEEN ? AND ?", base | first, base | last)
    report = check(ours, repair=True)
    gone = last - first + 1
    assert (report.missing, report.removed) == (gone, LENGTH - last)
    assert f"{gone} that were noted are missing" in report.summary
    assert check(ours).clean
    assert ours.claims.dismiss_claims(ME) == 0
    seen = ours.own_sequence_seen(ME)
    assert (seen.held, seen.claimed) == (first - 1, LENGTH)
    fill(ours)
    assert contents(ours) == whole
    assert ours.own_sequence_seen(ME).held == LENGTH


def test_nobody_elses_loss_is_a_claim(ours: Store) -> None:
    change(ours, "DELETE FROM message WHERE id = ?", feed_id(ours, 1) << 32 | LENGTH)
    assert check(ours, repair=True).missing == 1
    assert ours.claims.claims_about(ME) == []
    assert "missing" not in check(ours).summary


@pytest.mark.parametrize("number", [0, 1])
def test_messages_without_a_feed_are_known_by_their_keys(ours: Store, number: int) -> None:
    change(ours, "DELETE FROM message WHERE id = ?", feed_id(ours, number) << 32 | 1)
    change(ours, "DELETE FROM feed WHERE ref = ?", keypair(number).public)
    if number:
        change(ours, "DELETE FROM message WHERE id > ? << 32 AND id < ? << 32", feed_id(ours), feed_id(ours) + 1)
        change(ours, "DELETE FROM feed WHERE ref = ?", ME)
    report = check(ours, repair=True)
    assert codes(report) >= {"orphan"}
    assert ours.own_sequence_seen(ME) == OwnSeen(0, 0 if number else LENGTH, 0)


def test_a_forged_message_with_the_right_key(store: Store) -> None:
    """Somebody who can write the file can make keys fit; only the signature tells."""
    from sneaker.feed.classic.compact import expand
    from sneaker.feed.message import Compact

    base = feed_id(store) << 32
    old = next(store.rows(ME, LENGTH, LENGTH)).compact
    forged = Compact(old.form, old.timestamp, old.signature, b'{"type":"post","text":"forged"}')
    key = expand(ME, LENGTH, store.key_at(ME, LENGTH - 1), forged).key
    change(store, "UPDATE message SET content = ?, key = ? WHERE id = ?", forged.content, key, base | LENGTH)
    change(store, "UPDATE feed SET key = ? WHERE id = ?", key, base >> 32)
    assert codes(check(store)) == {"signature-invalid"}
    check(store, repair=True)
    assert store.clock()[ME] == LENGTH - 1
    assert check(store).clean


def test_many_bad_ones(store: Store) -> None:
    change(store, "UPDATE message SET signature = zeroblob(64) WHERE id & 3 = 1")
    report = check(store)
    assert report.found > 60
    check(store, repair=True)
    assert check(store).clean
    assert store.clock() == {}
    fill(store)
    assert store.clock()[ME] == LENGTH


def test_who_may_repair(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.writer():
        assert check(store).clean
        monkeypatch.setattr("sneaker.store.check._LOCK_TIMEOUT_S", 0.05)
        with pytest.raises(StoreLocked):
            check(store, repair=True)
