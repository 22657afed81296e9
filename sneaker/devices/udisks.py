"""Sticks mounted through udisks2, for machines where nothing else does: a hub without a screen.

udisks2 does what a desktop does: it mounts as root on a person's behalf, decides by polkit who may ask, and knows
which devices people plug in (``HintAuto``).  We never need root.  Without udisks2, every call raises
StickError and says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sneaker.devices.device import MountedDevice
from sneaker.devices.udev import BlockDevice
from sneaker.errors import StickError

__all__ = ["UdisksMounter"]

_NAME = "org.freedesktop.UDisks2"
_MANAGER = "/org/freedesktop/UDisks2/Manager"
_MOUNT_OPTIONS = "nosuid,nodev,noexec"
# Repairing the file system of a large stick takes minutes.
_TIMEOUT_S = 600
_WORDS = {
    "NotAuthorized": "polkit does not let this user do that",
    "NotAuthorizedCanObtain": "polkit does not let this user do that without a password",
    "NotAuthorizedDismissed": "polkit does not let this user do that without a password",
    "AlreadyMounted": "it is mounted already",
    "NotMounted": "it is not mounted",
    "DeviceBusy": "something still uses it",
    "NotSupported": "this system has no means to do that",
    "OptionNotPermitted": "udisks does not permit the mount options",
}
_NOT_AUTHORIZED_HINT = "'sneaker setup --print' shows a polkit rule that allows it"


@dataclass(frozen=True, slots=True)
class UdisksMounter:
    """Mounts and unmounts through udisks2 on ``bus``, an address or ``"SYSTEM"``.

    ``unmount`` and ``power_off`` say what ``release`` and ``switch_off`` do.
    """

    unmount: bool = True
    power_off: bool = False
    bus: str = "SYSTEM"

    def mount(self, device: BlockDevice) -> bool:
        """Mount a device without set-uid, devices or programs; return False if it is not one that people plug in."""
        with _Connection(self.bus) as udisks:
            path = udisks.find(device.node)
            block = f"{_NAME}.Block"
            if udisks.get(path, block, "HintIgnore") or not udisks.get(path, block, "HintAuto"):
                return False
            udisks.call(path, f"{_NAME}.Filesystem", "Mount", {"options": ("s", _MOUNT_OPTIONS)}, device.node)
        return True

    def release(self, device: MountedDevice, switch_off: bool) -> bool:
        """Unmount a device if so configured, or if it is to be switched off, and say whether it was unmounted.

        What is written is on the device then.
        """
        if not (self.unmount or (switch_off and self.power_off)):
            return False
        with _Connection(self.bus) as udisks:
            udisks.call(udisks.find(device.node), f"{_NAME}.Filesystem", "Unmount", {}, device.node)
        return True

    def switch_off(self, device: MountedDevice) -> None:
        """Switch off a device that was unmounted, if so configured."""
        if self.power_off:
            with _Connection(self.bus) as udisks:
                udisks.power_off(udisks.find(device.node), device.node)

    def repair(self, device: MountedDevice) -> None:
        """Unmount a device, have its file system repaired, and mount it again."""
        filesystem = f"{_NAME}.Filesystem"
        with _Connection(self.bus) as udisks:
            path = udisks.find(device.node)
            udisks.call(path, filesystem, "Unmount", {}, device.node)
            try:
                udisks.repair(path, device.node)
            finally:
                udisks.call(path, filesystem, "Mount", {"options": ("s", _MOUNT_OPTIONS)}, device.node)


class _Connection:
    def __init__(self, bus: str) -> None:
        self._bus = bus
        self._connection: Any = None

    def __enter__(self) -> _Connection:
        from jeepney.io.blocking import open_dbus_connection

        with _bus_errors():
            self._connection = open_dbus_connection(self._bus)
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    def _ask(self, path: str, interface: str, method: str, signature: str, arguments: tuple[Any, ...]) -> Any:
        """Call a method; returns the message of the reply, which may be an error."""
        from jeepney import DBusAddress, new_method_call

        address = DBusAddress(path, bus_name=_NAME, interface=interface)
        with _bus_errors():
            return self._connection.send_and_get_reply(
                new_method_call(address, method, signature, arguments), timeout=_TIMEOUT_S
            )

    def find(self, node: str) -> str:
        """Return the object of a device node."""
        reply = self._ask(_MANAGER, f"{_NAME}.Manager", "ResolveDevice", "a{sv}a{sv}", ({"path": ("s", node)}, {}))
        found = _body(reply, "udisks does not know it", node)[0]
        if not found:
            raise StickError(f"udisks does not know {node}")
        return str(found[0])

    def get(self, path: str, interface: str, name: str) -> Any:
        """Return the value of a property."""
        reply = self._ask(path, "org.freedesktop.DBus.Properties", "Get", "ss", (interface, name))
        return _body(reply, f"udisks does not say its {name}", path)[0][1]

    def call(self, path: str, interface: str, method: str, options: dict[str, Any], node: str) -> Any:
        """Call a method that takes only options, and return what it answers; nobody is asked for a password."""
        options = {**options, "auth.no_user_interaction": ("b", True)}
        return _body(self._ask(path, interface, method, "a{sv}", (options,)), f"{method.lower()} failed", node)

    def repair(self, path: str, node: str) -> None:
        """Repair the file system of a block device that is not mounted; raises StickError if it stays damaged."""
        filesystem = f"{_NAME}.Filesystem"
        try:
            self.call(path, filesystem, "Repair", {}, node)
        except StickError:
            # libblockdev before 3.0 takes the exit code of fsck.vfat after a successful repair for a failure.
            if self.call(path, filesystem, "Check", {}, node) == (True,):
                return
            raise
        if self.call(path, filesystem, "Check", {}, node) != (True,):
            raise StickError(f"{node}: its file system cannot be repaired")

    def power_off(self, path: str, node: str) -> None:
        """Switch off what udisks calls the drive of a block device; one that cannot be switched off stays as it is."""
        drive = str(self.get(path, f"{_NAME}.Block", "Drive"))
        if drive != "/" and self.get(drive, f"{_NAME}.Drive", "CanPowerOff"):
            self.call(drive, f"{_NAME}.Drive", "PowerOff", {}, node)


@contextlib.contextmanager
def _bus_errors() -> Iterator[None]:
    try:
        yield
    except StickError:
        raise
    except Exception as error:
        # Sockets, authentication and timeouts have error classes of their own, and the address of the bus may be anything.
        raise StickError(f"cannot reach udisks over D-Bus: {type(error).__name__}") from None


def _body(reply: Any, failure: str, node: str) -> Any:
    """Return the body of a reply; an error becomes StickError in our own words, for udisks quotes labels in its own."""
    from jeepney import HeaderFields, MessageType

    if reply.header.message_type is MessageType.method_return:
        return reply.body
    name = str(reply.header.fields.get(HeaderFields.error_name, ""))
    short = name.rsplit(".", 1)[-1]
    if name in ("org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner"):
        raise StickError("udisks2 is not installed or does not run", hint="install the package udisks2")
    hint = _NOT_AUTHORIZED_HINT if short.startswith("NotAuthorized") else None
    raise StickError(f"{node}: {_WORDS.get(short, failure)} ({short})", hint=hint)
