"""Logs that other programs print: which message each of their JSON objects holds.

The forms, with any other fields before, between and behind:

* ``{"key", "value", "timestamp"}``: ``createLogStream``, ``createHistoryStream``, ``sneaker log --json``
* the value alone: ``createHistoryStream`` with ``keys`` false, ssb-db2's ``getMsg``
* ``{"seq", "value": {"key", "value", "timestamp"}}``: ``createRawLogStream``
* ``{"sync": true}`` stands in a live stream where the old ends and the new begins, and is passed over

What programs change in a message before they print it, its format undoes (``FeedFormat.read_changed_value``).  The key
beside a message is a label: the message's own key is computed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sneaker.bundle.events import End, Status
from sneaker.errors import InvalidMessage
from sneaker.feed.classic.validate import ORDER
from sneaker.feed.formats import CLASSIC_FORMAT, format_of_value, stated_place
from sneaker.feed.json_stream import JsonObject, NotJson, looks_like_objects, read_objects
from sneaker.keys import Keypair
from sneaker.limits import MAX_JSON_LINE_BYTES
from sneaker.transfer.source_events import LogEntry, SourceEvent
from sneaker.transfer.sources import LOG_SUFFIXES, OpenedSource, SourceKind

__all__ = ["LogSource", "LogSummary", "read_log"]

_FIELDS = frozenset(ORDER)
_PLAIN = {"key", "value", "timestamp"}
# One is the rule, createRawLogStream has two.
_MAX_WRAPPINGS = 3

# Where a broken object names its place: in front of the content, where nobody but the author can have written it. It may
# be torn off before the sequence.
_AUTHOR = rb'"author"\s*+:\s*+"(@[A-Za-z0-9+/]{43}=\.ed25519)"'
_SEQUENCE = rb'"sequence"\s*+:\s*+([1-9][0-9]{0,9})'
_PLACE = re.compile(_SEQUENCE + rb"\s*+,\s*+" + _AUTHOR + rb"|" + _AUTHOR + rb"(?:\s*+,\s*+" + _SEQUENCE + rb")?")


class LogSource(SourceKind):
    """A log of messages."""

    kind = "ndjson"
    # There are JSON files of all kinds.
    folder_suffixes = LOG_SUFFIXES
    inbox_suffixes = LOG_SUFFIXES

    def recognises(self, start: bytes) -> bool:
        """Say whether JSON objects begin like this."""
        return looks_like_objects(start)

    def read_events(
        self, source: OpenedSource, *, hmac_key: bytes | None, keypair: Keypair | None
    ) -> Iterator[SourceEvent]:
        """Yield what is in the log, and how it ended."""
        summary = LogSummary()
        for entry in read_log(source.chunks(), hmac_key):
            summary.count_entry(entry)
            yield entry
        yield End(summary.status, summary.detail)


@dataclass(slots=True)
class LogSummary:
    """What to say of a log as a whole."""

    broken: int = 0
    torn: int = 0
    mislabelled: int = 0
    first_mislabelled: int = 0

    def count_entry(self, entry: LogEntry) -> None:
        """Count an entry."""
        self.broken += entry.is_broken
        self.torn += entry.is_torn
        if entry.is_mislabelled:
            self.mislabelled += 1
            self.first_mislabelled = self.first_mislabelled or entry.line

    @property
    def status(self) -> Status:
        """Whether it is whole, cut short or damaged."""
        if self.broken > self.torn:
            return Status.DAMAGED
        return Status.TRUNCATED if self.torn else Status.OK

    @property
    def detail(self) -> str:
        """Return what is remarkable, in words."""
        words = []
        if broken := self.broken - self.torn:
            words.append("1 part of it is not a message" if broken == 1 else f"{broken} parts of it are not messages")
        if self.torn:
            words.append("it ends in the middle of a message")
        if self.mislabelled == 1:
            words.append(
                f"the id that it states for the message on line {self.first_mislabelled} is not that message's"
            )
        elif self.mislabelled:
            words.append(
                f"the ids that it states for {self.mislabelled} messages are not theirs, from line"
                f" {self.first_mislabelled} on"
            )
        return "; ".join(words)


def read_log(chunks: Iterable[bytes], hmac_key: bytes | None = None) -> Iterator[LogEntry]:
    """Yield what is in a log; ``hmac_key`` is that of the network.

    Signatures are only checked where they have to show what a message was before it was opened.
    """
    for found in read_objects(chunks, MAX_JSON_LINE_BYTES):
        entry = _broken(found) if isinstance(found, NotJson) else _entry(found, hmac_key)
        if entry is not None:
            yield entry


def _broken(found: NotJson) -> LogEntry:
    feed = sequence = None
    match = _PLACE.search(found.head)
    if match is not None:
        author, number = (match[2] or match[3]).decode("ascii"), int(match[1] or match[4] or 0)
        feed, sequence = stated_place({"author": author, "sequence": number})
    detail = f"line {found.line} {found.detail}"
    return LogEntry(found.line, None, feed, sequence, "json-invalid", detail, is_broken=True, is_torn=found.is_torn)


def _entry(found: JsonObject, hmac_key: bytes | None) -> LogEntry | None:
    outer, value = found.value, found.value.get("value")
    try:
        if type(value) is dict and value.keys() == _FIELDS and outer.keys() == _PLAIN:
            # Nearly all are like this: nothing has to be taken out or put back.
            message = CLASSIC_FORMAT.read_log_value(value, outer, found.is_quick)
            stated = outer["key"]
        else:
            value, wrappings = _unwrap(outer)
            if not ("author" in value or "content" in value):
                if "sync" in outer and not wrappings:
                    return None
                detail = f"line {found.line} is not a message"
                return LogEntry(found.line, None, *stated_place(value), "not-a-message", detail, is_broken=True)
            message = format_of_value(value).read_changed_value(value, wrappings, found.is_quick, hmac_key)
            stated = wrappings[-1].get("key") if wrappings else None
    except InvalidMessage as error:
        return LogEntry(found.line, None, *stated_place(value), error.reason, error.detail)
    if isinstance(stated, str) and stated != str(message.key):
        return LogEntry(found.line, message, message.author, message.sequence, is_mislabelled=True)
    return LogEntry(found.line, message, message.author, message.sequence)


def _unwrap(value: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the innermost value and what stands around it."""
    wrappings: list[dict[str, Any]] = []
    while "author" not in value and isinstance(value.get("value"), dict) and len(wrappings) < _MAX_WRAPPINGS:
        wrappings.append(value)
        value = value["value"]
    return value, wrappings
