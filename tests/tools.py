"""Which outside tools this machine has; each reason is a sentence for the person who reads a skip."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["reasons"]


def _missing(*programs: str) -> str | None:
    absent = [program for program in programs if shutil.which(program, path=_path()) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/lib/systemd:/lib/systemd"


def _root() -> str | None:
    return None if os.geteuid() == 0 else "these tests mount file systems and make device nodes"


def _udev() -> str | None:
    if reason := _root() or _missing("udevadm", "losetup", "mkfs.ext4", "systemd-udevd"):
        return reason
    return None if Path("/dev/loop-control").exists() else "no loop devices"


def _netns() -> str | None:
    if reason := _root() or _missing("ip"):
        return reason
    done = subprocess.run(["ip", "netns", "list"], capture_output=True, env={"PATH": _path()}, check=False)
    return None if done.returncode == 0 else "the kernel has no network namespaces"


@functools.cache
def reasons() -> dict[str, str | None]:
    """Return for each kind of tool None, or why tests that need it cannot run."""
    return {
        "node": _missing("node", "npm"),
        "root": _root(),
        "udev": _udev(),
        "dbus": _missing("dbus-daemon"),
        "systemd": _missing("systemd-analyze"),
        "age": _missing("age", "age-keygen"),
        "rsync": _missing("rsync"),
        "netns": _netns(),
        "qemu": _root()
        or _missing(
            "qemu-system-x86_64",
            "qemu-img",
            "debootstrap",
            "apt-get",
            "dpkg-deb",
            "mkfs.ext4",
            "mkfs.vfat",
            "mkfs.exfat",
            "losetup",
        ),
    }
