"""Notes that know where they were written, on machines and drives of all kinds."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import ClassVar

import pytest

from sneaker.home import copy_detection
from sneaker.home.copy_detection import read_note, write_note


class Machine:
    """What a system shows of itself: files in the places that the kernel and systemd have for them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        for name in ("system", "board", "block", "mounts", "stat"):
            monkeypatch.setattr(copy_detection, self._NAMES[name], str(folder / name))
        monkeypatch.setattr(copy_detection, "_MACHINE_IDS", (str(folder / "system"),))
        monkeypatch.setattr(copy_detection, "_BOARD_NUMBERS", (str(folder / "board"),))
        self.device = os.stat(folder).st_dev
        self.start(time.time() - 1000)
        self.file_system("ext4")

    _NAMES: ClassVar = {
        "system": "_MACHINE_IDS",
        "board": "_BOARD_NUMBERS",
        "block": "_BLOCK_DEVICES",
        "mounts": "_MOUNTS",
        "stat": "_KERNEL_STATISTICS",
    }

    def start(self, at: float) -> None:
        (self.folder / "stat").write_text(f"cpu  1 2 3\nbtime {int(at)}\nprocesses 7\n")

    def system(self, number: str, *, made_at: float = 1_000_000_000) -> None:
        (self.folder / "system").write_text(number + "\n")
        os.utime(self.folder / "system", (made_at, made_at))

    def board(self, number: str) -> None:
        (self.folder / "board").write_text(number + "\0")

    def file_system(self, name: str) -> None:
        device = f"{os.major(self.device)}:{os.minor(self.device)}"
        lines = ["22 27 0:21 / /proc rw - proc proc rw", f"30 27 {device} / /home rw shared:1 - {name} /dev/sda1 rw"]
        (self.folder / "mounts").write_text("\n".join(lines) + "\n")

    def drive(self, name: str, number: str, *, below: str = "") -> None:
        """Put a drive with that number into the machine; ``below`` is what the file system is on, if not on the drive."""
        shutil.rmtree(self.folder / "block", ignore_errors=True)
        shutil.rmtree(self.folder / "devices", ignore_errors=True)
        disk = self.folder / "devices" / "usb1" / "host0" / "block" / "sda"
        disk.mkdir(parents=True)
        place = disk.parents[2] / name if name == "serial" else disk / name
        place.parent.mkdir(exist_ok=True)
        place.write_text(number + " \n")
        (disk.parents[2] / "idVendor").write_text("1234\n")
        shown = disk
        if below == "partition":
            shown = disk / "sda1"
            shown.mkdir()
            (shown / "partition").write_text("1\n")
        elif below == "encryption":
            shown = self.folder / "devices" / "virtual" / "dm-0"
            (shown / "slaves").mkdir(parents=True)
            (shown / "slaves" / "sda").symlink_to(disk)
        (self.folder / "block").mkdir()
        (self.folder / "block" / f"{os.major(self.device)}:{os.minor(self.device)}").symlink_to(shown)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    (tmp_path / "machine").mkdir()
    return Machine(tmp_path / "machine", monkeypatch)


@pytest.fixture
def note(tmp_path: Path, machine: Machine) -> Path:
    machine.system("a" * 32)
    write_note(tmp_path / "note", {"said": "w\u00e4s"})
    return tmp_path / "note"


def is_here(path: Path) -> bool | None:
    found = read_note(path)
    assert found is not None
    return found.is_here


def anew(path: Path) -> Path:
    write_note(path, {})
    return path


def test_where_it_was_written(note: Path) -> None:
    assert is_here(note) is True
    assert is_here(note.rename(note.with_name("other"))) is True
    shutil.copy2(note.with_name("other"), note)
    assert is_here(note) is False


def test_another_system(note: Path, machine: Machine) -> None:
    machine.system("b" * 32)
    assert is_here(note) is False


def test_a_system_that_is_made_anew_at_each_start_says_nothing(note: Path, machine: Machine) -> None:
    """Live systems, and read-only roots."""
    machine.system("b" * 32, made_at=time.time())
    assert is_here(note) is False  # another one than that which was installed here
    anew(note)
    machine.system("c" * 32, made_at=time.time())
    assert is_here(note) is True
    machine.system("c" * 32)  # the first start of a system that was just installed is over
    assert is_here(note) is True


def test_a_clock_that_starts_in_the_past_makes_no_system_new(note: Path, machine: Machine) -> None:
    machine.system("a" * 32, made_at=time.time() + 1_000_000)
    machine.start(0)
    assert is_here(note) is True


@pytest.mark.parametrize("below", ["", "partition", "encryption"])
@pytest.mark.parametrize("name", ["device/cid", "device/serial", "device/vpd_pg80", "serial"])
def test_the_drive_decides(note: Path, machine: Machine, name: str, below: str) -> None:
    """A stick that is started from on many machines is one place; an image on another card is another one."""
    machine.drive(name, "4711", below=below)
    machine.board("Pi 1")
    anew(note)
    machine.board("Pi 2")
    machine.system("b" * 32)
    assert is_here(note) is True
    machine.drive(name, "4712", below=below)
    machine.board("Pi 1")
    machine.system("a" * 32)
    assert is_here(note) is False


def test_the_board_decides_where_drives_have_no_number(note: Path, machine: Machine) -> None:
    machine.board("Pi 1")
    anew(note)
    machine.board("Pi 2")
    assert is_here(note) is False
    machine.board("Pi 1")
    machine.system("b" * 32)
    assert is_here(note) is True


@pytest.mark.parametrize("name", ["vfat", "exfat", "fuseblk", "fuse.exfat-fuse"])
def test_where_inode_numbers_change_it_cannot_be_told(note: Path, machine: Machine, name: str) -> None:
    machine.file_system(name)
    assert is_here(note) is False
    anew(note)
    shutil.copy2(note, note.with_name("again"))
    assert is_here(note.with_name("again")) is None
    machine.system("b" * 32)
    assert is_here(note.with_name("again")) is False
    machine.system("a" * 32)
    machine.file_system("ext4")
    assert is_here(note) is False


def test_a_number_that_was_given_again(note: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_detection, "_generation", lambda _: 1)
    anew(note)
    assert is_here(note) is True
    monkeypatch.setattr(copy_detection, "_generation", lambda _: 2)
    assert is_here(note) is False
    monkeypatch.setattr(copy_detection, "_generation", lambda _: None)  # another kernel, which does not say
    assert is_here(note) is True


def test_no_numbers_are_written_down(note: Path, machine: Machine) -> None:
    machine.drive("device/cid", "4711")
    machine.board("Pi 1")
    anew(note)
    text = note.read_text()
    assert "4711" not in text
    assert "Pi 1" not in text
    assert "aaaa" not in text
    assert note.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"place": 7}', '{"place": {}}', '{"place": {"inode": "x"}}'])
def test_what_is_no_note_is_not_here(note: Path, text: str) -> None:
    note.write_text(text)
    found = read_note(note)
    assert found is None or found.is_here is False


def test_a_note_has_what_was_written(note: Path) -> None:
    found = read_note(note)
    assert found is not None
    assert found.fields["said"] == "w\u00e4s"
