"""Standing: whether this home may speak for its feed, or there may be messages of its own that it knows nothing of.

A fork cannot be mended, and three kinds of homes make one without meaning to: a home whose identity came from another
program, an old copy that was put back, and a copy that went to another machine, as with any two machines that hold one secret
(one that was met, and proved it, is written down in the store).  What others show (``claims``) stops the
first message too many only if they come first, and who is offline for weeks may meet nobody.  Two notes tell such homes:

* the *origin*, in the home: this home, in this place, is the one that goes on with its feed.  Copied, restored or carried
  to another machine, it does not fit its place any more.
* the *memory*, outside of the home (borg keeps such a one in ``~/.config/borg/security``, against replayed repositories):
  the last message published here.  It stays when a home is put back, and says what that has forgotten.

A home in doubt publishes after the person has said which message is the last one (``sneaker doctor --last``).  Nobody else
can: who knows ten messages does not know that there is no eleventh, and may have the ten from this very copy.

What no file can tell: an image or snapshot of a whole disk or memory card, put back on the machine where it was made.
"""

from __future__ import annotations

import contextlib
import hashlib
from enum import StrEnum
from pathlib import Path

from sneaker.errors import ForkError, RefError, UsageError
from sneaker.exchange.home import ADOPTED, ORIGIN_NAME, Home
from sneaker.exchange.output import output_errors
from sneaker.exchange.placenote import read_note, write_note
from sneaker.feed.message import Head
from sneaker.refs import MessageRef

__all__ = ["Doubt", "Standing"]


class Doubt(StrEnum):
    """Why there may be messages of our own that this home has never seen."""

    #: The identity was brought from another program, which may have published with it.
    ADOPTED = "adopted"
    #: The home was copied or restored, or it is on another machine than before.
    MOVED = "moved"
    #: Another machine proved that it holds our secret.
    SHARED = "shared"


_REASONS = {
    Doubt.ADOPTED: "this identity was brought from elsewhere",
    Doubt.MOVED: "this home was copied or restored, or came from another machine",
    Doubt.SHARED: "another machine has your secret",
}


class Standing:
    """Where a home stands; ``memory`` is the folder outside of it in which this user's machine remembers what it published."""

    def __init__(self, home: Home, memory: Path) -> None:
        self._home = home
        self._origin = home.path / ORIGIN_NAME
        name = hashlib.blake2b(home.caps.network_id + home.keypair.public, digest_size=16).hexdigest()
        self._memory = memory / f"published-{name}.json"

    def recall(self) -> None:
        """Let what is remembered and not held here any more count as a claim of our own; raises StoreError."""
        remembered, _ = self._remembered()
        if remembered is not None:
            me = self._home.keypair.public
            self._home.store.note_claim(me, me, remembered.sequence, remembered.key)

    def doubt(self) -> Doubt | None:
        """Return why the person has to be asked before anything is published, if so."""
        if self._home.store.own_key_elsewhere(self._home.keypair.public):
            return Doubt.SHARED
        origin = read_note(self._origin)
        if origin is not None and origin.is_original:
            return Doubt.ADOPTED if origin.fields.get(ADOPTED) is True else None
        remembered, is_original = self._remembered()
        if is_original and remembered == self._held():
            return None  # copied from one place to another, by whoever published last
        return Doubt.MOVED

    def require(self) -> None:
        """Raise ForkError if the person has to be asked."""
        doubt = self.doubt()
        if doubt is None:
            return
        held = self._held_sequence()
        more = f"more than message {held:,}, the last one here" if held else "messages, and none are here"
        raise ForkError(
            f"{_REASONS[doubt]}; it may have published {more}, and to publish now would fork the feed for good",
            hint="bring your messages here first; if you are certain that there are no others than these, say"
            f" 'sneaker doctor --last {held}' ('sneaker doctor' shows the last one)",
        )

    def declare_last(self, sequence: int) -> None:
        """Take the person's word that ``sequence``, the last message of ours that is here, is the last one that exists.

        Raises UsageError if that is not the last one here, OutputError if it cannot be written down.
        """
        held = self._held()
        if sequence != self._held_sequence():
            raise UsageError(
                f"the last message of yours that is here is {self._held_sequence():,}, not {sequence:,}",
                hint="look at it with 'sneaker doctor', and bring what is missing",
            )
        with output_errors(self._origin):
            write_note(self._origin, {ADOPTED: False})
        if held is not None:
            self._remember(held)
        self._home.store.settle_own_key(self._home.keypair.public)

    def published(self, head: Head) -> None:
        """Remember how far the feed goes now, and that it goes on from here."""
        self._remember(head)
        origin = read_note(self._origin)
        if origin is None or not origin.is_original:
            with contextlib.suppress(OSError):
                write_note(self._origin, {ADOPTED: False})

    def _remember(self, head: Head) -> None:
        """Without a place for it outside of the home, the home's own note has to do."""
        fields = {"feed": str(self._home.keypair.public), "sequence": head.sequence, "key": str(head.key)}
        with contextlib.suppress(OSError):
            self._memory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_note(self._memory, fields)

    def _remembered(self) -> tuple[Head | None, bool]:
        """Return the last message that this user's machine remembers to have published, and whether it is its own memory."""
        note = read_note(self._memory)
        if note is None:
            return None, False
        sequence, key = note.fields.get("sequence"), note.fields.get("key")
        if type(sequence) is int and sequence > 0 and isinstance(key, str):
            with contextlib.suppress(RefError):
                return Head(sequence, MessageRef.parse(key)), note.is_original
        return None, False

    def _held(self) -> Head | None:
        return self._home.store.head(self._home.keypair.public)

    def _held_sequence(self) -> int:
        held = self._held()
        return held.sequence if held is not None else 0
