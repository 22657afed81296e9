"""The rules for classic messages: exactly those of ssb-validate 4.1.4, the network's historical consensus.

Each step is paid for once: ``parse_message`` checks all that one message says about itself, ``feed.chain`` whether it
follows what we hold, ``format`` whether its author made it.

Where ssb-validate is odd, so are we, because a message refused here is a feed that stops here: the timestamp is only
looked at in the first message, content text may go on behind ``.box``, and ``previous`` is compared with JavaScript's
``!=``, which takes the id wrapped into an array for the id.  One oddity is left out: a first message whose timestamp
overflows a double (``1e400``) is valid for ssb-validate when it arrives, but it is passed on as ``null``, which is not;
here a message is what its canonical text says.

The reasons that InvalidMessage gives:

| reason | rule |
|---|---|
| ``json-invalid`` | JSON as V8 reads it, in UTF-8 |
| ``not-a-message`` | an object |
| ``author-invalid`` | a classic feed id |
| ``signature-malformed`` | 64 bytes of canonical base64 and ``.sig.ed25519`` |
| ``sequence-invalid`` | a whole number from 1 to 2**31-1 |
| ``previous-invalid`` | null in the first message, a message id in all others |
| ``timestamp-invalid`` | a number, in the first message |
| ``fields-invalid`` | exactly seven fields in one of two orders |
| ``hash-invalid`` | "sha256" |
| ``content-invalid`` ``content-type`` | an object with a type, or encrypted text |
| ``too-long`` | at most 8192 UTF-16 units |
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from typing import Any

from sneaker.errors import InvalidMessage
from sneaker.feed.classic.canonical import canonical_value, parse_canonical
from sneaker.feed.classic.message import check_content, message_key
from sneaker.feed.message import Content, Message
from sneaker.limits import MAX_MESSAGE_UNITS, MAX_SEQUENCE
from sneaker.refs import FeedRef, MessageRef

__all__ = [
    "check_units",
    "parse_message",
    "read_message",
]

ORDER = ("previous", "sequence", "author", "timestamp", "hash", "content", "signature")
ORDER_AUTHOR_FIRST = ("previous", "author", "sequence", "timestamp", "hash", "content", "signature")

_AUTHOR = re.compile(r"@([A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=)\.ed25519")
_MESSAGE_ID = re.compile(r"%([A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=)\.sha256")
_SIGNATURE = re.compile(r"([A-Za-z0-9+/]{85}[AQgw]==)\.sig\.ed25519")

_new_bytes = bytes.__new__


def parse_message(raw: bytes | str) -> Message:
    """Read one message from JSON in any spelling and check all but its chain and its signature.

    Raises InvalidMessage with the reason.  The message's ``text`` is canonical, whatever ``raw`` looked like.
    """
    return _check(*parse_canonical(raw, limit=MAX_MESSAGE_UNITS))


def read_message(value: object, is_quick: bool) -> Message:
    """Do the same with a value that was parsed already; see ``canonical_value``."""
    return _check(*canonical_value(value, is_quick, limit=MAX_MESSAGE_UNITS))


def _check(value: Any, text: bytes) -> Message:
    if not isinstance(value, dict):
        raise InvalidMessage("not-a-message", "not an object")
    author = _ref(_AUTHOR, value.get("author"))
    if author is None:
        raise InvalidMessage("author-invalid", "no classic feed id")
    signature = value.get("signature")
    matched = _SIGNATURE.fullmatch(signature) if isinstance(signature, str) else None
    if matched is None:
        raise InvalidMessage("signature-malformed")
    fields = tuple(value)
    if fields not in (ORDER, ORDER_AUTHOR_FIRST):
        raise InvalidMessage("fields-invalid", "not the seven fields in one of the two orders")
    sequence = value["sequence"]
    if type(sequence) is not int or not 1 <= sequence <= MAX_SEQUENCE:
        raise InvalidMessage("sequence-invalid")
    previous = _parse_previous(value["previous"], sequence)
    timestamp = value["timestamp"]
    if sequence == 1 and type(timestamp) not in (int, float):
        raise InvalidMessage("timestamp-invalid", "the first message needs a number")
    if value["hash"] != "sha256":
        raise InvalidMessage("hash-invalid")
    content: Content = value["content"]
    check_content(content)
    check_units(text)
    return Message(
        FeedRef.classic(author),
        sequence,
        previous,
        timestamp,
        content,
        a2b_base64(matched[1]),
        text,
        message_key(text),
    )


def _ref(pattern: re.Pattern[str], text: object) -> bytes | None:
    matched = pattern.fullmatch(text) if isinstance(text, str) else None
    return a2b_base64(matched[1]) if matched is not None else None


def _parse_previous(previous: Any, sequence: int) -> MessageRef | None:
    if sequence == 1:
        if previous is not None:
            raise InvalidMessage("previous-invalid", "the first message has a previous one")
        return None
    # ssb-validate asks `msg.previous != state.id`, and in JavaScript ["x"] == "x".
    while isinstance(previous, list) and len(previous) == 1:
        previous = previous[0]
    ref = _ref(_MESSAGE_ID, previous)
    if ref is None:
        raise InvalidMessage("previous-invalid", "not the id of a classic message")
    return _new_bytes(MessageRef, ref)


def check_units(text: bytes) -> None:
    """Raise InvalidMessage if a canonical text has more UTF-16 units than the network takes."""
    units = len(text)
    if units > MAX_MESSAGE_UNITS and not text.isascii():
        units = len(text.decode("utf-8").encode("utf-16-le")) // 2
    if units > MAX_MESSAGE_UNITS:
        raise InvalidMessage("too-long", f"{units} of {MAX_MESSAGE_UNITS} characters")
