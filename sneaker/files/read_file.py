"""Files that a person names are opened for reading: plain ones, and pipes that a shell made."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from sneaker.errors import SourceError

__all__ = ["open_for_reading", "reading_error"]

_REASONS = {
    errno.ENOENT: "there is no such file",
    errno.EACCES: "permission denied",
    errno.EIO: "the device reports an error",
    errno.ENODEV: "the device is gone",
    errno.ENXIO: "the device is gone",
    errno.EISDIR: "it is a folder",
}


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
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISFIFO(mode) and _is_from_a_shell(path):
        os.set_blocking(descriptor, True)
    elif not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = "a named pipe" if stat.S_ISFIFO(mode) else "a device" if not stat.S_ISDIR(mode) else "a folder"
        hint = "use 'sneaker import -' to read a pipe" if stat.S_ISFIFO(mode) else None
        raise SourceError(f"cannot read {shown}: it is {kind}, not a file", hint=hint)
    return os.fdopen(descriptor, "rb", buffering=0 if stat.S_ISFIFO(mode) else -1)


def _is_from_a_shell(path: Path) -> bool:
    if ".." in path.parts:  # then it leads elsewhere
        return False
    return path == Path("/dev/stdin") or any(path.is_relative_to(folder) for folder in ("/dev/fd", "/proc"))
