"""The JavaScript libraries that the network runs on, as judges and as peers.

`tests/js/validate.cjs` asks ssb-validate and ssb-classic about messages, and `tests/js/peers` starts
real peers. This module runs them and passes questions and answers; it knows no right answers.

    if reason := js_oracle.available():
        pytest.skip(reason)
    with js_oracle.Oracle() as oracle:
        verdict = oracle.ask(Case(raw_text))
"""

from __future__ import annotations

import contextlib
import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

JS = Path(__file__).resolve().parent / "js"
PEERS = JS / "peers"

_MIN_NODE_MAJOR = 20
_START_TIMEOUT_S = 30.0
_CLOSE_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Case:
    """One question: is this JSON text the message that follows `state`?

    `state` is `{"id", "sequence"}` of the author's last message, None before the first one.
    `raw` may hold lone surrogates; they reach JavaScript as they are.
    """

    raw: str
    state: Mapping[str, Any] | None = None
    hmac_key: Any = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer. `canonical`, `length` and `key` are None where the text is no JSON."""

    valid: bool
    fatal: bool
    thrown: bool
    error: str | None
    parsed: bool
    key: str | None
    length: int | None
    canonical: str | None
    classic_valid: bool
    classic_error: str | None


def available(folder: Path = JS) -> str | None:
    """Return why the JavaScript in this folder cannot run here, or None if it can."""
    node = shutil.which("node")
    if node is None:
        return "node is not installed"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    major = version.removeprefix("v").split(".")[0]
    if not major.isdecimal() or int(major) < _MIN_NODE_MAJOR:
        return f"node is {version or 'broken'}, and must be {_MIN_NODE_MAJOR} or later"
    installed = folder / "node_modules" / ".package-lock.json"
    if not installed.exists():
        return f"the packages of {folder.relative_to(JS.parent.parent)} are not installed: npm ci --ignore-scripts"
    if installed.stat().st_mtime < (folder / "package-lock.json").stat().st_mtime:
        return f"the packages of {folder.relative_to(JS.parent.parent)} are older than the lock file: npm ci"
    return None


def install(folder: Path = JS) -> None:
    """Install the locked packages, unless they are there.

    Raises FileNotFoundError without npm, CalledProcessError when npm fails, OSError if the packages are behind a link.
    """
    if available(folder) is None:
        return
    if (folder / "node_modules").is_symlink():
        raise OSError(f"{folder / 'node_modules'} is a link: npm would empty the folder that it leads to")
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is not installed")
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(command, cwd=folder, check=True)
    (folder / "node_modules" / ".package-lock.json").touch()


class Oracle:
    """A running validate.cjs. Use it as a context manager, from one thread."""

    def __init__(self, batch: int = 500) -> None:
        self._batch = batch
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            ["node", str(JS / "validate.cjs")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with process:
            if kind is not None:
                process.kill()
            elif process.stdin:
                process.stdin.close()

    def ask(self, case: Case) -> Verdict:
        """Ask about one case."""
        return self.ask_all([case])[0]

    def ask_all(self, cases: Iterable[Case]) -> list[Verdict]:
        """Ask about many cases; the answers come in the same order."""
        return list(self.stream(cases))

    def stream(self, cases: Iterable[Case]) -> Iterator[Verdict]:
        """Ask about any number of cases in bounded memory."""
        batch: list[Case] = []
        for case in cases:
            batch.append(case)
            if len(batch) == self._batch:
                yield from self._exchange(batch)
                batch = []
        if batch:
            yield from self._exchange(batch)

    def _exchange(self, batch: list[Case]) -> list[Verdict]:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise RuntimeError("the oracle is not running")
        stdin, stdout = process.stdin, process.stdout
        questions = b"".join(_format_case(case) for case in batch)

        # A thread writes: both pipes are smaller than a batch.
        def write() -> None:
            with contextlib.suppress(BrokenPipeError):  # the reader tells that the oracle died
                stdin.write(questions)
                stdin.flush()

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        verdicts = [_parse_verdict(stdout.readline()) for _ in batch]
        writer.join()
        return verdicts


def _format_case(case: Case) -> bytes:
    question = {"raw": case.raw, "state": case.state, "hmacKey": case.hmac_key}
    return json.dumps(question).encode("ascii") + b"\n"


def _parse_verdict(line: bytes) -> Verdict:
    if not line:
        raise RuntimeError("validate.cjs ended early; its error is on stderr")
    answer = json.loads(line)
    classic = answer.get("classic") or {"valid": False, "error": answer.get("error")}
    return Verdict(
        valid=answer["valid"],
        fatal=answer.get("fatal", False),
        thrown=answer.get("thrown", False),
        error=answer.get("error"),
        parsed=answer.get("parse", True),
        key=answer.get("id"),
        length=answer.get("length"),
        canonical=answer.get("canonical"),
        classic_valid=classic["valid"],
        classic_error=classic["error"],
    )


class PeerError(Exception):
    """The JavaScript peer answered a command with an error, or ended."""


class Peer:
    """A running JavaScript peer, `server.cjs` or `db2.cjs`; tests/js/peers/README.md lists the commands.

    with Peer("db2.cjs", path=str(tmp_path)) as peer:
        peer.ask("follow", feed=our_id)
    """

    def __init__(self, program: str, *, log: IO[bytes] | None = None, **config: Any) -> None:
        self._command = ["node", str(PEERS / program), json.dumps(config)]
        self._log = log
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._count = 0
        self.address = ""
        self.id = ""

    def __enter__(self) -> Self:
        stderr = self._log if self._log is not None else subprocess.DEVNULL
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            hello = self._next_answer(_START_TIMEOUT_S)
            if not hello["ready"]:
                raise PeerError(hello["error"])
        except BaseException:
            self._end()
            raise
        self.address, self.id = hello["address"], hello["id"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def ask(self, command: str, *, timeout_s: float = 30.0, **parameters: Any) -> Any:
        """Return the answer to one command.

        Raises PeerError if the peer answers with an error or is gone, TimeoutError if it says nothing.
        """
        self._count += 1
        question = json.dumps({"id": self._count, "do": command, **parameters}).encode("ascii") + b"\n"
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(question)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerError("the peer has ended") from None
        while True:
            answer = self._next_answer(timeout_s)
            if answer["id"] == self._count:
                break
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer["ok"]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(b"")

    def _next_answer(self, timeout_s: float) -> Any:
        try:
            line = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError(f"no answer within {timeout_s} s") from None
        if not line:
            raise PeerError("the peer has ended")
        return json.loads(line)

    def _end(self) -> None:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(_CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._reader.join()
        process.stdout.close()
