"""Bundles with bad sectors, read as their parity records say they were (``bundles-format.md``, "Parity")."""

from __future__ import annotations

import io
import os
from array import array
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any, BinaryIO

from sneaker.bundle.parity import (
    SECTOR_BYTES,
    Read,
    Repair,
    overlaid,
    repair,
)
from sneaker.files.nameless_file import NamelessFile

__all__ = ["repaired_file"]


def repaired_file(file: BinaryIO, folder: Path) -> tuple[BinaryIO, Repair] | None:
    """Return a bundle as its parity says it was, and what was repaired; None if it has no parity.

    What was repaired is kept in a nameless file in ``folder``, until the returned one is closed.  Places that cannot be read
    count as bad sectors.  Raises StoreFull if there is no room.
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

    sectors = _SectorFile(folder)
    try:
        found = repair(read, size, sectors)
    except BaseException:
        sectors.close()
        raise
    if found is None:
        return None
    return io.BufferedReader(_Overlay(overlaid(read, found), found, sectors), 256 * 1024), found


class _SectorFile(MutableMapping[int, bytes]):
    """Sectors by their numbers, in a file: as much of a bundle as has parity may have to be computed again."""

    def __init__(self, folder: Path) -> None:
        self._file = NamelessFile(folder)
        # The place of each one in the file, counted from 1: four bytes for each sector that the bundle has.
        self._places = array("I")
        self._lengths: dict[int, int] = {}  # of sectors that are not whole: only the last one
        self._count = 0

    def __setitem__(self, number: int, sector: bytes) -> None:
        if number >= len(self._places):
            self._places.extend(bytes(number + 1 - len(self._places)))
        if not self._places[number]:
            self._count += 1
            self._places[number] = self._count
        if len(sector) < SECTOR_BYTES:
            self._lengths[number] = len(sector)
        self._file.write_at(sector, (self._places[number] - 1) * SECTOR_BYTES)

    def __getitem__(self, number: int) -> bytes:
        place = self._places[number] if number < len(self._places) else 0
        if not place:
            raise KeyError(number)
        return self._file.read_at(self._lengths.get(number, SECTOR_BYTES), (place - 1) * SECTOR_BYTES)

    def __delitem__(self, number: int) -> None:
        raise TypeError("what was repaired stays")

    def __iter__(self) -> Iterator[int]:
        return (number for number, place in enumerate(self._places) if place)

    def __len__(self) -> int:
        return self._count

    def close(self) -> None:
        """Close the file, which deletes the sectors."""
        self._file.close()


class _Overlay(io.RawIOBase):
    """A file that reads through the repair, with a footer that says where its trailer is."""

    def __init__(self, read: Read, found: Repair, sectors: _SectorFile) -> None:
        self._read = read
        self._sectors = sectors
        self._protected = found.layout.protected
        self._footer = found.footer
        self._position = 0

    def close(self) -> None:
        self._sectors.close()
        super().close()

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
