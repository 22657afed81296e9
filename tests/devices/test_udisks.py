"""Mounting through udisks2, against a stand-in on a real bus; the virtual machines have the real one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sneaker.devices.udev import BlockDevice
from sneaker.devices.udisks import UdisksMounter
from sneaker.errors import StickError
from tests.desktop.bus import BusError, Service, message_bus
from tests.devices.fakes import make_mounted_device

pytestmark = pytest.mark.dbus

NAME = "org.freedesktop.UDisks2"
STICK = "/org/freedesktop/UDisks2/block_devices/sda"
DRIVE = "/org/freedesktop/UDisks2/drives/Stick"
DEVICE = BlockDevice("/dev/sda", 0x800, "vfat", None, "STICK", 7, False)


class Udisks:
    """A udisks2 that knows one stick."""

    def __init__(self) -> None:
        self.properties: dict[tuple[str, str], tuple[str, Any]] = {
            (STICK, "HintAuto"): ("b", True),
            (STICK, "HintIgnore"): ("b", False),
            (STICK, "Drive"): ("o", DRIVE),
            (DRIVE, "CanPowerOff"): ("b", True),
        }
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self.fail: dict[str, str] = {}
        self.is_clean = True

    def answer(self, path: str, interface: str, method: str, body: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
        if method == "ResolveDevice":
            return "ao", ([STICK] if body[0]["path"] == ("s", "/dev/sda") else [],)
        if method == "Get":
            return "v", (self.properties[path, body[1]],)
        if method in self.fail:
            raise BusError(self.fail[method])
        self.calls.append((path, method, {name: value for name, (_, value) in body[0].items()}))
        if method in ("Repair", "Check"):
            return "b", (method == "Repair" or self.is_clean,)
        return ("s", ("/media/anna/STICK",)) if method == "Mount" else ("", ())


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[str]:
    with message_bus(tmp_path) as address:
        yield address


@pytest.fixture
def udisks(bus: str) -> Iterator[Udisks]:
    made = Udisks()
    service = Service(bus, NAME, made.answer)
    yield made
    service.close()


def test_mount_without_programs_devices_and_questions(bus: str, udisks: Udisks) -> None:
    assert UdisksMounter(bus=bus).mount(DEVICE)
    assert udisks.calls == [(STICK, "Mount", {"options": "nosuid,nodev,noexec", "auth.no_user_interaction": True})]


@pytest.mark.parametrize(("name", "value"), [("HintAuto", False), ("HintIgnore", True)])
def test_what_people_do_not_plug_in_is_not_mounted(bus: str, udisks: Udisks, name: str, value: bool) -> None:
    udisks.properties[STICK, name] = ("b", value)
    assert not UdisksMounter(bus=bus).mount(DEVICE)
    assert not udisks.calls


@pytest.mark.parametrize("can", [True, False])
def test_release(bus: str, udisks: Udisks, can: bool) -> None:
    drive = replace(make_mounted_device(Path("/media/anna/STICK")), node="/dev/sda")
    udisks.properties[DRIVE, "CanPowerOff"] = ("b", can)
    keeps = UdisksMounter(unmount=False, bus=bus)
    assert not keeps.release(drive, switch_off=True)
    keeps.switch_off(drive)
    assert not udisks.calls
    assert UdisksMounter(bus=bus).release(drive, switch_off=True)
    assert [call[:2] for call in udisks.calls] == [(STICK, "Unmount")]
    udisks.calls.clear()
    assert UdisksMounter(power_off=True, bus=bus).release(drive, switch_off=False)
    assert [call[:2] for call in udisks.calls] == [(STICK, "Unmount")]
    udisks.calls.clear()
    switches = UdisksMounter(power_off=True, unmount=False, bus=bus)
    assert switches.release(drive, switch_off=True)
    switches.switch_off(drive)
    assert [call[:2] for call in udisks.calls] == [(STICK, "Unmount"), (DRIVE, "PowerOff")][: 2 if can else 1]


@pytest.mark.parametrize("error", [None, "org.freedesktop.UDisks2.Error.Failed"])
def test_repair(bus: str, udisks: Udisks, error: str | None) -> None:
    """What counts is whether it is in order afterwards."""
    if error:
        udisks.fail["Repair"] = error
    UdisksMounter(bus=bus).repair(replace(make_mounted_device(Path("/media/anna/STICK")), node="/dev/sda"))
    made = [call[1] for call in udisks.calls]
    assert made == (["Unmount", "Check", "Mount"] if error else ["Unmount", "Repair", "Check", "Mount"])


@pytest.mark.parametrize("supported", [True, False])
def test_what_cannot_be_repaired_is_mounted_again(bus: str, udisks: Udisks, supported: bool) -> None:
    udisks.is_clean = False
    if not supported:
        udisks.fail["Repair"] = udisks.fail["Check"] = "org.freedesktop.UDisks2.Error.NotSupported"
    with pytest.raises(StickError, match="cannot be repaired" if supported else "no means"):
        UdisksMounter(bus=bus).repair(replace(make_mounted_device(Path("/media/anna/STICK")), node="/dev/sda"))
    assert [call[1] for call in udisks.calls][-1] == "Mount"


def test_failures_in_our_own_words(bus: str, udisks: Udisks) -> None:
    """udisks quotes labels in its errors; none of its words get through."""
    for name, words in {
        "org.freedesktop.UDisks2.Error.NotAuthorizedCanObtain": "without a password",
        "org.freedesktop.UDisks2.Error.AlreadyMounted": "mounted already",
        "org.freedesktop.UDisks2.Error.Failed": "mount failed (Failed)",
        "org.freedesktop.DBus.Error.ServiceUnknown": "not installed",
    }.items():
        udisks.fail["Mount"] = name
        with pytest.raises(StickError) as caught:
            UdisksMounter(bus=bus).mount(DEVICE)
        assert words in caught.value.message
        assert "\x1b" not in caught.value.message
    with pytest.raises(StickError, match="does not know /dev/sdz"):
        UdisksMounter(bus=bus).mount(replace(DEVICE, node="/dev/sdz"))


def test_nobody_there(bus: str, tmp_path: Path) -> None:
    with pytest.raises(StickError, match="not installed"):
        UdisksMounter(bus=bus).mount(DEVICE)
    with pytest.raises(StickError, match="cannot reach"):
        UdisksMounter(bus=f"unix:path={tmp_path}/nothing").mount(DEVICE)
