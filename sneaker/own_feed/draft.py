"""What a person gives to be published: it goes out as it was given, or not at all.

A message cannot be taken back, and JSON says nothing about mistakes: of two equal keys the last one wins, numbers become
doubles, and ``recps``, which means "encrypt this to them", is a field like any other.  Whatever would be published in
another way than it was given is refused, with the reason.
"""

from __future__ import annotations

import json
import unicodedata
from decimal import Decimal
from typing import Any

from sneaker.errors import InvalidMessage, PublishUnsafe, UsageError
from sneaker.feed.classic.javascript_json import parse_json
from sneaker.feed.classic.javascript_numbers import format_number
from sneaker.refs import FeedRef

__all__ = ["check_meaning", "parse_draft", "read_text"]

_UTF8_BOM = b"\xef\xbb\xbf"

# Characters of these kinds show nothing: controls, marks for the direction and joining of text, spaces, line breaks.
_BLANK_KINDS = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})


def read_text(raw: bytes) -> str:
    """Return the text of a post as a pipe gives it, without the line breaks at its end; raises UsageError."""
    try:
        return raw.removeprefix(_UTF8_BOM).decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise UsageError("the text is not UTF-8") from None


def parse_draft(raw: bytes | str) -> dict[str, Any]:
    """Return the content that is given as JSON.

    Raises UsageError if it is not a JSON object, PublishUnsafe if something in it would be published otherwise than it
    stands there: of two equal keys only one, or another number than the one that was written.
    """
    text = raw.removeprefix(_UTF8_BOM) if isinstance(raw, bytes) else raw
    try:
        parsed = parse_json(text)
    except InvalidMessage as error:
        raise UsageError(f"the content is not JSON: {error.detail}") from None
    if not isinstance(parsed, dict):
        raise UsageError("the content is not a JSON object", hint='like {"type": "post", "text": "hello"}')
    try:
        json.loads(text, object_pairs_hook=_check_keys, parse_int=_check_number, parse_float=_check_number)
    except RecursionError:
        raise PublishUnsafe("the content is nested too deeply") from None
    return parsed


def _check_keys(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for key, _ in pairs:
        if key in seen:
            raise PublishUnsafe(f"the key {key!a:.60} stands twice in one object, and only the last one would count")
        seen.add(key)


def _check_number(text: str) -> None:
    """Raise PublishUnsafe for a number that would change: all numbers in messages are doubles."""
    number = float(text)
    kept = format_number(number)
    if kept == "null":
        raise PublishUnsafe(f"the number {text:.40} is too large: it would become null")
    if number == 0:
        is_same = not text.startswith("-") and not text.lower().partition("e")[0].strip("0.")
    else:
        is_same = Decimal(text) == Decimal(kept)
    if not is_same:
        raise PublishUnsafe(
            f"the number {text:.40} would become {kept}: numbers are doubles in SSB",
            hint="write it as a string, in quotes, to keep every digit",
        )


def check_meaning(content: dict[str, Any], me: FeedRef) -> None:
    """Raise PublishUnsafe for what must be a mistake: an empty post, a contact message about ourselves."""
    kind = content.get("type")
    if kind == "post":
        text = content.get("text")
        if not isinstance(text, str) or all(unicodedata.category(letter) in _BLANK_KINDS for letter in text):
            raise PublishUnsafe("the post has no text", hint="it would be an empty post for ever")
    elif kind == "contact" and content.get("contact") == str(me):
        raise PublishUnsafe("this feed is your own: one neither follows nor blocks oneself")
