"""Feeds for the tests of store and ingest: real keys, real signatures, small."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from sneaker.feed.classic.compact import compact
from sneaker.feed.classic.message import create_message
from sneaker.feed.message import Compact, Head, Message
from sneaker.feed.run import Run
from sneaker.keys import Keypair
from sneaker.refs import BlobRef, FeedRef
from sneaker.store.rows import SEQUENCE_BITS, Batch, MessageRow
from sneaker.store.store import Store

NOW_MS = 1_700_000_000_000


@cache
def keypair(number: int) -> Keypair:
    return Keypair.from_seed(hashlib.sha256(b"store test %d" % number).digest())


def content(author: int, sequence: int, branch: str = "") -> dict[str, Any]:
    """Return content in which all that is derived from messages comes up now and then."""
    other = str(keypair((author + sequence) % 5).public)
    if sequence % 5 == 2:
        return {"type": "contact", "contact": other, "following": sequence % 2 == 0, "blocking": sequence % 3 == 0}
    if sequence % 5 == 3:
        return {"type": "about", "about": other, "name": f"näme {author}/{sequence}{branch}"}
    if sequence % 5 == 4:
        return {"type": "post", "text": f"look{branch}: {BlobRef.of(b'%d' % (sequence % 7))}"}
    return {"type": "post", "text": f"message {sequence} of {author} {branch}"}


@cache
def feed(author: int, length: int, *, shared: int = 0, branch: str = "") -> tuple[Message, ...]:
    """Return the first messages of an author; behind ``shared`` of them, each ``branch`` goes on in its own way."""
    messages: list[Message] = []
    head: Head | None = None
    for sequence in range(1, length + 1):
        # Timestamps jump about: authors' clocks do.
        timestamp = 1_500_000_000_000 + sequence * 1000 + (sequence * 7919 * (author + 1)) % 5000
        said = content(author, sequence, branch if sequence > shared else "")
        message = create_message(keypair(author), head, timestamp, said)
        messages.append(message)
        head = Head(message.sequence, message.key)
    return tuple(messages)


def compacts(messages: Iterable[Message]) -> list[Compact]:
    return [compact(message) for message in messages]


def run(messages: Sequence[Message]) -> Run:
    """Return consecutive messages as a bundle would carry them."""
    return Run(messages[0].author, messages[0].sequence, messages[0].previous, compacts(messages))


def row(feed_id: int, message: Message) -> MessageRow:
    return (feed_id << SEQUENCE_BITS | message.sequence, message.key, *compact(message))


def batch(feeds: Iterable[tuple[int, Sequence[Message]]], known: Iterable[int] = ()) -> Batch:
    """Return a batch that extends feeds, given by id; ``known`` ones have a row in the store already."""
    from sneaker.feed.content import read_facts

    made = Batch(now_ms=NOW_MS)
    for feed_id, messages in feeds:
        if feed_id not in known:
            made.feeds.append((feed_id, messages[0].author))
        made.rows += [row(feed_id, message) for message in messages]
        made.heads[feed_id] = (messages[0].sequence - 1, messages[-1].sequence, messages[-1].key)
        for message in messages:
            facts = read_facts(message)
            if facts is not None:
                made.facts.append((feed_id << SEQUENCE_BITS | message.sequence, facts))
    return made


def contents(store: Store) -> dict[str, Any]:
    """Return everything in a store that does not depend on the order in which it came."""
    refs: list[FeedRef] = sorted(store.clock())
    return {
        "clock": store.clock(),
        "heads": dict(store.heads()),
        "messages": {ref: [(item.key, item.text) for item in store.messages(ref)] for ref in refs},
        "rows": {ref: list(store.rows(ref)) for ref in refs},
        "log": [item.key for item in store.log()],
        "reverse": [item.key for item in store.log(reverse=True)],
        "edges": sorted(store.edges()),
        "names": {number: store.names(keypair(number).public) for number in range(6)},
        "links": sorted(store.blob_links()),
        "waiting": store.waiting(),
        "counts": (store.counts().messages, store.counts().waiting, store.counts().waiting_bytes),
        "forked": store.forked(),
    }
