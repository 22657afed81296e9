"""Inboxes: folders where bundles arrive by other ways than a stick, and are taken in once they are whole.

A Bluetooth download folder, saved mail attachments, a folder that Syncthing fills, a network share.  Every file there
that looks like something sneaker reads is imported when it is complete, and moved to ``done`` or ``quarantine`` in the
same folder; all other files stay as they are.

A file is complete when its writer has closed it or when it was moved in.  inotify tells that, and the kernel says
whether somebody still writes.  On network shares neither works: there a file is complete once it has not changed for
some time.  A file that turns out to be cut short is tried a second time, in case somebody writes it in pieces.

Nothing has to be remembered over a restart: what lies there is looked at again, and importing twice changes nothing.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any

from sneaker.bugs import what_went_wrong
from sneaker.devices.mounts import NETWORK_FILESYSTEMS, MountTable, mount_of
from sneaker.devices.run_in_thread import run_in_thread
from sneaker.errors import StickError, StoreError

__all__ = [
    "DONE_FOLDER",
    "QUARANTINE_FOLDER",
    "Inbox",
    "InboxFailed",
    "InboxSettings",
    "InboxTaken",
    "Taken",
    "is_shared",
]

DONE_FOLDER = "done"
QUARANTINE_FOLDER = "quarantine"

# How much of a file is looked at to know what it is.
_SNIFF_BYTES = 4096
# Names are at most 255 bytes on every file system that matters; a few are left for ".1" to ".999999".
_MAX_NAME_BYTES = 247
# Names under which programs write what is not complete yet, besides hidden files: browsers, rsync, Syncthing, ourselves.
_PART_SUFFIXES = (".part", ".partial", ".crdownload", ".download", ".tmp", ".temp", "~")
# How many files one look goes through; a folder with more in it is no inbox.
_MAX_ENTRIES = 50_000


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of importing one file.

    ``whole``: it can go to ``done``; otherwise to ``quarantine``.  ``words`` is one sentence of our own words.
    """

    messages: int
    people: int
    whole: bool
    words: str


@dataclass(frozen=True, slots=True)
class InboxTaken:
    """A file was taken in and moved to ``moved_to``."""

    path: Path
    taken: Taken
    moved_to: Path


@dataclass(frozen=True, slots=True)
class InboxFailed:
    """A file, or the inbox itself, cannot be dealt with now; ``words`` are ours."""

    path: Path
    words: str


@dataclass(frozen=True, slots=True)
class InboxSettings:
    """Times in seconds."""

    # A writer may close a file and open it again at once.
    after_close_s: float = 0.3
    # Where the kernel does not say whether somebody writes a file, it is complete after so long without a change.
    quiet_s: float = 5
    # A file that is held open for writing, and has not changed for so long, is not waited for any more.
    stuck_s: float = 120
    # How often a folder is looked at: on a network share, and with inotify all the same.
    poll_s: float = 10
    heal_s: float = 300
    # After a failure that has nothing to do with the file: the store is locked, or its disk is full.
    retry_s: float = 30


class _State(Enum):
    READY = auto()
    UNSURE = auto()  # for us, but the kernel does not say whether it is being written
    BUSY = auto()
    DULL = auto()  # nothing for us


@dataclass(slots=True)
class _Candidate:
    """A file that may be taken in: what it looked like, and when it last changed or was last closed."""

    since: float
    stamp: tuple[int, int, int] = (-1, 0, 0)
    closed: bool = False
    dull: bool = False
    #: Imported once already, and found cut short or damaged.
    doubtful: bool = False


def is_shared(folder: Path) -> bool:
    """Whether other machines may change ``folder`` without this kernel's knowledge, so that it has to be polled."""
    try:
        mount = mount_of(folder.resolve(), MountTable.read())
    except (StickError, OSError):
        return False
    return mount is not None and (mount.fs_type in NETWORK_FILESYSTEMS or mount.fs_type.startswith("fuse"))


