"""Machines for network tests: sneaker homes, their peers as processes, and logs to fill them with."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import orjson
import zstandard

from sneaker.caps import Caps
from sneaker.feed.classic.javascript_json import format_json, parse_json, utf16_units
from sneaker.feed.classic.message import create_message
from sneaker.feed.classic.validate import parse_message
from sneaker.feed.message import Head, Message
from sneaker.home.home import Home, open_home
from sneaker.ingest.ingest import Ingest
from sneaker.keys import Keypair
from sneaker.own_feed.publish import contact_content, publish
from sneaker.refs import FeedRef, encode_base64
from tests.command_line import Running, sneaker, start
from tests.json_messages import add_json
from tests.machines import Machine as BaseMachine
from tests.net import quick

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = ROOT / "tests/data/fixtures/small.ndjson.zst"
SUMMARY = json.loads((ROOT / "tests/data/fixtures/small-summary.json").read_text())


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def feed_named(name: str) -> str:
    """The id of a feed of the small log."""
    return next(feed for feed, entry in SUMMARY["feeds"].items() if entry["name"] == name)


def small_log(path: Path, *, without: Iterable[str] = ("dave",)) -> Path:
    """Write the small log to a file, less some feeds: a JavaScript peer does not survive dave."""
    left_out = {feed_named(name) for name in without}
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(SMALL.read_bytes())) as reader:
        lines = reader.read().splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if _author(line) not in left_out))
    return path


def odd_log(path: Path, contents: Iterable[dict[str, Any]]) -> Path:
    """Write a log of one author who signs whatever it is, also what we would not publish.

    The text of a content with ``fill`` is repeated until the message has 8192 UTF-16 units.
    """
    keypair = Keypair.from_seed(os.urandom(32))
    previous: str | None = None
    lines = []

    def message(sequence: int, content: object) -> Message:
        value = {
            "previous": previous,
            "sequence": sequence,
            "author": str(keypair.public),
            "timestamp": 1_700_000_000_000,
            "hash": "sha256",
            "content": content,
        }
        unsigned = format_json(value)
        signature = encode_base64(keypair.sign(unsigned.encode()))
        return parse_message(f'{unsigned[:-2]},\n  "signature": "{signature}.sig.ed25519"\n}}')

    for sequence, content in enumerate(contents, 1):
        made = message(sequence, content)
        if content.get("fill"):
            text = content["text"]
            times, odd = divmod(8192 - utf16_units(made.text.decode()), utf16_units(text))
            made = message(sequence, {**content, "text": "x" * odd + text * (times + 1)})
            assert utf16_units(made.text.decode()) == 8192
        previous = str(made.key)
        value = format_json(parse_json(made.text), indent=0)
        lines.append(f'{{"key":"{previous}","value":{value},"timestamp":{sequence}}}\n')
    path.write_text("".join(lines))
    return path


def _author(line: bytes) -> str:
    return line.split(b'"author":"', 1)[1].split(b'"', 1)[0].decode()


def clock_of(log: Path) -> dict[str, int]:
    clock: dict[str, int] = {}
    for line in log.read_bytes().splitlines():
        author = _author(line)
        clock[author] = clock.get(author, 0) + 1
    return clock


def keys_of(log: Path) -> set[str]:
    return {line.split(b'"', 4)[3].decode() for line in log.read_bytes().splitlines()}


def wait_for(condition: Callable[[], Any], timeout_s: float = 20.0, what: str = "it") -> Any:
    """Wait until something is true and return it."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {timeout_s} s"
        time.sleep(0.05)
    return found


def chain(keypair: Keypair, count: int) -> list[bytes]:
    """Return the text of the first messages of a feed."""
    texts, head = [], None
    for number in range(count):
        message = create_message(keypair, head, 1_700_000_000_000 + number, {"type": "post", "text": f"{number}"})
        texts.append(message.text)
        head = Head(message.sequence, message.key)
    return texts


