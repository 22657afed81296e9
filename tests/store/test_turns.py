"""Several sneakers write to one store: nobody holds it while he waits for something else, and each gets his turn."""

from __future__ import annotations

import io
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sneaker.errors import ForkError, StoreLocked
from sneaker.feed.classic.message import create_message
from sneaker.feed.message import Head, Message
from sneaker.ingest.reports import SourceReport
from sneaker.own_feed.publish import publish
from sneaker.store.database import WriterLock
from sneaker.transfer.export import export
from sneaker.transfer.export_options import ExportOptions
from sneaker.transfer.import_files import importing as import_session
from sneaker.transfer.sources import READ_BYTES
from tests.command_line import Running, sneaker, start
from tests.homes import NOW_MS, fixture_log, home, take

# Long enough for a slow machine that does other things, and never waited for when all is well.
PATIENCE_S = 120.0


@contextmanager
def importing(at: Path) -> Iterator[Running]:
    """Run 'sneaker import --json -' with a pipe to write into."""
    arguments = ["--home", str(at), "import", "--json", "-"]
    with start(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def encrypted_log(folder: Path, reader: str) -> bytes:
    """Return the fixture as a bundle encrypted to ``reader``."""
    with home(folder) as opened:
        take(opened, "-", data=fixture_log())
        out = io.BytesIO()
        options = ExportOptions(recipients=[reader])
        export(opened, "-", options, stdout=out, now_ms=NOW_MS, random_bytes=lambda size: b"\7" * size)
        return out.getvalue()


@pytest.mark.parametrize("encrypted", [False, True])
def test_publish_while_an_import_waits_for_more(tmp_path: Path, encrypted: bool) -> None:
    """Half of the messages are read, and some of them are still being checked: the lock is free all the same."""
    at = tmp_path / "home"
    me = sneaker("init", at=at).out.strip()
    sneaker("publish", "before", at=at)
    data = encrypted_log(tmp_path / "other", me) if encrypted else fixture_log()
    with importing(at) as process:
        assert process.stdin is not None
        # More than a pipe takes: it has been read when this returns.
        process.stdin.write(data[: len(data) // 2])
        process.stdin.flush()
        sneaker("publish", "meanwhile", "--wait", "0", at=at)
        out, err = process.communicate(data[len(data) // 2 :], timeout=PATIENCE_S)
    assert process.returncode == 0, err
    counts = json.loads(out)["messages"]
    assert counts["accepted"] == fixture_log().count(b"\n")
    assert sum(counts.values()) == counts["accepted"]
    with home(at) as opened:
        assert opened.store.head(opened.keypair.public).sequence == 2  # type: ignore[union-attr]
        assert opened.store.counts().messages == counts["accepted"] + 2
    sneaker("check", at=at)


def test_publish_while_a_long_import_goes_on(tmp_path: Path) -> None:
    at = tmp_path / "home"
    sneaker("init", at=at)
    with importing(at) as process:
        assert process.stdin is not None
        for part in range(10):
            process.stdin.write(fixture_log())
            process.stdin.flush()
            if part % 5 == 0:
                sneaker("publish", f"number {part}", "--wait", str(PATIENCE_S), at=at, timeout=2 * PATIENCE_S)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    counts = json.loads(out)["messages"]
    assert counts["accepted"] == fixture_log().count(b"\n")
    assert sum(counts.values()) == 10 * counts["accepted"]
    assert sneaker("log", at=at).out.count("  post  number ") == 2


# More than an import and its pipe hold together: once it is written, all that came before it has been dealt with.
_FILLER = b"\n" * (4 * READ_BYTES)


def _wrapped(message: Message, **changed: object) -> bytes:
    return json.dumps({"key": str(message.key), "value": {**json.loads(message.text), **changed}}).encode()


@contextmanager
def _stalled(at: Path, *lines: bytes) -> Iterator[Running]:
    """Run an import whose pipe brings these lines, and then nothing more."""
    with importing(at) as process:
        assert process.stdin is not None
        process.stdin.write(b"\n".join([*lines, _FILLER]))
        process.stdin.flush()
        yield process


def _own(at: Path, count: int) -> list[Message]:
    """Make a home that has published one message, and return it with those that it published before it was put back."""
    with home(at) as opened:
        me = opened.keypair
    made: list[Message] = []
    for number in range(count):
        head = Head(made[-1].sequence, made[-1].key) if made else None
        made.append(create_message(me, head, NOW_MS + number, {"type": "post", "text": f"message {number}"}))
    with home(at) as opened:
        take(opened, "-", data=_wrapped(made[0]))
    return made


def test_publish_goes_on_from_what_a_stalled_import_has_brought(tmp_path: Path) -> None:
    messages = _own(tmp_path, 3)
    with _stalled(tmp_path, *map(_wrapped, messages)) as process:
        sneaker("publish", "meanwhile", "--wait", "0", at=tmp_path)
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    with home(tmp_path) as opened:
        assert opened.store.head(messages[0].author).sequence == 4  # type: ignore[union-attr]
        assert not opened.store.forked()


@pytest.mark.parametrize("is_killed", [False, True])
@pytest.mark.parametrize("fault", ["torn", "unsigned"])
def test_nobody_publishes_in_a_place_that_a_stalled_import_has_seen(
    tmp_path: Path, fault: str, is_killed: bool
) -> None:
    """Refused or not, there is such a message somewhere; and the import need not come to its end."""
    messages = _own(tmp_path, 3)
    second = _wrapped(messages[1])[:-60] if fault == "torn" else _wrapped(messages[1], content={"type": "other"})
    with _stalled(tmp_path, second) as process:
        if is_killed:
            process.kill()
        done = sneaker("publish", "beside it", "--wait", "0", at=tmp_path, ok=False)
        assert done.code == ForkError.exit_code, done.err
        assert "up to message 2" in done.err
        process.communicate(timeout=PATIENCE_S)


def test_a_strangers_log_with_a_forged_message_of_ours_keeps_nobody_out(tmp_path: Path) -> None:
    """Nobody chose it, so it is no claim either."""
    messages = _own(tmp_path, 2)
    with home(tmp_path) as opened:
        published: list[Message] = []

        class Pipe(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                if self.tell():
                    content = {"type": "post", "text": "meanwhile"}
                    published.append(
                        publish(
                            opened.store,
                            opened.keypair,
                            opened.caps,
                            content,
                            now_ms=lambda: NOW_MS,
                            random_bytes=os.urandom,
                            wait_s=0,
                        )
                    )
                return super().read(size)

        with import_session(opened, now_ms=lambda: NOW_MS) as session:
            session.import_file(
                Pipe(_wrapped(messages[1], content={"type": "post", "text": "forged"})), SourceReport("gift")
            )
            assert session.finish().ingested.refused == 1
    assert [message.sequence for message in published] == [2]


def test_publish_waits_and_says_so(tmp_path: Path) -> None:
    at = tmp_path / "home"
    sneaker("init", at=at)
    with home(at) as opened, opened.store.writer():
        for wait in ("nan", "0.1"):
            done = sneaker("publish", "x", "--wait", wait, at=at, ok=False)
            assert done.code == StoreLocked.exit_code
            assert "another sneaker is writing" in done.err
        arguments = ["--home", str(at), "publish", "y", "--wait", "300"]
        waiting = start(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert waiting.stderr is not None
        word = waiting.stderr.readline().decode()
        assert word == "another sneaker is writing to the store; waiting up to 300 s for it\n"
    assert waiting.wait(PATIENCE_S) == 0
    waiting.communicate()


def test_who_waits_comes_before_who_wants_it_again(tmp_path: Path) -> None:
    """Somebody lets go of the lock for no time at all, again and again."""
    path = tmp_path / "store.sqlite.lock"
    greedy = WriterLock(path)
    greedy.acquire(0)
    has_ended = threading.Event()
    rounds = 0

    def hog() -> None:
        nonlocal rounds
        while not has_ended.is_set():
            time.sleep(0.05)
            greedy.release()
            greedy.acquire(PATIENCE_S)
            rounds += 1
        greedy.release()

    thread = threading.Thread(target=hog)
    thread.start()
    try:
        for _ in range(5):
            waiting = WriterLock(path)
            waiting.acquire(PATIENCE_S)
            waiting.release()
    finally:
        has_ended.set()
        thread.join()
    assert not greedy.is_held
