"""The same file systems as for tests of visits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.exchange.conftest import loop_mount, loop_stick, memory_folder, small_tmpfs

__all__ = ["loop_mount", "loop_stick", "small_tmpfs", "tmp_path"]


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """Return a folder in memory: these tests make hundreds of visits, and it is not the disk that is tried here."""
    with memory_folder() as path:
        yield path or tmp_path
