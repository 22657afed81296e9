"""A mounted device as the rest of ``devices`` sees it: what the mount table and udev say, put together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sneaker.devices.mounts import DEFAULT_FILESYSTEMS, MountTable, device_mounts
from sneaker.devices.udev import BlockDevice, block_device, block_devices

__all__ = ["Devices", "MediumKey", "MountedDevice", "SystemDevices", "medium_sequence"]

#: Which medium lies in which device: the device's number and DISKSEQ.
MediumKey = tuple[int, int]


@dataclass(frozen=True, slots=True)
class MountedDevice:
    """A filesystem on a block device, mounted.

    ``node`` is its file in /dev, ``number`` its device number, ``sequence`` the kernel's count of media (see BlockDevice).
    The UUID does not tell media apart: udev may not know it yet when a stick is mounted quickly.
    ``fs_uuid``, ``label`` and the last part of ``mount_point`` are text from the stick: never a path, a command or something to believe.
    """

    mount_point: Path
    node: str
    fs_type: str
    fs_uuid: str | None
    label: str | None
    options: frozenset[str] = frozenset()
    number: int = 0
    sequence: int = 0
    mount_id: int = 0

    @property
    def medium(self) -> MediumKey:
        """What stays the same as long as this stick stays plugged in."""
        return (self.number, self.sequence)

    @property
    def filesystem(self) -> object:
        """What is the same for every appearance of this filesystem; two visits to it may not overlap."""
        return self.fs_uuid or self.number

    @property
    def read_only(self) -> bool:
        """Whether nothing can be written there."""
        return "ro" in self.options


class Devices(Protocol):
    """Where the watcher learns what is there."""

    def mounted(self) -> list[MountedDevice]:
        """Return the devices that are mounted and could be sticks."""
        ...

    def unmounted(self) -> list[BlockDevice]:
        """Return the devices with an allowed filesystem that nothing has mounted."""
        ...


def medium_sequence(number: int, sysfs: Path = Path("/sys/dev/block")) -> int:
    """Return the kernel's count of media for a device, 0 where the kernel (before 5.15) keeps none."""
    folder = sysfs / f"{os.major(number)}:{os.minor(number)}"
    # A partition has the number of its disk, which is the folder above it.
    for file in (folder / "diskseq", folder / ".." / "diskseq"):
        try:
            return int(file.read_text())
        except (OSError, ValueError):
            continue
    return 0


@dataclass(frozen=True, slots=True)
class SystemDevices:
    """The devices of this machine.

    ``filesystems`` are the types that are looked at.  ``never`` are paths whose filesystems are left alone, such as the
    sneaker home; the root filesystem always is.
    """

    filesystems: frozenset[str] = DEFAULT_FILESYSTEMS
    never: tuple[Path, ...] = ()
    describe: Callable[[int], BlockDevice | None] = block_device
    enumerate: Callable[[], Iterable[BlockDevice]] = block_devices

    def mounted(self) -> list[MountedDevice]:
        """Return the devices that are mounted and could be sticks, by mount point."""
        mounts = device_mounts(MountTable.read(), filesystems=self.filesystems, never=self._never())
        devices = []
        for number, mount in mounts.items():
            known = self.describe(number)
            devices.append(
                MountedDevice(
                    mount_point=mount.mount_point,
                    node=known.node if known else mount.source,
                    fs_type=mount.fs_type,
                    fs_uuid=known.fs_uuid if known else None,
                    label=known.label if known else None,
                    options=mount.options,
                    number=number,
                    sequence=medium_sequence(number),
                    mount_id=mount.mount_id,
                )
            )
        return sorted(devices, key=lambda device: device.mount_point)

    def unmounted(self) -> list[BlockDevice]:
        """Return the devices with an allowed filesystem that are mounted nowhere, not even under another mount."""
        table = MountTable.read()
        taken = {mount.device for mount in table.mounts} | {mount.source for mount in table.mounts} | self._never()
        return [
            device
            for device in self.enumerate()
            if device.fs_type in self.filesystems
            and not device.ignored
            and device.number not in taken
            and device.node not in taken
        ]

    def _never(self) -> set[int]:
        numbers = set()
        for path in self.never:
            try:
                numbers.add(os.stat(path).st_dev)
            except OSError:
                continue
        return numbers
