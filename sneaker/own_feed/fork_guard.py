"""Fork guard: whether this home may publish, or could fork its feed because it knows nothing of some messages of its own.

A fork cannot be mended, and five kinds of homes make one without meaning to: a home whose identity came from another
program, one whose secret was exchanged, an old copy that was put back, a copy that went to another machine, and any two
machines that hold one secret (one that was met, and proved it, is written down in the store).  What others show (``claims``)
stops the first message too many only if they come first, and who is offline for weeks may meet nobody.  Three things tell
such homes:

* the *origin*, in the home: this home, of this feed, in this place, is the one that goes on with it.  Copied, restored or
  carried to another machine, it does not fit its place any more.  It is written anew with each message, so an older one
  does not fit where it came from, either.
* the *memory*, outside of the home (``last_published``): the last message published here.  It stays when a home is put
  back, and says what that has forgotten; put back with the home, it is another file than the one written last.  It says
  that there is more, never that there is no more: each user has one (``sudo``, containers), and people clean up, so the
  home may have published where this memory knows nothing of it.  Hence a home in its place needs none, and no memory
  vouches for a copy.
* the *own cards* that lie on sticks: each has a counter and our signature, and the store knows all that this home made.
  One that it did not make comes from a machine that this home was, before it was put back.

A home in doubt publishes after the person has said which message is the last one (``sneaker doctor --last``).  Nobody else
can: who knows ten messages does not know that there is no eleventh, and may have the ten from this very copy.

What nothing here can tell: an image or snapshot of a whole disk or memory card, put back on the device where it was made,
before a stick or a peer shows what it has forgotten; the same of copies where files have no lasting number (FAT, FUSE), if
the memory lies there, too, and is put back with the home.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path

from sneaker.errors import (
    ForkError,
    OutputError,
    SneakerError,
    UsageError,
)
from sneaker.feed.message import Head, Message
from sneaker.home.home import Home
from sneaker.home.origin import read_origin, write_origin
from sneaker.ingest.ingest import Ingest
from sneaker.limits import PUBLISH_WAIT_S
from sneaker.own_feed.claims import contradicting
from sneaker.own_feed.last_published import LastPublished, PublishMemory
from sneaker.refs import FeedRef
from sneaker.store.store import Store

__all__ = ["Doubt", "ForkGuard", "check_may_publish"]


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


def check_may_publish(store: Store, me: FeedRef) -> None:
    """Raise ForkError if a new message of ours could contradict one that somebody has seen."""
    if me in store.forked():
        raise ForkError(
            "your own feed is forked: two different messages carry your signature for one place",
            hint="run 'sneaker doctor' to see both; a forked feed cannot be mended, go on with a new identity",
        )
    if contradicting(store, me):
        raise ForkError(
            "your own feed is forked: another machine writes with your key, and left a card that names other messages",
            hint="run 'sneaker doctor'; stop using the key on one of the two machines, and go on with a new identity there",
        )
    seen = store.own_sequence_seen(me)
    furthest = max(seen.proven, seen.claimed)
    if furthest > seen.held:
        raise ForkError(
            f"your feed is known up to message {furthest}, this machine has it up to {seen.held}: publishing now would fork it",
            hint="bring your own messages back: 'sneaker sync' or 'sneaker import' a stick that carries them, or connect to a"
            " peer that has them; 'sneaker doctor' says who",
        )


class ForkGuard:
    """Guards one home; ``memory`` is the folder outside of it in which this user's machine remembers what it published."""

    def __init__(self, home: Home, memory: Path) -> None:
        self._home = home
        self.memory = PublishMemory(home, memory)

    @contextlib.contextmanager
    def alone(self, wait_s: float = PUBLISH_WAIT_S, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Let no copy of this home publish on this machine meanwhile, as they have one memory; where there is none, they may.

        Who needs the lock of the store, too, takes that first.  Raises StoreLocked after ``wait_s`` seconds; ``on_wait`` is
        called once if it has to wait for long.
        """
        with self.memory.locked(wait_s, on_wait):
            yield

    def recall_forgotten(self, now_ms: Callable[[], int], ingest: Ingest | None = None) -> None:
        """Let what is remembered and not held here any more count: the message is brought back, or waits for those before it.

        ``ingest`` is the one that is open and holds the store, while this home is ``alone``, if one is.  Raises StoreError.
        """
        memory = self.memory.read()
        if memory is None or memory.head is None or self._holds(memory.head):
            return
        if ingest is None:
            # Somebody may be publishing it at this moment, and still fail: what is remembered then counts.
            with (
                Ingest(self._home.store, caps=self._home.caps, now_ms=now_ms, workers=1, holds=True) as opened,
                self.alone(),
            ):
                self.recall_forgotten(now_ms, opened)
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
        if origin is None or origin.is_here is False:
            # No memory vouches for a copy: the home that it was made of may have published under another one since.
            return Doubt.MOVED
        memory = self.memory.read()
        if memory is not None and memory.is_here is False:
            return Doubt.MOVED
        if origin.is_here or (memory is not None and memory.home == origin.name and memory.head == self._held()):
            return None
        # Where files have no lasting number, only the memory tells this home from a copy.
        return Doubt.MOVED

    def check_no_doubt(self) -> None:
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
            self._check_unchanged(self.memory.read())
            self._settle_here(anew=True)
            self.memory.remember(self._held(), None)
        self._home.store.sticks.forgive_cards(self._home.keypair.public, now_ms)
        self._home.store.own_keys.settle_own_key(self._home.keypair.public)

    def begin_memory(self) -> None:
        """Begin to remember, for a home that was just made: nothing was published with its identity yet."""
        with self.alone():
            if self.memory.read() is None and self._held() is None:
                self.memory.remember(None, None)

    @contextlib.contextmanager
    def publishing(self, message: Message) -> Iterator[None]:
        """Remember ``message``, which the block puts into the store, and that the feed goes on from here.

        For a home that is ``alone``; raises ForkError if a copy of it published meanwhile, as it may where nothing can be locked.
        If the block fails, what was remembered before is again.  ``memory.problem`` says why if there is no place for it outside
        of the home: then the home's own note has to do.
        """
        before = self.memory.read()
        self._check_unchanged(before)
        head = Head(message.sequence, message.key)
        self.memory.remember(head, message)
        # Anew with each message: an older origin that is put back does not fit, whichever memory there was.
        with contextlib.suppress(OutputError):
            self._settle_here()
        try:
            yield
        except BaseException:
            with contextlib.suppress(SneakerError):
                if self._held() != head and self.memory.problem is None:
                    self.memory.restore(before)
            raise

    def _settle_here(self, *, anew: bool = False) -> None:
        """Write down that this home, here, goes on with its feed; ``anew``: and no copy of it that may be elsewhere."""
        origin = read_origin(self._home.path)
        name = origin.name if origin is not None and not anew else None
        write_origin(self._home.path, self._home.keypair.public, name=name)

    def _check_unchanged(self, memory: LastPublished | None) -> None:
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
