"""Folders for the time of a test: in memory, for tests make thousands of small commits, or on the disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["disk_folder", "make_memory_folder", "memory_folder"]

IN_MEMORY = Path("/dev/shm")
_ROOM = 1 << 30
_PREFIX = "sneaker-test-"


def make_memory_folder() -> Path:
    """Make a folder in memory, or on the disk if there is no room for it."""
    room = os.access(IN_MEMORY, os.W_OK) and shutil.disk_usage(IN_MEMORY).free >= _ROOM
    return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=IN_MEMORY if room else None))


@contextmanager
def memory_folder() -> Iterator[Path]:
    """Make a folder for the block, in memory if there is room."""
    path = make_memory_folder()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def disk_folder() -> Iterator[Path]:
    """Make a folder on the disk for the block."""
    path = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
