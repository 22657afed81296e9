# ruff: noqa: PTH101, PTH102, PTH104, PTH115 (paths are bytes here)
"""A file system that fails when it is told to: a folder passed through FUSE, with faults at chosen operations.

It speaks the kernel's protocol (include/uapi/linux/fuse.h) itself, in a process of its own, so nothing has to be installed.
Needs root and /dev/fuse.  ``mounted`` is for tests; ``main`` is the server.
"""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import json
import os
import re
import select
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_IN = struct.Struct("<IIQQIIII")
_OUT = struct.Struct("<IiQ")
_ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
_DIRECT_IO = 1

#: Operations that change what is on the medium, or make sure that it is there.
WRITES = frozenset({"create", "write", "unlink", "link", "rename", "mkdir", "fsync", "fsyncdir", "setattr", "mknod"})


@dataclass(frozen=True)
class Fault:
    """Fail the ``nth`` (from 0) of the operations ``ops`` on paths that ``path`` is found in.

    ``error`` is an errno; 0 ends the server, as if the stick was pulled out.  ``sticky``: all that comes after fails, too.
    ``change``: not an error, but other bytes each time a place is read.
    """

    ops: tuple[str, ...]
    nth: int = 0
    error: int = errno.EIO
    path: str = ""
    sticky: bool = False
    every: bool = False
    change: bool = False


@dataclass
class Mount:
    """A mounted file system; ``at`` is where, ``trace`` lists the operations so far."""

    at: Path
    log: Path
    process: subprocess.Popen[str]

    def trace(self) -> list[str]:
        return self.log.read_text(encoding="utf-8").splitlines()


