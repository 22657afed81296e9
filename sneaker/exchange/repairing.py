"""Bundles with bad sectors, read as their parity records say they were (``bundles-format.md``, "Parity")."""

from __future__ import annotations

import io
import os
from typing import Any, BinaryIO

from sneaker.bundle.format import FOOTER_BYTES
from sneaker.bundle.parity import SECTOR_BYTES, Repair, overlaid, parity_bytes, parity_footer, parity_records, repair

__all__ = ["append_parity", "plain_limit", "repaired_file"]


def append_parity(file: BinaryIO, tag: bytes, first_record_number: int, percent: int) -> None:
    """Put parity records into a finished bundle, between its trailer and its footer.

    ``file`` stands at its end and can be read; ``tag`` and ``first_record_number`` continue its records.
    """
    file.flush()
    size = file.tell() - FOOTER_BYTES
    descriptor = file.fileno()

    def read(offset: int, length: int) -> bytes:
        return os.pread(descriptor, length, offset)

    # The protected bytes are not touched by what is written behind them, so both can go on at once.
    file.seek(size)
    for piece in parity_records(read, size, tag, first_record_number, percent):
        file.write(piece)
    file.write(parity_footer(size))


def plain_limit(limit: int, percent: int) -> int:
    """Return how large a bundle may be so that it is not larger than ``limit`` with its parity."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if middle + parity_bytes(middle, percent) + FOOTER_BYTES <= limit:
            low = middle
        else:
            high = middle - 1
    return low


def repaired_file(file: BinaryIO) -> tuple[BinaryIO, Repair] | None:
    """Return a bundle as its parity says it was, and what was repaired; None if it has no parity.

    Places that the drive cannot read count as bad, they do not end the attempt.
    """
    size = file.seek(0, os.SEEK_END)

    def read(offset: int, length: int) -> bytes:
        try:
            return _read(offset, length)
        except OSError:
            pieces = []
            for at in range(offset, offset + length, SECTOR_BYTES):
                count = min(SECTOR_BYTES, offset + length - at, max(0, size - at))
                try:
                    pieces.append(_read(at, count))
                except OSError:
                    pieces.append(bytes(count))
            return b"".join(pieces)

    def _read(offset: int, length: int) -> bytes:
        file.seek(offset)
        return file.read(length)

    found = repair(read, size)
    if found is None:
        return None
    return io.BufferedReader(_Overlay(overlaid(read, found), found), 256 * 1024), found


class _Overlay(io.RawIOBase):
    """A file that reads through the repair, with a footer that says where its trailer is."""

    def __init__(self, read: Any, found: Repair) -> None:
        self._read = read
        self._protected = found.layout.protected
        self._footer = found.footer
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._protected + len(self._footer)}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self._position < self._protected:
            data = self._read(self._position, min(len(buffer), self._protected - self._position))
        else:
            at = self._position - self._protected
            data = self._footer[at : at + len(buffer)]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
