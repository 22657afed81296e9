"""The kernel's mount table: which devices are mounted where, and word when that changes.

udev says that a device was plugged in; only the mount table says that it can be read.  The table of this process's mount
namespace is ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)).  inotify sees nothing when something is mounted over a
folder, so change is noticed by polling that file for EPOLLPRI, which the kernel raises on every mount and unmount.
"""

from __future__ import annotations

import asyncio
import os
import re
import select
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from sneaker.errors import StickError

__all__ = [
    "DEFAULT_FILESYSTEMS",
    "NETWORK_FILESYSTEMS",
    "Mount",
    "MountTable",
    "MountWatch",
    "device_mounts",
    "device_of",
    "mount_of",
    "parse_mount",
    "parse_mountinfo",
    "unescape",
]

MOUNTINFO = Path("/proc/self/mountinfo")

#: Filesystems that people carry about.  Others (squashfs images, container overlays, swap) never hold a stick's folder.
DEFAULT_FILESYSTEMS = frozenset(
    [
        "vfat",
        "msdos",
        "exfat",
        "ntfs",
        "ntfs3",
        "fuseblk",
        "ext2",
        "ext3",
        "ext4",
        "btrfs",
        "f2fs",
        "xfs",
        "hfsplus",
        "udf",
    ]
)

#: Filesystems whose files other machines change without this kernel's knowledge: inotify is silent there.
NETWORK_FILESYSTEMS = frozenset(
    [
        "9p",
        "afs",
        "ceph",
        "cifs",
        "coda",
        "davfs",
        "glusterfs",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
        "virtiofs",
        "vboxsf",
    ]
)

# The kernel's table has a line per mount; a machine that runs containers has some thousand.
_MAX_TABLE_BYTES = 16 * 1024 * 1024

# What the kernel escapes: space, tab, newline, backslash, and "#" in sources (fs/proc_namespace.c, mangle).
_ESCAPE = re.compile(rb"\\(?:([0-3][0-7]{2})|.{0,3})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the mount table.

    ``device`` is the device number of the filesystem as ``os.makedev`` gives it, ``root`` the folder of the filesystem
    that is mounted (``/`` except for bind mounts and subvolumes), ``source`` what was mounted, usually a device node.
    """

    mount_id: int
    parent_id: int
    device: int
    root: str
    mount_point: Path
    options: frozenset[str]
    fs_type: str
    source: str

    @property
    def read_only(self) -> bool:
        """Whether nothing can be written there, be it by the mount's or the filesystem's own option."""
        return "ro" in self.options


def unescape(field: bytes) -> str:
    """Undo the kernel's octal escapes in a field of the table; raises ValueError for any other backslash."""

    def octal(match: re.Match[bytes]) -> bytes:
        if match[1] is None:
            raise ValueError(f"{match[0]!r} is not an octal escape")
        return bytes([int(match[1], 8)])

    return os.fsdecode(_ESCAPE.sub(octal, field))


def parse_mount(line: bytes) -> Mount:
    """Parse one line of mountinfo; raises ValueError if it is not one."""
    fields = line.split(b" ")
    # 36 35 98:0 /root /mount/point rw,noatime master:1 … - ext3 /dev/root rw,errors=continue
    try:
        separator = fields.index(b"-", 6)
        mount_id, parent_id, numbers, root, mount_point, options = fields[:6]
        fs_type, source, super_options = fields[separator + 1 : separator + 4]
        major, minor = numbers.split(b":")
        numeric = [_decimal(number) for number in (mount_id, parent_id, major, minor)]
    except ValueError:
        raise ValueError(f"not a line of mountinfo: {line[:200]!r}") from None
    where = unescape(mount_point)
    if not where.startswith("/"):
        raise ValueError(f"not a mount point: {where!r}")
    return Mount(
        mount_id=numeric[0],
        parent_id=numeric[1],
        device=os.makedev(numeric[2], numeric[3]),
        root=unescape(root),
        mount_point=Path(where),
        options=frozenset(unescape(options).split(",")) | ({"ro"} & set(unescape(super_options).split(","))),
        fs_type=unescape(fs_type),
        source=unescape(source),
    )


def _decimal(text: bytes) -> int:
    """Read a number that the kernel keeps in 31 bits, the parts of a device number included."""
    if not text.isdigit() or len(text) > 10 or int(text) >= 1 << 31:
        raise ValueError(f"{text!r} is no number of the mount table")
    return int(text)


def parse_mountinfo(data: bytes) -> list[Mount]:
    """Parse a whole table, in its order: later mounts lie over earlier ones.

    A line that is not understood is left out: some odd filesystem must not keep every stick from being synced.
    """
    mounts = []
    for line in data.split(b"\n"):
        if line:
            try:
                mounts.append(parse_mount(line))
            except ValueError:
                continue
    return mounts


@dataclass(frozen=True, slots=True)
class MountTable:
    """The mount table as it was read once."""

    mounts: tuple[Mount, ...]

    @classmethod
    def read(cls, path: Path = MOUNTINFO) -> Self:
        """Read the table; raises StickError where there is none (another system than Linux)."""
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_TABLE_BYTES)
        except OSError as error:
            raise StickError(f"cannot read the mount table {path}: {error.strerror}") from None
        return cls(tuple(parse_mountinfo(data)))

    def visible(self) -> list[Mount]:
        """Return the mounts that no later mount hides, in the table's order.

        The kernel mounts only on what is visible.  So a mount is hidden exactly if a later one lies on it, or on a folder
        above it, with the same parent mount as it or as one of the mounts that it is reached through.
        """
        by_id = {mount.mount_id: mount for mount in self.mounts}
        children = {(mount.parent_id, mount.mount_point) for mount in self.mounts if mount.parent_id != mount.mount_id}
        return [mount for mount in self.mounts if not _hidden(mount, by_id, children)]


