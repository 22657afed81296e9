"""The tables of the store as they are now: a new store gets them at once.

An older file gets there step by step (``store.migrations``); a test compares the two.  What changes here is a migration too.
"""

from __future__ import annotations

__all__ = ["SCHEMA"]

#: Statements that make an empty store.
SCHEMA = (
    # No sequence column and no index on key: import writes and export reads messages by feed and sequence only.
    """CREATE TABLE feed (
        id INTEGER PRIMARY KEY,
        ref BLOB NOT NULL UNIQUE,
        sequence INTEGER NOT NULL DEFAULT 0,
        key BLOB NOT NULL DEFAULT x'',
        forked INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
    # A visit and a peer ask which feeds are closed: they are few.
    "CREATE INDEX feed_forked ON feed (ref) WHERE forked",
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
    # Other machines that this one met; resumed are the EBT sessions since the last one in which everything was said.
    """CREATE TABLE peer (
        id INTEGER PRIMARY KEY,
        ref BLOB NOT NULL UNIQUE,
        kind TEXT NOT NULL,
        counter INTEGER NOT NULL,
        time_ms INTEGER NOT NULL,
        met_at_ms INTEGER NOT NULL,
        resumed INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
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
    # Sticks that a person enrolled here, and what this machine knows of the files on them: so the cost of a visit grows
    # with what is new, not with what lies there.
    """CREATE TABLE stick (
        id BLOB PRIMARY KEY,
        label TEXT NOT NULL,
        enrolled_at_ms INTEGER NOT NULL,
        visited_at_ms INTEGER NOT NULL
    ) STRICT""",
    """CREATE TABLE stick_file (
        stick BLOB NOT NULL,
        name TEXT NOT NULL,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        state TEXT NOT NULL,
        exporter BLOB NOT NULL,
        coverage BLOB NOT NULL,
        PRIMARY KEY (stick, name)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX stick_file_unusable ON stick_file (name) WHERE state IN ('damaged', 'foreign', 'partly')",
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
    # Where another machine proved that it holds our secret, until the person has settled that.
    """CREATE TABLE own_key (
        feed BLOB NOT NULL,
        host TEXT NOT NULL,
        seen_at_ms INTEGER NOT NULL,
        PRIMARY KEY (feed, host)
    ) STRICT, WITHOUT ROWID""",
    # The first bytes of recent handshakes that this home began with its own key.
    "CREATE TABLE own_opening (id INTEGER PRIMARY KEY, opening BLOB NOT NULL) STRICT",
    # Cards with our own signature: those that this home made, and those that it met and did not make, as far as it
    # knows; see CardState.
    """CREATE TABLE own_card (
        feed BLOB NOT NULL,
        counter INTEGER NOT NULL,
        state TEXT NOT NULL,
        PRIMARY KEY (feed, counter)
    ) STRICT, WITHOUT ROWID""",
)
