"""What udev says of block devices: which are there, what is on them, and word when that changes.

A USB stick gives ``add`` for the disk and each partition; a card reader, a loop device and a disk that is formatted
anew give ``change``.  So it does not matter which event comes: each one means "look again" at the properties.
Where there is no udev (a container), lists are empty and the mount table alone has to do.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

__all__ = ["BlockDevice", "UdevWatch", "block_device", "block_devices"]

# Room for the thousands of events of a full USB hub that is plugged in; the default holds a few hundred.
_RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
_HEX_ESCAPE = re.compile(rb"\\x([0-9a-fA-F]{2})")


@dataclass(frozen=True, slots=True)
class BlockDevice:
    """A block device with a filesystem on it, as udev describes it.

    ``sequence`` is the kernel's count of media (DISKSEQ): another stick in the same socket has another; 0 where the
    kernel is too old to say.  ``fs_uuid`` and ``label`` are the stick's own words, and so is every other text here.
    """

    node: str
    number: int
    fs_type: str
    fs_uuid: str | None
    label: str | None
    sequence: int
    ignored: bool


def _context() -> Any:
    import pyudev

    return pyudev.Context()


def _parse(device: Any) -> BlockDevice | None:
    """Return what udev knows of a device, or None if there is no filesystem on it (any more)."""
    try:
        properties = dict(device.properties)
        node, number = device.device_node, device.device_number
    except (LookupError, OSError, UnicodeDecodeError):
        return None
    if not node or properties.get("ID_FS_USAGE") != "filesystem":
        return None
    sequence = properties.get("DISKSEQ", "")
    return BlockDevice(
        node=node,
        number=number,
        fs_type=properties.get("ID_FS_TYPE", ""),
        fs_uuid=properties.get("ID_FS_UUID"),
        label=_decoded(properties.get("ID_FS_LABEL_ENC")) or properties.get("ID_FS_LABEL"),
        sequence=int(sequence) if sequence.isdecimal() else 0,
        ignored=properties.get("UDISKS_IGNORE") == "1",
    )


def _decoded(text: str | None) -> str | None:
    r"""Undo udev's ``\x20`` in a label."""
    if text is None:
        return None
    return _HEX_ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), os.fsencode(text)).decode("utf-8", "replace")


def block_devices() -> list[BlockDevice]:
    """Return every block device with a filesystem on it that udev knows."""
    try:
        devices = _context().list_devices(subsystem="block", ID_FS_USAGE="filesystem")
        return [found for device in devices if (found := _parse(device)) is not None]
    except (ImportError, OSError):
        return []


def block_device(number: int) -> BlockDevice | None:
    """Return what udev knows of the device with this number (``os.makedev``), or None."""
    try:
        import pyudev
    except ImportError:
        return None
    try:
        return _parse(pyudev.Devices.from_device_number(_context(), "block", number))
    except (pyudev.DeviceNotFoundError, OSError):
        return None


class UdevWatch:
    """Calls ``changed`` in the event loop whenever udev has something to say about block devices.

    Use it as a context manager within a running loop.  Without udev it stays silent.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._monitor: Any = None

    def __enter__(self) -> Self:
        try:
            import pyudev

            monitor = pyudev.Monitor.from_netlink(_context(), source="udev")
            monitor.filter_by("block")
            try:
                monitor.set_receive_buffer_size(_RECEIVE_BUFFER_BYTES)
            except OSError:
                pass  # only root may do this; after an overflow we look again anyway
            monitor.start()
        except (ImportError, OSError):
            return self
        self._monitor = monitor
        asyncio.get_running_loop().add_reader(monitor.fileno(), self._on_ready)
        return self

    def _on_ready(self) -> None:
        # The events themselves are dropped: the list of devices is what counts, and may be newer.
        try:
            while self._monitor is not None and self._monitor.poll(0) is not None:
                pass
        except OSError:
            pass  # ENOBUFS: events were lost, so look again
        self._changed()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._monitor is not None:
            asyncio.get_running_loop().remove_reader(self._monitor.fileno())
            self._monitor = None
