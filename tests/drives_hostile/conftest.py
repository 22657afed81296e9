"""The same file systems as for tests of visits."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.exchange.conftest import loop_mount, loop_stick, small_tmpfs

__all__ = ["loop_mount", "loop_stick", "small_tmpfs", "tmp_path"]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder in memory: these tests make hundreds of visits, and it is not the disk that is tried here."""
    in_memory = Path("/dev/shm")
    place = str(in_memory) if in_memory.is_dir() and os.access(in_memory, os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="sneaker-test-", dir=place))
    yield path
    shutil.rmtree(path, ignore_errors=True)
