"""A peer for EBT tests: a store in memory around a Replicator, and connections between two of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from sneaker.refs import FeedRef
from sneaker.wire.ebt.connection import EbtConnection
from sneaker.wire.ebt.notes import MessageItem
from sneaker.wire.ebt.replicator import Replicator


def message(feed: FeedRef, sequence: int) -> bytes:
    """A message as far as EBT looks."""
    return json.dumps({"author": str(feed), "sequence": sequence, "content": {"type": "test"}}).encode()


def described(raw: bytes) -> tuple[FeedRef, int] | dict[FeedRef, int]:
    """An item as (feed, sequence) of a message, or the notes as they are."""
    value = json.loads(raw)
    if "author" in value:
        return FeedRef.parse(value["author"]), value["sequence"]
    return {FeedRef.parse(text): note for text, note in value.items()}


class Node:
    """One peer. ``accept``: feeds from which messages are taken in (all, if None)."""

    def __init__(self, name: FeedRef, clock: Mapping[FeedRef, int], wanted: Iterable[FeedRef]) -> None:
        self.name = name
        self.clock = {feed: sequence for feed, sequence in clock.items() if sequence}
        self.replicator = Replicator(clock, wanted)
        self.received: list[tuple[FeedRef, int]] = []
        self.twice = 0

    def append(self, feed: FeedRef, sequence: int) -> None:
        """Store one message, from wherever."""
        assert sequence == self.clock.get(feed, 0) + 1
        self.clock[feed] = sequence
        self.replicator.appended(feed, sequence)

    def take(self, connection: EbtConnection, raw: bytes, now: float) -> None:
        event = connection.receive(raw, now)
        if isinstance(event, MessageItem):
            have = self.clock.get(event.author, 0)
            if event.sequence == have + 1:
                self.received.append((event.author, event.sequence))
                self.append(event.author, event.sequence)
            else:
                assert event.sequence <= have, "a message with a gap got through"
                self.twice += 1

    def outgoing(self, connection: EbtConnection, max_messages: int = 100) -> list[bytes]:
        """Everything the connection wants to send now."""
        items = connection.notes_to_send()
        while (run := connection.next_run(max_messages)) is not None:
            assert 1 <= run.first <= run.last <= self.clock[run.feed]
            items += [message(run.feed, sequence) for sequence in range(run.first, run.last + 1)]
        return items
