"""Which feed formats there are.  One more is one more module beside these and one more line here."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter
from typing import Any

from sneaker.errors import RefError
from sneaker.feed.bendybutt import BendyButtFormat
from sneaker.feed.classic.format import ClassicFormat
from sneaker.feed.format import FeedFormat, SignatureCheck
from sneaker.feed.message import Message
from sneaker.limits import MAX_SEQUENCE
from sneaker.refs import FeedRef

__all__ = ["CLASSIC_FORMAT", "FORMATS", "format_of", "format_of_value", "signature_checks", "stated_place"]

CLASSIC_FORMAT = ClassicFormat()
FORMATS: tuple[FeedFormat, ...] = (CLASSIC_FORMAT, BendyButtFormat())

_BY_BYTE = {item.byte: item for item in FORMATS}


def format_of(feed: FeedRef) -> FeedFormat:
    """Return the format of a feed that is held or whose messages were read; KeyError if we cannot read such feeds."""
    return _BY_BYTE[feed[0]]


def format_of_value(value: dict[str, Any]) -> FeedFormat:
    """Return the format that reads a message in JSON, by the author it names; classic where we know no better."""
    author = value.get("author")
    if not isinstance(author, str) or not author.startswith("ssb:"):
        return CLASSIC_FORMAT
    try:
        return _BY_BYTE.get(FeedRef.parse(author).format, CLASSIC_FORMAT)
    except RefError:
        return CLASSIC_FORMAT


def signature_checks(messages: Iterable[Message], hmac_key: bytes | None) -> list[SignatureCheck]:
    """Return one check for each message, of whichever feeds they are; see ``FeedFormat.signature_checks``."""
    checks: list[SignatureCheck] = []
    for author, group in groupby(messages, attrgetter("author")):
        checks += format_of(author).signature_checks(list(group), hmac_key)
    return checks


def stated_place(value: object) -> tuple[FeedRef | None, int | None]:
    """Return the author and sequence that a value names, whatever else is wrong with it; None for what it does not."""
    if not isinstance(value, dict):
        return None, None
    author, sequence = value.get("author"), value.get("sequence")
    feed: FeedRef | None = None
    if isinstance(author, str):
        try:
            feed = FeedRef.parse(author)
        except RefError:
            feed = None
    return feed, sequence if type(sequence) is int and 1 <= sequence <= MAX_SEQUENCE else None
