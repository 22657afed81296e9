"""Standing: whether this home may speak for its feed, or there may be messages of its own that it knows nothing of.

A fork cannot be mended, and five kinds of homes make one without meaning to: a home whose identity came from another
program, one whose secret was exchanged, an old copy that was put back, a copy that went to another machine, and any two
machines that hold one secret (one that was met, and proved it, is written down in the store).  What others show (``claims``)
stops the first message too many only if they come first, and who is offline for weeks may meet nobody.  Three things tell
such homes:

* the *origin*, in the home: this home, of this feed, in this place, is the one that goes on with it.  Copied, restored or
  carried to another machine, it does not fit its place any more.
* the *memory*, outside of the home (borg keeps such a one in ``~/.config/borg/security``, against replayed repositories):
  the last message published here.  It stays when a home is put back, and says what that has forgotten; put back with the
  home, it is another file than the one written last.  It is written before the message is stored, and holds it: whatever
  ends the program in between, the message is not forgotten.
* the *own cards* that lie on sticks: each has a counter and our signature, and the store knows all that this home made.
  One that it did not make comes from a machine that this home was, before it was put back.

A home in doubt publishes after the person has said which message is the last one (``sneaker doctor --last``).  Nobody else
can: who knows ten messages does not know that there is no eleventh, and may have the ten from this very copy.

What nothing here can tell: an image or snapshot of a whole disk or memory card, put back on the drive where it was made,
before a stick or a peer shows what it has forgotten; the same of copies where files have no lasting number (FAT, FUSE), if
the memory lies there, too, and is put back with the home.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sneaker.errors import (
    ForkError,
    InvalidMessage,
    OutputError,
    RefError,
    SneakerError,
    StoreError,
    StoreLocked,
    UsageError,
)
from sneaker.feed.classic.message import Head, Message
from sneaker.feed.classic.validate import parse_message
from sneaker.files.atomic_write import check_may_replace, reason_of
from sneaker.home.copy_detection import read_note, write_note
from sneaker.home.home import Home, read_origin, write_origin
from sneaker.ingest.ingest import Ingest
from sneaker.limits import PUBLISH_WAIT_S
from sneaker.refs import MessageRef
from sneaker.store.database import WriterLock

__all__ = ["Doubt", "Standing"]


class Doubt(StrEnum):
    """Why there may be messages of our own that this home has never seen."""

    #: The identity was brought from another program, which may have published with it.
    ADOPTED = "adopted"
    #: The secret is not the one that the home was made with.
    EXCHANGED = "exchanged"
    #: The home was copied or restored, or it is on another machine than before.
    MOVED = "moved"
    #: Another machine proved that it holds our secret.
    SHARED = "shared"
    #: A card of our own was met that this home never made: it is an older state of itself.
    RESTORED = "restored"


_REASONS = {
    Doubt.ADOPTED: "this identity was brought from elsewhere",
    Doubt.EXCHANGED: "the secret of this home is not the one that it was made with",
    Doubt.MOVED: "this home was copied or restored, or came from another machine",
    Doubt.SHARED: "another machine has your secret",
    Doubt.RESTORED: "a stick shows that this home was put back to an earlier state",
}


@dataclass(frozen=True, slots=True)
class _Memory:
    """What was published last: its place and key, the message itself, and by which home; ``head`` is None for nothing yet."""

    home: object
    head: Head | None
    message: Message | None
    is_here: bool | None


class Standing:
    """Where a home stands; ``memory`` is the folder outside of it in which this user's machine remembers what it published."""

    def __init__(self, home: Home, memory: Path) -> None:
        self._home = home
        name = hashlib.blake2b(home.caps.network_id + home.keypair.public, digest_size=16).hexdigest()
        self._memory = memory / f"published-{name}.json"
        #: Why nothing can be remembered outside of the home, once that was tried in vain; for people.
        self.forgetful: str | None = None

    @contextlib.contextmanager
    def alone(self, wait_s: float = PUBLISH_WAIT_S, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Let no copy of this home publish on this machine meanwhile, as they have one memory; where there is none, they may.

        Who needs the lock of the store, too, takes that first.  Raises StoreLocked after ``wait_s`` seconds; ``on_wait`` is
        called once if it has to wait for long.
        """
        lock = WriterLock(self._memory.with_suffix(".lock"))
        try:
            self._memory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock.acquire(wait_s, on_wait)
        except StoreLocked:
            raise
        except (OSError, StoreError):
            pass  # ``forgetful`` will say why nothing can be written there
        try:
            yield
        finally:
            lock.release()

    def recall(self, now_ms: Callable[[], int], ingest: Ingest | None = None) -> None:
        """Let what is remembered and not held here any more count: the message is brought back, or waits for those before it.

        ``ingest`` is the one that is open and holds the store, while this home is ``alone``, if one is.  Raises StoreError.
        """
        memory = self._remembered()
        if memory is None or memory.head is None or self._holds(memory.head):
            return
        if ingest is None:
            # Somebody may be publishing it at this moment, and still fail: what is remembered then counts.
            with (
                Ingest(self._home.store, caps=self._home.caps, now_ms=now_ms, workers=1, holds=True) as opened,
                self.alone(),
            ):
                self.recall(now_ms, opened)
            return
        me, message = self._home.keypair.public, memory.message
        if message is not None and message.sequence > self._held_sequence():
            ingest.add_message(message)
            ingest.flush()
        self._home.store.claims.note_claim(me, me, memory.head.sequence, memory.head.key)

    def doubt(self) -> Doubt | None:
        """Return why the person has to be asked before anything is published, if so."""
        if self._home.store.own_keys.own_key_elsewhere(self._home.keypair.public):
            return Doubt.SHARED
        origin = read_origin(self._home.path)
        if origin is not None and origin.feed != str(self._home.keypair.public):
            return Doubt.EXCHANGED
        if origin is not None and origin.adopted:
            return Doubt.ADOPTED
        if self._home.store.sticks.met_forgotten_card(self._home.keypair.public):
            return Doubt.RESTORED
        memory = self._remembered()
        if origin is not None and origin.is_here:
            # Who puts back a whole folder leaves files alone that are as they were, like the origin; not the memory.
            return Doubt.MOVED if memory is not None and memory.is_here is False else None
        if origin is None or memory is None or memory.home != origin.name or memory.head != self._held():
            return Doubt.MOVED
        # Copied from one place to another, by whoever published last; or neither note can tell places apart.
        return None if memory.is_here or (memory.is_here is None and origin.is_here is None) else Doubt.MOVED

    def require(self) -> None:
        """Raise ForkError if the person has to be asked."""
        doubt = self.doubt()
        if doubt is None:
            return
        held = self._held_sequence()
        more = f"more than message {held:,}, the last one here" if held else "messages, and none are here"
        raise ForkError(
            f"{_REASONS[doubt]}; it may have published {more}, and to publish now would fork the feed for good",
            hint="bring your messages here first; 'sneaker doctor' shows the last one here, and how to go on",
        )

    def check_last(self, sequence: int) -> None:
        """Raise UsageError if ``sequence`` is not the last message of ours that is here."""
        if sequence != self._held_sequence():
            raise UsageError(
                f"the last message of yours that is here is {self._held_sequence():,}, not {sequence:,}",
                hint="look at it with 'sneaker doctor', and bring what is missing",
            )

    def declare_last(self, sequence: int, now_ms: int) -> None:
        """Take the person's word that ``sequence``, the last message of ours that is here, is the last one that exists.

        Raises UsageError if that is not the last one here, ForkError if a copy of this home published another one meanwhile,
        OutputError if it cannot be written down, StoreError.
        """
        with self.alone():
            self.check_last(sequence)
            self._check_unchanged(self._remembered())
            self._settle(anew=True)
            self._remember(self._held(), None)
        self._home.store.sticks.forgive_cards(self._home.keypair.public, now_ms)
        self._home.store.own_keys.settle_own_key(self._home.keypair.public)

    def begin(self) -> None:
        """Begin to remember, for a home that was just made: nothing was published with its identity yet."""
        with self.alone():
            if self._remembered() is None and self._held() is None:
                self._remember(None, None)

    @contextlib.contextmanager
    def publishing(self, message: Message) -> Iterator[None]:
        """Remember ``message``, which the block puts into the store, and that the feed goes on from here.

        For a home that is ``alone``; raises ForkError if a copy of it published meanwhile, as it may where nothing can be locked.
        If the block fails, what was remembered before is again.  ``forgetful`` says why if there is no place for it outside
        of the home: then the home's own note has to do.
        """
        before = self._remembered()
        self._check_unchanged(before)
        head = Head(message.sequence, message.key)
        self._remember(head, message)
        try:
            yield
        except BaseException:
            with contextlib.suppress(SneakerError):
                if self._held() != head and self.forgetful is None:
                    self._take_back(before)
            raise
        origin = read_origin(self._home.path)
        if origin is None or not origin.is_here:
            with contextlib.suppress(OutputError):
                self._settle()

    def probe(self) -> str | None:
        """Return why nothing can be remembered outside of the home, for people; None if it can."""
        trial = self._memory.with_name(f".{self._memory.name}.{secrets.token_hex(4)}.trial")
        try:
            check_may_replace(self._memory, lambda _: True)
        except OutputError as error:
            self.forgetful = error.message
        else:
            self._write(trial, {})
            with contextlib.suppress(OSError):
                trial.unlink()
        return self.forgetful

    def _settle(self, *, anew: bool = False) -> None:
        """Write down that this home, here, goes on with its feed; ``anew``: and no copy of it that may be elsewhere."""
        origin = read_origin(self._home.path)
        name = origin.name if origin is not None and not anew else None
        write_origin(self._home.path, self._home.keypair.public, name=name)

    def _remember(self, head: Head | None, message: Message | None) -> None:
        origin = read_origin(self._home.path)
        fields = {
            "feed": str(self._home.keypair.public),
            "home": origin.name if origin is not None else None,
            "sequence": head.sequence if head is not None else 0,
            "key": str(head.key) if head is not None else None,
            "message": message.text.decode("utf-8") if message is not None else None,
        }
        self._write(self._memory, fields)

    def _take_back(self, before: _Memory | None) -> None:
        if before is not None:
            self._remember(before.head, before.message)
        else:
            with contextlib.suppress(OSError):
                self._memory.unlink()

    def _write(self, path: Path, fields: Mapping[str, object]) -> None:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_note(path, fields)
        except OSError as error:
            self.forgetful = f"{path.parent} cannot be written: {reason_of(error)}"
        except OutputError as error:
            self.forgetful = error.message

    def _remembered(self) -> _Memory | None:
        """Return what this user's machine remembers to have published last; None if it remembers nothing."""
        note = read_note(self._memory)
        if note is None:
            return None
        sequence, key, text = (note.fields.get(name) for name in ("sequence", "key", "message"))
        if type(sequence) is not int or sequence < 0 or note.fields.get("feed") != str(self._home.keypair.public):
            return None
        head, message = None, None
        if sequence:
            try:
                head = Head(sequence, MessageRef.parse(str(key)))
            except RefError:
                return None
            with contextlib.suppress(InvalidMessage):
                message = parse_message(text) if isinstance(text, str) else None
            if message is not None and (message.author, message.sequence, message.key) != (
                self._home.keypair.public,
                sequence,
                head.key,
            ):
                message = None
        return _Memory(note.fields.get("home"), head, message, note.is_here)

    def _check_unchanged(self, memory: _Memory | None) -> None:
        if memory is not None and memory.head is not None and not self._holds(memory.head):
            raise ForkError(
                f"another home with this identity published message {memory.head.sequence:,} at this moment",
                hint="two homes must never share a secret; 'sneaker doctor' shows what is missing here",
            )

    def _holds(self, head: Head) -> bool:
        return self._home.store.key_at(self._home.keypair.public, head.sequence) == head.key

    def _held(self) -> Head | None:
        return self._home.store.head(self._home.keypair.public)

    def _held_sequence(self) -> int:
        held = self._held()
        return held.sequence if held is not None else 0
