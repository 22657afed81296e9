"""The one place where the SQLite file is opened, and where what SQLite complains about becomes an error of ours."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sneaker.errors import SneakerError, StoreDamaged, StoreError, StoreFull, StoreLocked
from sneaker.store.migrations import check_version, is_outdated, migrate

__all__ = ["Database", "WriterLock", "connect", "distrust", "store_errors", "transaction"]

# Bigger pages than the usual 4096 halve the cost of inserting rows of 600 bytes (measured, 100,000 messages: 3.1 us
# against 4.2 us each), and fewer of them are dirtied when thousands of feeds grow at once.
_PAGE_BYTES = 16384

# Page cache of a connection; a larger one does not make writing faster (measured with 4, 16 and 64 MiB).
_CACHE_KIB = 4096
_WRITER_CACHE_KIB = 8192

# A checkpoint every 16 MiB: rarer ones save little work and make the pause longer.
_CHECKPOINT_PAGES = 16 * 1024 * 1024 // _PAGE_BYTES

# How long a statement waits for another process to finish its transaction; ours take a tenth of a second.
_BUSY_TIMEOUT_S = 10.0

# How long we wait for the one who writes to a store of an older version, before we migrate it.
_MIGRATION_TIMEOUT_S = 5.0

# After so long a person wants to know what is being waited for.
_PATIENCE_S = 2.0

_LOCKED_HINT = "wait until it has finished, or stop it, and try again"


@contextlib.contextmanager
def store_errors() -> Iterator[None]:
    """Turn sqlite3.Error into StoreFull, StoreLocked, StoreDamaged or StoreError."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translated(error) from error


def _translated(error: sqlite3.Error) -> SneakerError:
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if isinstance(code, int) else None
    if primary == sqlite3.SQLITE_FULL:
        return StoreFull(
            "the disk of this machine is full, the store could not be written",
            hint="make room and repeat; nothing that was reported as stored is lost",
        )
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreLocked("another sneaker is writing to the store", hint=_LOCKED_HINT)
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreDamaged(
            f"the store is damaged: {error}",
            hint="run 'sneaker check --repair'; if that does not help, restore a backup or import from a stick",
        )
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return StoreError(f"the store cannot be opened for writing: {error}")
    return StoreError(f"the store cannot be used: {error}")


def distrust(connection: sqlite3.Connection) -> None:
    """Make SQLite distrust the file: disks rot, and a home may be restored from a stick.

    Functions in the schema are not called, pages are checked before use, and no statement can write to the file except
    through the tables (the last only from Python 3.12 on).
    """
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    if sys.version_info >= (3, 12):
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)


def connect(path: Path, *, writer: bool = False, has_lock: bool = False) -> sqlite3.Connection:
    """Open the database at ``path``, make or migrate it if need be; raises StoreError and its subclasses.

    A store in which messages are is migrated by the one writer: ``has_lock`` says that the caller has the writer's lock,
    else it is taken for that.

    Connections may be passed between threads; SQLite serialises what they do.
    """
    try:
        # SQLite would make it readable for everybody, and what one reads and whom one blocks is private. Only a new file
        # is opened here: closing any descriptor of a file drops all locks that this process has on it (POSIX), and another
        # process could then remove the log while our connections use it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise StoreError(f"cannot open the store {path}: {error.strerror}") from None
    with store_errors():
        connection = sqlite3.connect(
            path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        try:
            distrust(connection)
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")  # only counts for a new file
            connection.execute("PRAGMA journal_mode = WAL")
            # With FULL, a commit returns when the log is on the disk: only then is a message reported as stored.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA cache_size = -{_WRITER_CACHE_KIB if writer else _CACHE_KIB}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            _migrate(connection, path, has_lock)
        except BaseException:
            connection.close()
            raise
        return connection


def _migrate(connection: sqlite3.Connection, path: Path, has_lock: bool) -> None:
    if has_lock or not is_outdated(connection):
        migrate(connection)
        return
    lock = WriterLock(path.with_name(path.name + ".lock"))
    lock.acquire(_MIGRATION_TIMEOUT_S)
    try:
        migrate(connection)
    finally:
        lock.release()


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Do what is inside in one transaction that is on the disk when this returns; all or nothing.

    Raises StoreVersion if the store was migrated since it was opened.
    """
    with store_errors():
        connection.execute("BEGIN IMMEDIATE")
        try:
            check_version(connection)
            yield
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")


class Database:
    """The one connection that all parts of a store share; may be used from several threads."""

    def __init__(self, path: Path) -> None:
        """Open the file at ``path``; raises StoreError and its subclasses."""
        self.path = path
        self.connection = connect(path)
        self._writing = threading.Lock()

    def all(self, sql: str, *parameters: object) -> list[Any]:
        """Return all rows that a statement finds."""
        with store_errors():
            return self.connection.execute(sql, parameters).fetchall()

    def first(self, sql: str, *parameters: object) -> Any:
        """Return the first row that a statement finds, or None."""
        with store_errors():
            return self.connection.execute(sql, parameters).fetchone()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Do small writes in one transaction, after those of other threads; on the disk when this returns, all or nothing."""
        with self._writing, transaction(self.connection):
            yield self.connection

    def reopen(self) -> None:
        """Open the file again, after another has been put in its place."""
        self.connection = connect(self.path)

    def close(self) -> None:
        """Close the file."""
        with store_errors():
            self.connection.close()


class WriterLock:
    """The right to extend feeds: an advisory lock on a file beside the store, which dies with its process.

    Whoever has to wait locks a second file first, and keeps that until the lock is free.  So a large import, which gives the
    lock back between two transactions and wants it again at once, comes after those who wait already.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def acquire(self, timeout_s: float, on_wait: Callable[[], None] | None = None) -> None:
        """Take the lock; raises StoreLocked if it is not free within ``timeout_s`` seconds.

        ``on_wait`` is called once if that takes so long that a person should be told.
        """
        started = time.monotonic()
        told = on_wait is None

        def wait_for(descriptor: int) -> None:
            nonlocal told
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                except BlockingIOError:
                    waited = time.monotonic() - started
                    if not waited < timeout_s:  # not a number counts as no time
                        raise StoreLocked("another sneaker is writing to the store", hint=_LOCKED_HINT) from None
                    if not told and waited >= _PATIENCE_S and on_wait is not None:
                        told = True
                        on_wait()
                    time.sleep(0.01)
                except OSError as error:
                    raise StoreError(f"cannot lock {self._path}: {error.strerror}") from None

        turn = _open_lock(self._path.with_suffix(".turn"))
        try:
            wait_for(turn)
            descriptor = _open_lock(self._path)
            try:
                wait_for(descriptor)
            except BaseException:
                os.close(descriptor)
                raise
        finally:
            os.close(turn)
        self._descriptor = descriptor

    @property
    def is_held(self) -> bool:
        """Whether we have it."""
        return self._descriptor >= 0

    def release(self) -> None:
        """Give the lock back; the file stays: without it two writers could come in."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"cannot open {path}: {error.strerror}") from None
