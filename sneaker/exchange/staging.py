"""Reading a stick's file by way of a copy in this home: each byte of it is read from the stick once.

What was looked at is what is taken in, even if the stick changes under our hands; and what nobody looks at (all of a
gigabyte but the ten messages we lack) is not read.  The copy has no name, so a killed visit leaves nothing behind.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from sneaker.errors import StoreFull

__all__ = ["MIN_FREE_HOME_BYTES", "StagedFile"]

# What stays free on this machine while a bundle is copied: the store needs room as well.
MIN_FREE_HOME_BYTES = 64 * 1024 * 1024
_LOOK_AGAIN_BYTES = 16 * 1024 * 1024

# What is read at once, and how much is read ahead of what is asked for.
_BLOCK = 16 * 1024
_AHEAD_BLOCKS = 16
# A bad place on a medium costs one page; each may take seconds to fail, and a stick that is gone fails everywhere.
_PAGE = 4096
_MAX_BAD_PAGES = 32


class StagedFile(io.RawIOBase):
    """A file like ``file``, read through a copy in ``home``.

    Places that the medium does not give are zeros.  Reading raises OSError if there are many of them or the stick is gone,
    and StoreFull if there is no room left on this machine.
    """

    def __init__(self, file: BinaryIO, home: Path, progress: Callable[[int], None]) -> None:
        super().__init__()
        self._source = file.fileno()
        self.size = os.fstat(self._source).st_size
        self._home = home
        self._copy: Any = None
        self._copied: set[int] = set()
        self._position = 0
        self._progress = progress
        self._until_look = 0
        #: Pages that could not be read.
        self.bad_pages = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self.size - self._position))
        if count == 0:
            return 0
        first, last = self._position // _BLOCK, (self._position + count - 1) // _BLOCK
        for block in range(first, last + 1):
            if block not in self._copied:
                self._fetch(block, last)
        data = os.pread(self._copy.fileno(), count, self._position)
        data += bytes(count - len(data))  # a hole at the end of the copy
        buffer[:count] = data
        self._position += count
        return count

    def close(self) -> None:
        if self._copy is not None:
            self._copy.close()
            self._copy = None
        super().close()

    def _fetch(self, block: int, last: int) -> None:
        """Copy a block, and those after it up to ``last`` that are not copied yet."""
        count = 1
        while count < _AHEAD_BLOCKS and block + count <= last and block + count not in self._copied:
            count += 1
        at = block * _BLOCK
        data = self._read(at, min(count * _BLOCK, self.size - at))
        self._write(at, data)
        self._copied.update(range(block, block + count))
        self._progress(len(data))

    def _read(self, at: int, count: int) -> bytes:
        try:
            return os.pread(self._source, count, at)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
        parts = []
        for start in range(at, at + count, _PAGE):
            length = min(_PAGE, at + count - start)
            try:
                part = os.pread(self._source, length, start)
            except OSError as error:
                self.bad_pages += 1
                if error.errno != errno.EIO or self.bad_pages > _MAX_BAD_PAGES:
                    raise
                part = b""
            parts.append(part + bytes(length - len(part)))
        return b"".join(parts)

    def _write(self, at: int, data: bytes) -> None:
        if not data.strip(b"\0") and self._copy is not None:
            return  # a sparse file stays one
        try:
            if self._copy is None:
                self._copy = tempfile.TemporaryFile(dir=self._home, prefix="staging-")  # noqa: SIM115
            if self._until_look <= 0:
                if shutil.disk_usage(self._home).free < MIN_FREE_HOME_BYTES + len(data):
                    raise OSError(errno.ENOSPC, "no room")
                self._until_look = min(_LOOK_AGAIN_BYTES, MIN_FREE_HOME_BYTES // 2)
            self._until_look -= len(data)
            os.pwrite(self._copy.fileno(), data, at)
        except OSError as error:
            raise StoreFull(
                f"there is no room on this machine to take in what is on the stick ({error.strerror})",
                hint="make room, and insert the stick again",
            ) from None
