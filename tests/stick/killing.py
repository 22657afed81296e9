"""Kills a visit at a chosen call to the system: the k-th one that changes something, whoever makes it, SQLite included.

``main`` is a process of its own that has everything imported.  For each line of JSON on its standard input it forks a child
that visits a stick, follows it with ptrace, and kills it (SIGKILL) on entering the call number ``kill``; the answer is a line
with the calls that were made until then.  Only the main thread is followed: it is the one that writes.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TRACEME, _SETOPTIONS, _SYSCALL, _GET_SYSCALL_INFO = 0, 0x4200, 24, 0x420E
_SYSGOOD, _EXITKILL = 1, 0x100000
_ENTRY = 1

# Calls that change something, by their numbers; -1 as place of the descriptor: the path is not in it.
_NUMBERS = {
    "x86_64": {
        "write": 1, "pwrite": 18, "writev": 20, "fsync": 74, "fdatasync": 75, "ftruncate": 77, "rename": 82, "unlink": 87,
        "mkdirat": 258, "unlinkat": 263, "renameat": 264, "linkat": 265, "renameat2": 316, "openat": 257,
    },
    "aarch64": {
        "write": 64, "pwrite": 68, "writev": 66, "fsync": 82, "fdatasync": 83, "ftruncate": 46,
        "mkdirat": 34, "unlinkat": 35, "renameat": 38, "linkat": 37, "renameat2": 276, "openat": 56,
    },
}  # fmt: skip
_O_CREAT = 0o100


@dataclass(frozen=True)
class Call:
    """A call that changes something: its name, and the file that it works on, or the folder of it."""

    name: str
    path: str


@dataclass(frozen=True)
class Killed:
    """What became of a visit: the calls it made, and whether it was killed on entering the last one."""

    calls: list[Call]
    killed: bool
    output: str


class Killer:
    """Asks the process that does it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def visit(self, home: Path, stick: Path, now_ms: int, kill: int | None = None) -> Killed:
        """Let a home visit a stick, and kill it on entering changing call number ``kill`` (from 0)."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(home), str(stick), now_ms, kill]) + "\n")
        self._process.stdin.flush()
        calls, killed, output = json.loads(self._process.stdout.readline())
        return Killed([Call(*call) for call in calls], killed, output)


@contextmanager
def killer() -> Iterator[Killer]:
    """Start the process."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.stick.killing"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        yield Killer(process)
        assert process.stdin is not None
        process.stdin.close()


# ------------------------------------------------------------------------------------------------ the process


def _ptrace(request: int, pid: int, address: int = 0, data: Any = 0) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    done: int = libc.ptrace(request, pid, address, data)
    if done < 0:
        raise OSError(ctypes.get_errno(), f"ptrace request {request:#x}")
    return done


def _changing_call(pid: int, names: dict[int, str]) -> Call | None:
    """Return the call that a stopped process is about to make, if it changes something."""
    info = ctypes.create_string_buffer(88)
    _ptrace(_GET_SYSCALL_INFO, pid, len(info), ctypes.cast(info, ctypes.c_void_p))
    if info.raw[0] != _ENTRY:
        return None
    number, *arguments = (int.from_bytes(info.raw[at : at + 8], sys.byteorder) for at in range(24, 80, 8))
    name = names.get(number)
    if name is None or (name == "openat" and not arguments[2] & _O_CREAT):
        return None
    try:
        path = str(Path(f"/proc/{pid}/fd/{arguments[0]}").readlink())
    except OSError:
        path = ""
    return None if path.startswith(("pipe:", "/dev")) and not path.startswith("/dev/shm") else Call(name, path)


def _follow(pid: int, kill: int | None) -> tuple[list[Call], bool]:
    names = {number: name for name, number in _NUMBERS[platform.machine()].items()}
    calls: list[Call] = []
    os.waitpid(pid, 0)
    _ptrace(_SETOPTIONS, pid, 0, _SYSGOOD | _EXITKILL)
    passed_on = 0
    while True:
        _ptrace(_SYSCALL, pid, 0, passed_on)
        _, status = os.waitpid(pid, 0)
        passed_on = 0
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            return calls, False
        stopped_by = os.WSTOPSIG(status)
        if stopped_by != signal.SIGTRAP | 0x80:
            passed_on = stopped_by
            continue
        call = _changing_call(pid, names)
        if call is None:
            continue
        calls.append(call)
        if len(calls) - 1 == kill:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return calls, True


def _visit(home: str, stick: str, now_ms: int) -> None:
    from sneaker.caps import MAIN_CAPS
    from sneaker.home.home import open_home
    from sneaker.stick.visit import VisitOptions, visit

    opened = open_home(Path(home), MAIN_CAPS)
    report = visit(opened, Path(stick), VisitOptions(min_free_bytes=0), now_ms=lambda: now_ms, random_bytes=os.urandom)
    opened.store.close()
    assert report.complete, report


def main() -> None:
    """Answer each line on standard input."""
    import sneaker.stick.visit
    import sneaker.store.store
    import sneaker.transfer.age_encryption  # noqa: F401

    for line in sys.stdin:
        home, stick, now_ms, kill = json.loads(line)
        readable, writable = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(readable)
                _ptrace(_TRACEME, 0)
                os.kill(os.getpid(), signal.SIGSTOP)
                _visit(home, stick, now_ms)
            except BaseException:
                os.write(writable, traceback.format_exc()[-4000:].encode())
            finally:
                os._exit(0)
        os.close(writable)
        calls, killed = _follow(pid, kill)
        with os.fdopen(readable) as output:
            print(json.dumps([[[call.name, call.path] for call in calls], killed, output.read()]), flush=True)


if __name__ == "__main__":
    main()
