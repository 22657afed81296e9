"""What sneaker reads out of the content of messages: follows and blocks, names, links to blobs.

Content is whatever its author wrote, so nothing here trusts a type: what is not as it should be counts as missing.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Callable
from typing import Any, NamedTuple

from sneaker.feed.message import Content, Message
from sneaker.refs import BlobRef, FeedRef
from sneaker.social import EdgeState, contact_edge, linked_feed

__all__ = [
    "Facts",
    "FactsReader",
    "about_name",
    "content_type",
    "facts_in",
    "find_blobs",
    "read_facts",
]

_BLOB = re.compile(rb"&([A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=)\.sha256")

_new_bytes = bytes.__new__

#: Says what a message says that sneaker acts on; ``read_facts`` is one.
FactsReader = Callable[[Message], "Facts | None"]


class Facts(NamedTuple):
    """What one message says that sneaker acts on: an edge, a name, and blobs; each may be missing."""

    edge: tuple[FeedRef, EdgeState] | None
    name: tuple[FeedRef, str] | None
    blobs: tuple[BlobRef, ...]


def read_facts(message: Message) -> Facts | None:
    """Return what a message says that sneaker acts on, or None for the many that say nothing of the kind.

    Import asks this of every message; for most it takes one look-up and one search for a byte.
    """
    content = message.content
    if type(content) is str:
        return None
    return facts_in(content, message.text)  # type: ignore[arg-type]


def facts_in(content: dict[str, Any], text: bytes) -> Facts | None:
    """Return what content says that sneaker acts on; ``text`` is JSON with that content in it."""
    kind = content.get("type")
    edge = contact_edge(content) if kind == "contact" else None
    name = about_name(content) if kind == "about" else None
    blobs = find_blobs(text) if text.find(b"&") >= 0 else ()
    if edge is None and name is None and not blobs:
        return None
    return Facts(edge, name, blobs)


def content_type(content: Content) -> str | None:
    """Return the type of content, or None if it is encrypted or has none."""
    kind = content.get("type") if isinstance(content, dict) else None
    return kind if isinstance(kind, str) else None


def about_name(content: Any) -> tuple[FeedRef, str] | None:
    """Return the feed and the name that an about message gives it, or None.

    The name is the author's text: any length up to a message's, any characters.
    """
    if not isinstance(content, dict) or content.get("type") != "about":
        return None
    name = content.get("name")
    about = linked_feed(content.get("about"))
    return (about, name) if about is not None and isinstance(name, str) and name else None


def find_blobs(text: bytes) -> tuple[BlobRef, ...]:
    """Return the blobs linked to anywhere in a canonical text, in order, each once.

    Mentions, images, markdown and everything else: whatever has the form of a blob id is one.  A message has room for
    150 of them, which bounds the answer.
    """
    return tuple(dict.fromkeys(_new_bytes(BlobRef, a2b_base64(found)) for found in _BLOB.findall(text)))