@dataclass(slots=True)
class Inbox:
    """Takes in what arrives in ``folder``.

    ``wanted`` says from a file's first bytes and its name whether it is for us; ``take`` imports one and may raise
    SneakerError; both are called in threads, ``tell`` in the event loop.  ``poll`` forces polling on or off.
    """

    folder: Path
    wanted: Callable[[bytes, str], bool]
    take: Callable[[Path], Taken]
    tell: Callable[[InboxTaken | InboxFailed], None]
    poll: bool | None = None
    settings: InboxSettings = field(default_factory=InboxSettings)
    _candidates: dict[str, _Candidate] = field(default_factory=dict)
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _polling: bool = False

    async def run(self) -> None:
        """Watch the folder until cancelled; a folder that is missing now and then is waited for."""
        _ignore_lease_signals()
        missing = False
        while True:
            identity = _identity(self.folder)
            if identity is not None:
                missing = False
                await self._run_while(identity)
                continue
            if not missing:
                missing = True
                self.tell(InboxFailed(self.folder, "the inbox is not there; waiting for it"))
            await asyncio.sleep(self.settings.poll_s)

    async def once(self) -> None:
        """Take in what is complete now or within some seconds, and return."""
        _ignore_lease_signals()
        self._polling = is_shared(self.folder) if self.poll is None else self.poll
        while (wait := await self.look()) is not None and wait <= self.settings.quiet_s:
            await asyncio.sleep(wait)

    # ------------------------------------------------------------------------------------------------ watching

    async def _run_while(self, identity: tuple[int, int]) -> None:
        """Watch as long as the folder stays the same one: not removed, replaced or mounted over."""
        self._polling = is_shared(self.folder) if self.poll is None else self.poll
        observer = None if self._polling else self._observe(asyncio.get_running_loop())
        interval = self.settings.poll_s if observer is None else self.settings.heal_s
        try:
            while _identity(self.folder) == identity:
                self._woken.clear()
                wait = await self.look()
                try:
                    async with asyncio.timeout(interval if wait is None else min(wait, interval)):
                        await self._woken.wait()
                except TimeoutError:
                    pass
        finally:
            if observer is not None:
                observer.stop()
                await run_in_thread(observer.join)

    def _observe(self, loop: asyncio.AbstractEventLoop) -> Any:
        """Start watchdog on the folder; return None where that does not work (no inotify watches left)."""
        from watchdog.events import FileSystemEvent, FileSystemEventHandler
        from watchdog.observers import Observer

        inbox = self

        class Handler(FileSystemEventHandler):
            def on_any_event(self, event: FileSystemEvent) -> None:
                if event.event_type not in ("created", "modified", "closed", "moved", "deleted"):
                    return  # we open files ourselves when we look
                name = event.dest_path if event.event_type == "moved" else event.src_path
                done = event.event_type in ("closed", "moved")
                try:
                    loop.call_soon_threadsafe(inbox._on_event, Path(os.fsdecode(name)), done)
                except RuntimeError:
                    pass  # the loop has ended

        observer = Observer()
        try:
            observer.schedule(Handler(), str(self.folder), recursive=False)
            observer.start()
        except OSError:
            return None
        return observer

    def _on_event(self, path: Path, done: bool) -> None:
        if path == self.folder:
            self._woken.set()
        if path.parent != self.folder or not _acceptable(path.name):
            return
        now = time.monotonic()
        candidate = self._candidates.setdefault(path.name, _Candidate(now))
        candidate.since, candidate.closed, candidate.dull = now, done, False
        self._woken.set()

    # ------------------------------------------------------------------------------------------------ looking

    async def look(self) -> float | None:
        """Take in every file that is complete; return the seconds until it is worth looking again, None if it is not."""
        try:
            names = await run_in_thread(self._names)
        except OSError as error:
            self.tell(InboxFailed(self.folder, f"cannot look into the inbox: {error.strerror}"))
            return self.settings.retry_s
        for gone in set(self._candidates).difference(names):
            del self._candidates[gone]
        waits = [wait for name in names if (wait := await self._consider(name)) is not None]
        return min(waits, default=None)

    def _names(self) -> list[str]:
        found = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if _acceptable(entry.name) and entry.is_file(follow_symlinks=False):
                    found.append(entry.name)
                    if len(found) >= _MAX_ENTRIES:
                        break
        return sorted(found)

    async def _consider(self, name: str) -> float | None:
        """Take in a file if it is complete; return the seconds to wait if it may be later, else None."""
        path = self.folder / name
        now = time.monotonic()
        candidate = self._candidates.setdefault(name, _Candidate(now))
        try:
            found = path.lstat()
        except OSError:
            return None
        stamp = (found.st_size, found.st_mtime_ns, found.st_ino)
        if stamp != candidate.stamp:
            candidate.stamp, candidate.dull, candidate.doubtful = stamp, False, False
            if not candidate.closed:
                candidate.since = now
        if candidate.dull:
            return None
        sure = not self._polling and not candidate.doubtful
        left = candidate.since + (self.settings.after_close_s if sure else self.settings.quiet_s) - now
        if left > 0:
            return left
        try:
            return await self._advance(path, candidate, now)
        except StoreError as error:
            # The file is not to blame: it stays where it is.
            self.tell(InboxFailed(path, error.message))
            candidate.since = now + self.settings.retry_s
            return self.settings.retry_s
        except Exception as error:  # a bug that one file shows must not keep the others waiting
            # Until it changes, or until the next start.
            candidate.dull = True
            self.tell(InboxFailed(path, what_went_wrong(error)))
            return None

    async def _advance(self, path: Path, candidate: _Candidate, now: float) -> float | None:
        """Examine a file that seems complete, and take it in if it is."""
        settings = self.settings
        state = await run_in_thread(lambda: self._examine(path))
        if state is _State.DULL:
            candidate.dull = True
            return None
        if state is _State.BUSY and now < candidate.since + settings.stuck_s:
            return settings.quiet_s
        if state is _State.UNSURE and not candidate.closed and now < candidate.since + settings.quiet_s:
            return candidate.since + settings.quiet_s - now
        taken = await run_in_thread(lambda: self.take(path))
        if not taken.whole and not candidate.doubtful:
            candidate.doubtful, candidate.since = True, time.monotonic()
            return settings.quiet_s
        try:
            moved_to = await run_in_thread(lambda: self._move(path, taken.whole))
        except OSError as error:
            why = error.strerror or "it stays where it is"
            if error.errno == errno.EROFS:
                # The user unit may write only to the inboxes that were in the settings when it was installed.
                why += "; if this is a new inbox, run 'sneaker setup' again"
            raise StickError(f"{taken.words}, but the file cannot be moved away: {why}") from None
        self._candidates.pop(path.name, None)
        self.tell(InboxTaken(path, taken, moved_to))
        return None

    def _examine(self, path: Path) -> _State:
        """Look whether a file is a plain one, for us, and not being written."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_dev != os.stat(self.folder).st_dev:
                return _State.DULL
            if not self.wanted(os.read(descriptor, _SNIFF_BYTES), path.name):
                return _State.DULL
            return _State.READY if self._polling else _writers(descriptor)
        finally:
            os.close(descriptor)

    def _move(self, path: Path, whole: bool) -> Path:
        """Move a file to where it belongs, under its own name or one like it; never over another file."""
        folder = self.folder / (DONE_FOLDER if whole else QUARANTINE_FOLDER)
        source = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        target = -1
        try:
            try:
                os.mkdir(folder.name, dir_fd=source)
            except FileExistsError:
                pass
            # A link in place of the folder would lead elsewhere.
            target = os.open(folder.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
            for name in _free_names(path.name):
                try:
                    os.stat(name, dir_fd=target, follow_symlinks=False)
                except FileNotFoundError:
                    os.rename(path.name, name, src_dir_fd=source, dst_dir_fd=target)
                    return folder / name
        finally:
            os.close(source)
            if target >= 0:
                os.close(target)
        raise StickError(f"there are too many files of that name in {folder}")


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return what tells a folder from another of the same name, or None if there is none."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISDIR(found.st_mode) else None


def _acceptable(name: str) -> bool:
    return not name.startswith((".", "~")) and not name.lower().endswith(_PART_SUFFIXES)


def _free_names(name: str) -> Iterable[str]:
    yield name
    cut = os.fsencode(name)[:_MAX_NAME_BYTES]
    for number in range(1, 1_000_000):
        yield os.fsdecode(cut + b".%d" % number)


def _writers(descriptor: int) -> _State:
    """Ask the kernel whether anybody has the file open for writing.

    A read lease is only granted on a file that nobody writes to (fcntl(2), F_SETLEASE): the one way to know that of
    other people's processes.  It is given back at once.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        # Somebody else's file (EACCES), or a file system without leases (EINVAL)
        return _State.BUSY if error.errno == errno.EAGAIN else _State.UNSURE
    return _State.READY


def _ignore_lease_signals() -> None:
    """Somebody who opens a file for writing while we hold a lease makes the kernel send SIGIO, which would end us."""
    try:
        signal.signal(signal.SIGIO, signal.SIG_IGN)
    except ValueError:
        pass  # only the main thread may do this
