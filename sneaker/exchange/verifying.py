"""Verify: check every signature, hash and chain of a bundle or log, without a store."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import BinaryIO

from sneaker.bundle.events import BlobRead, Damage, End, Event, HeaderRead, MessagesRead, Status
from sneaker.bundle.reader import BundleReader
from sneaker.caps import Caps
from sneaker.errors import BundleDamaged, InvalidMessage
from sneaker.events import NeedData
from sneaker.exchange.ndjson import read_lines
from sneaker.exchange.sources import READ_BYTES, Kind, rejoined, sniff
from sneaker.feed.compact import expand, expand_run
from sneaker.feed.message import Message
from sneaker.feed.run import Run
from sneaker.feed.validate import parse_message, verify_message_signature
from sneaker.refs import FeedRef, MessageRef

__all__ = ["VerifyReport", "bundle_events", "verify"]

_CHUNK = 64
_MAX_PROBLEMS = 20


@dataclass(slots=True)
class VerifyReport:
    """What ``verify`` found.  ``signature`` is the bundle's own; logs have none."""

    status: str = Status.OK
    valid: int = 0
    invalid: int = 0
    blobs_valid: int = 0
    blobs_invalid: int = 0
    exporter: str | None = None
    signature: bool = False
    detail: str = ""
    problems: list[str] = field(default_factory=list)

    def problem(self, text: str) -> None:
        """Note one of the first problems, for people."""
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(text)


@dataclass(slots=True)
class _Session:
    hmac_key: bytes | None
    pool: ThreadPoolExecutor
    report: VerifyReport
    pending: deque[tuple[list[Message], Future[list[bool]]]] = field(default_factory=deque)
    batch: list[Message] = field(default_factory=list)
    #: Of each feed the last sequence and key seen, and what comes next must follow.
    heads: dict[FeedRef, tuple[int, MessageRef]] = field(default_factory=dict)

    def add(self, message: Message) -> None:
        head = self.heads.get(message.author)
        self.heads[message.author] = (message.sequence, message.key)
        if head is not None and message.sequence == head[0] + 1 and message.previous != head[1]:
            self.refuse(message.author, message.sequence, "it does not follow the message before it")
            return
        self.batch.append(message)
        if len(self.batch) >= _CHUNK:
            self.submit()

    def submit(self) -> None:
        if self.batch:
            self.pending.append((self.batch, self.pool.submit(self._check, self.batch)))
            self.batch = []
        while len(self.pending) > 64:
            self._collect()

    def finish(self) -> None:
        self.submit()
        while self.pending:
            self._collect()

    def refuse(self, author: FeedRef, sequence: int, why: str) -> None:
        self.report.invalid += 1
        self.report.problem(f"{author} {sequence}: {why}")

    def _check(self, messages: list[Message]) -> list[bool]:
        return [verify_message_signature(message, self.hmac_key) for message in messages]

    def _collect(self) -> None:
        messages, future = self.pending.popleft()
        for message, good in zip(messages, future.result(), strict=True):
            if good:
                self.report.valid += 1
            else:
                self.refuse(message.author, message.sequence, "the signature is not its author's")


def bundle_events(file: BinaryIO, progress: Callable[[int], None]) -> Iterator[Event]:
    """Yield the events of the bundle in ``file``, up to and with ``End``; ``progress`` is called with bytes read."""
    reader = BundleReader()
    while True:
        event = reader.next_event()
        if isinstance(event, NeedData):
            data = file.read(READ_BYTES)
            progress(len(data))
            reader.receive_data(data)
        else:
            yield event
            if isinstance(event, End):
                return


def verify(
    file: BinaryIO, name: str, caps: Caps, *, progress: Callable[[int], None], workers: int | None = None
) -> VerifyReport:
    """Check what ``file`` holds; raises NotABundle if it is neither a bundle nor a log."""
    report = VerifyReport()
    start = file.read(READ_BYTES)
    kind = sniff(start, name)
    progress(len(start))
    whole = rejoined(start, file)
    with ThreadPoolExecutor(workers or os.cpu_count() or 1, thread_name_prefix="verify") as pool:
        session = _Session(caps.hmac_key, pool, report)
        if kind is Kind.NDJSON:
            _verify_lines(session, whole, progress)
        else:
            _verify_bundle(session, bundle_events(whole, progress))
        session.finish()
    if report.invalid and report.status == Status.OK:
        report.status = Status.DAMAGED
        report.detail = f"{report.invalid} messages are invalid"
    return report


def _verify_lines(session: _Session, file: BinaryIO, progress: Callable[[int], None]) -> None:
    report = session.report
    for line in read_lines(file):
        progress(line.bytes)
        if line.problem:
            report.invalid += 1
            report.problem(line.problem)
            continue
        try:
            message = parse_message(line.value)
        except InvalidMessage as error:
            report.invalid += 1
            report.problem(f"line {line.number}: {error.message}")
            continue
        if line.key is not None and line.key != str(message.key):
            session.refuse(message.author, message.sequence, "its key is not the one that the log states")
        else:
            session.add(message)


def _verify_bundle(session: _Session, events: Iterable[Event]) -> None:
    report = session.report
    for event in events:
        if isinstance(event, HeaderRead):
            report.exporter = str(event.header.exporter)
        elif isinstance(event, MessagesRead):
            try:
                for run in event.runs():
                    _verify_run(session, run)
            except BundleDamaged as error:
                report.status, report.detail = Status.DAMAGED, error.message
                report.problem(f"record at byte {event.offset}: {error.message}")
        elif isinstance(event, BlobRead):
            try:
                event.blob()
                report.blobs_valid += 1
            except BundleDamaged as error:
                report.blobs_invalid += 1
                report.status, report.detail = Status.DAMAGED, error.message
        elif isinstance(event, Damage):
            report.problem(f"{event.length} bytes from byte {event.offset} on: {event.detail}")
        elif isinstance(event, End):
            report.signature = event.signed
            if event.trailer is not None and event.trailer.signature_ok:
                report.exporter = str(event.trailer.exporter)
            if event.status is not Status.OK:
                report.status, report.detail = event.status, event.detail


def _verify_run(session: _Session, run: Run) -> None:
    messages = expand_run(run.author, run.first, run.previous, run.compacts)
    for message in messages:
        session.add(message)
    if len(messages) < len(run.compacts):
        sequence = run.first + len(messages)
        previous = messages[-1].key if messages else run.previous
        try:
            expand(run.author, sequence, previous, run.compacts[len(messages)])
            why = "it is invalid"
        except InvalidMessage as error:
            why = error.message
        for missing in range(sequence, run.last + 1):
            session.refuse(run.author, missing, why)
            why = "it follows an invalid message"
