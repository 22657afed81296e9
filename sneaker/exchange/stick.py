"""A stick: the ``SNEAKER`` folder on a drive, or in any folder, read as what it is: anybody's work.

Names found there are data.  A file is opened only if it is a plain file (no link, pipe or device) on the same file system as
the folder, by its name inside an opened directory, so that nothing leads out of the stick.  Every file is written once, under
a name that nobody else uses, and appears whole.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import stat
from base64 import b32decode, b32encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sneaker.errors import DriveError, SourceError
from sneaker.exchange.output import PART_SUFFIX

__all__ = [
    "BUNDLES",
    "CARDS",
    "FOLDER",
    "MAX_ENTRIES",
    "Entry",
    "Marker",
    "Stick",
    "base32",
    "from_base32",
]

FOLDER = "SNEAKER"
CARDS = "cards"
BUNDLES = "bundles"
_MARKER = "drive.json"
_README = "README.txt"

# What one visit looks at in a folder; a stick with more files than this is broken or hostile, and the rest waits.
MAX_ENTRIES = 100_000
_MAX_MARKER_BYTES = 64 * 1024

_README_TEXT = """\
This stick carries messages of people of the Secure Scuttlebutt network
between places that have no internet.

If you found it: please bring it back, or plug it into any machine with
"sneaker" on it. Nothing on it has to be kept secret, and nothing on it
is ever run as a program. The files in this folder belong together; please
do not change or delete them.
"""


def base32(data: bytes) -> str:
    """Return lower-case base32 without padding: a name that every file system keeps as it is."""
    return b32encode(data).decode("ascii").rstrip("=").lower()


def from_base32(text: str, length: int) -> bytes | None:
    """Return the ``length`` bytes that ``base32`` made ``text`` of, or None if it is not such a name."""
    try:
        data = b32decode(text.upper() + "=" * (-len(text) % 8))
    except ValueError:
        return None
    return data if len(data) == length and base32(data) == text else None


@dataclass(frozen=True, slots=True)
class Marker:
    """What makes a folder a stick: its own id (16 bytes), and the network it carries (``Caps.network_id``)."""

    drive_id: bytes
    network_id: bytes
    created_ms: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A plain file on a stick."""

    name: str
    size: int
    mtime_ns: int


