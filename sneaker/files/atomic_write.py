"""Writing files that are either whole or not there.

A file gets its name only when all of it is on the disk: written under a temporary name, synced, renamed, and the
folder synced, so that neither a power cut nor a stick pulled early leaves half a file under a whole name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from sneaker.errors import OutputError

__all__ = ["PART_SUFFIX", "check_may_replace", "new_file", "output_errors", "reason_of", "sync_folder"]

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
    errno.ENOTDIR: ("there is no such folder", None),
    errno.EISDIR: ("it is a folder", None),
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


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable; file systems that cannot (some network ones) are left alone."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


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
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}{PART_SUFFIX}")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)
            # On vfat, the size stands in the entry of the new name only once the file is synced again.
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)
