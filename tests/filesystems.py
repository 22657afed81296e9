"""File systems of their own for tests: in memory, small, or on a loop device.  A plugin of tests/conftest.py."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.folders import disk_folder, memory_folder


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Return a folder in memory: it is not the disk that is tried.

    SIGKILL does not take from the page cache what was written, so kills are none the weaker.  Tests marked ``disk`` get a
    folder on the disk: gigabytes, and what a real file system does.
    """
    with disk_folder() if request.node.get_closest_marker("disk") else memory_folder() as folder:
        # Not the outermost, so that what a test puts beside it goes with it.
        path = folder / "test"
        path.mkdir(mode=0o700)
        yield path


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
