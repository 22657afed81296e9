"""The command line as processes that start at once: one process has imported everything and forks for each command.

What a test sees is what it would see of ``python -m sneaker``: a process of its own, with its own environment, folder, standard
streams and exit code, which can be killed.  Only the quarter of a second is missing in which Python starts and imports.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

__all__ = ["Done", "Running", "run_forked", "sneaker", "start"]

ROOT = Path(__file__).resolve().parent.parent
_REQUEST_BYTES = 1 << 17
# What commands import when they need it.
_LIBRARIES = (
    "asyncio",
    "concurrent.futures",
    "encodings.utf_8_sig",
    "nacl.bindings",
    "orjson",
    "platformdirs.unix",
    "pyrage",
    "sqlite3",
    "tqdm",
    "typer",
    "zfec",
    "zstandard",
)


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def sneaker(
    *arguments: str | Path,
    at: Path | None = None,
    data: bytes | None = None,
    ok: bool = True,
    timeout: float = 60,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    prepare: Callable[[], None] | None = None,
) -> Done:
    """Run a command to its end; ``ok`` demands exit code 0.  A traceback is never right.  The rest is as for ``start``."""
    home = ["--home", str(at)] if at is not None else []
    pipe = subprocess.PIPE
    stdin = pipe if data is not None else subprocess.DEVNULL
    words = [*home, *map(str, arguments)]
    with start(words, stdin=stdin, stdout=pipe, stderr=pipe, env=env, cwd=cwd, prepare=prepare) as running:
        out, err = running.communicate(data, timeout)
    result = Done(running.wait(), out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))
    assert "Traceback" not in result.err, result.err
    assert "bug in sneaker" not in result.err, result.err
    if ok:
        assert result.code == 0, result.err + result.out
    return result


class Running:
    """A command that runs: what the tests use of ``subprocess.Popen``, with streams of bytes; a context manager."""

    def __init__(
        self, arguments: Sequence[str], pid: int, answers: socket.socket, streams: list[IO[bytes] | None]
    ) -> None:
        self.arguments = list(arguments)
        self.pid = pid
        self.returncode: int | None = None
        self.stdin, self.stdout, self.stderr = streams
        self._answers = answers

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended; raises TimeoutExpired."""
        if self.returncode is None:
            self._answers.settimeout(None)
            if timeout is not None and not select.select([self._answers], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.arguments, timeout)
            self.returncode = int(self._answers.recv(100))
            self._answers.close()
        return self.returncode

    def communicate(self, data: bytes | None = None, timeout: float | None = None) -> tuple[bytes, bytes]:
        """Write all of standard input, read all of what it prints, and wait for its end; raises TimeoutExpired and kills."""
        read: dict[str, bytes] = {"out": b"", "err": b""}

        def reading(name: str, stream: IO[bytes]) -> None:
            read[name] = stream.read()

        pairs = [(name, stream) for name, stream in (("out", self.stdout), ("err", self.stderr)) if stream is not None]
        threads = [threading.Thread(target=reading, args=pair, daemon=True) for pair in pairs]
        if self.stdin is not None:
            threads.append(threading.Thread(target=self._write, args=(data or b"",), daemon=True))
        for thread in threads:
            thread.start()
        try:
            self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        for thread in threads:
            thread.join()
        for _, stream in pairs:
            stream.close()
        return read["out"], read["err"]

    def _write(self, data: bytes) -> None:
        assert self.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.stdin.write(data)
        with contextlib.suppress(BrokenPipeError):
            self.stdin.close()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        if kind is not None:
            self.kill()
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self.wait()


def start(
    arguments: Sequence[str],
    *,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    prepare: Callable[[], None] | None = None,
    program: str | None = None,
) -> Running:
    """Start ``sneaker ARGUMENTS``; streams are as for ``subprocess.Popen``.

    ``prepare`` is a function of a module: the process calls it before it runs the command.  It may change there what no option
    says, as how long a file has to rest.  ``program`` runs in place of the command, as ``python -c PROGRAM ARGUMENTS`` would.
    """
    theirs: list[int] = []
    ours: list[IO[bytes] | None] = []
    close: list[int] = []
    for number, stream in enumerate((stdin, stdout, stderr)):
        mine: IO[bytes] | None = None
        if stream is None:
            descriptor = number
        elif stream == subprocess.PIPE:
            reading, writing = os.pipe()
            descriptor, kept = (reading, writing) if number == 0 else (writing, reading)
            mine = os.fdopen(kept, "wb" if number == 0 else "rb")
            close.append(descriptor)
        elif stream == subprocess.DEVNULL:
            descriptor = os.open(os.devnull, os.O_RDWR)
            close.append(descriptor)
        elif stream == subprocess.STDOUT:
            descriptor = theirs[1]
        else:
            descriptor = stream if isinstance(stream, int) else stream.fileno()
        theirs.append(descriptor)
        ours.append(mine)
    environment = dict(os.environ if env is None else env)
    environment.pop("PYTEST_CURRENT_TEST", None)
    request = {
        "arguments": list(arguments),
        "env": environment,
        "cwd": str(cwd or Path.cwd()),
        "prepare": (prepare.__module__, prepare.__qualname__) if prepare is not None else None,
        "program": program,
    }
    answers, answering = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with answering:
        socket.send_fds(_server(), [json.dumps(request).encode()], [*theirs, answering.fileno()])
    for descriptor in close:
        os.close(descriptor)
    return Running(arguments, int(answers.recv(100)), answers, ours)


