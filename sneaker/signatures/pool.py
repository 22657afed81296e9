"""Many signatures, checked on all cores while the caller does something else.

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
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from sneaker.keys import verify_signature

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = [
    "PROCESSES_FROM",
    "Check",
    "SignaturePool",
    "Verifier",
    "available_cores",
    "check_signatures",
    "process_pool",
]

#: (public key, signature, what was signed)
Check = tuple[bytes, bytes, bytes]

# From so many signatures on processes pay: to start two of them costs as much as to check a thousand.
PROCESSES_FROM = 1000

# What a pipe should hold, so that its worker is busy while we are writing a batch to the disk.
_PIPE_BYTES = 1024 * 1024
_F_SETPIPE_SZ = 1031

# How long one of several users waits before it looks whether another has read what it waits for.
_SHARED_WAIT_S = 0.01


def available_cores() -> int:
    """Return how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0)) or 1
    except (AttributeError, OSError):
        return os.cpu_count() or 1


def check_signatures(checks: Sequence[Check]) -> bytes:
    """Return a byte for each check: 1 if the signature is valid, else 0."""
    return bytes([verify_signature(*check) for check in checks])


class SignaturePool:
    """The threads and processes that check signatures, for all of a process that has some to check; for any thread.

    They are started when there is much to do, and end when nobody is left who uses the pool.
    """

    def __init__(self, workers: int | None = None) -> None:
        """``workers`` is how many cores to use, all of them by default."""
        self._count = workers or available_cores()
        self._lock = threading.RLock()
        self._users = 0
        self._threads: ThreadPoolExecutor | None = None
        self._workers: list[_Worker] | None = None
        #: Forked children have no part in their parent's pool.
        self.process_id = os.getpid()

    def join(self) -> None:
        """Begin to use the pool."""
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """Use it no more; when nobody is left, threads and processes end."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            for worker in self._workers or ():
                worker.close()
            self._workers = None
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(cancel_futures=True)

    def prepare(self) -> None:
        """Start the processes: many signatures will come."""
        with self._lock:
            if self._workers is None and self._count > 1:
                self._workers = _start_workers(self._count)

    def submit(self, checks: Sequence[Check]) -> Future[bytes] | _Ticket:
        """Take a chunk, to be checked in the background: by a process if some run, else by a thread."""
        with self._lock:
            alive = [worker for worker in self._workers or () if worker.alive]
            if alive:
                return min(alive, key=lambda item: item.outstanding).submit(checks)
            if self._threads is None:
                from concurrent.futures import ThreadPoolExecutor

                self._threads = ThreadPoolExecutor(self._count, thread_name_prefix="verify")
            return self._threads.submit(check_signatures, checks)

    def keep_busy(self) -> None:
        """Hand on what did not fit into the pipes before."""
        with self._lock:
            for worker in self._workers or ():
                worker.write()

    def advance(self, ticket: _Ticket) -> None:
        """Take in what the processes have found, until there are verdicts on a chunk or nothing more has come."""
        with self._lock:
            ticket.worker.read(ticket)

    def wait(self, ticket: _Ticket, timeout_s: float) -> None:
        """Wait until the process that has a chunk says something, or takes something."""
        with self._lock:
            busy = [item.target for item in self._workers or () if item.has_backlog]
            if self._users > 1:  # somebody else may read what we wait for
                timeout_s = min(timeout_s, _SHARED_WAIT_S)
        with suppress(OSError, ValueError):
            select.select([ticket.worker.source], busy, [], timeout_s)
        self.keep_busy()


def process_pool() -> SignaturePool:
    """Return the one pool of this process, which import, check, verify and peers share."""
    global _process_pool
    if _process_pool is None or _process_pool.process_id != os.getpid():
        _process_pool = SignaturePool()
    return _process_pool


_process_pool: SignaturePool | None = None


class Verifier:
    """Takes chunks of signatures and gives back verdicts, chunk by chunk, in the order they came in.

    Not for several threads at once.  ``workers`` is how many cores to use; by default it is the pool of this process.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._pool = SignaturePool(workers) if workers is not None else process_pool()
        self._pool.join()
        self._is_open = True
        self._submitted = 0
        self._order: deque[Future[bytes] | _Ticket] = deque()

    def __len__(self) -> int:
        """Return how many chunks have been taken and not been given back."""
        return len(self._order)

    def prepare(self) -> None:
        """Start the processes: many signatures will come."""
        self._pool.prepare()

    def submit(self, checks: Sequence[Check]) -> int:
        """Take a chunk, to be checked in the background, and return its size in bytes."""
        self._submitted += len(checks)
        if self._submitted >= PROCESSES_FROM:
            self.prepare()
        self._order.append(self._pool.submit(checks))
        return sum([96 + len(signed) for _, _, signed in checks])

    def keep_busy(self) -> None:
        """Hand on what did not fit into the pipes before; to be called now and then by whoever is busy with something else."""
        self._pool.keep_busy()

    def collect(self, *, wait: bool) -> bytes | None:
        """Return the verdicts on the oldest chunk, a byte each, or None if there are none yet and ``wait`` is false."""
        self.keep_busy()
        oldest = self._order[0] if self._order else None
        if oldest is None:
            return None
        if not isinstance(oldest, _Ticket):
            if not wait and not oldest.done():
                return None
            verdicts = oldest.result()
        else:
            self._pool.advance(oldest)
            while oldest.verdicts is None and oldest.worker.alive:
                if not wait:
                    return None
                self.wait(1.0)
                self._pool.advance(oldest)
            # A worker that died (perhaps for want of memory) leaves its work to us.
            verdicts = oldest.verdicts if oldest.verdicts is not None else check_signatures(oldest.checks)
        self._order.popleft()
        return verdicts

    def wait(self, timeout_s: float) -> None:
        """Wait for the verdicts on the oldest chunk, but not longer than so many seconds; then try ``collect``."""
        oldest = self._order[0] if self._order else None
        if isinstance(oldest, _Ticket):
            if oldest.verdicts is None:
                self._pool.wait(oldest, timeout_s)
        elif oldest is not None:
            with suppress(TimeoutError):
                oldest.result(timeout_s)

    def close(self) -> None:
        """Leave the pool; what has not been collected is lost."""
        for item in self._order:
            if isinstance(item, _Ticket):
                item.checks = ()
            else:
                item.cancel()
        self._order.clear()
        if self._is_open:
            self._is_open = False
            self._pool.leave()


