"""A folder on a stick, held open, and files in it: written once, and read as if a stranger had written them.

A file is opened only if it is a plain file (no link, pipe or device) on the same file system as the folder, by its name
inside the opened folder, so that nothing leads out of the stick.  If the "stick" is a folder that others share, somebody
may have given a private file of ours a second name in it: a file with several names that is not readable for everybody is
left alone.  A file that is written appears whole, after it was read back from the medium, under a name that nobody else
uses.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Self

from sneaker.errors import SourceError, StickError
from sneaker.files.atomic_write import PART_SUFFIX, Discarded, atomic_file, sync_names

__all__ = ["MAX_ENTRIES", "Entry", "Folder", "Listing", "NewFile"]

# How many files of ours, and things of any name, one visit looks at in a folder. With more the stick is broken or hostile.
MAX_ENTRIES = 100_000
_MAX_SCANNED = 2_000_000

# Whatever the umask is, the next machine reads with another user id.
_FILE_MODE = 0o644


@dataclass(frozen=True, slots=True)
class Entry:
    """A plain file on a stick."""

    name: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Listing:
    """What is in a folder: the plain files looked for, by name; how many other things; and whether there was too much to see all."""

    files: tuple[Entry, ...] = ()
    others: int = 0
    cut: bool = False


class NewFile:
    """A file that is being written, under a temporary name still."""

    def __init__(self, file: BinaryIO) -> None:
        #: To read back what was written; ``flush`` first.
        self.file = file
        self.digest = hashlib.blake2b(digest_size=32)
        #: If set, the file does not get its name.
        self.is_discarded = False

    def write(self, data: bytes) -> int:
        """Write all of ``data``."""
        self.file.write(data)
        self.digest.update(data)
        return len(data)

    def flush(self) -> os.stat_result:
        """Bring all of it onto the medium, and return its status from there."""
        self.file.flush()
        os.fsync(self.file.fileno())
        return os.fstat(self.file.fileno())

    @property
    def size(self) -> int:
        """Bytes that the medium has taken so far."""
        return os.fstat(self.file.fileno()).st_size


class Folder:
    """An opened folder; OSErrors come as they are, for the visit to report."""

    def __init__(self, descriptor: int) -> None:
        """Take over an opened folder; ``close`` closes it."""
        self._descriptor = descriptor
        self._device = os.fstat(descriptor).st_dev

    def close(self) -> None:
        """Close it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def is_mount_point(self) -> bool:
        """Whether a file system begins here."""
        return os.stat("..", dir_fd=self._descriptor).st_dev != self._device

    def free_bytes(self) -> int:
        """Return the room that is left on the file system."""
        status = os.fstatvfs(self._descriptor)
        return status.f_bavail * status.f_frsize

    def sync(self) -> None:
        """Make the names in the folder durable."""
        sync_names(self._descriptor)

    # ------------------------------------------------------------------------------------------------ folders

    def subfolder(self, name: str) -> Folder | None:
        """Open a folder in this one; None if there is none.  Raises StickError for a link or another file system."""
        try:
            descriptor = os.open(
                name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._descriptor
            )
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise StickError(
                    f"{name} on the stick is not a folder",
                    hint="somebody put something else there; look at it yourself",
                ) from None
            raise
        found = Folder(descriptor)
        if found._device != self._device:
            found.close()
            raise StickError(f"{name} on the stick belongs to another file system")
        return found

    def make_subfolder(self, name: str, mode: int) -> Folder:
        """Open a folder in this one, made with ``mode`` (whatever the umask is) if it is not there."""
        try:
            os.mkdir(name, 0o700, dir_fd=self._descriptor)
            made = True
        except FileExistsError:
            made = False
        found = self.subfolder(name)
        if found is None:
            raise StickError(f"{name} disappeared from the stick")
        if made:
            with contextlib.suppress(OSError):  # FAT keeps no modes
                os.fchmod(found._descriptor, mode)
            self.sync()
        return found

    # ------------------------------------------------------------------------------------------------ reading

    def list(self, pattern: re.Pattern[str]) -> Listing:
        """Return the plain files whose whole name fits ``pattern``, and how many other things are there."""
        found: list[Entry] = []
        others, cut = 0, False
        with os.scandir(self._descriptor) as entries:
            for number, entry in enumerate(entries):
                if number >= _MAX_SCANNED or len(found) >= MAX_ENTRIES:
                    cut = True
                    break
                if pattern.fullmatch(entry.name) is None:
                    others += not entry.name.startswith(".")
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue  # it is gone again, or cannot be looked at
                if self._is_plain(status):
                    found.append(Entry(entry.name, status.st_size, status.st_mtime_ns))
                else:
                    others += 1
        found.sort(key=lambda item: item.name)
        return Listing(tuple(found), others, cut)

    def open(self, name: str) -> BinaryIO:
        """Open a plain file; raises SourceError for anything else, OSError from opening."""
        if "/" in name or "\0" in name or name in ("", ".", ".."):
            raise SourceError("a name with a path in it")
        # Looked at before it is opened: opening some devices does something.
        self._check_plain(name, os.stat(name, dir_fd=self._descriptor, follow_symlinks=False))
        try:
            opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._descriptor)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise _not_plain(name) from None
            raise
        try:
            self._check_plain(name, os.fstat(opened))
        except BaseException:
            os.close(opened)
            raise
        return os.fdopen(opened, "rb")

    def _is_plain(self, status: os.stat_result) -> bool:
        is_for_everybody = bool(status.st_mode & (stat.S_IRGRP | stat.S_IROTH))
        return (
            stat.S_ISREG(status.st_mode)
            and status.st_dev == self._device
            and (status.st_nlink == 1 or is_for_everybody)  # files of ours have two names for a moment
        )

    def _check_plain(self, name: str, status: os.stat_result) -> None:
        if not self._is_plain(status):
            raise _not_plain(name)

    def read(self, name: str, limit: int) -> bytes:
        """Return the bytes of a small file; raises SourceError if it is larger than ``limit``."""
        with self.open(name) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise SourceError(f"{name!r} on the stick is too large")
        return data

    # ------------------------------------------------------------------------------------------------ writing

    def exists(self, name: str) -> bool:
        """Say whether anything has that name."""
        try:
            os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def write_small(self, name: str, data: bytes, part_prefix: str = "") -> bool:
        """Write a file that must not change once it is there; return False if something has that name already."""
        if self.exists(name):
            return False
        try:
            with self.writing(name, part_prefix) as file:
                file.write(data)
        except FileExistsError:
            return False
        return True

    @contextlib.contextmanager
    def writing(self, name: str, part_prefix: str = "") -> Iterator[NewFile]:
        """Open a file that appears as ``name`` when the block ends well, synced and read back from the medium.

        Raises StickError if what the medium gives back is not what was written, FileExistsError if somebody else took
        the name meanwhile, and OSError from writing.
        """
        part_name = f".{part_prefix}{secrets.token_hex(8)}{PART_SUFFIX}"
        with atomic_file(
            self._descriptor, name, _FILE_MODE, replace=False, part_name=part_name, heed_umask=False
        ) as raw:
            file = NewFile(raw)
            yield file
            file.flush()
            _check_written(raw, file.digest.digest(), name)
            if file.is_discarded:
                raise Discarded

    def remove(self, name: str) -> bool:
        """Remove a file, if it is still there; ``sync`` makes that durable."""
        try:
            os.unlink(name, dir_fd=self._descriptor)
        except FileNotFoundError:
            return False
        return True

    def remove_parts(self, part_prefix: str) -> int:
        """Remove what an interrupted visit of ours left behind, known by its prefix; return how many files that were."""
        pattern = re.compile(rf"\.{re.escape(part_prefix)}[0-9a-f]{{16}}{re.escape(PART_SUFFIX)}")
        return sum(self.remove(entry.name) for entry in self.list(pattern).files)


def _not_plain(name: str) -> SourceError:
    return SourceError(f"{name!r} on the stick is not a plain file")


def _check_written(file: BinaryIO, digest: bytes, name: str) -> None:
    """Read a file back from the medium and compare; the page cache is asked to forget it first."""
    with contextlib.suppress(OSError):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    file.seek(0)
    found = hashlib.blake2b(digest_size=32)
    while data := file.read(1 << 20):
        found.update(data)
    if found.digest() != digest:
        raise StickError(
            f"the stick gives back other bytes than were written ({name})",
            hint="it is failing, or smaller than it says; use another one",
        )
