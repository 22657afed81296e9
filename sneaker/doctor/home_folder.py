"""The folder of a home: who can read and change what is in it, and whether its disk has room."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from sneaker.doctor.finding import Finding, Level
from sneaker.files.permissions import writable_by_others
from sneaker.home.home import SECRET_NAME, STORE_NAME

__all__ = ["examine_folder"]

_MIB = 1 << 20

# Imports stage whole bundles beside the store, and SQLite needs room for its log.
_LOW_DISK_BYTES = 256 * _MIB


def examine_folder(path: Path) -> list[Finding]:
    """Look at a home from outside: permissions and room. Works for a home that cannot be opened."""
    found: list[Finding] = []
    for name, what in ((SECRET_NAME, "the secret"), (STORE_NAME, "the store")):
        try:
            status = (path / name).stat()
        except OSError:
            continue
        if stat.S_IMODE(status.st_mode) & 0o077:
            level = Level.PROBLEM if name == SECRET_NAME else Level.NOTE
            message = f"{what} at {path / name} can be read by others on this machine"
            found.append(Finding(f"{name.partition('.')[0]}-readable", level, message, f"run: chmod 600 {path / name}"))
        if status.st_uid != os.getuid():
            message = f"{what} at {path / name} belongs to another user of this machine"
            found.append(Finding("foreign-owner", Level.PROBLEM, message, "was sneaker run with sudo?"))
    try:
        if (open_to_others := writable_by_others(path)) is not None:
            message = f"others on this machine may write to {open_to_others}, and so change what is in {path}"
            found.append(Finding("home-writable", Level.PROBLEM, message, f"run: chmod go-w {open_to_others}"))
        free = shutil.disk_usage(path).free
    except OSError:
        return found
    if free < _LOW_DISK_BYTES:
        message = f"the disk of this machine is nearly full: {free // _MIB} MiB are left"
        found.append(Finding("disk-low", Level.PROBLEM, message, "make room, or nothing more can be taken in"))
    return found
