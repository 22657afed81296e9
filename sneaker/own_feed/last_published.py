"""What this machine published last is remembered outside of the home: a copy of the home that is put back does not reach it.

borg keeps such a memory in ``~/.config/borg/security``, against replayed repositories.  It is written before the message is
stored, and holds it: whatever ends the program in between, the message is not forgotten.  As the note knows its place
(``home.copy_detection``), a memory that was put back with the home is told from the one that was written last.  It does not
know what was published where there is another memory, or none: under another user, in a container.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sneaker.errors import InvalidMessage, OutputError, RefError, StoreError, StoreLocked
from sneaker.feed.classic.validate import parse_message
from sneaker.feed.message import Head, Message
from sneaker.files.atomic_write import check_may_replace, reason_of
from sneaker.files.permissions import make_private_folder
from sneaker.home.copy_detection import read_note, write_note
from sneaker.home.home import Home
from sneaker.home.origin import read_origin
from sneaker.limits import PUBLISH_WAIT_S
from sneaker.refs import MessageRef
from sneaker.store.database import WriterLock

__all__ = ["LastPublished", "PublishMemory"]


@dataclass(frozen=True, slots=True)
class LastPublished:
    """What was published last: its place and key, the message itself, and by which home (the name in its origin).

    ``head`` is None if nothing was published yet; ``is_here`` is that of the note.
    """

    home: object
    head: Head | None
    message: Message | None
    is_here: bool | None


class PublishMemory:
    """The note on what was published last with the identity of ``home``, in ``folder``, which lies outside of the home."""

    def __init__(self, home: Home, folder: Path) -> None:
        self._home = home
        name = hashlib.blake2b(home.caps.network_id + home.keypair.public.key, digest_size=16).hexdigest()
        self._path = folder / f"published-{name}.json"
        #: Why nothing can be remembered there, once that was tried in vain; for people.
        self.problem: str | None = None

    @contextlib.contextmanager
    def locked(self, wait_s: float = PUBLISH_WAIT_S, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Keep other homes with this identity from publishing on this machine meanwhile; where nothing can be locked, they may.

        Raises StoreLocked after ``wait_s`` seconds; ``on_wait`` is called once if it has to wait for long.
        """
        lock = WriterLock(self._path.with_suffix(".lock"))
        try:
            make_private_folder(self._path.parent)
            lock.acquire(wait_s, on_wait)
        except StoreLocked:
            raise
        except (OSError, StoreError):
            pass  # ``problem`` will say why nothing can be written there
        try:
            yield
        finally:
            lock.release()

    def read(self) -> LastPublished | None:
        """Return what was published last; None if nothing is remembered."""
        note = read_note(self._path)
        if note is None:
            return None
        me = self._home.keypair.public
        sequence, key, text = (note.fields.get(name) for name in ("sequence", "key", "message"))
        if type(sequence) is not int or sequence < 0 or note.fields.get("feed") != str(me):
            return None
        head, message = None, None
        if sequence:
            try:
                head = Head(sequence, MessageRef.parse(str(key)))
            except RefError:
                return None
            with contextlib.suppress(InvalidMessage):
                message = parse_message(text) if isinstance(text, str) else None
            if message is not None and (message.author, message.sequence, message.key) != (me, sequence, head.key):
                message = None
        return LastPublished(note.fields.get("home"), head, message, note.is_here)

    def remember(self, head: Head | None, message: Message | None) -> None:
        """Remember what was published last; if that does not work, ``problem`` says why."""
        origin = read_origin(self._home.path)
        fields = {
            "feed": str(self._home.keypair.public),
            "home": origin.name if origin is not None else None,
            "sequence": head.sequence if head is not None else 0,
            "key": str(head.key) if head is not None else None,
            "message": message.text.decode("utf-8") if message is not None else None,
        }
        self._write(self._path, fields)

    def restore(self, before: LastPublished | None) -> None:
        """Remember again what was remembered before."""
        if before is not None:
            self.remember(before.head, before.message)
        else:
            with contextlib.suppress(OSError):
                self._path.unlink()

    def probe(self) -> str | None:
        """Return why nothing can be remembered there, for people; None if it can."""
        trial = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}.trial")
        try:
            check_may_replace(self._path, lambda _: True)
        except OutputError as error:
            self.problem = error.message
        else:
            self._write(trial, {})
            with contextlib.suppress(OSError):
                trial.unlink()
        return self.problem

    def _write(self, path: Path, fields: Mapping[str, object]) -> None:
        try:
            make_private_folder(path.parent)
            write_note(path, fields)
        except OSError as error:
            self.problem = f"{path.parent} cannot be written: {reason_of(error)}"
        except OutputError as error:
            self.problem = error.message
