"""To whom a message that is to be published is encrypted: what the person says, and what its ``recps`` say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sneaker.errors import PublishUnsafe, RefError, UsageError
from sneaker.feed.private import MAX_RECIPIENTS
from sneaker.refs import FeedRef

__all__ = ["find_recipients"]


def find_recipients(content: dict[str, Any], private_to: Sequence[FeedRef], me: FeedRef) -> list[FeedRef]:
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
