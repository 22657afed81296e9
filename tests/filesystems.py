"""File systems of their own for tests: in memory, small, or on a loop device.  A plugin of tests/conftest.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

IN_MEMORY = Path("/dev/shm")
_ROOM = 1 << 30


@contextmanager
def memory_folder() -> Iterator[Path | None]:
    """Make a folder in memory for the block; None if there is no place for it."""
    if not os.access(IN_MEMORY, os.W_OK) or shutil.disk_usage(IN_MEMORY).free < _ROOM:
        yield None
        return
    path = Path(tempfile.mkdtemp(prefix="sneaker-test-", dir=IN_MEMORY))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def tmp_path(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Return a folder in memory: there are thousands of small commits, and it is not the disk that is tried.

    SIGKILL does not take from the page cache what was written, so kills are none the weaker.  Tests marked ``disk`` get a
    folder on the disk: gigabytes, and what a real file system does.
    """
    if request.node.get_closest_marker("disk"):
        yield tmp_path
        return
    with memory_folder() as path:
        yield path or tmp_path


def _run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def loop_mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Return what makes an ext4 of ``size`` bytes on a loop device and mounts it."""
    undo: list[tuple[str, ...]] = []

    def mount(size: int = 16 << 20, options: str = "noatime") -> Path:
        number = len(undo)
        image, at = tmp_path / f"stick{number}.img", tmp_path / f"mnt{number}"
        with image.open("wb") as file:
            file.truncate(size)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", str(image))
        at.mkdir()
        device = _run("losetup", "-f", "--show", str(image))
        undo.append(("losetup", "-d", device))
        _run("mount", "-o", options, device, str(at))
        undo.append(("umount", "-l", str(at)))
        return at

    yield mount
    for words in reversed(undo):
        subprocess.run(words, check=False, capture_output=True)


@pytest.fixture
def loop_stick(loop_mount: Callable[..., Path]) -> Path:
    """A small ext4 file system on a loop device."""
    return loop_mount()


@pytest.fixture
def small_tmpfs(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Return what mounts a tmpfs of so many bytes."""
    mounted: list[Path] = []

    def mount(size: int) -> Path:
        at = tmp_path / f"tmpfs{len(mounted)}"
        at.mkdir()
        _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(at))
        mounted.append(at)
        return at

    yield mount
    for at in mounted:
        subprocess.run(("umount", "-l", str(at)), check=False, capture_output=True)
