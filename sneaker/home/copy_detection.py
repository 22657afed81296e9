"""Notes that know where they were written, so that a copied, restored or moved home is recognised.

Each note names its own inode and what it lies on; no copy has both.  Neither changes when a folder is renamed or mounted
elsewhere.  Inode numbers are used again, so a note also names the generation of its inode: an older note that is written
into a newer file does not fit.  Some numbers do not last: FAT and FUSE give new inode numbers at each mount, and live
systems have a new machine-id at each start.  Those are left out, and a note with nothing else says that it cannot tell.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sneaker.files.atomic_write import new_file

__all__ = ["LocatedNote", "read_note", "write_note"]

# A note may hold a message: 8,192 UTF-16 units, as JSON in JSON.
_MAX_BYTES = 128 * 1024
_MAX_NUMBER_BYTES = 512

_MACHINE_IDS = ("/etc/machine-id", "/var/lib/dbus/machine-id")
_BOARD_NUMBERS = ("/sys/firmware/devicetree/base/serial-number",)
_BLOCK_DEVICES = "/sys/dev/block"
_MOUNTS = "/proc/self/mountinfo"
_KERNEL_STATISTICS = "/proc/stat"

# Where the kernel shows the number that the maker of a memory card, of an NVMe or of a SCSI or ATA disk gave it.
_MEDIUM_NUMBERS = ("device/cid", "device/serial", "device/vpd_pg80")

# What tells places apart, the best first: the disk itself, the board, the system that is installed.
_EVIDENCE = ("medium", "board", "machine")

# FS_IOC_GETVERSION of <linux/fs.h>, on machines where the direction takes two bits; on others the kernel does not know it.
_GET_GENERATION = 2 << 30 | struct.calcsize("l") << 16 | ord("v") << 8 | 1

# File systems that make up inode numbers when they are mounted.
_CHANGING_INODES = ("vfat", "msdos", "exfat", "fuse", "cifs", "smb")


@dataclass(frozen=True, slots=True)
class LocatedNote:
    """What a note says, and whether it still lies where it was written; ``is_here`` is None if that cannot be told."""

    fields: Mapping[str, Any]
    is_here: bool | None


def write_note(path: Path, fields: Mapping[str, Any]) -> None:
    """Write a note, in the place of an older one if there is one; raises OSError, or OutputError for what is no file.

    What root writes (``sudo``) belongs to whom the folder belongs to, who could not read it otherwise.
    """
    with new_file(path, mode=0o600, replaces=lambda _: True) as file:
        if os.geteuid() == 0:
            folder = path.parent.stat()
            with contextlib.suppress(OSError):
                os.fchown(file.fileno(), folder.st_uid, folder.st_gid)
        note = json.dumps({**fields, "place": _place(file.fileno())}, indent=2, ensure_ascii=False)
        file.write(note.encode("utf-8") + b"\n")


def read_note(path: Path) -> LocatedNote | None:
    """Return a note; None if there is none, or it cannot be read."""
    try:
        with path.open("rb") as file:
            fields = json.loads(file.read(_MAX_BYTES))
            place = _place(file.fileno())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    return LocatedNote(fields, _is_here(fields.get("place"), place))


def _is_here(written: object, now: Mapping[str, str | int]) -> bool | None:
    if not isinstance(written, dict):
        return False
    # The disk decides before the board and the system: a disk is what gets copied.
    shared = next((kind for kind in _EVIDENCE if kind in written and kind in now), None)
    if shared is not None and written[shared] != now[shared]:
        return False
    if shared is None and any(kind in written for kind in _EVIDENCE):
        return False
    if "inode" not in written and "inode" not in now:
        return None
    if "generation" in written and "generation" in now and written["generation"] != now["generation"]:
        return False
    return bool(written.get("inode") == now.get("inode"))


def _place(descriptor: int) -> dict[str, str | int]:
    """Return digests of the lasting numbers of a file's place; the numbers themselves are nobody's business."""
    status = os.fstat(descriptor)
    found: dict[str, str | int] = {}
    for kind, number in zip(
        _EVIDENCE, (_medium_number(status.st_dev), _first(_BOARD_NUMBERS), _machine_id()), strict=True
    ):
        if number is not None:
            found[kind] = hashlib.blake2b(number, digest_size=16, person=b"sneaker place").hexdigest()
    if not _file_system(status.st_dev).startswith(_CHANGING_INODES):
        found["inode"] = status.st_ino
        if (generation := _generation(descriptor)) is not None:
            found["generation"] = generation
    return found


def _generation(descriptor: int) -> int | None:
    """Return the number that tells a file from others that had its inode; None where the file system does not show it.

    Nothing that is done to a file later changes it, as permissions and links do the time of its last change.
    """
    with contextlib.suppress(OSError):
        answer = fcntl.ioctl(descriptor, _GET_GENERATION, bytes(struct.calcsize("l")))
        return int(struct.unpack("l", answer)[0])
    return None


def _read(path: Path | str) -> bytes | None:
    """Return a number that the system shows in a file; None if it shows none."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read(_MAX_NUMBER_BYTES).strip(b"\0\n\t ") or None
    return None


def _first(paths: tuple[str, ...]) -> bytes | None:
    return next((number for path in paths if (number := _read(path)) is not None), None)


def _machine_id() -> bytes | None:
    """Return the number of the system that is installed here; None if it was made at this start, and is gone with it."""
    for path in _MACHINE_IDS:
        number = _read(path)
        if number is None:
            continue
        with contextlib.suppress(OSError, ValueError, StopIteration):
            # A wall clock that is behind the file proves nothing: many machines have none and start in the past.
            if _started_at() <= os.stat(path).st_mtime <= time.time():
                return None
        return number
    return None


def _started_at() -> float:
    with open(_KERNEL_STATISTICS, "rb") as file:
        return float(next(line.split()[1] for line in file if line.startswith(b"btime ")))


def _file_system(device: int) -> str:
    wanted = f"{os.major(device)}:{os.minor(device)}".encode()
    with contextlib.suppress(OSError), open(_MOUNTS, "rb") as file:
        for line in file:
            words = line.split()
            if len(words) > 3 and words[2] == wanted and b"-" in words[:-1]:
                return words[words.index(b"-") + 1].decode("ascii", "replace")
    return ""


def _medium_number(device: int) -> bytes | None:
    """Return what the maker numbered the disk with on which a file lies; None for virtual ones, which have only names."""
    block = Path(_BLOCK_DEVICES, f"{os.major(device)}:{os.minor(device)}")
    for disk in _disks(block):
        numbers = [disk / name for name in _MEDIUM_NUMBERS]
        numbers += [folder / "serial" for folder in disk.parents if (folder / "idVendor").exists()]
        for path in numbers:
            if (number := _read(path)) is not None:
                return number
    return None


def _disks(block: Path, depth: int = 4) -> Iterator[Path]:
    """Yield the disks under a block device: it can be a part of one, or be made of others (encryption, LVM, RAID)."""
    with contextlib.suppress(OSError):
        device = block.resolve(strict=True)
        below = sorted(device.glob("slaves/*"))
        if below and depth:
            for path in below:
                yield from _disks(path, depth - 1)
        else:
            yield device.parent if (device / "partition").exists() else device
