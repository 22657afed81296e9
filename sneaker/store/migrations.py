"""How a file becomes a store of the current version: an empty one at once, an older one step by step.

``PRAGMA user_version`` counts the migrations that a file has seen.  A released migration is never edited: changes are
added at the end, and ``store.schema`` says what comes of all of them.  A file with a higher number was written by a newer sneaker and is left alone.
"""

from __future__ import annotations

import sqlite3

from sneaker.errors import StoreDamaged, StoreVersion
from sneaker.store.schema import SCHEMA

__all__ = ["APPLICATION_ID", "MIGRATIONS", "check_version", "is_outdated", "migrate"]

# "snkr": lets file(1) and us tell this file from other SQLite databases.
APPLICATION_ID = 0x736E6B72

_FIRST = (
    # No sequence column and no index on key: import writes and export reads messages by feed and sequence only.
    """CREATE TABLE feed (
        id INTEGER PRIMARY KEY,
        ref BLOB NOT NULL UNIQUE,
        sequence INTEGER NOT NULL DEFAULT 0,
        key BLOB NOT NULL DEFAULT x'',
        forked INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
    """CREATE TABLE message (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL,
        form INTEGER NOT NULL,
        timestamp INTEGER NOT NULL,
        signature BLOB NOT NULL,
        content BLOB NOT NULL
    ) STRICT""",
    # Messages whose predecessors are missing; previous is empty for null.
    """CREATE TABLE waiting (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL,
        previous BLOB NOT NULL,
        form INTEGER NOT NULL,
        timestamp INTEGER NOT NULL,
        signature BLOB NOT NULL,
        content BLOB NOT NULL
    ) STRICT""",
    # Rows and bytes in the waiting room, so that nobody has to count them.
    "CREATE TABLE total (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT",
    "INSERT INTO total VALUES ('waiting', 0), ('waiting_bytes', 0)",
    """CREATE TABLE fork (
        feed INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        ours BLOB NOT NULL,
        key BLOB NOT NULL,
        previous BLOB NOT NULL,
        form INTEGER NOT NULL,
        timestamp INTEGER NOT NULL,
        signature BLOB NOT NULL,
        content BLOB NOT NULL,
        seen_at_ms INTEGER NOT NULL,
        PRIMARY KEY (feed, sequence, key)
    ) STRICT""",
    # Derived from messages: can be dropped and made again.
    """CREATE TABLE edge (
        author INTEGER NOT NULL,
        contact BLOB NOT NULL,
        state INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        PRIMARY KEY (author, contact)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE name (
        about BLOB NOT NULL,
        author INTEGER NOT NULL,
        name TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        PRIMARY KEY (about, author)
    ) STRICT, WITHOUT ROWID""",
    # By message, so that import appends and export reads along a run.
    """CREATE TABLE blob_link (
        message INTEGER NOT NULL,
        blob BLOB NOT NULL,
        PRIMARY KEY (message, blob)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX blob_link_blob ON blob_link (blob)",
    # What other machines say they have.
    """CREATE TABLE peer (
        id INTEGER PRIMARY KEY,
        ref BLOB NOT NULL UNIQUE,
        kind TEXT NOT NULL,
        counter INTEGER NOT NULL,
        time_ms INTEGER NOT NULL,
        met_at_ms INTEGER NOT NULL
    ) STRICT""",
    """CREATE TABLE peer_clock (
        peer INTEGER NOT NULL,
        feed BLOB NOT NULL,
        sequence INTEGER NOT NULL,
        replicate INTEGER NOT NULL,
        PRIMARY KEY (peer, feed)
    ) STRICT, WITHOUT ROWID""",
    # What a repair took out: nothing that was ever stored is thrown away.
    """CREATE TABLE salvage (
        feed BLOB NOT NULL,
        sequence INTEGER NOT NULL,
        key BLOB NOT NULL,
        form INTEGER NOT NULL,
        timestamp INTEGER NOT NULL,
        signature BLOB NOT NULL,
        content BLOB NOT NULL,
        reason TEXT NOT NULL,
        removed_at_ms INTEGER NOT NULL
    ) STRICT""",
)

_SECOND = (
    # Sticks that a person enrolled here, and what this machine knows of the files on them: so the cost of a visit grows
    # with what is new, not with what lies there.
    """CREATE TABLE drive (
        id BLOB PRIMARY KEY,
        label TEXT NOT NULL,
        enrolled_at_ms INTEGER NOT NULL,
        visited_at_ms INTEGER NOT NULL
    ) STRICT""",
    """CREATE TABLE drive_file (
        drive BLOB NOT NULL,
        name TEXT NOT NULL,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        state TEXT NOT NULL,
        exporter BLOB NOT NULL,
        coverage BLOB NOT NULL,
        PRIMARY KEY (drive, name)
    ) STRICT, WITHOUT ROWID""",
    # The newest card of each machine, as it was signed, to be carried on; seen_at_ms is when we first saw it.
    """CREATE TABLE card (
        machine BLOB PRIMARY KEY,
        counter INTEGER NOT NULL,
        seen_at_ms INTEGER NOT NULL,
        data BLOB NOT NULL
    ) STRICT""",
)

_THIRD = (
    # Who claimed to have more of the own feed than this machine held. It stays even if that peer later says less. The
    # key is the id of that message as a card of our own gives it, or empty. A person dismissed claims up to dismissed.
    """CREATE TABLE own_claim (
        feed BLOB NOT NULL,
        source BLOB NOT NULL,
        key BLOB NOT NULL,
        sequence INTEGER NOT NULL,
        seen_at_ms INTEGER NOT NULL,
        dismissed INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (feed, source, key)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX drive_file_unusable ON drive_file (name) WHERE state IN ('damaged', 'foreign')",
)

_FOURTH = (
    # Where another machine proved that it holds our secret, until the person has settled that.
    """CREATE TABLE own_key (
        feed BLOB NOT NULL,
        host TEXT NOT NULL,
        seen_at_ms INTEGER NOT NULL,
        PRIMARY KEY (feed, host)
    ) STRICT, WITHOUT ROWID""",
    # The first bytes of recent handshakes that this home began with its own key.
    "CREATE TABLE own_opening (id INTEGER PRIMARY KEY, opening BLOB NOT NULL) STRICT",
)

_FIFTH = (
    # Cards with our own signature: those that this home made, and those that it met and did not make, as far as it
    # knows; see CardState. Cards from before this table are forgiven.
    """CREATE TABLE own_card (
        feed BLOB NOT NULL,
        counter INTEGER NOT NULL,
        state TEXT NOT NULL,
        PRIMARY KEY (feed, counter)
    ) STRICT, WITHOUT ROWID""",
    "INSERT INTO own_card SELECT machine, counter, 'forgiven' FROM card",
)

# Every column that names a feed, by table; peers and machines are named by their classic feeds.
_FEED_COLUMNS = (
    ("feed", "ref"),
    ("edge", "contact"),
    ("name", "about"),
    ("peer", "ref"),
    ("peer_clock", "feed"),
    ("salvage", "feed"),
    ("drive_file", "exporter"),
    ("card", "machine"),
    ("own_claim", "feed"),
    ("own_claim", "source"),
    ("own_key", "feed"),
    ("own_card", "feed"),
)

# Feeds are named by format and key: all that were there are classic, whose byte is 0. What names none is empty and stays so.
_SIXTH = tuple(
    f"UPDATE {table} SET {column} = CAST(x'00' || {column} AS BLOB) WHERE length({column}) = 32"  # noqa: S608
    for table, column in _FEED_COLUMNS
)

_SEVENTH = (
    # What others have, as each source says: a card as it was signed, else a clock. Visits and alone: see planning.what_others_have.
    """CREATE TABLE known_clock (
        source TEXT NOT NULL,
        machine BLOB NOT NULL,
        counter INTEGER NOT NULL,
        learnt_at_ms INTEGER NOT NULL,
        visits INTEGER NOT NULL,
        alone INTEGER NOT NULL,
        statement BLOB NOT NULL,
        declined BLOB NOT NULL,
        PRIMARY KEY (source, machine)
    ) STRICT""",
    "INSERT INTO known_clock SELECT 'card', machine, counter, seen_at_ms, 0, 0, data, x'' FROM card",
    "DROP TABLE card",
    # Hints: without them some messages are sent once more.
    "DROP TABLE peer_clock",
    # EBT sessions since the last one in which everything was said.
    "ALTER TABLE peer ADD COLUMN resumed INTEGER NOT NULL DEFAULT 0",
    "DROP INDEX drive_file_unusable",
    "ALTER TABLE drive RENAME TO stick",
    "ALTER TABLE drive_file RENAME TO stick_file",
    "ALTER TABLE stick_file RENAME COLUMN drive TO stick",
    "CREATE INDEX stick_file_unusable ON stick_file (name) WHERE state IN ('damaged', 'foreign', 'partly')",
)

# A visit and a peer ask which feeds are closed: they are few.
_EIGHTH = ("CREATE INDEX feed_forked ON feed (ref) WHERE forked",)

#: Statements that lead from version n to n + 1.
MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST, _SECOND, _THIRD, _FOURTH, _FIFTH, _SIXTH, _SEVENTH, _EIGHTH)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def is_outdated(connection: sqlite3.Connection) -> bool:
    """Say whether a database is a store of an older version; an empty one is none."""
    return 0 < _version(connection) < len(MIGRATIONS)


def check_version(connection: sqlite3.Connection) -> None:
    """Raise StoreVersion if a store that was of our version has got another since: what we write is not for it any more."""
    version = _version(connection)
    if version != len(MIGRATIONS):
        raise StoreVersion(
            f"the store has version {version} now, this sneaker writes {len(MIGRATIONS)}",
            hint="another sneaker has changed it meanwhile; stop this one, and start it anew from the same version",
        )


def migrate(connection: sqlite3.Connection, migrations: tuple[tuple[str, ...], ...] = MIGRATIONS) -> None:
    """Bring an open database to the current version, each step in a transaction of its own; an empty one in a single step.

    Raises StoreVersion if it is newer than this program, StoreDamaged if it is not a store of ours at all.
    """
    version = _version(connection)
    if version == len(migrations) and version:
        _check_application(connection)
        return
    if version > len(migrations):
        raise StoreVersion(
            f"the store has version {version}, this sneaker knows up to {len(migrations)}",
            hint="it was written by a newer sneaker; update this one",
        )
    while True:
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Read again now that the lock is held: another process may have migrated the file meanwhile.
            version = _version(connection)
            if version >= len(migrations):
                return
            if version:
                _check_application(connection)
            elif connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                raise StoreDamaged("the store file is a database of another program")
            is_new = not version and migrations is MIGRATIONS
            for statement in SCHEMA if is_new else migrations[version]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(migrations) if is_new else version + 1}")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def _check_application(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreDamaged("the store file is a database of another program")
