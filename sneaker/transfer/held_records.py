"""Records of a bundle that wait until its header or trailer says to which network they belong."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from sneaker.bundle.events import BlobRead, MessagesRead
from sneaker.files.nameless_file import NamelessFile

__all__ = ["HeldRecords"]

_HELD = struct.Struct("<?QI")  # whether it is a blob, offset in the bundle, length


class HeldRecords:
    """Records of a bundle whose network is not known yet; ``close`` drops them."""

    def __init__(self, home: Path) -> None:
        self._file = NamelessFile(home)
        self._end = 0

    def hold(self, record: MessagesRead | BlobRead) -> None:
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
