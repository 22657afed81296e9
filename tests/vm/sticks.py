"""Images of USB sticks: made, checked and looked at from outside."""

from __future__ import annotations

import contextlib
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Stick", "make_stick"]

# Where the partition begins on a stick that has one, as most are sold.
_PARTITION_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Stick:
    """A stick: ``kind`` is vfat, without a partition table, or exfat, in a partition."""

    image: Path
    kind: str

    @property
    def node(self) -> str:
        """The device node of its file system in a machine where it is the only stick."""
        return "/dev/sda1" if self.kind == "exfat" else "/dev/sda"

    def check(self) -> tuple[bool, str]:
        """Check its file system without changing it; return whether it is in order, and what the checker said."""
        with _device(self) as device:
            program = ["fsck.exfat", "-n"] if self.kind == "exfat" else ["fsck.vfat", "-n"]
            done = subprocess.run([*program, device], capture_output=True, text=True, errors="replace", check=False)
        return done.returncode == 0, (done.stdout + done.stderr).strip()


@contextlib.contextmanager
def _device(stick: Stick) -> Iterator[str]:
    """Yield what the checkers open: the image itself, or a loop device on the partition in it."""
    if stick.kind != "exfat":
        yield str(stick.image)
        return
    command = ["losetup", "--find", "--show", f"--offset={_PARTITION_BYTES}", str(stick.image)]
    device = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def _partition(image: Path) -> None:
    """Write a partition table with one partition of the type that exFAT has."""
    first = _PARTITION_BYTES // 512
    count = image.stat().st_size // 512 - first
    entry = struct.pack("<B3sB3sII", 0, b"\xfe\xff\xff", 7, b"\xfe\xff\xff", first, count)
    with image.open("r+b") as file:
        file.write(bytes(446) + entry + bytes(48) + b"\x55\xaa")


def make_stick(image: Path, kind: str, size_mb: int = 256) -> Stick:
    """Make an empty stick."""
    with image.open("wb") as file:
        file.truncate(size_mb * 1024 * 1024)
    stick = Stick(image, kind)
    if kind == "exfat":
        _partition(image)
        with _device(stick) as device:
            subprocess.run(["mkfs.exfat", "-L", "STICK", device], capture_output=True, check=True)
    else:
        subprocess.run(["mkfs.vfat", "-F", "32", "-n", "STICK", str(image)], capture_output=True, check=True)
    return stick
