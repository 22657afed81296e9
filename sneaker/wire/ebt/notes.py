"""The items of an EBT stream: notes and messages (PROTOCOL.md, section 9).

A note says of one feed how far somebody is and whether more is wanted:

    -1                     I do not replicate this feed
    sequence * 2           I have it up to sequence (0: nothing); send me what follows
    sequence * 2 + 1       I have it up to sequence; do not send

Everything else in a peer's clock is junk and claims nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from sneaker.errors import CallRefused, LocalProtocolError, RefError, RemoteProtocolError
from sneaker.feed.classic.quick_parse import quick_place
from sneaker.limits import MAX_NOTES_PER_PACKET, MAX_SEQUENCE
from sneaker.refs import FeedRef
from sneaker.wire.json_text import parse_json, shown, whole_number

__all__ = [
    "MAX_NOTE_SEQUENCE",
    "MessageItem",
    "Note",
    "NotesItem",
    "decode_note",
    "encode_note",
    "format_notes",
    "parse_item",
    "parse_replicate_arguments",
]

# JavaScript shifts notes as signed 32-bit integers.
MAX_NOTE_SEQUENCE = 2**30 - 1
_INT32 = range(-(2**31), 2**31)

_new_tuple = tuple.__new__


class Note(NamedTuple):
    """What a note means. ``sequence`` is negative if it claims nothing."""

    sequence: int
    replicate: bool
    receive: bool


class MessageItem(NamedTuple):
    """A message value, as the bytes that came; only author and sequence were read."""

    author: FeedRef
    sequence: int
    raw: bytes


class NotesItem(NamedTuple):
    """The part of a peer's clock that came in one item; entries that name no classic feed are left out."""

    notes: dict[FeedRef, Note]


def encode_note(sequence: int, receive: bool) -> int:
    """Return the note for a feed held up to ``sequence``, -1 for one that is not replicated.

    Raises LocalProtocolError for a sequence that JavaScript peers would misread.
    """
    if sequence == -1:
        return -1
    if not 0 <= sequence <= MAX_NOTE_SEQUENCE:
        raise LocalProtocolError(f"sequence {sequence} cannot be put into a note")
    return sequence * 2 + (0 if receive else 1)


def decode_note(value: object) -> Note:
    """Read a note, junk included, as JavaScript does; integers of more than 32 bits claim nothing here."""
    number = whole_number(value)
    if number is None:
        bits = int(value) if isinstance(value, (bool, float)) and abs(value) < 2**31 else 0
        return Note(-1, True, not bits & 1)
    if number not in _INT32:
        return Note(-1, True, not number & 1)
    return Note(number >> 1, number != -1, not number & 1)


def format_notes(notes: Mapping[FeedRef, int]) -> Iterator[bytes]:
    """Yield the items that carry these notes of classic feeds; an empty clock is one item, ``{}``."""
    entries = [f'"{feed}":{note}' for feed, note in notes.items() if feed.is_classic]
    for start in range(0, max(len(entries), 1), MAX_NOTES_PER_PACKET):
        yield ("{" + ",".join(entries[start : start + MAX_NOTES_PER_PACKET]) + "}").encode("ascii")


@lru_cache(maxsize=4096)
def _feed(text: str) -> FeedRef | None:
    try:
        return FeedRef.parse_classic(text)
    except RefError:
        return None


def parse_item(raw: bytes) -> MessageItem | NotesItem | None:
    """Read one item; None for a message of another feed format.

    Raises RemoteProtocolError if it is no JSON object. The rule for what a message is comes from ssb-ebt: a positive
    integer ``sequence``, an ``author`` and some ``content``.
    """
    place = quick_place(raw)
    if place is not None:
        return _new_tuple(MessageItem, (*place, raw))
    try:
        value = parse_json(raw)
    except ValueError:
        raise RemoteProtocolError("an EBT item is not JSON") from None
    if not isinstance(value, dict):
        raise RemoteProtocolError("an EBT item is neither a message nor notes")
    sequence, author = whole_number(value.get("sequence")), value.get("author")
    if sequence is not None and sequence > 0 and isinstance(author, str) and value.get("content"):
        feed = _feed(author)
        return None if feed is None or sequence > MAX_SEQUENCE else MessageItem(feed, sequence, raw)
    wrapped = value.get("clock")
    clock = wrapped if isinstance(wrapped, dict) else value
    notes = {}
    for text, note in clock.items():
        if text.startswith("@"):
            try:
                notes[FeedRef.parse_classic(text)] = decode_note(note)
            except RefError:
                continue
    return NotesItem(notes)


def parse_replicate_arguments(arguments: list[object]) -> None:
    """Check the arguments of ``ebt.replicate``: version 3, classic feeds.

    Raises CallRefused with the text that ssb-ebt gives.
    """
    options = arguments[0] if arguments else None
    if not isinstance(options, dict) or options.get("version") != 3:
        raise CallRefused("expected ebt.replicate({version: 3})")
    name = options.get("format")
    if name is not None and name != "classic":
        raise CallRefused(f"Unknown format: {shown(name)}")
