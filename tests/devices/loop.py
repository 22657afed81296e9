"""Sticks made of real things: loop devices with ext4 on them, announced by the kernel and described by udev."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LoopStick", "make_image", "udev_daemon"]

_UDEVD = (Path("/lib/systemd/systemd-udevd"), Path("/usr/lib/systemd/systemd-udevd"))


def run(*command: str | Path, check: bool = True) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=60)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextlib.contextmanager
def udev_daemon() -> Iterator[None]:
    """Run systemd-udevd while the block does, unless one runs already."""
    if subprocess.run(["udevadm", "control", "--ping"], capture_output=True, check=False).returncode == 0:
        yield
        return
    program = next(path for path in _UDEVD if path.exists())
    with subprocess.Popen([program], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as daemon:
        try:
            for _ in range(50):
                if subprocess.run(["udevadm", "control", "--ping"], capture_output=True, check=False).returncode == 0:
                    break
                time.sleep(0.1)
            yield
        finally:
            daemon.terminate()


def make_image(path: Path, *, label: str = "STICK", size_mb: int = 16) -> Path:
    """Make the image of a stick with an empty ext4 on it."""
    with path.open("wb") as file:
        file.truncate(size_mb * 1024 * 1024)
    run("mkfs.ext4", "-q", "-F", "-L", label, "-E", "nodiscard", path)
    return path


@dataclass
class LoopStick:
    """A stick that can be plugged in and out, and mounted as a desktop would."""

    image: Path
    mount_point: Path
    device: str = ""

    def plug_in(self) -> float:
        """Attach the device and return when the kernel was told, by time.monotonic()."""
        started = time.monotonic()
        self.device = run("losetup", "--find", "--show", self.image)
        return started

    def mount(self, *options: str) -> None:
        self.mount_point.mkdir(exist_ok=True)
        run("mount", *options, self.device, self.mount_point)

    def unmount(self, *, lazily: bool = False) -> None:
        run("umount", *(["--lazy"] if lazily else []), self.mount_point)

    def pull_out(self) -> None:
        if self.device:
            run("losetup", "--detach", self.device)
            self.device = ""

    def clean_up(self) -> None:
        """Unmount and detach, whatever happened; never raises."""
        while str(self.mount_point) in Path("/proc/self/mountinfo").read_text():
            run("umount", "--lazy", self.mount_point, check=False)
            time.sleep(0.05)
        for line in run("losetup", "--associated", self.image, "--output", "NAME", "--noheadings", check=False).split():
            run("losetup", "--detach", line, check=False)
