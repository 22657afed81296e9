"""A stick's files are read by way of a copy in the home, each byte once.

So what was checked is what is taken in, even if the stick changes meanwhile; and what nobody needs (a gigabyte, less the ten
messages that we lack) is not read.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from sneaker.files.nameless_file import NamelessFile

__all__ = ["StagedFile"]

# How much is read at once, and how much ahead.
_BLOCK = 16 * 1024
_AHEAD_BLOCKS = 16
# A bad place costs one page. Each may take seconds to fail, and a stick that is gone fails everywhere.
_PAGE = 4096
_MAX_BAD_PAGES = 32


class StagedFile(io.RawIOBase):
    """A file like ``file``, read through a copy in ``home``.

    Places that cannot be read are zeros.  Reading raises OSError if there are many of them or the stick is gone,
    and StoreFull if there is no room left on this machine.
    """

    def __init__(self, file: BinaryIO, home: Path, progress: Callable[[int], None]) -> None:
        super().__init__()
        self._source = file.fileno()
        self.size = os.fstat(self._source).st_size
        self._copy = NamelessFile(home)
        self._copied: set[int] = set()
        self._position = 0
        self._progress = progress
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
        buffer[:count] = self._copy.read_at(count, self._position)
        self._position += count
        return count

    def close(self) -> None:
        self._copy.close()
        super().close()

    def _fetch(self, block: int, last: int) -> None:
        """Copy a block, and those after it up to ``last`` that are not copied yet."""
        count = 1
        while count < _AHEAD_BLOCKS and block + count <= last and block + count not in self._copied:
            count += 1
        at = block * _BLOCK
        data = self._read(at, min(count * _BLOCK, self.size - at))
        if data.strip(b"\0") or not self._copy.is_there:  # a sparse file stays one
            self._copy.write_at(data, at)
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