class Stick:
    """An opened stick.  Use it as a context manager; OSErrors come as they are, for the visit to report."""

    def __init__(self, root: Path) -> None:
        """Open ``root/SNEAKER``; raises DriveError if ``root`` is no folder or the folder in it is not one."""
        self.root = root
        self._descriptors: dict[str, int] = {}
        try:
            top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            reason = "there is no such folder" if error.errno == errno.ENOENT else error.strerror
            raise DriveError(f"cannot open {root}: {reason}") from None
        try:
            self._device = os.fstat(top).st_dev
            self._top = top
            folder = self._open_folder(top, FOLDER)
            if folder is not None:
                self._descriptors[""] = folder
        except BaseException:
            os.close(top)
            raise

    def __enter__(self) -> Stick:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all folders."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()
        if self._top >= 0:
            os.close(self._top)
            self._top = -1

    @property
    def exists(self) -> bool:
        """Whether there is a ``SNEAKER`` folder."""
        return "" in self._descriptors

    def _open_folder(self, parent: int, name: str) -> int | None:
        """Open a folder inside another; None if there is none. Links and other file systems are refused."""
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise DriveError(
                    f"{name} on the stick is not a folder",
                    hint="somebody put something else there; look at it yourself",
                ) from None
            raise
        if os.fstat(descriptor).st_dev != self._device:
            os.close(descriptor)
            raise DriveError(f"{name} on the stick belongs to another file system")
        return descriptor

    def _folder(self, name: str) -> int | None:
        """Return the descriptor of ``SNEAKER`` (``""``) or a folder in it; None if it is not there."""
        known = self._descriptors.get(name)
        if known is None and name and self.exists:
            found = self._open_folder(self._descriptors[""], name)
            if found is not None:
                self._descriptors[name] = known = found
        return known

    # ------------------------------------------------------------------------------------------------ reading

    def marker(self) -> Marker | None:
        """Return the stick's marker, or None if there is none; raises DriveError if it cannot be understood."""
        if not self.exists:
            return None
        try:
            data = self.read("", _MARKER, _MAX_MARKER_BYTES)
        except FileNotFoundError:
            return None
        try:
            fields = json.loads(data)
            drive_id = from_base32(fields["drive"], 16)
            network_id = from_base32(fields["network"], 32)
            if fields["sneaker"] != 1 or drive_id is None or network_id is None:
                raise ValueError("not our fields")
            created = fields.get("created", 0)
            return Marker(drive_id, network_id, created if isinstance(created, int) else 0)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise DriveError(
                f"the marker on {self.root} cannot be read",
                hint="the stick is damaged or not one of sneaker's; nothing on it was changed",
            ) from None

    def entries(self, folder: str, pattern: re.Pattern[str]) -> tuple[list[Entry], int]:
        """Return the plain files in ``folder`` whose whole name fits ``pattern``, by name, and how many other things are there."""
        descriptor = self._folder(folder)
        if descriptor is None:
            return [], 0
        found: list[Entry] = []
        others = 0
        with os.scandir(descriptor) as entries:
            for number, entry in enumerate(entries):
                if number >= MAX_ENTRIES:
                    others += 1
                    break
                if pattern.fullmatch(entry.name) is None:
                    others += not entry.name.endswith(PART_SUFFIX)
                    continue
                try:
                    status = os.stat(entry.name, dir_fd=descriptor, follow_symlinks=False)
                except OSError:
                    others += 1
                    continue
                if stat.S_ISREG(status.st_mode) and status.st_dev == self._device:
                    found.append(Entry(entry.name, status.st_size, status.st_mtime_ns))
                else:
                    others += 1
        found.sort(key=lambda item: item.name)
        return found, others

    def open(self, folder: str, name: str) -> BinaryIO:
        """Open a plain file of the stick; raises SourceError for anything else, OSError from opening."""
        descriptor = self._folder(folder)
        if descriptor is None:
            raise FileNotFoundError(errno.ENOENT, "no such folder", folder)
        if "/" in name or name in ("", ".", ".."):
            raise SourceError("a name with a path in it")
        opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=descriptor)
        status = os.fstat(opened)
        if not stat.S_ISREG(status.st_mode) or status.st_dev != self._device:
            os.close(opened)
            raise SourceError(f"{name!r} on the stick is not a plain file")
        return os.fdopen(opened, "rb")

    def read(self, folder: str, name: str, limit: int) -> bytes:
        """Return the bytes of a small file; raises SourceError if it is larger than ``limit``."""
        with self.open(folder, name) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise SourceError(f"{name!r} on the stick is too large")
        return data

    def free_bytes(self) -> int:
        """Return the room that is left on the file system."""
        status = os.fstatvfs(self._top)
        return status.f_bavail * status.f_frsize

    # ------------------------------------------------------------------------------------------------ writing

    def create(self, marker: Marker) -> None:
        """Make the folder and its marker; whoever comes first wins, and nothing that is there is changed."""
        for parent, name in (("", FOLDER), (FOLDER, CARDS), (FOLDER, BUNDLES)):
            at = self._top if not parent else self._descriptors[""]
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o777, dir_fd=at)
            if not parent and not self.exists:
                folder = self._open_folder(self._top, FOLDER)
                if folder is None:
                    raise DriveError(f"{FOLDER} disappeared from the stick")
                self._descriptors[""] = folder
        fields = {
            "sneaker": 1,
            "drive": base32(marker.drive_id),
            "network": base32(marker.network_id),
            "created": marker.created_ms,
        }
        self.write_small("", _README, _README_TEXT.encode("ascii"))
        self.write_small("", _MARKER, (json.dumps(fields, indent=2) + "\n").encode("ascii"))
        os.fsync(self._top)

    def write_small(self, folder: str, name: str, data: bytes, part_prefix: str = "") -> bool:
        """Write a file that must not change once it is there; return False if a file of that name exists already."""
        descriptor = self._folder(folder)
        if descriptor is not None:
            try:
                os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                return False
            except FileNotFoundError:
                pass
        with self.writing(folder, name, part_prefix) as file:
            file.write(data)
        return True

    @contextlib.contextmanager
    def writing(self, folder: str, name: str, part_prefix: str = "") -> Iterator[BinaryIO]:
        """Open a file that appears as ``name`` when the block ends well, synced and read back from the medium.

        Raises DriveError if what the medium gives back is not what was written, OSError from writing.
        """
        descriptor = self._folder(folder)
        if descriptor is None:
            raise FileNotFoundError(errno.ENOENT, "no such folder", folder)
        temporary = f".{part_prefix}{secrets.token_hex(8)}{PART_SUFFIX}"
        opened = os.open(
            temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=descriptor
        )
        try:
            with os.fdopen(opened, "w+b") as raw:
                file = _Hashing(raw)
                yield file  # type: ignore[misc]
                raw.flush()
                os.fsync(raw.fileno())
                _check_written(raw, file.hash.digest(), name)
            # Not replace: a name that somebody else took meanwhile is theirs.
            self._rename_new(temporary, name, descriptor)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=descriptor)
            raise
        os.fsync(descriptor)

    def _rename_new(self, temporary: str, name: str, descriptor: int) -> None:
        try:
            os.link(temporary, name, src_dir_fd=descriptor, dst_dir_fd=descriptor, follow_symlinks=False)
            os.unlink(temporary, dir_fd=descriptor)
        except FileExistsError:
            raise DriveError(f"a file {name} is on the stick already; nothing was overwritten") from None
        except OSError:
            # FAT has no hard links; our names are random or carry a counter, so a look is enough there.
            try:
                os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            except FileNotFoundError:
                os.rename(temporary, name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
                return
            raise DriveError(f"a file {name} is on the stick already; nothing was overwritten") from None

    def remove(self, folder: str, name: str) -> None:
        """Remove a file; the folder is synced by ``sync``."""
        descriptor = self._folder(folder)
        if descriptor is not None:
            os.unlink(name, dir_fd=descriptor)

    def remove_parts(self, folder: str, part_prefix: str) -> int:
        """Remove what an interrupted visit of ours left behind, known by its prefix; return how many files that were."""
        descriptor = self._folder(folder)
        if descriptor is None or not part_prefix:
            return 0
        removed = 0
        with os.scandir(descriptor) as entries:
            names = [
                entry.name
                for entry in entries
                if entry.name.startswith(f".{part_prefix}") and entry.name.endswith(PART_SUFFIX)
            ]
        for name in names:
            os.unlink(name, dir_fd=descriptor)
            removed += 1
        return removed

    def sync(self) -> None:
        """Make the names on the stick durable."""
        for descriptor in self._descriptors.values():
            os.fsync(descriptor)


class _Hashing:
    """A file that hashes what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.hash = hashlib.blake2b(digest_size=32)
        self.tell: Callable[[], int] = file.tell

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        return self._file.write(data)


def _check_written(file: BinaryIO, digest: bytes, name: str) -> None:
    """Read a file back from the medium and compare; the page cache is asked to forget it first."""
    with contextlib.suppress(OSError):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    file.seek(0)
    found = hashlib.blake2b(digest_size=32)
    while data := file.read(1 << 20):
        found.update(data)
    if found.digest() != digest:
        raise DriveError(
            f"the stick gives back other bytes than were written ({name})",
            hint="it is failing, or smaller than it says; use another one",
        )
