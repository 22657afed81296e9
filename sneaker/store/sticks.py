"""What this machine remembers of sticks: which are enrolled, and what lies on them.

The enrolment is a decision of a person's; everything else here is a cache that a visit can make anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from sneaker.refs import FeedRef
from sneaker.store.database import Database
from sneaker.store.what_others_said import KnownCard, KnownClocks

__all__ = ["CardState", "FileState", "StickFile", "StickRecord", "StickTables"]


@dataclass(frozen=True, slots=True)
class StickRecord:
    """An enrolled stick; ``label`` is what the person calls it, times are this machine's."""

    id: bytes
    label: str
    enrolled_at_ms: int
    visited_at_ms: int = 0


class FileState(StrEnum):
    """What became of a file on a stick."""

    OWN = "own"
    TAKEN = "taken"
    #: Taken, but a part of what it lists could not be used.
    PARTLY = "partly"
    DAMAGED = "damaged"
    FOREIGN = "foreign"


class StickFile(NamedTuple):
    """A file on a stick; ``exporter`` is empty if unknown, ``coverage`` is ``planning.coverage.Coverage`` encoded."""

    name: str
    size: int
    mtime_ns: int
    state: FileState
    exporter: bytes = b""
    coverage: bytes = b""


class CardState(StrEnum):
    """What is known of a card with our own signature."""

    MADE = "made"
    #: Not made here, and it lists no more own messages than are here: there may be more, and nobody knows how many.
    FORGOTTEN = "forgotten"
    #: Not made here, and it lists more own messages than are here: we know what to wait for.
    AHEAD = "ahead"
    #: A person has said which message is the last one: this card says nothing new.
    FORGIVEN = "forgiven"


_PUT_FILE = "INSERT OR REPLACE INTO stick_file VALUES (?, ?, ?, ?, ?, ?, ?)"
_DROP_FILE = "DELETE FROM stick_file WHERE stick = ? AND name = ?"


def _file_row(stick_id: bytes, file: StickFile) -> tuple[object, ...]:
    return (stick_id, file.name, file.size, file.mtime_ns, str(file.state), bytes(file.exporter), file.coverage)


class StickTables:
    """The part of the store that remembers sticks; each write is a small transaction of its own."""

    def __init__(self, database: Database, known_clocks: KnownClocks) -> None:
        self._database = database
        self._known_clocks = known_clocks

    # -- sticks

    def sticks(self) -> list[StickRecord]:
        """Return the enrolled sticks, those visited last first."""
        rows = self._database.all(
            "SELECT id, label, enrolled_at_ms, visited_at_ms FROM stick ORDER BY visited_at_ms DESC, id"
        )
        return [StickRecord(*row) for row in rows]

    def stick(self, stick_id: bytes) -> StickRecord | None:
        """Return an enrolled stick."""
        rows = self._database.all("SELECT id, label, enrolled_at_ms, visited_at_ms FROM stick WHERE id = ?", stick_id)
        return StickRecord(*rows[0]) if rows else None

    def put_stick(self, stick: StickRecord) -> None:
        """Enrol a stick, or update it."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO stick VALUES (?, ?, ?, ?)",
                (stick.id, stick.label, stick.enrolled_at_ms, stick.visited_at_ms),
            )

    def forget_stick(self, stick_id: bytes) -> None:
        """Forget a stick and what was on it; the stick itself is not touched."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM stick WHERE id = ?", (stick_id,))
            connection.execute("DELETE FROM stick_file WHERE stick = ?", (stick_id,))

    # -- files on sticks

    def files(self, stick_id: bytes) -> dict[str, StickFile]:
        """Return what is known of the files on a stick, by name."""
        rows = self._database.all(
            "SELECT name, size, mtime_ns, state, exporter, coverage FROM stick_file WHERE stick = ?", stick_id
        )
        return {
            name: StickFile(name, size, mtime_ns, FileState(state), exporter, coverage)
            for name, size, mtime_ns, state, exporter, coverage in rows
        }

    def unusable_files(self, limit: int) -> list[str]:
        """Return the names of files on any stick that could not be read as they should, by name."""
        rows = self._database.all(
            "SELECT DISTINCT name FROM stick_file WHERE state IN ('damaged', 'foreign', 'partly') ORDER BY name LIMIT ?",
            limit,
        )
        return [name for (name,) in rows]

    # -- own cards

    def put_own_card(self, card: KnownCard) -> bool:
        """Remember a card that this home made; False if it is not newer than the one known."""
        with self._database.transaction():
            if not self._known_clocks.write_own_card(card):
                return False
            self._put_own_state(card.machine, card.counter, CardState.MADE)
        return True

    def meet_own_card(self, me: FeedRef, counter: int, *, ahead: bool) -> None:
        """Note that a card of our own was met: whether this home made it is known here."""
        if not self._database.all("SELECT 1 FROM own_card WHERE feed = ? AND counter = ?", me, counter):
            with self._database.transaction():
                self._put_own_state(me, counter, CardState.AHEAD if ahead else CardState.FORGOTTEN)

    def met_forgotten_card(self, me: FeedRef) -> bool:
        """Say whether own messages may be forgotten here, and a card of our own, not made here, does not say how many."""
        found = self._database.all(
            "SELECT state FROM own_card WHERE feed = ? AND state <> 'made' ORDER BY counter DESC LIMIT 1", me
        )
        return bool(found) and found[0][0] == CardState.FORGOTTEN

    def forgive_cards(self, me: FeedRef, now_ms: int) -> None:
        """Forgive all own cards that were made until now: a person has said which message is the last one."""
        with self._database.transaction() as connection:
            newest = connection.execute("SELECT max(counter) FROM own_card WHERE feed = ?", (me,)).fetchone()[0]
            self._put_own_state(me, max(now_ms, newest or 0), CardState.FORGIVEN)

    def _put_own_state(self, me: FeedRef, counter: int, state: CardState) -> None:
        # If two processes meet a card at once, the first one's verdict stays; a person's word replaces it.
        self._database.connection.execute(
            "INSERT INTO own_card VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET state = excluded.state"
            " WHERE excluded.state = 'forgiven'",
            (bytes(me), counter, str(state)),
        )

    # -- a visit

    def remember(self, stick: StickRecord, *, files: Iterable[StickFile], gone: Iterable[str]) -> None:
        """Write down what a visit learnt, in one transaction; files are those that are new and those that are gone."""
        with self._database.transaction() as connection:
            connection.executemany(_PUT_FILE, [_file_row(stick.id, file) for file in files])
            connection.executemany(_DROP_FILE, [(stick.id, name) for name in gone])
            connection.execute("UPDATE stick SET visited_at_ms = ? WHERE id = ?", (stick.visited_at_ms, stick.id))