# ------------------------------------------------------------------------------------------------ the process that forks

_starting = threading.Lock()
_control: dict[int, socket.socket] = {}


def _server() -> socket.socket:
    """Return the way to the process that forks for this one, started if need be.  It ends with this one."""
    with _starting:
        if os.getpid() not in _control:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                command = [sys.executable, "-m", "tests.command_line", str(theirs.fileno())]
                process = subprocess.Popen(
                    command, cwd=ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
                )
            _control[os.getpid()] = ours
            atexit.register(_end, process, ours, os.getpid())
        return _control[os.getpid()]


def _end(process: subprocess.Popen[bytes], control: socket.socket, owner: int) -> None:
    if os.getpid() == owner:
        control.close()
        process.wait()


def serve(control: socket.socket) -> None:
    """Fork for each request until the other end is closed: answers its process id and, in the end, its exit code."""
    import typer.main

    import sneaker

    for library in _LIBRARIES:
        importlib.import_module(library)
    for module in pkgutil.walk_packages(sneaker.__path__, "sneaker."):
        if module.name != "sneaker.__main__":
            importlib.import_module(module.name)
    from sneaker.cli.app import app

    # Most of what is left of a small command's time: the tree of all commands and options.
    typer.main.get_command = functools.cache(typer.main.get_command)
    for _ in typer.main.get_command(app).commands.values():  # type: ignore[attr-defined]
        pass  # builds it
    gc.collect()
    gc.freeze()
    answers: dict[int, tuple[int, socket.socket]] = {}
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor != control.fileno():
                pid, answering = answers.pop(descriptor)
                poll.unregister(descriptor)
                os.close(descriptor)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with answering, contextlib.suppress(OSError):
                    answering.send(str(code).encode())
                continue
            data, descriptors, _, _ = socket.recv_fds(control, _REQUEST_BYTES, 4)
            if not data:
                return
            pid = os.fork()
            if pid == 0:
                control.close()
                for other, (_, answering) in answers.items():
                    os.close(other)
                    answering.close()
                _become(json.loads(data), descriptors)
            answering = socket.socket(fileno=descriptors.pop())
            for one in set(descriptors):
                os.close(one)
            answering.send(str(pid).encode())
            pidfd = os.pidfd_open(pid)
            answers[pidfd] = (pid, answering)
            poll.register(pidfd, select.POLLIN)


def run_forked(arguments: Sequence[str], env: Mapping[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command out of a process that was forked itself, and has no other threads; what it prints is captured."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        request = {"arguments": list(arguments), "env": dict(env), "cwd": str(cwd), "prepare": None, "program": None}
        if (pid := os.fork()) == 0:
            _become(request, [os.open(os.devnull, os.O_RDWR), out.fileno(), err.fileno()])
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(list(arguments), code, out.read().decode(), err.read().decode())


def _become(request: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """Be ``python -m sneaker``, or ``python -c PROGRAM``, from here on."""
    code = 1
    try:
        for number, descriptor in enumerate(descriptors[:3]):
            os.dup2(descriptor, number)
        for descriptor in set(descriptors):
            os.close(descriptor)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        sys.stdin = os.fdopen(0, "r", closefd=False)
        sys.stdout = os.fdopen(1, "w", 1 if os.isatty(1) else -1, closefd=False)
        sys.stderr = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)
        if os.environ.get("PYTHONWARNINGS"):
            warnings.simplefilter(os.environ["PYTHONWARNINGS"])  # type: ignore[arg-type]
        sys.argv = ["sneaker", *request["arguments"]]
        if request["prepare"] is not None:
            module, function = request["prepare"]
            getattr(importlib.import_module(module), function)()
        if request["program"] is not None:
            exec(compile(request["program"], "<program>", "exec"), {"__name__": "__main__"})
            code = 0
        else:
            from sneaker.cli import main

            main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        # As at the end of Python: threads and pools are waited for, and what was printed is written.
        with contextlib.suppress(BaseException):
            threading._shutdown()  # type: ignore[attr-defined]
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(BaseException):
                stream.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
