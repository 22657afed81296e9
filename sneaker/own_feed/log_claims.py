"""What a log says of our own feed: each message of ours that it names is, or was, there."""

from __future__ import annotations

from sneaker.own_feed.claims import ImportedStatements
from sneaker.refs import FeedRef
from sneaker.store.store import Store

__all__ = ["LogClaims"]


class LogClaims:
    """The places in our own feed that a log names, taken or not: refused, torn off or unsigned, there is, or was, such a message.

    Of those that are refused, the first one in a part of the log is in the store at once, so that nobody publishes beside it;
    those that lie further, before the next part is read.
    """

    def __init__(self, statements: ImportedStatements, store: Store, me: FeedRef) -> None:
        self._statements = statements
        self._store = store
        self._me = me
        self._last = self._refused = self._noted = 0
        self._is_new_part = True
        # How far the feed goes with what is taken of the log, and what of it lies behind a gap.
        self._reach = store.own_sequence_seen(me).proven
        self._beyond: set[int] = set()

    def meet_place(self, sequence: int | None, *, is_refused: bool) -> None:
        """Meet a place; None if it is torn off before its number: the next one at least."""
        place = sequence or self._last + 1
        self._last = max(self._last, place)
        if is_refused:
            self._refused = max(self._refused, place)
            if self._is_new_part:
                self._is_new_part = False
                self.note_refused()
        elif place > self._reach:
            self._beyond.add(place)
            while self._reach + 1 in self._beyond:
                self._reach += 1
                self._beyond.remove(self._reach)

    def note_refused(self) -> None:
        """Remember in the store which places were refused; necessary before our feed gets further."""
        if self._refused > self._noted:
            self._noted = self._refused
            self._statements.note_own_sequence(None, self._noted)

    def end_part(self) -> None:
        """Remember it before more of the log is read."""
        self.note_refused()
        self._is_new_part = True

    def note_all(self) -> None:
        """Remember all places, also those that were taken, and dropped again."""
        self._statements.note_own_sequence(None, self._last)

    def describe_overtaken(self) -> str:
        """Say, for people, whether a message from elsewhere came to stand where the log says that there was one; "" if not."""
        head, place = self._store.head(self._me), self._reach + 1
        if head is None or not place <= min(head.sequence, self._refused):
            return ""
        return (
            f"it names messages of yours up to {self._refused:,}, and while it was read, another message {place:,} was published"
            " here or came from elsewhere: your feed may be forked"
        )
