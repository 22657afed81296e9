"""Verify: check every signature, hash and chain of a bundle or log, without a store."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import BinaryIO

from sneaker.bundle.events import BlobRead, Damage, End, HeaderRead, MessagesRead, Status
from sneaker.caps import Caps
from sneaker.errors import BundleDamaged, InvalidMessage, NotABundle
from sneaker.feed.formats import format_of, signature_checks
from sneaker.feed.message import Message
from sneaker.feed.run import Run
from sneaker.refs import FeedRef
from sneaker.signatures.pool import Verifier
from sneaker.transfer.message_places import SignedMessages
from sneaker.transfer.read_card import CardSource
from sneaker.transfer.read_encrypted import EncryptedSource
from sneaker.transfer.source_events import LogEntry, SourceEvent
from sneaker.transfer.source_kinds import identify_source
from sneaker.transfer.sources import READ_BYTES, OpenedSource

__all__ = ["FORKED", "VerifyReport", "verify"]

_CHUNK = 64
_MAX_PROBLEMS = 20
_MAX_FORKED = 1000

FORKED = "forked"


@dataclass(slots=True)
class VerifyReport:
    """What ``verify`` found.  ``signature`` is the bundle's own; logs have none.

    ``valid`` messages are counted once, however often they are there; ``repeated`` is how many there are beyond that.
    ``forks`` is the number of feeds of which two signed messages contradict each other, ``forked`` the first of them, each
    with the first such place; if nothing else is wrong, that is the status, too.
    """

    status: str = Status.OK
    valid: int = 0
    invalid: int = 0
    repeated: int = 0
    blobs_valid: int = 0
    blobs_invalid: int = 0
    exporter: str | None = None
    signature: bool = False
    detail: str = ""
    problems: list[str] = field(default_factory=list)
    forks: int = 0
    forked: dict[FeedRef, int] = field(default_factory=dict)

    def note_problem(self, text: str) -> None:
        """Note one of the first problems, for people."""
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(text)


@dataclass(slots=True)
class _Session:
    hmac_key: bytes | None
    verifier: Verifier
    report: VerifyReport
    signed: SignedMessages
    pending: deque[list[Message]] = field(default_factory=deque)
    batch: list[Message] = field(default_factory=list)

    def add_message(self, message: Message) -> None:
        self.batch.append(message)
        if len(self.batch) >= _CHUNK:
            self.submit()

    def submit(self) -> None:
        if self.batch:
            self.verifier.submit(signature_checks(self.batch, self.hmac_key))
            self.pending.append(self.batch)
            self.batch = []
        while len(self.pending) > 64:
            self._collect()

    def finish_checks(self) -> None:
        self.submit()
        while self.pending:
            self._collect()
        self._judge()

    def refuse_message(self, author: FeedRef, sequence: int, why: str) -> None:
        self.report.invalid += 1
        self.report.note_problem(f"{author} {sequence}: {why}")

    def _judge(self) -> None:
        """Compare the signed messages with each other: only now all of them are known, in the order of feeds."""
        report, distinct = self.report, self.signed.count()
        last: FeedRef | None = None
        report.repeated, report.valid = report.valid - distinct, distinct
        for feed, sequence, is_unlinked in self.signed.contradictions():
            if feed != last:  # they come in the order of feeds
                last = feed
                report.forks += 1
                if len(report.forked) < _MAX_FORKED:
                    report.forked[feed] = sequence
                report.note_problem(f"{feed} {sequence}: its author signed another message for this place")
            if is_unlinked:
                report.valid -= 1
                self.refuse_message(feed, sequence, "it does not follow the message before it")

    def _collect(self) -> None:
        verdicts = self.verifier.collect(wait=True) or b""
        for message, good in zip(self.pending.popleft(), verdicts, strict=True):
            if not good:
                self.refuse_message(message.author, message.sequence, "the signature is not its author's")
                continue
            self.report.valid += 1
            self.signed.add_message(message)


def verify(
    file: BinaryIO, name: str, caps: Caps, *, progress: Callable[[int], None], workers: int | None = None
) -> VerifyReport:
    """Check what ``file`` holds; raises NotABundle if it is neither a bundle nor a log, StoreFull if the disk is full."""
    report = VerifyReport()
    start = file.read(READ_BYTES)
    kind = identify_source(start, name)
    if isinstance(kind, EncryptedSource | CardSource):  # we have no key for the first, and the second has no messages
        raise NotABundle(
            f"{name} is {'encrypted' if isinstance(kind, EncryptedSource) else 'a card'}: verify cannot look into it",
            hint="'sneaker inspect' does",
        )
    progress(len(start))
    source = OpenedSource(name, start, file, progress)
    with contextlib.closing(Verifier(workers)) as verifier, SignedMessages() as signed:
        session = _Session(caps.hmac_key, verifier, report, signed)
        _verify_events(session, kind.read_events(source, hmac_key=caps.hmac_key, keypair=None))
        session.finish_checks()
    words = [report.detail] if report.detail else []
    if report.forks:
        words.append(_forks_in_words(report))
    if report.status == Status.OK and report.invalid:
        words.append("1 message is invalid" if report.invalid == 1 else f"{report.invalid:,} messages are invalid")
    report.detail = "; ".join(words)
    if report.status == Status.OK and (report.forks or report.invalid):
        report.status = FORKED if report.forks else Status.DAMAGED
    return report


def _forks_in_words(report: VerifyReport) -> str:
    if report.forks > 1:
        return f"{report.forks:,} feeds are forked: their authors signed two messages for one place"
    feed, sequence = next(iter(report.forked.items()))
    return f"{feed} is forked: its author signed two different messages for place {sequence}"


def _verify_entry(session: _Session, entry: LogEntry) -> None:
    if entry.message is not None:
        session.add_message(entry.message)
        return
    session.report.invalid += 1
    place = f"{entry.feed} {entry.sequence or ''}: ".replace(" :", ":") if entry.feed is not None else ""
    session.report.note_problem(f"{place}{entry.code}{': ' + entry.detail if entry.detail else ''}")


def _verify_events(session: _Session, events: Iterable[SourceEvent]) -> None:
    report = session.report
    for event in events:
        if isinstance(event, LogEntry):
            _verify_entry(session, event)
        elif isinstance(event, HeaderRead):
            report.exporter = str(event.header.exporter)
        elif isinstance(event, MessagesRead):
            try:
                for run in event.runs():
                    _verify_run(session, run)
            except BundleDamaged as error:
                report.status, report.detail = Status.DAMAGED, error.message
                report.note_problem(f"record at byte {event.offset}: {error.message}")
        elif isinstance(event, BlobRead):
            try:
                event.blob()
                report.blobs_valid += 1
            except BundleDamaged as error:
                report.blobs_invalid += 1
                report.status, report.detail = Status.DAMAGED, error.message
        elif isinstance(event, Damage):
            report.note_problem(f"{event.length} bytes from byte {event.offset} on: {event.detail}")
        elif isinstance(event, End):
            report.signature = event.signed
            if event.trailer is not None and event.trailer.signature_ok:
                report.exporter = str(event.trailer.exporter)
            if event.status is not Status.OK or event.detail:
                report.status, report.detail = event.status, event.detail


def _verify_run(session: _Session, run: Run) -> None:
    messages = format_of(run.author).expand_run(run.author, run.first, run.previous, run.compacts)
    for message in messages:
        session.add_message(message)
    if len(messages) < len(run.compacts):
        sequence = run.first + len(messages)
        previous = messages[-1].key if messages else run.previous
        try:
            format_of(run.author).expand(run.author, sequence, previous, run.compacts[len(messages)])
            why = "it is invalid"
        except InvalidMessage as error:
            why = error.message
        for missing in range(sequence, run.last + 1):
            session.refuse_message(run.author, missing, why)
            why = "it follows an invalid message"
