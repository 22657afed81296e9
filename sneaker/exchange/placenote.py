"""Notes that know where they were written: a file that was copied, restored or carried to another machine can tell.

Each names its machine and its own inode, and no copy has both.  Renaming a folder, or mounting it elsewhere, changes neither.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sneaker.exchange.output import PART_SUFFIX

__all__ = ["PlaceNote", "machine_name", "read_note", "write_note"]

_MAX_BYTES = 4096

# What tells one machine from another; a cloned memory card brings its machine-id along, the board's number it does not.
_MACHINE_IDS = ("/etc/machine-id", "/var/lib/dbus/machine-id")
_BOARD_NUMBERS = ("/sys/firmware/devicetree/base/serial-number",)


@dataclass(frozen=True, slots=True)
class PlaceNote:
    """What a note says, and whether it still lies where it was written."""

    fields: Mapping[str, Any]
    is_original: bool


def machine_name() -> str:
    """Return what tells this machine from others; not the numbers it is made of, which are nobody's business."""
    found = hashlib.blake2b(digest_size=16, person=b"sneaker machine")
    for paths in (_MACHINE_IDS, _BOARD_NUMBERS):
        for path in paths:
            with contextlib.suppress(OSError):
                found.update(Path(path).read_bytes().strip() + b"\0")
                break
    return found.hexdigest()


def write_note(path: Path, fields: Mapping[str, Any]) -> None:
    """Write a note, in the place of an older one if there is one; raises OSError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART_SUFFIX}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            place = {"machine": machine_name(), "inode": os.fstat(file.fileno()).st_ino}
            file.write(json.dumps({**fields, **place}, indent=2).encode("ascii") + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def read_note(path: Path) -> PlaceNote | None:
    """Return a note; None if there is none, or it cannot be read."""
    try:
        with path.open("rb") as file:
            fields = json.loads(file.read(_MAX_BYTES))
            inode = os.fstat(file.fileno()).st_ino
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    return PlaceNote(fields, fields.get("machine") == machine_name() and fields.get("inode") == inode)
