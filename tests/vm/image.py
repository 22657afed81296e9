"""Disk images for the virtual machines: a Debian with systemd and udisks2, and sneaker as a person would install it.

The base, without sneaker, is kept in ``CACHE``; everything else is made anew for each run.  Needs root: the images are
made in a chroot and mounted through loop devices.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CACHE", "Base", "base", "build_wheels", "make_machine"]

ROOT = Path(__file__).parent.parent.parent
#: Read when this is imported: the tests' own environment has no SNEAKER_* in it.
CACHE = Path(os.environ.get("SNEAKER_VM_CACHE") or ROOT / "build" / "vm").absolute()
MIRROR = os.environ.get("SNEAKER_VM_MIRROR") or "http://deb.debian.org/debian"

_PACKAGES = (
    "systemd,systemd-sysv,libpam-systemd,udev,dbus,dbus-user-session,polkitd,udisks2,kmod,python3,python3-venv,"
    "dosfstools,exfatprogs,util-linux,initramfs-tools,zstd"
)
_PERSON = "anna"
_IMAGE_BYTES = 3 * 1024**3

_FSTAB = "/dev/vda / ext4 defaults 0 1\n"
_JOURNAL = """\
[Journal]
Storage=volatile
ForwardToConsole=yes
TTYPath=/dev/ttyS0
MaxLevelConsole=info
"""
_AGENT = """\
[Unit]
Description=Commands from the test
After=dbus.service systemd-logind.service
[Service]
ExecStart=/usr/bin/python3 /usr/local/lib/vm-agent.py
Restart=always
[Install]
WantedBy=multi-user.target
"""
# The journal has the serial console to itself, and nothing is looked for on the internet.
_MASKED = [
    "getty@tty1.service",
    "serial-getty@ttyS0.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "systemd-timesyncd.service",
    "systemd-pstore.service",
]


@dataclass(frozen=True, slots=True)
class Base:
    """A bootable root file system: the image, and the kernel and initial RAM disk that belong to it."""

    image: Path
    kernel: Path
    initrd: Path


def _run(command: Sequence[str | Path], **more: object) -> None:
    """Run a program; when it fails, its last words are in the error."""
    done = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        check=False,
        **more,  # type: ignore[call-overload]
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{done.stdout[-2000:]}")


def _chroot(root: Path, *command: str) -> None:
    environment = {
        "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
    }
    _run(["chroot", root, *command], env=environment)


def base() -> Base:
    """Return the base, building it if the cache has none that fits; takes two minutes then."""
    here = Path(__file__)
    recipe = here.read_bytes().split(b"# ---- below, nothing")[0] + here.with_name("agent.py").read_bytes()
    folder = CACHE / f"base-{hashlib.sha256(recipe).hexdigest()[:16]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=CACHE, prefix="building-") as work:
                made = Path(work) / "base"
                made.mkdir()
                _build_base(Path(work) / "root", made)
                made.rename(folder)
            for old in CACHE.glob("base-*"):
                if old != folder:
                    shutil.rmtree(old)
    return Base(folder / "root.img", folder / "vmlinuz", folder / "initrd.img")


def _build_base(root: Path, result: Path) -> None:
    _run(["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", root, MIRROR])
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    # The initial RAM disk holds what it takes to mount the root, and no more: it is unpacked by an emulated processor.
    (root / "etc/initramfs-tools/conf.d/small").write_text("MODULES=list\nCOMPRESS=zstd\n")
    (root / "etc/initramfs-tools/modules").write_text("virtio_pci\nvirtio_blk\next4\ncrc32c_generic\n")
    _chroot(root, "apt-get", "install", "-y", "-qq", "--no-install-recommends", "linux-image-amd64")
    _chroot(root, "apt-get", "clean")
    (root / "etc/fstab").write_text(_FSTAB)
    (root / "etc/hostname").write_text("machine\n")
    folder = root / "etc/systemd/journald.conf.d"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "console.conf").write_text(_JOURNAL)
    (root / "etc/systemd/system/vm-agent.service").write_text(_AGENT)
    shutil.copy(Path(__file__).with_name("agent.py"), root / "usr/local/lib/vm-agent.py")
    _chroot(root, "systemctl", "enable", "vm-agent.service")
    _chroot(root, "systemctl", "mask", *_MASKED)
    _chroot(root, "useradd", "--create-home", "--groups", "plugdev", "--shell", "/bin/bash", _PERSON)
    # The person's services run without a login, as on a hub.
    (root / "var/lib/systemd/linger").mkdir(parents=True, exist_ok=True)
    (root / "var/lib/systemd/linger" / _PERSON).touch()
    for name in ("vmlinuz", "initrd.img"):
        shutil.copy(root / (root / name).readlink(), result / name)
    with (result / "root.img").open("wb") as file:
        file.truncate(_IMAGE_BYTES)
    _run(["mkfs.ext4", "-q", "-F", "-L", "root", "-d", root, result / "root.img"])


# ---- below, nothing changes what is in the base


def build_wheels(folder: Path, source: Path = ROOT) -> Path:
    """Build sneaker's wheel, and fetch the wheels it needs on Debian bookworm; return the folder with all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source])
    (wheel,) = folder.glob("sneaker-*.whl")
    platforms = ["manylinux_2_36_x86_64", "manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux_2_17_x86_64"]
    options = [f"--platform={name}" for name in [*platforms, "manylinux2014_x86_64", "manylinux1_x86_64"]]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
    pip += ["--python-version=3.11", "--implementation=cp", *options, "--dest", str(folder)]
    _run([*pip, f"{wheel}[desktop]"])
    return folder


@contextlib.contextmanager
def _mounted(image: Path) -> Iterator[Path]:
    """Mount an image while the block runs."""
    with tempfile.TemporaryDirectory(prefix="sneaker-vm-") as work:
        folder = Path(work)
        _run(["mount", "-o", "loop", image, folder])
        try:
            yield folder
        finally:
            _run(["umount", folder])


def make_machine(made_of: Base, image: Path, wheels: Path, *, name: str, mounts: bool) -> None:
    """Make the disk of a machine: the base with sneaker, and a person's home with an identity.

    With ``mounts``, sneaker has udisks2 mount sticks and is started by the udev rule; without, somebody else mounts.
    """
    _run(["cp", "--sparse=always", made_of.image, image])
    with _mounted(image) as root:
        (root / "etc/hostname").write_text(f"{name}\n")
        shutil.copytree(wheels, root / "tmp/wheels")
        _chroot(root, "python3", "-m", "venv", "/opt/sneaker")
        packages = ["sneaker[desktop]"]
        _chroot(
            root,
            *("/opt/sneaker/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-index", "--find-links=/tmp/wheels", *packages),
        )
        shutil.rmtree(root / "tmp/wheels")
        (root / "usr/local/bin/sneaker").symlink_to("/opt/sneaker/bin/sneaker")
        _chroot(root, "sneaker", "setup", "--root", "/", "--hub")
        _chroot(root, "runuser", "-u", _PERSON, "--", "env", f"HOME=/home/{_PERSON}", "sneaker", "init")
        config = root / f"home/{_PERSON}/.local/share/sneaker/config.toml"
        config.write_text("[drives]\nmount = true\n" if mounts else "[drives]\nmount = false\n")
