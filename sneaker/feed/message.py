"""What a message is, in whatever format its feed is written, and the form in which it is kept."""

from __future__ import annotations

from typing import Any, NamedTuple

from sneaker.refs import FeedRef, MessageRef

__all__ = ["Compact", "Content", "Head", "Message"]

Content = dict[str, Any] | str


class Message(NamedTuple):
    """One message of a feed.  A NamedTuple, because import makes one for each message of a bundle.

    ``previous`` is None in the first message only.  ``timestamp`` is the author's claim in milliseconds: a number in
    the first message, in later ones of classic feeds whatever JSON value the author wrote there (ssb-validate does not
    look).  ``content`` is a dict, or a string if it is encrypted.  ``text`` is the message itself, of which everything else
    was read: canonical JSON with the signature in UTF-8, or the bytes of another format.
    """

    author: FeedRef
    sequence: int
    previous: MessageRef | None
    timestamp: Any
    content: Content
    signature: bytes
    text: bytes
    key: MessageRef


class Head(NamedTuple):
    """The newest message we hold of a feed: what the next one has to follow."""

    sequence: int
    key: MessageRef
    timestamp: Any = None


class Compact(NamedTuple):
    """What is kept of a message: all that does not follow from its place in the feed.

    ``form`` is for the feed's format to say; ``timestamp`` is in milliseconds, ``signature`` 64 bytes, or none where the
    message is kept as it is.
    """

    form: int
    timestamp: int
    signature: bytes
    content: bytes
