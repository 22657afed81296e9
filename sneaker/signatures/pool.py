"""Checking many signatures on all cores while the caller does something else.

Threads would be simpler, and libsodium lets go of the interpreter's lock while it works.  But a thread that reads and
hashes messages holds that lock for 5 ms at a time, and a check takes only 0.04 ms.  Measured on two cores: two threads
beside one that is busy for 7 us per message take 49 us per message, two processes take 27, and two threads alone 22.
So big imports use processes.  These cost 20 ms each to start, so small imports use threads, and so does everything
where processes cannot be started.
"""

from __future__ import annotations

import os
import select
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from sneaker.keys import verify_signature

__all__ = ["PROCESSES_FROM", "Check", "Verifier", "available_cores", "check_signatures"]

#: (public key, signature, what was signed)
Check = tuple[bytes, bytes, bytes]

# From so many signatures on processes pay: starting two of them costs as much as checking a thousand.
PROCESSES_FROM = 1000

# What a pipe should hold, so that its worker is busy while we are writing a batch to the disk.
_PIPE_BYTES = 1024 * 1024
_F_SETPIPE_SZ = 1031


def available_cores() -> int:
    """Return how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0)) or 1
    except (AttributeError, OSError):
        return os.cpu_count() or 1


def check_signatures(checks: Sequence[Check]) -> bytes:
    """Return a byte for each check: 1 if the signature is valid, else 0."""
    return bytes([verify_signature(*check) for check in checks])


class Verifier:
    """Takes chunks of signatures and gives back verdicts, chunk by chunk, in the order they came in.

    Not for several threads at once.  ``workers`` is how many cores to use, all of them by default.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._count = workers or available_cores()
        self._submitted = 0
        self._pool: ThreadPoolExecutor | None = None
        self._workers: list[_Worker] | None = None
        self._order: deque[Future[bytes] | _Ticket] = deque()

    def __len__(self) -> int:
        """Return how many chunks have been taken and not been given back."""
        return len(self._order)

    def prepare(self) -> None:
        """Start the processes: many signatures will come."""
        if self._workers is None and self._count > 1:
            self._workers = _start_workers(self._count)

    def submit(self, checks: Sequence[Check]) -> int:
        """Take a chunk, to be checked in the background, and return its size in bytes."""
        self._submitted += len(checks)
        if self._submitted >= PROCESSES_FROM:
            self.prepare()
        alive = [worker for worker in self._workers or () if worker.alive]
        if alive:
            worker = min(alive, key=lambda item: item.outstanding)
            ticket = worker.submit(checks)
            self._order.append(ticket)
            return ticket.size
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._count, thread_name_prefix="verify")
        self._order.append(self._pool.submit(check_signatures, checks))
        return sum(96 + len(signed) for _, _, signed in checks)

    def keep_busy(self) -> None:
        """Hand on what did not fit into the pipes before; to be called now and then while doing something else."""
        for worker in self._workers or ():
            worker.write()

    def collect(self, *, wait: bool) -> bytes | None:
        """Return the verdicts on the oldest chunk, a byte each, or None if there are none yet and ``wait`` is false."""
        self.keep_busy()
        oldest = self._order[0] if self._order else None
        if oldest is None:
            return None
        if isinstance(oldest, Future):
            if not wait and not oldest.done():
                return None
            verdicts = oldest.result()
        else:
            answer = oldest.worker.answer()
            while answer is None and oldest.worker.alive:
                if not wait:
                    return None
                self.wait(1.0)
                answer = oldest.worker.answer()
            # A worker that died (perhaps for want of memory) leaves its work to us.
            verdicts = answer if answer is not None else check_signatures(oldest.checks)
        self._order.popleft()
        return verdicts

    def wait(self, timeout_s: float) -> None:
        """Wait for the verdicts on the oldest chunk, but not longer than so many seconds; then try ``collect``."""
        oldest = self._order[0] if self._order else None
        if isinstance(oldest, Future):
            with suppress(TimeoutError):
                oldest.result(timeout_s)
        elif oldest is not None:
            busy = [item for item in self._workers or () if item.has_backlog]
            with suppress(OSError, ValueError):
                select.select([oldest.worker.source], [item.target for item in busy], [], timeout_s)
            self.keep_busy()

    def close(self) -> None:
        """End all workers; what has not been collected is lost."""
        self._order.clear()
        for worker in self._workers or ():
            worker.close()
        self._workers = None
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


