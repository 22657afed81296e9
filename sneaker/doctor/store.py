"""A look at the store: damage, forked feeds, messages that wait for others. (``store.check`` looks at everything.)"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sneaker.doctor.finding import MAX_LISTED, Finding, Level
from sneaker.errors import StoreDamaged
from sneaker.home.home import Home

__all__ = ["find_damage", "find_forked_feeds", "find_waiting_messages"]

# Feeds whose last message is rebuilt: a look, not a check.
_GLANCED_FEEDS = 1000


def find_damage(home: Home) -> Iterator[Finding]:
    """Rebuild the last message of feeds, the own one first; ``check`` looks at all messages."""
    store, me = home.store, home.keypair.public
    heads = sorted(store.heads(), key=lambda item: item[0] != me)
    for feed, head in heads[:_GLANCED_FEEDS]:
        try:
            message = store.message(feed, head.sequence)
        except StoreDamaged as error:
            yield Finding("store-damaged", Level.PROBLEM, error.message, "run 'sneaker check --repair'")
            return
        if message is None or message.key != head.key:
            yield Finding(
                "store-damaged",
                Level.PROBLEM,
                f"the store does not hold the last message of {feed} as it should",
                "run 'sneaker check --repair'",
            )
            return


def find_forked_feeds(home: Home) -> Iterator[Finding]:
    """Yield the feeds of others that are forked."""
    forked = sorted(home.store.forked() - {home.keypair.public})
    for feed in forked[:MAX_LISTED]:
        places = sorted({fork.sequence for fork in home.store.forks() if fork.feed == feed})
        yield Finding(
            "feed-forked",
            Level.NOTE,
            f"{feed} is forked at {', '.join(map(str, places[:5]))}: its owner published two different messages there; no more"
            " of it is taken, and the proof is kept",
            "tell its owner; perhaps two machines use one secret",
        )
    if len(forked) > MAX_LISTED:
        yield Finding("feed-forked", Level.NOTE, f"{len(forked) - MAX_LISTED} more feeds are forked")


def find_waiting_messages(home: Home) -> Iterator[Finding]:
    """Yield the feeds of which messages wait for others that are missing."""
    waiting = home.store.waiting()
    clock = home.store.clock()
    for feed, ranges in sorted(waiting.items())[:MAX_LISTED]:
        held = clock.get(feed, 0)
        count = sum(last - first + 1 for first, last in ranges)
        gaps = [_span(first, last) for first, last in _gaps(held, ranges)]
        shown = ", ".join(gaps[:5]) + (", ..." if len(gaps) > 5 else "")
        yield Finding(
            "messages-waiting",
            Level.NOTE,
            f"{'1 message' if count == 1 else f'{count:,} messages'} of {feed}"
            f" {'waits' if count == 1 else 'wait'} for {shown} of the same feed",
            "what waits comes in once somebody brings what is missing; where that was refused as invalid, it waits in vain",
        )
    if len(waiting) > MAX_LISTED:
        yield Finding("messages-waiting", Level.NOTE, f"messages of {len(waiting) - MAX_LISTED} more feeds wait")


def _gaps(held: int, ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for first, last in ranges:
        if first > held + 1:
            yield held + 1, first - 1
        held = max(held, last)


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