class Machine(BaseMachine):
    """A home that runs as a peer, in processes of its own."""

    def __init__(self, path: Path, *, keypair: Keypair | None = None, caps: Caps | None = None) -> None:
        super().__init__(path, keypair or Keypair.from_seed(os.urandom(32)), caps or Caps())
        self.id = str(self.me)

    def home(self) -> AbstractContextManager[Home]:
        return self.opened()

    def take(self, log: Path) -> int:
        """Take in a log without the command line; returns how many messages were new."""
        with self.home() as home, Ingest(home.store, caps=self.caps, now_ms=now_ms, workers=1) as ingest:
            for line in log.read_bytes().splitlines():
                add_json(ingest, line.split(b'"value":', 1)[1].rsplit(b',"timestamp"', 1)[0])
            return ingest.close().accepted

    def publish(self, content: dict[str, Any]) -> Message:
        with self.home() as home:
            return publish(home.store, self.keypair, self.caps, content, now_ms=now_ms, random_bytes=os.urandom)

    def follow(self, *feeds: str) -> None:
        for feed in feeds:
            self.publish(contact_content(FeedRef.parse(feed), following=True))

    def follow_all(self, feeds: Iterable[str]) -> None:
        """Follow many feeds at once."""
        self.publish_all((contact_content(FeedRef.parse(feed), following=True) for feed in feeds), now_ms)

    def open_clock(self) -> Callable[[], dict[str, int]]:
        """A way to ask for the clock again and again without opening the store each time."""
        store = open_home(self.path, self.caps).store
        return lambda: {str(feed): sequence for feed, sequence in store.clock().items()}

    def block(self, feed: str) -> None:
        self.publish(contact_content(FeedRef.parse(feed), following=False, blocking=True))

    def clock(self) -> dict[str, int]:
        with self.home() as home:
            return {str(feed): sequence for feed, sequence in home.store.clock().items()}

    def messages(self, feed: str) -> list[Message]:
        with self.home() as home:
            return list(home.store.messages(FeedRef.parse(feed)))

    def keys(self) -> set[str]:
        with self.home() as home:
            return {str(message.key) for feed in home.store.clock() for message in home.store.messages(feed)}

    def has_blob(self, blob: str) -> bool:
        from sneaker.refs import BlobRef

        with self.home() as home:
            return home.blobs.has(BlobRef.parse(blob))

    def add_blob(self, data: bytes) -> str:
        with self.home() as home:
            return str(home.blobs.add_blob(data)[0])

    def arguments(self, *arguments: str) -> list[str]:
        return ["--home", str(self.path), *arguments]

    def command(self, *arguments: str) -> list[str]:
        """The command line for a process that starts Python anew: in a network namespace."""
        return [sys.executable, "-m", "sneaker", *self.arguments(*arguments)]

    def run(
        self, *arguments: str, timeout_s: float = 60.0, prepare: Callable[[], None] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; ``prepare`` is as for ``tests.command_line.start``."""
        done = sneaker(*self.arguments(*arguments), ok=False, timeout=timeout_s, env=_environment(), prepare=prepare)
        return subprocess.CompletedProcess(arguments, done.code, done.out, done.err)

    def connect(
        self,
        address: str,
        *arguments: str,
        timeout_s: float = 60.0,
        prepare: Callable[[], None] | None = quick.connect_to_sneaker,
    ) -> dict[str, Any]:
        """Run ``connect`` to its end and return its report; to peers of other kinds with ``prepare=None``."""
        done = self.run("connect", "--json", *arguments, "--", address, timeout_s=timeout_s, prepare=prepare)
        assert done.returncode in (0, 3), done.stderr
        return orjson.loads(done.stdout)

    def peer(
        self,
        *arguments: str,
        listen: str = "127.0.0.1:0",
        prefix: Iterable[str] = (),
        prepare: Callable[[], None] | None = None,
    ) -> RunningPeer:
        """Run the peer; ``prefix`` is a command that starts it, ``prepare`` is as for ``tests.command_line.start``."""
        options = ("peer", "--listen", listen, *(arguments or ("--no-discovery",)))
        command = [*prefix, *self.command(*options)] if prefix else None
        return RunningPeer(self.arguments(*options), command, prepare)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "SNEAKER_DEBUG": "1"}


class RunningPeer:
    """``sneaker peer`` (or another command) as a process; a context manager.

    With ``command`` that is what is started; else a process that has everything imported forks.
    """

    def __init__(
        self, arguments: list[str], command: list[str] | None = None, prepare: Callable[[], None] | None = None
    ) -> None:
        self._arguments = arguments
        self._command = command
        self._prepare = prepare
        self.address = ""
        self.errors: list[str] = []

    def __enter__(self) -> RunningPeer:
        pipe, environment = subprocess.PIPE, _environment()
        self.process: Running | subprocess.Popen[bytes]
        if self._command is None:
            self.process = start(self._arguments, stdout=pipe, stderr=pipe, env=environment, prepare=self._prepare)
        else:
            self.process = subprocess.Popen(self._command, stdout=pipe, stderr=pipe, env=environment)
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.address = self.process.stdout.readline().decode().strip()
        if not self.address:
            self.process.wait(10)
            self._reader.join(5)
            self._close()
            raise AssertionError("the peer did not start: " + "".join(self.errors))
        return self

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.errors.extend(line.decode() for line in self.process.stderr)

    def memory(self) -> int:
        """Resident bytes."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.split("VmRSS:", 1)[1].split()[0]) * 1024

    def kill(self) -> None:
        self.process.kill()

    def __exit__(self, kind: object, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            code = self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self._reader.join(5)
            self._close()
        if kind is not None:
            print(f"{' '.join(self._arguments)} ended with {code}:", *self.errors, sep="\n")
        elif code != -9:
            assert code == 0, f"{code}: " + "".join(self.errors)
            assert "Traceback" not in "".join(self.errors), "".join(self.errors)

    def _close(self) -> None:
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