@contextmanager
def mounted(
    folder: Path, *faults: Fault, capacity: int | None = None, room: int | None = None, is_fat: bool = False
) -> Iterator[Mount]:
    """Pass ``folder`` through with faults.

    ``capacity``: only so many bytes are kept, though all seem to be written.  ``room``: a file cannot get larger than that,
    though there seems to be more.  ``is_fat``: names are kept as they are and found whatever their case, and there are no
    hard links and no modes.
    """
    at, log = folder.parent / "fuse-mount", folder.parent / "fuse-trace"
    at.mkdir(exist_ok=True)
    log.write_text("")
    faults_json = [dataclasses.asdict(fault) for fault in faults]
    plan = json.dumps({"faults": faults_json, "capacity": capacity, "room": room, "is_fat": is_fat})
    process = subprocess.Popen(
        [sys.executable, __file__, str(folder), str(at), str(log), plan],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the file system did not start")
        yield Mount(at, log, process)
    finally:
        subprocess.run(["umount", "-l", str(at)], check=False, capture_output=True)
        process.terminate()
        process.communicate(timeout=20)


# ------------------------------------------------------------------------------------------------ the server


class Server:
    def __init__(self, folder: str, log: str, plan: dict[str, Any]) -> None:
        self.folder = os.fsencode(folder)
        self.log = Path(log).open("a", encoding="utf-8", buffering=1)  # noqa: SIM115
        self.faults = [Fault(**{**fault, "ops": tuple(fault["ops"])}) for fault in plan["faults"]]
        self.counts = [0] * len(self.faults)
        self.capacity = plan["capacity"]
        self.room = plan["room"]
        self.is_fat = plan["is_fat"]
        self.written = 0
        self.reads = 0
        self.paths: dict[int, bytes] = {1: b""}
        self.nodes: dict[bytes, int] = {b"": 1}
        self.files: dict[int, int] = {}
        self.failed: int | None = None

    def path(self, node: int) -> bytes:
        return os.path.join(self.folder, self.paths[node])

    def child(self, node: int, name: bytes) -> bytes:
        folder = self.path(node)
        if self.is_fat and not os.path.lexists(os.path.join(folder, name)):
            folded = os.fsdecode(name).upper()
            name = next((there for there in os.listdir(folder) if os.fsdecode(there).upper() == folded), name)
        return os.path.join(self.paths[node], name)

    def node(self, path: bytes) -> int:
        if path not in self.nodes:
            number = len(self.paths) + 1
            self.nodes[path], self.paths[number] = number, path
        return self.nodes[path]

    def fail(self, op: str, path: bytes) -> bool:
        """Raise what the plan wants here; return whether bytes are to be changed."""
        name = os.fsdecode(path)
        if op in WRITES or op == "read":
            self.log.write(f"{op} {name!r}\n")
        if self.failed is not None:
            raise OSError(self.failed, "gone")
        changed = False
        for number, fault in enumerate(self.faults):
            if op not in fault.ops or re.search(fault.path, name) is None:
                continue
            count = self.counts[number]
            self.counts[number] += 1
            if fault.change:
                changed = True
            elif count == fault.nth or (fault.every and count >= fault.nth):
                if fault.error == 0:
                    os._exit(0)
                if fault.sticky:
                    self.failed = fault.error
                raise OSError(fault.error, "planned")
        return changed

    # -- what the kernel asks for

    def attributes(self, path: bytes) -> bytes:
        status = os.lstat(os.path.join(self.folder, path))
        times = [int(value) for value in (status.st_atime, status.st_mtime, status.st_ctime)]
        nanos = [value % 10**9 for value in (status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns)]
        return _ATTR.pack(
            self.node(path), status.st_size, status.st_blocks, *times, *nanos,
            status.st_mode, status.st_nlink, status.st_uid, status.st_gid, status.st_rdev & 0xFFFFFFFF, 4096, 0,
        )  # fmt: skip

    def entry(self, path: bytes) -> bytes:
        return struct.pack("<QQQQII", self.node(path), 0, 0, 0, 0, 0) + self.attributes(path)

    def do_lookup(self, node: int, data: bytes) -> bytes:
        path = self.child(node, data[:-1])
        os.lstat(os.path.join(self.folder, path))
        return self.entry(path)

    def do_getattr(self, node: int, data: bytes) -> bytes:
        return struct.pack("<QII", 0, 0, 0) + self.attributes(self.paths[node])

    def do_setattr(self, node: int, data: bytes) -> bytes:
        self.fail("setattr", self.paths[node])
        valid, _, _, size = struct.unpack_from("<IIQQ", data)
        (mode,) = struct.unpack_from("<I", data, 68)
        if valid & 1 and self.is_fat:
            raise OSError(errno.EPERM, "no modes")
        if valid & 1:
            os.chmod(self.path(node), stat.S_IMODE(mode))
        if valid & 8:
            os.truncate(self.path(node), size)
        return self.do_getattr(node, b"")

    def do_readlink(self, node: int, data: bytes) -> bytes:
        return os.readlink(self.path(node))

    def do_mkdir(self, node: int, data: bytes) -> bytes:
        path = self.child(node, data[8:-1])
        self.fail("mkdir", path)
        os.mkdir(os.path.join(self.folder, path), struct.unpack_from("<I", data)[0])
        return self.entry(path)

    def do_unlink(self, node: int, data: bytes) -> bytes:
        path = self.child(node, data[:-1])
        self.fail("unlink", path)
        os.unlink(os.path.join(self.folder, path))
        self.nodes.pop(path, None)
        return b""

    def do_rename(self, node: int, data: bytes, start: int = 8) -> bytes:
        old, new = data[start:-1].split(b"\0")
        (folder,) = struct.unpack_from("<Q", data)
        source, target = self.child(node, old), self.child(folder, new)
        self.fail("rename", target)
        os.rename(os.path.join(self.folder, source), os.path.join(self.folder, target))
        self.nodes.pop(target, None)
        number = self.nodes.pop(source, None)
        if number is not None:
            self.nodes[target], self.paths[number] = number, target
        return b""

    def do_rename2(self, node: int, data: bytes) -> bytes:
        return self.do_rename(node, data, 16)

    def do_link(self, node: int, data: bytes) -> bytes:
        (old,) = struct.unpack_from("<Q", data)
        path = self.child(node, data[8:-1])
        self.fail("link", path)
        if self.is_fat:
            raise OSError(errno.EPERM, "no links")
        os.link(self.path(old), os.path.join(self.folder, path))
        return self.entry(path)

    def do_open(self, node: int, data: bytes) -> bytes:
        self.fail("open", self.paths[node])
        flags = struct.unpack_from("<I", data)[0] & (os.O_ACCMODE | os.O_TRUNC | os.O_APPEND)
        return self._opened(os.open(self.path(node), flags))

    def do_create(self, node: int, data: bytes) -> bytes:
        flags, mode = struct.unpack_from("<II", data)
        path = self.child(node, data[16:-1])
        self.fail("create", path)
        descriptor = os.open(os.path.join(self.folder, path), (flags & ~os.O_NOFOLLOW) | os.O_CREAT, mode)
        return self.entry(path) + self._opened(descriptor)

    def _opened(self, descriptor: int) -> bytes:
        self.files[descriptor] = descriptor
        # Nothing is kept in the page cache: what is read comes from here.
        return struct.pack("<QII", descriptor, _DIRECT_IO, 0)

    def do_read(self, node: int, data: bytes) -> bytes:
        handle, offset, size = struct.unpack_from("<QQI", data)
        changed = self.fail("read", self.paths[node])
        found = os.pread(handle, size, offset)
        if changed:
            self.reads += 1
            return bytes((byte + self.reads) & 0xFF for byte in found)
        return found

    def do_write(self, node: int, data: bytes) -> bytes:
        handle, offset, size = struct.unpack_from("<QQI", data)
        self.fail("write", self.paths[node])
        body = data[40 : 40 + size]
        if self.room is not None and offset + size > self.room:
            raise OSError(errno.ENOSPC, "full")
        self.written += size
        if self.capacity is not None and self.written > self.capacity:
            body = bytes(size)  # as sticks do that are smaller than they say
        os.pwrite(handle, body, offset)
        return struct.pack("<II", size, 0)

    def do_statfs(self, node: int, data: bytes) -> bytes:
        found = os.statvfs(self.folder)
        return struct.pack(
            "<QQQQQIIII6I", found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree,
            found.f_bsize, 255, found.f_frsize, 0, *[0] * 6,
        )  # fmt: skip

    def do_release(self, node: int, data: bytes) -> bytes:
        with suppress(OSError):
            os.close(struct.unpack_from("<Q", data)[0])
        return b""

    def do_fsync(self, node: int, data: bytes) -> bytes:
        self.fail("fsync", self.paths[node])
        return b""

    def do_fsyncdir(self, node: int, data: bytes) -> bytes:
        self.fail("fsyncdir", self.paths[node])
        return b""

    def do_opendir(self, node: int, data: bytes) -> bytes:
        self.fail("opendir", self.paths[node])
        return struct.pack("<QII", 0, 0, 0)

    def do_readdir(self, node: int, data: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", data)
        self.fail("readdir", self.paths[node])
        out = b""
        for number, name in enumerate(sorted(os.listdir(self.path(node))), 1):
            if number <= offset:
                continue
            mode = os.lstat(os.path.join(self.path(node), name)).st_mode
            item = struct.pack("<QQII", number + 1000, number, len(name), stat.S_IFMT(mode) >> 12) + name
            item += bytes(-len(item) % 8)
            if len(out) + len(item) > size:
                break
            out += item
        return out

    def do_nothing(self, node: int, data: bytes) -> bytes:
        return b""

    def do_init(self, node: int, data: bytes) -> bytes:
        return struct.pack("<IIIIHHIIHHI7I", 7, 31, 65536, 0, 12, 9, 128 * 1024, 1, 32, 0, 0, *[0] * 7)


_OPS: dict[int, Callable[[Server, int, bytes], bytes]] = {
    1: Server.do_lookup, 3: Server.do_getattr, 4: Server.do_setattr, 5: Server.do_readlink, 9: Server.do_mkdir,
    10: Server.do_unlink, 12: Server.do_rename, 13: Server.do_link, 14: Server.do_open, 15: Server.do_read,
    16: Server.do_write, 17: Server.do_statfs, 18: Server.do_release, 20: Server.do_fsync, 25: Server.do_nothing,
    26: Server.do_init, 27: Server.do_opendir, 28: Server.do_readdir, 29: Server.do_nothing, 30: Server.do_fsyncdir,
    34: Server.do_nothing, 35: Server.do_create, 45: Server.do_rename2,
}  # fmt: skip
_NO_REPLY = {2, 36, 38, 42}  # forget, interrupt, destroy, batch forget


def main() -> None:
    folder, at, log, plan = sys.argv[1:]
    device = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions".encode()
    if libc.mount(b"fuse", os.fsencode(at), b"fuse", 2 | 4, options) != 0:  # nosuid, nodev
        raise OSError(ctypes.get_errno(), "mount")
    server = Server(folder, log, json.loads(plan))
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([device, sys.stdin], [], [])
        if sys.stdin in ready:
            return  # the test is gone
        try:
            request = os.read(device, 1 << 20)
        except OSError as error:
            if error.errno in (errno.ENODEV, errno.ECONNABORTED):
                return  # unmounted
            if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                continue
            raise
        length, opcode, unique, node, *_ = _IN.unpack_from(request)
        if opcode in _NO_REPLY:
            continue
        code, reply = 0, b""
        handler = _OPS.get(opcode)
        try:
            if handler is None:
                code = -errno.ENOSYS
            else:
                reply = handler(server, node, request[_IN.size : length])
        except OSError as error:
            code = -(error.errno or errno.EIO)
        except KeyError:
            code = -errno.ESTALE
        with suppress(OSError):
            os.write(device, _OUT.pack(_OUT.size + len(reply), code, unique) + reply)


if __name__ == "__main__":
    main()