class _Ticket:
    """A chunk that a process works on; ``checks`` are kept until it has answered with ``verdicts``."""

    __slots__ = ("checks", "count", "verdicts", "worker")

    def __init__(self, worker: _Worker, checks: Sequence[Check]) -> None:
        self.worker = worker
        self.checks = checks
        self.count = len(checks)
        self.verdicts: bytes | None = None


class _Worker:
    """A process of ``signatures.worker``; see there for what goes through its pipes."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a worker needs pipes")
        self.process = process
        self.target = process.stdin.fileno()
        self.source = process.stdout.fileno()
        self.alive = True
        #: Signatures handed over and not answered.
        self.outstanding = 0
        self._tickets: deque[_Ticket] = deque()
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
        ticket = _Ticket(self, checks)
        self._tickets.append(ticket)
        self.outstanding += count
        self.write()
        return ticket

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

    def read(self, wanted: _Ticket) -> None:
        """Give out verdicts in the order of the chunks, until ``wanted`` has its own or no more are there (yet)."""
        while True:
            while self._tickets and len(self._received) >= self._tickets[0].count:
                ticket = self._tickets.popleft()
                ticket.verdicts = bytes(self._received[: ticket.count])
                ticket.checks = ()
                del self._received[: ticket.count]
                self.outstanding -= ticket.count
            if wanted.verdicts is not None or not self.alive:
                return
            try:
                data = os.read(self.source, 65536)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._fail()
            self._received += data

    def _fail(self) -> None:
        self.alive = False
        self._backlog.clear()

    def close(self) -> None:
        self._fail()
        self.process.kill()
        # Leaving the context closes the pipes and waits for the end.
        with suppress(OSError), self.process:
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
