"""A kernel for the virtual machines that starts fast on an emulated processor.

Debian's kernel, but already unpacked, and in place of Debian's initial RAM disk, which looks for all sorts of disks, one
that loads what the root file system needs and mounts it.
"""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

__all__ = ["install"]

# Needed before the root file system is there; the console, so that it has the journal from the start.
_EARLY = ["virtio_pci", "virtio_blk", "virtio_console", "crc32c_generic", "ext4"]
# All modules that these machines get: loading what else fits the mainboard costs time at each boot.
_USED = [
    *("arch/x86/crypto", "block", "crypto", "lib", "drivers/virtio", "drivers/char/hw_random"),
    *("drivers/block/virtio_blk.ko", "drivers/char/virtio_console.ko", "drivers/scsi/scsi_common.ko"),
    *("drivers/scsi/scsi_mod.ko", "drivers/scsi/sd_mod.ko", "drivers/usb/common", "drivers/usb/core"),
    *("drivers/usb/host", "drivers/usb/storage", "fs/autofs", "fs/exfat", "fs/ext4", "fs/fat", "fs/jbd2"),
    *("fs/mbcache.ko", "fs/nls"),
]

_INIT = """\
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in /modules/*; do /bin/busybox insmod "$module"; done
until /bin/busybox mount -t ext4 /dev/vda /root; do /bin/busybox sleep 0.1; done
exec /bin/busybox switch_root /root /sbin/init
"""


def install(root: Path, result: Path, run: Callable[..., str], chroot: Callable[..., str]) -> None:
    """Put a kernel's modules into ``root``, and into ``result`` the kernel and an initial RAM disk, ready to boot."""
    with tempfile.TemporaryDirectory(dir=result.parent) as work:
        # Its package is only unpacked: what it would do on a machine of its own takes longer than all the rest.
        depends = run(["apt-cache", "depends", "linux-image-amd64"]).split()
        package = next(word for word in depends if word.startswith("linux-image-") and word != "linux-image-amd64")
        run(["apt-get", "download", "-q", package], cwd=work)
        (archive,) = Path(work).glob("*.deb")
        unpacked = Path(work) / "unpacked"
        run(["dpkg-deb", "--extract", archive, unpacked])
        (image,) = (unpacked / "boot").glob("vmlinuz-*")
        (result / "vmlinux").write_bytes(_unpack(image.read_bytes()))
        (modules,) = (unpacked / "lib/modules").iterdir()
        version = modules.name
        for name in ("modules.builtin", "modules.order", *(f"kernel/{used}" for used in _USED)):
            target = root / "usr/lib/modules" / version / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(modules / name, target)
    chroot(root, "depmod", version)
    _make_initrd(root, version, chroot)
    shutil.move(root / "initrd.img", result / "initrd.img")


def _unpack(image: bytes) -> bytes:
    """Return the kernel in a bzImage, which QEMU starts by its PVH entry (Linux: Documentation/x86/boot.rst)."""
    setup_sectors = image[0x1F1]
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    # Its last four bytes are the plain length.
    return lzma.LZMADecompressor().decompress(image[start : start + length - 4])


def _make_initrd(root: Path, version: str, chroot: Callable[..., str]) -> None:
    folder = root / "initrd"
    for name in ("bin", "dev", "modules", "root"):
        (folder / name).mkdir(parents=True)
    shutil.copy(root / "bin/busybox", folder / "bin/busybox")
    os.mknod(folder / "dev/console", 0o600 | stat.S_IFCHR, os.makedev(5, 1))
    (folder / "init").write_text(_INIT)
    (folder / "init").chmod(0o755)
    paths: dict[str, None] = {}
    for name in _EARLY:
        lines = chroot(root, "modprobe", "--show-depends", "-S", version, name).splitlines()
        paths |= dict.fromkeys(line.split()[1] for line in lines if line.startswith("insmod"))
    for number, path in enumerate(paths):
        source = root / path.lstrip("/")
        shutil.copy(source, folder / "modules" / f"{number:02}-{source.name}")
    chroot(root, "sh", "-c", "cd /initrd && find . | busybox cpio -o -H newc > /initrd.img")
    shutil.rmtree(folder)
