"""A file without a name in the home, for what waits there before it is taken in: a killed program leaves nothing behind."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from sneaker.errors import StoreFull

__all__ = ["MIN_FREE_HOME_BYTES", "NamelessFile"]

# What stays free on this machine while a bundle is copied: the store needs room as well.
MIN_FREE_HOME_BYTES = 64 * 1024 * 1024
_LOOK_AGAIN_BYTES = 16 * 1024 * 1024


class NamelessFile:
    """A file without a name in the home, which always leaves room for the store."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._file: Any = None
        self._until_look = 0

    @property
    def is_there(self) -> bool:
        """Whether anything was written."""
        return self._file is not None

    def write_at(self, data: bytes, at: int) -> None:
        """Write; raises StoreFull if there is no room left on this machine."""
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._home, prefix="staging-")  # noqa: SIM115
            if self._until_look <= 0:
                if shutil.disk_usage(self._home).free < MIN_FREE_HOME_BYTES + len(data):
                    raise OSError(errno.ENOSPC, "no room")
                self._until_look = min(_LOOK_AGAIN_BYTES, MIN_FREE_HOME_BYTES // 2)
            self._until_look -= len(data)
            os.pwrite(self._file.fileno(), data, at)
        except OSError as error:
            raise StoreFull(
                f"there is no room on this machine to take in what is on the stick ({error.strerror})",
                hint="make room, and insert the stick again",
            ) from None

    def read_at(self, count: int, at: int) -> bytes:
        """Return what is there; a hole at the end is zeros."""
        data: bytes = os.pread(self._file.fileno(), count, at)
        return data + bytes(count - len(data))

    def close(self) -> None:
        """Close the file, which deletes it."""
        if self._file is not None:
            self._file.close()
            self._file = None
