"""Witnesses: the two messages that prove a fork, carried on so that others stop that feed as well.

A machine that saw both branches takes no more of the feed; those that saw one go on, until they see the other.  So each
message that proves a fork lies on sticks as a bundle of its own, with nothing else in it: whoever holds the other one finds
a contradiction, as in any bundle.  The bundle's id comes from the message, so that a stick holds it once, whoever brought it.
What precedes the first contested message is undisputed and is planned as ever; the branches behind it are carried no more.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sneaker import __version__
from sneaker.bundle.message_records import encode_messages
from sneaker.bundle.records import Header
from sneaker.bundle.writer import BundleWriter
from sneaker.feed.classic.compact import Compact
from sneaker.feed.run import Run
from sneaker.home.home import Home
from sneaker.refs import FeedRef, MessageRef
from sneaker.store.rows import Fork
from sneaker.store.store import Store

__all__ = ["Witness", "contested", "encode_witness", "find_witnesses"]

# An author can fork a thousand feeds and sign away; a stick carries proof of so many, the newest ones.
_MAX_FEEDS = 50


@dataclass(frozen=True, slots=True)
class Witness:
    """One of the two messages; ``seen_at_ms`` is when this machine saw the fork."""

    feed: FeedRef
    sequence: int
    key: MessageRef
    previous: MessageRef | None
    compact: Compact
    seen_at_ms: int

    @property
    def bundle_id(self) -> bytes:
        """The id of the bundle that holds it, whoever packs it."""
        named = b"sneaker witness\0" + self.feed + self.sequence.to_bytes(4, "little") + self.key
        return hashlib.blake2b(named, digest_size=16).digest()


def _first_forks(store: Store) -> dict[FeedRef, list[Fork]]:
    """Return of each forked feed what is known against the first contested message, or, that one missing, the first two."""
    found: dict[FeedRef, list[Fork]] = {}
    for fork in store.forks():
        known = found.setdefault(fork.feed, [])
        if known and fork.sequence < known[0].sequence:
            known.clear()
        if len(known) < 2 and (not known or fork.sequence == known[0].sequence):
            known.append(fork)
    return found


def _contested_place(fork: Fork) -> int:
    """Return the first place that is known to have two messages.

    A message beyond our head that does not follow our last one shows that there is another one in that one's place.
    """
    return fork.sequence if fork.ours is not None else fork.sequence - 1


def contested(store: Store) -> dict[FeedRef, int]:
    """Return for each forked feed the first sequence that has two messages, as far as is known."""
    return {feed: _contested_place(forks[0]) for feed, forks in _first_forks(store).items()}


def find_witnesses(store: Store) -> list[Witness]:
    """Return two messages of each forked feed that contradict each other, the feeds seen last first."""
    first = sorted(_first_forks(store).values(), key=lambda forks: (-forks[0].seen_at_ms, forks[0].feed))
    found: list[Witness] = []
    for forks in first[:_MAX_FEEDS]:
        feed, place, seen_at_ms = forks[0].feed, _contested_place(forks[0]), forks[0].seen_at_ms
        previous = store.key_at(feed, place - 1)
        ours = [
            Witness(feed, place, row.key, previous, row.compact, seen_at_ms) for row in store.rows(feed, place, place)
        ]
        theirs = [Witness(feed, fork.sequence, fork.key, fork.previous, fork.compact, seen_at_ms) for fork in forks]
        found += [*ours, *theirs][:2]
    return found


def encode_witness(witness: Witness, home: Home, now_ms: int) -> bytes:
    """Return the bundle that holds a witness and nothing else."""
    run = Run(witness.feed, witness.sequence, witness.previous, [witness.compact], [witness.key])
    header = Header(
        bundle_id=witness.bundle_id,
        network_id=home.caps.network_id,
        exporter=home.keypair.public,
        created_ms=now_ms,
        features=("classic-messages",),
        volume=1,
        volume_set=witness.bundle_id,
        generator=f"sneaker {__version__}",
    )
    writer = BundleWriter(header, home.keypair)
    return b"".join((writer.start(), writer.add_messages([run], encode_messages([run])), writer.finish()))
