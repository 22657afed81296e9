"""Messages as JSON, taken in one by one."""

from __future__ import annotations

from sneaker.errors import InvalidMessage
from sneaker.feed.classic.canonical import parse_quickly
from sneaker.feed.classic.validate import parse_message
from sneaker.feed.formats import stated_place
from sneaker.ingest.ingest import Ingest


def add_json(ingest: Ingest, raw: bytes | str) -> None:
    """Take in one message; what is none is refused, as a log's reader does."""
    try:
        message = parse_message(raw)
    except InvalidMessage as error:
        try:
            place = stated_place(parse_quickly(raw)[0])
        except InvalidMessage:
            place = None, None
        ingest.note_refusal(*place, error.reason, error.detail)
    else:
        ingest.add_message(message)
