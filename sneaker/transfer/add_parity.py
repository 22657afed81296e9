"""Parity is put into bundles that are written to files (``bundles-format.md``, "Parity")."""

from __future__ import annotations

import os
from typing import BinaryIO

from sneaker.bundle.frames import FOOTER_BYTES
from sneaker.bundle.parity import parity_bytes, parity_footer, parity_records

__all__ = ["append_parity", "plain_limit"]


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
