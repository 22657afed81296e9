"""Files that a person names are opened for reading: plain ones, and pipes that a shell made."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from sneaker.errors import SourceError

__all__ = ["file_bytes", "is_folder", "open_for_reading", "reading_error", "reading_errors", "wait_for_data"]

_REASONS = {
    errno.ENOENT: "there is no such file",
    errno.ENOTDIR: "there is a file where its folder should be",
    errno.EACCES: "permission denied",
    errno.ENAMETOOLONG: "its name is too long",
    errno.EIO: "the device reports an error",
    errno.ENODEV: "the device is gone",
    errno.ENXIO: "the device is gone",
    errno.EISDIR: "it is a folder",
}


# Where the system keeps a program's open files: a pipe at any other path is a FIFO with a name.
_OPEN_FILE = re.compile(r"/dev/stdin|(/dev|/proc/(self|[0-9]+))/fd/[0-9]+")


class _File(io.FileIO):
    """A file that ends where it has nothing at the moment, as some of the system's own do."""

    def readinto(self, buffer: Any) -> int:
        return super().readinto(buffer) or 0


@contextlib.contextmanager
def reading_errors(name: str) -> Iterator[None]:
    """Turn OSError into the SourceError for reading ``name``."""
    try:
        yield
    except OSError as error:
        raise reading_error(name, error) from None


def reading_error(name: str, error: OSError) -> SourceError:
    """Return the SourceError for an OSError while reading ``name``."""
    return SourceError(f"cannot read {name}: {_REASONS.get(error.errno or 0, error.strerror or 'it failed')}")


def open_for_reading(path: Path, name: str | None = None) -> BinaryIO:
    """Open a file, called ``name`` in errors; raises SourceError for what is not a plain file.

    Pipes are read where a shell made them (``<(...)``, ``/dev/stdin``) but not as named FIFOs, which would wait for a
    writer that may never come.
    """
    shown = name if name is not None else str(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise reading_error(shown, error) from None
    except ValueError:  # a zero byte
        raise reading_error(shown, _no_name()) from None
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISFIFO(mode) and _OPEN_FILE.fullmatch(str(path)):
        os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "rb", buffering=0)
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = "a named pipe" if stat.S_ISFIFO(mode) else "a device" if not stat.S_ISDIR(mode) else "a folder"
        hint = "use 'sneaker import -' to read a pipe" if stat.S_ISFIFO(mode) else None
        raise SourceError(f"cannot read {shown}: it is {kind}, not a file", hint=hint)
    return io.BufferedReader(_File(descriptor, "rb"))


def _no_name() -> OSError:
    return OSError(errno.EINVAL, "there can be no file of this name")


def wait_for_data(file: BinaryIO) -> BinaryIO:
    """Return ``file``, standard input, made to wait for data: whoever made the pipe may have switched that off."""
    try:
        os.set_blocking(file.fileno(), True)
    except OSError:  # it is no file of the system, or none that can wait
        pass
    return file


def is_folder(path: Path) -> bool:
    """Say whether there is a folder at ``path``; raises OSError where that cannot be told, or no file can have the name."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return False
        raise
    except ValueError:  # a zero byte
        raise _no_name() from None


def file_bytes(path: Path) -> int | None:
    """Return the size of a plain file; None for what is none, or cannot be looked at: reading it says why."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None
