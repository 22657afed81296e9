"""What a person gives to be published: it goes out as it was given, or not at all.

A message cannot be taken back, and JSON says nothing about mistakes: of two equal keys the last one wins, numbers become
doubles, and ``recps``, which means "encrypt this to them", is a field like any other.  Whatever would be published in
another way than it was given is refused, with the reason.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from sneaker.errors import InvalidMessage, PublishUnsafe, RefError, UsageError
from sneaker.feed.classic.canonical import format_number, parse_json
from sneaker.feed.private import MAX_RECIPIENTS
from sneaker.refs import FeedRef

__all__ = ["check_meaning", "parse_draft", "read_text", "recipients"]

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


def recipients(content: dict[str, Any], private_to: Sequence[FeedRef], me: FeedRef) -> list[FeedRef]:
    """Return to whom ``content`` is to be encrypted, ourselves last if not named; empty if it is public.

    That is ``private_to``, or what its ``recps`` name: feed ids, in a list or one alone, which ssb-server and ssb-db2 encrypt
    to, and links to feeds, as old clients wrote them.  Raises PublishUnsafe for all else: they would refuse it, or publish in
    clear what was meant for few; UsageError if the two name different feeds.
    """
    named = list(dict.fromkeys([*private_to, me])) if private_to else []
    if "recps" in content:
        recps = content["recps"]
        items = [recps] if isinstance(recps, str) else recps
        if not isinstance(items, list) or not items:
            raise PublishUnsafe(
                "the content has 'recps' that name nobody, so it is not clear whether it is private",
                hint='recps is a list of feed ids: ["@...ed25519"]; leave it out for a public message',
            )
        listed = list(dict.fromkeys([*map(_read_recipient, items), me]))
        if named and set(named) != set(listed):
            raise UsageError("--private-to and the recps of the content name different feeds", hint="give one of them")
        named = listed
    if len(named) > MAX_RECIPIENTS:
        raise PublishUnsafe(
            f"a private message goes to at most {MAX_RECIPIENTS} feeds, your own among them; these are {len(named)}",
            hint="write it once for some of them, and once for the others",
        )
    return named


def _read_recipient(item: Any) -> FeedRef:
    name = item.get("link") if isinstance(item, dict) else item
    if isinstance(name, str):
        try:
            return FeedRef.parse_classic(name)
        except RefError:
            if name.startswith(("%", "ssb:identity/", "ssb://identity/")):
                raise PublishUnsafe(
                    f"sneaker cannot encrypt to the group {name!a:.90}, so this was not published",
                    hint="name the feeds of those who shall read it",
                ) from None
    shown = name if isinstance(name, str) else json.dumps(item)
    raise PublishUnsafe(f"recps has {shown!a:.90} in it, which is no feed id, so nobody could be encrypted to")


def check_meaning(content: dict[str, Any], me: FeedRef) -> None:
    """Raise PublishUnsafe for what must be a mistake: an empty post, a contact message about ourselves."""
    kind = content.get("type")
    if kind == "post":
        text = content.get("text")
        if not isinstance(text, str) or all(unicodedata.category(letter) in _BLANK_KINDS for letter in text):
            raise PublishUnsafe("the post has no text", hint="it would be an empty post for ever")
    elif kind == "contact" and content.get("contact") == str(me):
        raise PublishUnsafe("this feed is your own: one neither follows nor blocks oneself")