class _Ticket:
    """A chunk that a process works on; ``checks`` are kept until it has answered."""

    __slots__ = ("checks", "size", "worker")

    def __init__(self, worker: _Worker, checks: Sequence[Check], size: int) -> None:
        self.worker = worker
        self.checks = checks
        self.size = size


class _Worker:
    """A process of ``signatures.worker``; see there for what goes through its pipes."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a worker needs pipes")
        self._process = process
        self.target = process.stdin.fileno()
        self.source = process.stdout.fileno()
        self.alive = True
        #: Signatures handed over and not answered.
        self.outstanding = 0
        self._sizes: deque[int] = deque()
        self._backlog: deque[memoryview] = deque()
        self._received = bytearray()
        os.set_blocking(self.target, False)
        os.set_blocking(self.source, False)
        with suppress(OSError, ImportError):
            import fcntl

            fcntl.fcntl(self.target, _F_SETPIPE_SZ, _PIPE_BYTES)

    @property
    def has_backlog(self) -> bool:
        return bool(self._backlog)

    def submit(self, checks: Sequence[Check]) -> _Ticket:
        count = len(checks)
        lengths = [96 + len(signed) for _, _, signed in checks]
        parts = [part for check in checks for part in check]
        message = b"".join([struct.pack(f"<{count + 1}I", count, *lengths), *parts])
        self._backlog.append(memoryview(message))
        self._sizes.append(count)
        self.outstanding += count
        self.write()
        return _Ticket(self, checks, len(message))

    def write(self) -> None:
        """Write what the pipe takes without waiting."""
        while self._backlog and self.alive:
            try:
                written = os.write(self.target, self._backlog[0])
            except BlockingIOError:
                return
            except OSError:
                self._fail()
                return
            rest = self._backlog[0][written:]
            if rest:
                self._backlog[0] = rest
            else:
                self._backlog.popleft()

    def answer(self) -> bytes | None:
        """Return the verdicts on the oldest chunk not answered, or None if they are not there (yet)."""
        size = self._sizes[0]
        while len(self._received) < size and self.alive:
            try:
                data = os.read(self.source, 65536)
            except BlockingIOError:
                return None
            except OSError:
                data = b""
            if not data:
                self._fail()
            self._received += data
        if len(self._received) < size:
            return None
        answer = bytes(self._received[:size])
        del self._received[:size]
        self._sizes.popleft()
        self.outstanding -= size
        return answer

    def _fail(self) -> None:
        self.alive = False
        self._backlog.clear()

    def close(self) -> None:
        self._fail()
        self._process.kill()
        # Leaving the context closes the pipes and waits for the end.
        with suppress(OSError), self._process:
            pass


def _start_workers(count: int) -> list[_Worker]:
    """Start the processes; the list is empty if that is not possible here."""
    script = Path(__file__).with_name("worker.py")
    folders = []
    for name in ("nacl", "_cffi_backend"):
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            return []
        folders.append(str(Path(spec.origin).parent.parent if name == "nacl" else Path(spec.origin).parent))
    if not sys.executable or not script.is_file():
        return []
    workers: list[_Worker] = []
    try:
        for _ in range(count):
            # No site-packages and no environment: it starts in 20 ms instead of 60. A process group of its own, so that we
            # handle Ctrl-C. Not a session of its own: Linux shares the processor out between sessions.
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(script), *folders],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                process_group=0,
            )
            workers.append(_Worker(process))
    except OSError:
        pass
    return workers
