"""The disk of the virtual machines: a Debian with systemd and udisks2, and sneaker as a person would install it.

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

from tests.vm import kernel

__all__ = ["CACHE", "PERSON", "Base", "base", "build_wheels", "install", "overlay"]

ROOT = Path(__file__).parent.parent.parent
#: Read when this is imported: the tests' own environment has no SNEAKER_* in it.
CACHE = Path(os.environ.get("SNEAKER_VM_CACHE") or ROOT / "build" / "vm").absolute()

#: Who has a home, a stick and no password.
PERSON = "anna"

_SUITE = "bookworm"
_PACKAGES = [
    *("systemd", "systemd-sysv", "libpam-systemd", "udev", "dbus", "dbus-user-session", "polkitd", "udisks2"),
    *("kmod", "python3", "python3-venv", "dosfstools", "exfatprogs", "busybox-static"),
]
_IMAGE_BYTES = 1536 * 1024**2
# Nobody needs this system after a crash of the machine that builds it, nor reads its manuals.
_DPKG = (
    "force-unsafe-io\npath-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\npath-exclude=/usr/share/locale/*\n"
)

_JOURNAL = """\
[Journal]
Storage=volatile
ForwardToConsole=yes
TTYPath=/dev/hvc0
MaxLevelConsole=info
"""
_AGENT = """\
[Unit]
Description=Commands from the test
[Service]
ExecStart=/usr/bin/python3 -I -S /usr/local/lib/vm-agent.py
Restart=always
[Install]
WantedBy=multi-user.target
"""
# What no stick needs, and what would look for something on the internet: an emulated processor is slow enough.
_MASKED = [
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer"),
    *("e2scrub_reap.service", "systemd-timesyncd.service", "systemd-pstore.service", "systemd-binfmt.service"),
    *("getty@tty1.service", "serial-getty@ttyS0.service", "serial-getty@hvc0.service", "systemd-rfkill.socket"),
    *("systemd-update-utmp.service", "systemd-update-utmp-runlevel.service", "systemd-journal-flush.service"),
    *("systemd-modules-load.service", "systemd-random-seed.service", "systemd-remount-fs.service"),
    *("systemd-sysctl.service", "systemd-sysusers.service", "kmod-static-nodes.service", "dev-hugepages.mount"),
    *("dev-mqueue.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "proc-sys-fs-binfmt_misc.automount"),
    *(f"modprobe@{name}.service" for name in ("configfs", "dm_mod", "drm", "efi_pstore", "fuse", "loop")),
]


@dataclass(frozen=True, slots=True)
class Base:
    """A bootable root file system: the image, and the kernel and initial RAM disk that belong to it."""

    image: Path
    kernel: Path
    initrd: Path


def _run(command: Sequence[str | Path], **more: object) -> str:
    """Run a program and return what it prints; when it fails, its last words are in the error."""
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
    return str(done.stdout)


def _chroot(root: Path, *command: str) -> str:
    environment = {
        "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
    }
    return _run(["chroot", root, *command], env=environment)


def _mirror() -> str:
    """Return the mirror that this machine's apt is configured with."""
    lines = _run(["apt-get", "indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"])
    for line in lines.splitlines():
        # Not the security archive, which is no whole system.
        if line.startswith("Debian main ") and not line.rstrip("/").endswith("-security"):
            return line.split()[2]
    raise RuntimeError("apt on this machine knows no Debian archive; run 'apt-get update'")


def _proxy() -> dict[str, str]:
    """Return what apt's own proxy, if it has one, is to a program that does not read apt's settings."""
    line = _run(["apt-config", "shell", "proxy", "Acquire::http::Proxy"]).strip()
    return {"http_proxy": line.removeprefix("proxy=").strip("'")} if line else {}


def base() -> Base:
    """Return the base, building it if the cache has none that fits; takes some minutes then."""
    recipe = [Path(__file__).read_bytes().split(b"# ---- below, nothing")[0]]
    recipe += [Path(__file__).with_name(name).read_bytes() for name in ("agent.py", "kernel.py")]
    folder = CACHE / f"base-{hashlib.sha256(b''.join(recipe)).hexdigest()[:16]}"
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
    return Base(folder / "root.img", folder / "vmlinux", folder / "initrd.img")


def _build_base(root: Path, result: Path) -> None:
    bootstrap = ["debootstrap", "--foreign", "--variant=minbase", f"--include={','.join(_PACKAGES)}", _SUITE]
    _run([*bootstrap, root, _mirror()], env={**os.environ, **_proxy()})
    _write(root / "etc/dpkg/dpkg.cfg.d/vm", _DPKG)
    _chroot(root, "/debootstrap/debootstrap", "--second-stage")
    shutil.rmtree(root / "var/cache/apt")
    kernel.install(root, result, _run, _chroot)
    _write(root / "etc/fstab", "/dev/vda / ext4 defaults 0 1\n")
    _write(root / "etc/systemd/journald.conf.d/console.conf", _JOURNAL)
    _write(root / "etc/systemd/system/vm-agent.service", _AGENT)
    shutil.copy(Path(__file__).with_name("agent.py"), root / "usr/local/lib/vm-agent.py")
    _chroot(root, "systemctl", "enable", "vm-agent.service")
    _chroot(root, "systemctl", "set-default", "multi-user.target")
    _chroot(root, "systemctl", "mask", *_MASKED)
    _chroot(root, "useradd", "--create-home", "--groups", "plugdev", "--shell", "/bin/bash", PERSON)
    # The person's services run without a login, as on a hub.
    _write(root / f"var/lib/systemd/linger/{PERSON}", "")
    with (result / "root.img").open("wb") as file:
        file.truncate(_IMAGE_BYTES)
    _run(["mkfs.ext4", "-q", "-F", "-L", "root", "-d", root, result / "root.img"])


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


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
    _run([*pip, str(wheel)])
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


def install(made_of: Base, image: Path, wheels: Path) -> None:
    """Make the disk that machines start from: the base, with sneaker installed for everybody and set up as on a hub."""
    _run(["cp", "--sparse=always", made_of.image, image])
    with _mounted(image) as root:
        shutil.copytree(wheels, root / "tmp/wheels")
        _chroot(root, "python3", "-m", "venv", "/opt/sneaker")
        pip = ["/opt/sneaker/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _chroot(root, *pip, "--no-index", "--find-links=/tmp/wheels", "sneaker")
        shutil.rmtree(root / "tmp/wheels")
        (root / "usr/local/bin/sneaker").symlink_to("/opt/sneaker/bin/sneaker")
        _chroot(root, "sneaker", "setup", "--root", "/", "--hub", "--power-off")


def overlay(image: Path, backing: Path) -> None:
    """Make a disk that begins as ``backing`` does."""
    _run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", backing, image])
