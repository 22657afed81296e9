"""What the store remembers of other machines that hold our secret."""

from __future__ import annotations

import time

from sneaker.refs import FeedRef
from sneaker.store.database import Database
from sneaker.store.rows import OwnKeyElsewhere

__all__ = ["OwnKeyTables"]

# How many addresses of such machines are kept: one machine that moves has several.
_MAX_HOSTS = 20
# Handshakes with our own key that may be under way at once.
_MAX_OPENINGS = 50


class OwnKeyTables:
    """The part of the store that remembers who else holds our secret."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note_own_key(self, feed: FeedRef, host: str) -> None:
        """Remember that another machine holds the secret of a feed of ours."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO own_key VALUES (?, ?, ?)", (feed, host, time.time_ns() // 1_000_000)
            )
            connection.execute(
                "DELETE FROM own_key WHERE feed = ?1 AND host NOT IN"
                " (SELECT host FROM own_key WHERE feed = ?1 ORDER BY seen_at_ms DESC, host LIMIT ?2)",
                (feed, _MAX_HOSTS),
            )

    def own_key_elsewhere(self, feed: FeedRef) -> list[OwnKeyElsewhere]:
        """Return the machines that were seen with the secret of a feed since that was last settled, the newest first."""
        rows = self._database.all(
            "SELECT host, seen_at_ms FROM own_key WHERE feed = ? ORDER BY seen_at_ms DESC, host", feed
        )
        return [OwnKeyElsewhere(*row) for row in rows]

    def settle_own_key(self, feed: FeedRef) -> None:
        """Forget those machines: the person says that no other one uses the secret any more."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM own_key WHERE feed = ?", (feed,))

    def note_opened(self, opening: bytes) -> None:
        """Remember the first bytes of a handshake that this home begins, for a while."""
        with self._database.transaction() as connection:
            connection.execute("INSERT INTO own_opening (opening) VALUES (?)", (opening,))
            connection.execute(
                "DELETE FROM own_opening WHERE id <= (SELECT max(id) FROM own_opening) - ?", (_MAX_OPENINGS,)
            )

    def has_opened(self, opening: bytes) -> bool:
        """Say whether this home began a handshake with these first bytes lately."""
        return self._database.first("SELECT 1 FROM own_opening WHERE opening = ?", opening) is not None
