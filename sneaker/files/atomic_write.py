"""Files that are either whole or not there: the one way in which anything gets a name that it has to keep.

A file gets its name only when all of it is on the disk: written under a temporary name, synced, renamed, and the name
synced as its file system needs it, so that neither a power cut nor a stick pulled early leaves half a file under a whole
name, or none.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from enum import Enum
from functools import cache
from pathlib import Path
from typing import BinaryIO

from sneaker.errors import OutputError

__all__ = [
    "PART_SUFFIX",
    "Discarded",
    "atomic_file",
    "check_may_replace",
    "move_file",
    "new_file",
    "output_errors",
    "reason_of",
    "sync_names",
    "write_whole_file",
]

PART_SUFFIX = ".part"

# As much of a file as shows what it is.
_START_BYTES = 4096

_NO_FILES = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)

_REASONS = {
    errno.ENOSPC: ("there is no room left", "free some space, or use --max-size"),
    errno.EDQUOT: ("the quota is used up", "free some space, or use --max-size"),
    errno.EFBIG: ("the file would be too large for this file system", "use --volume-size to split it"),
    errno.EROFS: (
        "it is read-only",
        "the stick may have a write-protect switch, or was mounted read-only after an error",
    ),
    errno.EACCES: ("permission denied", None),
    errno.EIO: ("the device reports an error", "the stick may be failing; try another one"),
    errno.ENODEV: ("the device is gone", "was the stick pulled out?"),
    errno.ENXIO: ("the device is gone", "was the stick pulled out?"),
    errno.ENOENT: ("there is no such folder", None),
    errno.ENOTDIR: ("there is a file where its folder should be", None),
    errno.EISDIR: ("it is a folder", None),
    errno.ENAMETOOLONG: ("its name is too long", None),
    errno.ENOSYS: ("its file system cannot give a file another name", "choose a folder on another one"),
    errno.ENOTSUP: ("its file system cannot give a file another name", "choose a folder on another one"),
}


def reason_of(error: OSError) -> str:
    """Return what went wrong in words for people."""
    return _REASONS.get(error.errno or 0, (error.strerror or "it failed", None))[0]


@contextlib.contextmanager
def output_errors(path: Path | str) -> Iterator[None]:
    """Turn OSError into OutputError that names ``path`` and says what can be done."""
    try:
        yield
    except OSError as error:
        reason, hint = _REASONS.get(error.errno or 0, (error.strerror or "it failed", None))
        raise OutputError(f"cannot write {path}: {reason}", hint=hint) from error


class Discarded(Exception):
    """Raised in the block of ``atomic_file``: the file is not wanted after all."""


def check_may_replace(path: Path, is_ours: Callable[[bytes], bool]) -> None:
    """Raise OutputError if something is at ``path`` that is not a file of the kind that will be written there.

    ``is_ours`` is given its first bytes.  Links and devices are never replaced, empty files always.
    """
    try:
        status = path.lstat()
    except OSError:
        return  # nothing there; or writing says better what is wrong
    if not stat.S_ISREG(status.st_mode):
        what = next((words for test, words in _NO_FILES if test(status.st_mode)), "not a file")
        raise OutputError(
            f"{path} is {what}",
            hint="nothing was written; choose another name ('sneaker export -' writes to standard output)",
        )
    if not status.st_size:
        return
    with contextlib.suppress(OSError), path.open("rb") as file:
        if is_ours(file.read(_START_BYTES)):
            return
    raise OutputError(f"{path} exists and is something else", hint="nothing was written; choose another name")


@contextlib.contextmanager
def new_file(path: Path, mode: int = 0o644, *, replaces: Callable[[bytes], bool] | None = None) -> Iterator[BinaryIO]:
    """Open a file that appears as ``path`` when the block ends well, and not at all otherwise.

    What is at ``path`` is replaced only if it is an empty file, or ``replaces`` says of its first bytes that it is of the
    same kind; else OutputError is raised before anything is written.  Raises OSError as it comes; see ``output_errors``.
    """
    check_may_replace(path, replaces if replaces is not None else lambda _: False)
    with _opened_folder(path.parent) as folder, atomic_file(folder, path.name, mode, replace=True) as file:
        yield file


def write_whole_file(path: Path, data: bytes, mode: int = 0o644, *, replace: bool) -> None:
    """Write a file whose bytes are all at hand; raises OSError, FileExistsError if it is there and ``replace`` is false."""
    with _opened_folder(path.parent) as folder, atomic_file(folder, path.name, mode, replace=replace) as file:
        file.write(data)


@contextlib.contextmanager
def atomic_file(
    folder: int,
    name: str,
    mode: int = 0o644,
    *,
    replace: bool,
    part_name: str | None = None,
    heed_umask: bool = True,
) -> Iterator[BinaryIO]:
    """Open a file that appears as ``name`` in an opened folder when the block ends well: whole, and to stay.

    ``folder`` is the folder's descriptor: no link leads out of it.  With ``replace`` a file that has the name gives way;
    without, FileExistsError is raised if anything has it by then.  Until it has its name, the file is called
    ``part_name``.  The block may raise ``Discarded``: then the file is removed, and all is well.  Raises OSError.
    """
    part = part_name if part_name is not None else f".{_start_of(name)}.{secrets.token_hex(4)}{PART_SUFFIX}"
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            if not heed_umask:
                with contextlib.suppress(OSError):  # FAT keeps no modes
                    os.fchmod(descriptor, mode)
            yield file
            file.flush()
            os.fsync(descriptor)
            if replace:
                os.replace(part, name, src_dir_fd=folder, dst_dir_fd=folder)
            else:
                _rename_to_free_name(folder, part, name)
            _make_rename_last(folder, descriptor)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(part, dir_fd=folder)
        if not isinstance(error, Discarded):
            raise


def _start_of(name: str) -> str:
    """Return as much of a name as leaves room for more: names are at most 255 bytes, and no character is cut in two."""
    return os.fsencode(name)[:100].decode("utf-8", "ignore")


def move_file(source: Path, target: Path) -> None:
    """Give a file that is on the disk another name, in the place of what has it, to stay; raises OSError."""
    with _opened_folder(target.parent) as folder:
        os.replace(source, target.name, dst_dir_fd=folder)
        descriptor = os.open(target.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            _make_rename_last(folder, descriptor)
        finally:
            os.close(descriptor)
    if source.parent != target.parent:
        with _opened_folder(source.parent) as folder:
            sync_names(folder)


@contextlib.contextmanager
def _opened_folder(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _rename_to_free_name(folder: int, part: str, name: str) -> None:
    """Give a file its name, but not one that somebody else has taken meanwhile."""
    try:
        os.link(part, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:
        # FAT has no hard links; names there are random or carry a counter, or the folder has one user: a look is enough.
        with contextlib.suppress(FileNotFoundError):
            os.stat(name, dir_fd=folder, follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, "it is there already", name) from None
        os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
    else:
        os.unlink(part, dir_fd=folder)


def _make_rename_last(folder: int, file: int) -> None:
    """See to it that a file has its new name after a power cut, too; see ``_AFTER_RENAME``."""
    if _AFTER_RENAME.get(_file_system(folder), _UNKNOWN) is not _Sync.FOLDER:
        os.fsync(file)
    sync_names(folder)


def sync_names(folder: int) -> None:
    """Make the names in an opened folder durable; raises OSError.

    Where a folder cannot be synced (some network file systems and those of FUSE), the whole file system is.
    """
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
        _sync_file_system(folder)


class _Sync(Enum):
    """What has to be synced for a file to keep its new name, and with it its bytes."""

    FOLDER = "folder"
    FILE_AND_FOLDER = "file and folder"


#: By the number that tells file systems apart (statfs(2), linux/magic.h).
_AFTER_RENAME: dict[int | None, _Sync] = {
    0xEF53: _Sync.FOLDER,  # ext2, ext3, ext4
    0x9123683E: _Sync.FOLDER,  # btrfs
    0x58465342: _Sync.FOLDER,  # xfs
    0xF2F52010: _Sync.FOLDER,  # f2fs
    0x01021994: _Sync.FOLDER,  # tmpfs: nothing in it outlasts a power cut
    # Linux's vfat gives the new name an entry that says "empty", and writes size and place into it when it writes the
    # file's inode: a stick that is pulled out in between holds an empty file of that name.
    0x4D44: _Sync.FILE_AND_FOLDER,  # vfat
    0x2011BAB0: _Sync.FILE_AND_FOLDER,  # exfat
}
# FUSE, network and overlay file systems, and those to come: nobody knows what lies below them.
_UNKNOWN = _Sync.FILE_AND_FOLDER


def _file_system(descriptor: int) -> int | None:
    """Return the number of the file system that an opened file is on; None if it cannot be told."""
    # struct statfs begins with the number, a word of the machine, and is at most 120 bytes long.
    found = ctypes.create_string_buffer(256)
    if _libc().fstatfs(descriptor, found) != 0:
        return None
    return ctypes.c_long.from_buffer(found).value & 0xFFFFFFFF


def _sync_file_system(descriptor: int) -> None:
    if _libc().syncfs(descriptor) != 0:
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise OSError(code, os.strerror(code))


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
