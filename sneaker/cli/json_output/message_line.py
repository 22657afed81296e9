"""The line of a message in ``log --json``. Its value comes out of the feed format as text, so that nothing in it changes."""

from __future__ import annotations

from sneaker.escaping import escaped_json
from sneaker.feed.classic.javascript_json import format_json
from sneaker.feed.formats import format_of
from sneaker.feed.message import Message

__all__ = ["message_line"]


def message_line(message: Message) -> bytes:
    """Return a message as one line of JSON, in UTF-8, without the line end: see ``encoder.MessageJson``.

    The timestamp is the author's, so that equal stores print equal logs, whenever each machine got its messages.
    """
    timestamp = message.timestamp
    shown = format_json(timestamp, indent=0) if isinstance(timestamp, int | float) else "null"
    said = format_of(message.author).log_json(message)
    return escaped_json(b'{"key":"%b",%b,"timestamp":%b}' % (str(message.key).encode(), said, shown.encode()))
