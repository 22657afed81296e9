"""The SQLite file: versions, damage, locks, several processes."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sneaker.errors import StoreDamaged, StoreError, StoreFull, StoreLocked, StoreVersion
from sneaker.planning.what_others_have import ClockSource
from sneaker.store import database
from sneaker.store import migrations as schema
from sneaker.store.database import WriterLock, store_errors
from sneaker.store.rows import Batch
from sneaker.store.store import Store
from tests.known_clocks import tell
from tests.store.worlds import batch, feed, keypair


def make(path: Path, count: int = 50) -> Path:
    with Store(path) as store, store.writer() as writer:
        writer.commit(batch([(writer.next_feed_id(), feed(0, count))]))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


def test_the_file_is_private(path: Path) -> None:
    make(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_survives_being_opened_again(path: Path) -> None:
    make(path)
    with Store(path) as store:
        assert store.clock() == {keypair(0).public: 50}
        with store.writer() as writer:
            assert writer.next_feed_id() == 2


def test_a_newer_version_is_left_alone(path: Path) -> None:
    make(path)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreVersion) as caught:
        Store(path)
    assert "newer" in str(caught.value.hint)
    assert path.read_bytes() == before


def test_who_writes_while_a_store_is_migrated_writes_no_more(path: Path) -> None:
    make(path)
    more = (*schema.MIGRATIONS, ("CREATE TABLE added (x INTEGER) STRICT",))
    with Store(path) as store, store.writer() as writer:
        assert writer.resume() is False
        writer.pause()
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as newer:
            schema.migrate(newer, more)
        before = store.counts()
        for _ in range(2):  # the second time nothing has changed since it looked
            with pytest.raises(StoreVersion, match=f"version {len(more)} now"):
                writer.resume()
        with pytest.raises(StoreVersion):
            writer.commit(Batch(now_ms=1))
        with pytest.raises(StoreVersion):
            tell(store, keypair(1).public, {keypair(0).public: 1})
        assert store.counts() == before
        lock = WriterLock(path.with_name(path.name + ".lock"))
        lock.acquire(0)
        lock.release()


def test_a_store_is_migrated_by_the_one_writer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sneaker.store.database._MIGRATION_TIMEOUT_S", 0)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as older:
        schema.migrate(older, schema.MIGRATIONS[:6])
        lock = WriterLock(path.with_name(path.name + ".lock"))
        lock.acquire(0)
        with pytest.raises(StoreLocked):
            Store(path)
        assert older.execute("PRAGMA user_version").fetchone() == (6,)
        lock.release()
        Store(path).close()
        assert older.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)
        lock.acquire(0)
        lock.release()


def test_older_versions_are_brought_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(path)
    added = (("CREATE TABLE added (x) STRICT",), ("CREATE TABLE added (x INTEGER) STRICT",))
    more = (*schema.MIGRATIONS, added[1], ("INSERT INTO added VALUES (1)",))
    connection = sqlite3.connect(path, isolation_level=None)
    schema.migrate(connection, more)
    assert connection.execute("SELECT x FROM added").fetchall() == [(1,)]
    assert connection.execute("PRAGMA user_version").fetchone() == (len(more),)
    # A step that fails leaves the file as it was before that step.
    with pytest.raises(sqlite3.Error):
        schema.migrate(connection, (*more, ("CREATE TABLE halfway (x) ", "nonsense")))
    assert connection.execute("PRAGMA user_version").fetchone() == (len(more),)
    assert not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'halfway'").fetchall()
    connection.close()


def shape(connection: sqlite3.Connection) -> dict[str, object]:
    """Return all that a store is made of: what its tables, columns and indexes are, and the rows in it."""
    found: dict[str, object] = {"application": connection.execute("PRAGMA application_id").fetchall()}
    for row in connection.execute("PRAGMA main.table_list").fetchall():
        _, table, *kind = row
        found[table] = kind, connection.execute("SELECT * FROM pragma_table_xinfo(?)", (table,)).fetchall()
        indexes = connection.execute("SELECT * FROM pragma_index_list(?)", (table,)).fetchall()
        for _, name, *words in indexes:
            columns = connection.execute("SELECT * FROM pragma_index_xinfo(?)", (name,)).fetchall()
            found[name] = words, columns
        if table != "sqlite_schema":
            found[f"rows of {table}"] = connection.execute(f"SELECT * FROM {table}").fetchall()
    for name, sql in connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql NOT NULL"):
        found[f"{name} as SQL"] = sql.replace('"', "")
    return found


def test_a_new_store_is_what_an_older_one_becomes(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as new:
        schema.migrate(new)
        with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as older:
            schema.migrate(older, schema.MIGRATIONS[:1])
            assert shape(older) != shape(new)
            schema.migrate(older)
            assert shape(older) == shape(new)


def test_feeds_of_older_files_become_classic_ones(path: Path) -> None:
    """Where 32 bytes of key named a feed, its format stands in front of them; no other column changes."""
    connection = sqlite3.connect(path, isolation_level=None)
    schema.migrate(connection, schema.MIGRATIONS[:5])
    key, other = bytes(range(32)), bytes(range(100, 132))
    rows: dict[str, tuple[object, ...]] = {
        "feed": (1, key, 7, other, 0),
        "edge": (1, other, 1, 3),
        "name": (other, 1, "Ada", 4),
        "peer": (1, other, "card", 5, 6, 7),
        "peer_clock": (1, key, 7, 1),
        "salvage": (key, 2, other, 0, 0, bytes(64), b"{}", "why", 1),
        "drive_file": (bytes(16), "x.sneaker", 1, 2, "own", other, key),
        "card": (other, 3, 4, key),
        "own_claim": (key, other, key, 9, 10, 0),
        "own_key": (key, "192.0.2.1", 11),
        "own_card": (other, 12, "made"),
    }
    for table, row in rows.items():
        connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
    connection.execute("INSERT INTO own_claim VALUES (?, x'', x'', 9, 10, 0)", (key,))
    schema.migrate(connection, schema.MIGRATIONS[:6])
    named = {
        ("feed", 1), ("edge", 1), ("name", 0), ("peer", 1), ("peer_clock", 1), ("salvage", 0), ("drive_file", 5),
        ("card", 0), ("own_claim", 0), ("own_claim", 1), ("own_key", 0), ("own_card", 0),
    }  # fmt: skip
    for table, row in rows.items():
        expected = tuple(b"\0" + bytes(value) if (table, at) in named else value for at, value in enumerate(row))
        assert expected in connection.execute(f"SELECT * FROM {table}").fetchall(), table
    assert (b"\0" + key, b"", b"", 9, 10, 0) in connection.execute("SELECT * FROM own_claim").fetchall()
    connection.close()


def test_a_database_of_another_program(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(StoreDamaged):
        Store(path)


@pytest.mark.parametrize("data", [b"not a database, but long enough to look at it" * 100, bytes(5000)])
def test_garbage(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(StoreDamaged) as caught:
        Store(path)
    assert caught.value.hint
    assert path.read_bytes() == data


def test_an_empty_file_is_a_new_store(path: Path) -> None:
    path.touch()
    with Store(path) as store:
        assert store.clock() == {}


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        Store(tmp_path / "nowhere" / "store.sqlite")


def test_errors_become_ours(path: Path) -> None:
    for code, kind in {
        sqlite3.SQLITE_FULL: StoreFull,
        sqlite3.SQLITE_BUSY: StoreLocked,
        sqlite3.SQLITE_BUSY_SNAPSHOT: StoreLocked,
        sqlite3.SQLITE_CORRUPT: StoreDamaged,
        sqlite3.SQLITE_NOTADB: StoreDamaged,
        sqlite3.SQLITE_READONLY: StoreError,
        sqlite3.SQLITE_IOERR: StoreError,
    }.items():
        error = sqlite3.OperationalError("boom")
        error.sqlite_errorcode = code
        with pytest.raises(kind) as caught, store_errors():
            raise error
        assert type(caught.value) is kind


def test_another_process_writes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(path)
    script = (
        "import sys; from pathlib import Path; from sneaker.store.store import Store\n"
        "store = Store(Path(sys.argv[1])); writer = store.writer()\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path.cwd()
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with Store(path) as store:
            assert len(list(store.log())) == 50
            with pytest.raises(StoreLocked) as caught:
                store.writer(0.1)
            assert caught.value.hint
            # What does not extend feeds is not held up.
            tell(store, keypair(1).public, {}, ClockSource.CARD)
            tell(store, keypair(1).public, {keypair(0).public: 3})
        process.kill()
    with Store(path) as store, store.writer(0.1):
        pass


def test_reading_while_a_transaction_is_open(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(path)
    monkeypatch.setattr(database, "_BUSY_TIMEOUT_S", 0.1)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    blocker.execute("UPDATE feed SET sequence = 7")
    with Store(path) as store:
        assert store.clock() == {keypair(0).public: 50}
        assert len(list(store.messages(keypair(0).public))) == 50
        with pytest.raises(StoreLocked):
            tell(store, keypair(1).public, {}, ClockSource.CARD)
    blocker.close()


def test_readers_do_not_hold_up_checkpoints(path: Path) -> None:
    make(path, 600)
    with Store(path) as store:
        rows = store.rows(keypair(0).public)
        log = store.log()
        next(rows)
        next(log)
        other = sqlite3.connect(path, isolation_level=None)
        assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        other.close()
        assert len(list(rows)) == 599


def test_damage_is_named(path: Path) -> None:
    make(path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE message SET content = CAST('{}' AS BLOB) WHERE id & 255 = 20")
    connection.commit()
    connection.close()
    with Store(path) as store:
        with pytest.raises(StoreDamaged) as caught:
            list(store.messages(keypair(0).public))
        assert "message 20 of" in str(caught.value)
        assert "check --repair" in str(caught.value.hint)


def test_no_file_stays_open(path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    make(path)
    assert set(os.listdir("/proc/self/fd")) <= before
