"""Files that rot: whatever page is lost, all that can be read is saved, and the rest can be brought again."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sneaker.caps import MAIN_CAPS
from sneaker.errors import StoreDamaged, StoreLocked
from sneaker.ingest import rebuild_store
from sneaker.ingest.ingest import Ingest
from sneaker.ingest.rebuild_store import rebuild
from sneaker.planning.what_others_have import ClockSource
from sneaker.store.check import check
from sneaker.store.store import Store
from tests.known_clocks import has, tell
from tests.store.worlds import NOW_MS, contents, feed, keypair, run
from tests.tries import amount

LENGTH = amount(quick=200, thorough=400)
ME = keypair(0).public
PAGE = 16384


def fill(store: Store) -> None:
    # The feeds of this world block each other at random; what a rebuild saves is to be brought back whole.
    with Ingest(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS, heed_blocks=False, workers=1) as ingest:
        for number in range(4):
            ingest.add_run(run(feed(number, LENGTH)))
        ingest.add_run(run(feed(4, 40)[10:]))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A sound store, closed, and what is in it."""
    path = tmp_path_factory.mktemp("sound") / "store.sqlite"
    with Store(path, ME) as store:
        fill(store)
        tell(store, keypair(3).public, {}, ClockSource.CARD, counter=1, time_ms=2, met_at_ms=3)
        tell(store, keypair(3).public, {ME: LENGTH})
        with Ingest(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS, heed_blocks=False) as ingest:
            ingest.add_run(run(feed(5, 10)))
            ingest.add_run(run(feed(5, 9, shared=5, branch="b")))
        whole = contents(store)
    return path, whole


@pytest.fixture
def path(tmp_path: Path, sound: tuple[Path, dict[str, Any]]) -> Path:
    """A copy of it."""
    path = tmp_path / "store.sqlite"
    shutil.copy(sound[0], path)
    return path


def pages_of(path: Path, table: str) -> list[int]:
    """Return the offsets of a table's leaf pages."""
    connection = sqlite3.connect(path)
    try:
        found = connection.execute(
            "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY pageno", (table,)
        ).fetchall()
    except sqlite3.OperationalError:
        pytest.skip("this SQLite has no dbstat")
    finally:
        connection.close()
    return [(number - 1) * PAGE for (number,) in found]


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_a_sound_store_comes_out_the_same(path: Path) -> None:
    done: list[int] = []
    with Store(path, ME) as store:
        before, forks, peers = contents(store), list(store.forks()), store.known_clocks.known_peers()
        rebuilt = rebuild(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS, progress=done.append)
        assert contents(store) == before
        assert list(store.forks()) == forks
        assert store.known_clocks.known_peers() == peers
        assert has(store, keypair(3).public) == {ME: LENGTH}
        assert rebuilt.aside == 0
        assert sum(done) == rebuilt.messages == rebuilt.before
        assert check(store).clean
        with store.writer():
            pass
    assert rebuilt.kept.exists()
    assert {item.name for item in path.parent.iterdir()} == {
        path.name,
        path.name + ".lock",
        path.name + ".turn",
        rebuilt.kept.name,
    }


RUIN: dict[str, Callable[[random.Random], bytes]] = {
    "zeros": lambda rng: bytes(PAGE),
    "noise": lambda rng: rng.randbytes(PAGE),
    "sector": lambda rng: bytes(512),
}


TABLES = ["message", "edge", "blob_link", "waiting", "known_clock", "feed", "sqlite_autoindex_feed_1"]
# Each table in one way, and each way with some tables, is quick.
LOSSES = [
    pytest.param(table, how, marks=() if (number - other) % len(RUIN) == 0 else pytest.mark.slow)
    for number, table in enumerate(TABLES)
    for other, how in enumerate(RUIN)
]


@pytest.mark.parametrize(("table", "how"), LOSSES)
def test_a_page_is_lost(path: Path, sound: tuple[Path, dict[str, Any]], table: str, how: str) -> None:
    whole = sound[1]
    rng = random.Random(f"{table} {how}")
    pages = pages_of(path, table)
    overwrite(path, rng.choice(pages), RUIN[how](rng))
    with Store(path, ME) as store:
        report = check(store)
        assert not report.clean
        assert check(store, repair=True).repaired is not report.file_damaged
        if report.file_damaged:
            assert "makes a new one" in report.summary
            rebuilt = rebuild(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS)
            assert rebuilt.kept.exists()
        after = check(store)
        assert after.clean, after.problems
        # One page holds some forty messages, all of one feed or two.
        kept = [store.clock().get(keypair(number).public, 0) for number in range(4)]
        assert sum(number == LENGTH for number in kept) >= 2
        # However much of it is lost, the own feed is not forgotten.
        seen = store.own_sequence_seen(ME)
        assert max(seen.proven, seen.claimed) >= LENGTH or table == "feed"
        with Ingest(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS, heed_blocks=False) as ingest:
            ingest.add_run(run(feed(5, 10)))
        fill(store)
        healed = contents(store)
        if table != "feed":  # that a feed is forked was noted there
            assert healed == whole
        assert check(store).clean


def test_many_pages_are_lost(path: Path) -> None:
    rng = random.Random(5)
    pages = pages_of(path, "message")
    for offset in rng.sample(pages, len(pages) // 2):
        overwrite(path, offset, rng.randbytes(PAGE))
    with Store(path, ME) as store:
        rebuild(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS)
        assert check(store).clean
        fill(store)
        for number in range(4):
            assert store.clock()[keypair(number).public] == LENGTH


def test_a_file_that_cannot_even_be_opened(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2 // PAGE * PAGE)
    data = path.read_bytes()
    with pytest.raises(StoreDamaged) as caught:
        Store(path, ME)
    assert caught.value.hint
    assert path.read_bytes() == data


def test_no_feed_can_be_read(path: Path) -> None:
    for table in ("feed", "sqlite_autoindex_feed_1"):
        for offset in pages_of(path, table):
            overwrite(path, offset, b"\xff" * PAGE)
    data = path.read_bytes()
    with Store(path, ME) as store:
        assert check(store).file_damaged
        with pytest.raises(StoreDamaged):
            rebuild(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS)
    assert path.read_bytes() == data
    assert {item.name for item in path.parent.iterdir()} == {path.name, path.name + ".lock", path.name + ".turn"}


def test_who_may_rebuild(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild_store, "_LOCK_TIMEOUT_S", 0.1)
    with Store(path) as store:
        with store.writer(), pytest.raises(StoreLocked):
            rebuild(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS)
        assert store.clock()


def test_an_import_that_goes_on_meanwhile_ends_in_the_new_file(path: Path) -> None:
    messages = feed(6, 10)
    with (
        Store(path, ME) as store,
        Ingest(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS, workers=1) as ingest,
        Store(path, ME) as other,
    ):
        ingest.add_run(run(messages[:5]))
        rebuild(other, caps=MAIN_CAPS, now_ms=lambda: NOW_MS)
        ingest.add_run(run(messages[5:]))
        assert ingest.close().accepted == 10
        assert other.clock()[messages[0].author] == 10
        assert check(other).clean
