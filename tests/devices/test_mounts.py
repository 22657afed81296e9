"""The mount table: parsing, what hides what, which mounts may be sticks, and word of changes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sneaker.devices.mounts import (
    Mount,
    MountTable,
    MountWatch,
    device_mounts,
    device_of,
    mount_of,
    parse_mount,
    parse_mountinfo,
    unescape,
)
from sneaker.errors import StickError

ROOT = b"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw"
STICK = rb"90 27 8:1 / /media/anna/My\040Stick\0431 rw,nosuid,nodev shared:5 master:2 - vfat /dev/sda1 rw,fmask=0022"


def table(*lines: bytes) -> MountTable:
    return MountTable(tuple(parse_mountinfo(b"\n".join(lines) + b"\n")))


def usable(found: MountTable, **options: object) -> dict[int, Mount]:
    return device_mounts(found, present=lambda device: True, **options)  # type: ignore[arg-type]


def test_a_line() -> None:
    mount = parse_mount(STICK)
    assert mount == Mount(
        mount_id=90,
        parent_id=27,
        device=os.makedev(8, 1),
        root="/",
        mount_point=Path("/media/anna/My Stick#1"),
        options=frozenset({"rw", "nosuid", "nodev"}),
        fs_type="vfat",
        source="/dev/sda1",
    )
    assert not mount.read_only


def test_without_optional_fields_and_read_only_by_either_option() -> None:
    assert parse_mount(b"1 0 8:1 / /a ro - vfat /dev/sda1 rw").read_only
    assert parse_mount(b"1 0 8:1 / /a rw - vfat /dev/sda1 ro,errors=remount-ro").read_only
    assert parse_mount(b"1 0 8:1 / /a rw - vfat /dev/sda1 rw").options == {"rw"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (rb"a\040b", "a b"),
        (rb"\011\012\134\043", "\t\n\\#"),
        (rb"\134040", "\\040"),
        (b"caf\xc3\xa9", "café"),
        (b"\xff", "\udcff"),
        (rb"\377", "\udcff"),
    ],
)
def test_escapes(field: bytes, value: str) -> None:
    assert unescape(field) == value


@pytest.mark.parametrize("field", [rb"\04", rb"\400", rb"\048", rb"\x41", b"\\", rb"a\ b", rb"\\134"])
def test_wrong_escapes(field: bytes) -> None:
    with pytest.raises(ValueError, match="octal"):
        unescape(field)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"garbage",
        b"x 27 8:1 / /a rw - vfat /dev/sda1 rw",
        b"-1 27 8:1 / /a rw - vfat /dev/sda1 rw",
        b"1 27 8 / /a rw - vfat /dev/sda1 rw",
        b"1 27 8:1:2 / /a rw - vfat /dev/sda1 rw",
        b"1 27 8:4294967296 / /a rw - vfat /dev/sda1 rw",
        b"1 27 18446744073709551616:1 / /a rw - vfat /dev/sda1 rw",
        b"1 27 8:" + b"9" * 5000 + b" / /a rw - vfat /dev/sda1 rw",
        b"9" * 5000 + b" 27 8:1 / /a rw - vfat /dev/sda1 rw",
        b"1 27 8:1 / /a rw vfat /dev/sda1 rw",
        b"1 27 8:1 / /a rw - vfat",
        b"1 27 8:1 / a rw - vfat /dev/sda1 rw",
        rb"1 27 8:1 / /a\9 rw - vfat /dev/sda1 rw",
    ],
)
def test_not_a_line(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"mount|octal"):
        parse_mount(line)


def test_one_odd_line_does_not_hide_the_others() -> None:
    assert [mount.mount_id for mount in parse_mountinfo(ROOT + b"\nnonsense\n" + STICK + b"\n")] == [27, 90]


@given(st.binary(max_size=200))
def test_any_bytes_give_mounts_or_nothing(data: bytes) -> None:
    parse_mountinfo(data)
    try:
        parse_mount(data)
    except ValueError:
        pass


@given(st.binary(min_size=1, max_size=60).filter(lambda name: b"/" not in name and b"\0" not in name))
def test_every_name_survives_the_kernels_escaping(name: bytes) -> None:
    escaped = b"".join(rb"\%03o" % byte if byte in b" \t\n\\#" else bytes([byte]) for byte in name)
    mount = parse_mount(b"1 0 8:1 / /" + escaped + b" rw - vfat /dev/sda1 rw")
    assert os.fsencode(mount.mount_point) == b"/" + name or name in (b".", b"..")


def test_the_real_table_has_a_root() -> None:
    real = MountTable.read()
    assert any(mount.mount_point == Path("/") for mount in real.visible())
    with pytest.raises(StickError):
        MountTable.read(Path("/nonexistent"))


def test_a_mount_upon_a_mount_hides_it() -> None:
    found = table(
        ROOT,
        b"90 27 8:1 / /mnt rw - vfat /dev/sda1 rw",
        b"91 90 8:17 / /mnt rw - vfat /dev/sdb1 rw",
    )
    assert list(usable(found)) == [os.makedev(8, 17)]


def test_a_mount_over_a_folder_above_hides_it_and_what_is_below() -> None:
    found = table(
        ROOT,
        b"90 27 8:1 / /mnt/a rw - ext4 /dev/sda1 rw",
        b"91 90 8:33 / /mnt/a/deep/er rw - ext4 /dev/sdc1 rw",
        b"92 27 0:50 / /mnt rw - tmpfs none rw",
        b"93 92 8:17 / /mnt/a rw - vfat /dev/sdb1 rw",
    )
    assert {mount.mount_id for mount in found.visible()} == {27, 92, 93}
    assert list(usable(found)) == [os.makedev(8, 17)]


def test_a_new_root_upon_the_old_one() -> None:
    found = table(
        b"1 1 0:2 / / rw - rootfs rootfs rw",
        b"27 1 254:0 / / rw - ext4 /dev/vda rw",
        STICK,
    )
    assert {mount.mount_id for mount in found.visible()} == {27, 90}


def test_never_the_root_filesystem_not_even_elsewhere() -> None:
    found = table(ROOT, b"40 27 254:0 / /mnt/again rw - ext4 /dev/vda rw", STICK)
    assert list(usable(found)) == [os.makedev(8, 1)]
    assert usable(found, never=[os.makedev(8, 1)]) == {}


def test_the_root_is_excluded_even_when_another_mount_hides_it() -> None:
    found = table(
        b"27 1 254:0 / / rw - ext4 /dev/vda rw",
        b"28 27 0:50 / / rw - overlay none rw",
        b"40 28 254:0 / /mnt rw - ext4 /dev/vda rw",
    )
    assert usable(found) == {}


def test_only_allowed_filesystems_that_are_still_there() -> None:
    found = table(ROOT, STICK, b"91 27 7:5 / /snap/core ro - squashfs /dev/loop5 ro")
    assert [mount.fs_type for mount in usable(found).values()] == ["vfat"]
    assert usable(found, filesystems={"exfat"}) == {}
    assert device_mounts(found, present=lambda device: False) == {}


def test_of_several_mounts_the_whole_and_writable_one() -> None:
    found = table(
        ROOT,
        b"90 27 8:1 /folder /bind rw - ext4 /dev/sda1 rw",
        b"91 27 8:1 / /read ro - ext4 /dev/sda1 rw",
        b"92 27 8:1 / /write rw - ext4 /dev/sda1 rw",
        b"93 27 8:1 / /later rw - ext4 /dev/sda1 rw",
    )
    assert {mount.mount_point for mount in usable(found).values()} == {Path("/write")}


def test_btrfs_is_found_by_its_source() -> None:
    node = next(Path("/sys/class/block").iterdir()).name
    anonymous = parse_mount(b"90 27 0:44 /@ /mnt rw - btrfs /dev/" + node.encode() + b" rw")
    assert device_of(anonymous) == os.stat(f"/dev/{node}").st_rdev
    for source in (b"/dev/not-there", b"/dev/../sda", b"none", b"/dev/mapper/x"):
        assert device_of(parse_mount(b"90 27 0:44 /@ /mnt rw - btrfs " + source + b" rw")) == 0
    assert device_of(parse_mount(b"90 27 0:44 / /mnt rw - tmpfs none rw")) == 0


def test_mount_of_a_path() -> None:
    found = table(ROOT, STICK, b"91 27 0:60 / /home/anna/share rw - nfs4 server:/share rw")
    for path, number in {"/home/anna/share/in": 91, "/home/anna/shared": 27, "/media/anna/My Stick#1/x": 90}.items():
        mount = mount_of(Path(path), found)
        assert mount is not None
        assert mount.mount_id == number


@pytest.mark.root
def test_word_of_every_change_and_no_spinning(tmp_path: Path) -> None:
    """A mount and an unmount each wake the loop; while nothing happens, nothing does."""
    folder = tmp_path / "mnt"
    folder.mkdir()

    async def scenario() -> tuple[int, int, float]:
        calls = 0
        woken = asyncio.Event()

        def changed() -> None:
            nonlocal calls
            calls += 1
            woken.set()

        with MountWatch(changed):
            await asyncio.sleep(0.1)  # opening may report once
            calls = 0
            woken.clear()
            await asyncio.to_thread(subprocess.run, ["mount", "-t", "tmpfs", "none", str(folder)], check=True)
            try:
                async with asyncio.timeout(5):
                    await woken.wait()
                mounted = calls
                woken.clear()
            finally:
                await asyncio.to_thread(subprocess.run, ["umount", str(folder)], check=True)
            async with asyncio.timeout(5):
                await woken.wait()
            before = time.process_time()
            await asyncio.sleep(0.5)
            return mounted, calls, time.process_time() - before

    mounted, calls, busy = asyncio.run(scenario())
    assert 1 <= mounted <= calls <= 20  # others on this machine mount as well
    assert busy < 0.1