def _hidden(mount: Mount, by_id: dict[int, Mount], children: set[tuple[int, Path]]) -> bool:
    if (mount.mount_id, mount.mount_point) in children:
        return True
    seen: set[int] = set()
    current: Mount | None = mount
    while current is not None and current.mount_id not in seen:
        seen.add(current.mount_id)
        if any((current.parent_id, folder) in children for folder in current.mount_point.parents):
            return True
        current = by_id.get(current.parent_id)
    return False


def mount_of(path: Path, table: MountTable) -> Mount | None:
    """Return the mount that holds ``path`` (which need not exist), as far as names tell."""
    found: Mount | None = None
    for mount in table.visible():
        if path.is_relative_to(mount.mount_point) and (
            found is None or len(mount.mount_point.parts) >= len(found.mount_point.parts)
        ):
            found = mount
    return found


def device_of(mount: Mount) -> int:
    """Return the number of the block device that ``mount`` lies on, or 0 if there is none.

    btrfs gives each filesystem an anonymous number (major 0); its source is the device node.
    """
    if os.major(mount.device) != 0:
        return mount.device
    node = Path(mount.source)
    if node.parent != Path("/dev"):
        return 0
    try:
        # Not the node itself: a service with a /dev of its own does not see it.
        major, minor = Path("/sys/class/block", node.name, "dev").read_text().split(":")
        return os.makedev(int(major), int(minor))
    except (OSError, ValueError):
        return 0


def _present(device: int) -> bool:
    """Whether the kernel still has this block device; a stick that was pulled out may stay mounted for ever."""
    return Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").exists()


def device_mounts(
    table: MountTable,
    *,
    filesystems: Iterable[str] = DEFAULT_FILESYSTEMS,
    never: Iterable[int] = (),
    present: Callable[[int], bool] = _present,
) -> dict[int, Mount]:
    """Return where each block device is mounted that may be a stick: device number -> its best mount.

    Left out are other filesystems, devices in ``never``, the root filesystem wherever it is mounted, devices that are
    gone although still mounted, and mounts of only a part of a filesystem.
    """
    allowed = frozenset(filesystems)
    visible = table.visible()
    excluded = set(never)
    excluded.update(device_of(mount) for mount in table.mounts if mount.mount_point == Path("/"))
    found: dict[int, Mount] = {}
    for mount in visible:
        device = device_of(mount)
        if mount.fs_type not in allowed or device == 0 or device in excluded:
            continue
        # btrfs mounts its default subvolume, which may have any root
        if (mount.root != "/" and mount.fs_type != "btrfs") or not present(device):
            continue
        best = found.get(device)
        # A filesystem may be mounted at several places: one that we can write to is best, then the first.
        if best is None or (best.read_only and not mount.read_only):
            found[device] = mount
    return found


class MountWatch:
    """Calls ``changed`` in the event loop whenever the mount table has changed.

    Use it as a context manager within a running loop.
    """

    def __init__(self, changed: Callable[[], None], path: Path = MOUNTINFO) -> None:
        self._changed = changed
        self._path = path
        self._file = -1
        self._epoll: select.epoll | None = None

    def __enter__(self) -> Self:
        try:
            self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StickError(f"cannot watch the mount table {self._path}: {error.strerror}") from None
        # The file is always readable, so asyncio's own epoll, which asks for EPOLLIN, would spin.  An epoll of our own
        # that asks for nothing but EPOLLPRI and EPOLLERR becomes readable only on change.
        self._epoll = select.epoll()
        self._epoll.register(self._file, select.EPOLLPRI | select.EPOLLERR)
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._on_ready)
        return self

    def _on_ready(self) -> None:
        if self._epoll is not None:
            # Polling clears the event. The answer may be empty: the loop's own poll may have cleared it already.
            self._epoll.poll(0)
            self._changed()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None
            os.close(self._file)
