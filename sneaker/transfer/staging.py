"""What waits in this home before it is taken in: the copy of a stick's file, repaired sectors, records without a header.

A stick's file is read through a copy, each byte once.  So what was checked is what is taken in, even if the stick changes
meanwhile; and what nobody needs (a gigabyte, less the ten messages that we lack) is not read.  The files here have no
names, so a killed visit leaves nothing behind.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from sneaker.bundle.events import BlobRead, MessagesRead
from sneaker.errors import StoreFull

__all__ = ["MIN_FREE_HOME_BYTES", "HeldRecords", "NamelessFile", "StagedFile"]

# What stays free on this machine while a bundle is copied: the store needs room as well.
MIN_FREE_HOME_BYTES = 64 * 1024 * 1024
_LOOK_AGAIN_BYTES = 16 * 1024 * 1024

# How much is read at once, and how much ahead.
_BLOCK = 16 * 1024
_AHEAD_BLOCKS = 16
# A bad place costs one page. Each may take seconds to fail, and a stick that is gone fails everywhere.
_PAGE = 4096
_MAX_BAD_PAGES = 32


_HELD = struct.Struct("<?QI")  # whether it is a blob, offset in the bundle, length


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


class HeldRecords:
    """Records of a bundle whose network is not known yet; ``close`` drops them."""

    def __init__(self, home: Path) -> None:
        self._file = NamelessFile(home)
        self._end = 0

    def add(self, record: MessagesRead | BlobRead) -> None:
        """Keep a record; raises StoreFull."""
        head = _HELD.pack(isinstance(record, BlobRead), record.offset, len(record.payload))
        self._file.write_at(head + record.payload, self._end)
        self._end += _HELD.size + len(record.payload)

    def __iter__(self) -> Iterator[MessagesRead | BlobRead]:
        """Yield them in the order they came in."""
        at = 0
        while at < self._end:
            is_blob, offset, length = _HELD.unpack(self._file.read_at(_HELD.size, at))
            payload = self._file.read_at(length, at + _HELD.size)
            yield (BlobRead if is_blob else MessagesRead)(payload, offset)
            at += _HELD.size + length

    def close(self) -> None:
        """Drop the records."""
        self._file.close()


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
