"""The proof of a fork is carried on: two messages in one place, so that others stop that feed as well.

A machine that saw both branches takes no more of the feed; those that saw one go on, until they see the other.  So each
message that proves a fork lies on sticks as a bundle of its own, with nothing else in it: whoever holds the other one finds
a contradiction, as in any bundle.  The bundle's id comes from the message, so that a stick holds it once, whoever brought it.
What precedes the first contested message is undisputed and is planned as ever; the branches behind it are carried no more.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

from sneaker import __version__
from sneaker.bundle.message_records import encode_messages
from sneaker.bundle.records import Header
from sneaker.bundle.writer import BundleWriter
from sneaker.feed.message import Compact
from sneaker.feed.run import Run
from sneaker.home.home import Home
from sneaker.planning.coverage import Coverage
from sneaker.refs import FeedRef, MessageRef
from sneaker.stick.cleaning import remove_bundles
from sneaker.stick.free_space import writable_bytes
from sneaker.stick.layout import BUNDLES, bundle_name
from sneaker.stick.report import DAY_MS
from sneaker.stick.safe_folder import Entry
from sneaker.stick.visit_context import VisitContext
from sneaker.store.rows import Fork
from sneaker.store.sticks import FileState
from sneaker.store.store import Store

__all__ = ["ForkProof", "encode_fork_proof", "find_fork_proofs", "first_forked", "leave_fork_proofs"]

# Somebody may fork a thousand feeds of theirs; a stick carries the proof of so many, the newest ones.
_MAX_FEEDS = 50


@dataclass(frozen=True, slots=True)
class ForkProof:
    """One of the two messages that prove a fork; ``seen_at_ms`` is when this machine saw it."""

    feed: FeedRef
    sequence: int
    key: MessageRef
    previous: MessageRef | None
    compact: Compact
    seen_at_ms: int

    @property
    def bundle_id(self) -> bytes:
        """The id of the bundle that holds it, whoever packs it."""
        named = b"sneaker fork proof\0" + self.feed.key + self.sequence.to_bytes(4, "little") + self.key
        return hashlib.blake2b(named, digest_size=16).digest()


def _first_forks(store: Store) -> dict[FeedRef, list[Fork]]:
    """Return of each forked feed what is known against the first contested message, or, that one missing, the first two."""
    found: dict[FeedRef, list[Fork]] = {}
    for fork in store.forks():
        if not fork.feed.is_classic:  # bundles cannot carry the others yet
            continue
        known = found.setdefault(fork.feed, [])
        if known and fork.sequence < known[0].sequence:
            known.clear()
        if len(known) < 2 and (not known or fork.sequence == known[0].sequence):
            known.append(fork)
    return found


def _forked_place(fork: Fork) -> int:
    """Return the first place that is known to have two messages.

    A message beyond our head that does not follow our last one shows that there is another one in that one's place.
    """
    return fork.sequence if fork.ours is not None else fork.sequence - 1


def first_forked(store: Store) -> dict[FeedRef, int]:
    """Return for each forked feed the first sequence that has two messages, as far as is known."""
    return {feed: _forked_place(forks[0]) for feed, forks in _first_forks(store).items()}


def find_fork_proofs(store: Store) -> list[ForkProof]:
    """Return two messages of each forked feed that contradict each other, the feeds seen last first."""
    first = sorted(_first_forks(store).values(), key=lambda forks: (-forks[0].seen_at_ms, forks[0].feed))
    found: list[ForkProof] = []
    for forks in first[:_MAX_FEEDS]:
        feed, place, seen_at_ms = forks[0].feed, _forked_place(forks[0]), forks[0].seen_at_ms
        previous = store.key_at(feed, place - 1)
        ours = [
            ForkProof(feed, place, row.key, previous, row.compact, seen_at_ms) for row in store.rows(feed, place, place)
        ]
        theirs = [ForkProof(feed, fork.sequence, fork.key, fork.previous, fork.compact, seen_at_ms) for fork in forks]
        found += [*ours, *theirs][:2]
    return found


def encode_fork_proof(proof: ForkProof, home: Home, now_ms: int) -> bytes:
    """Return the bundle that holds one of the messages and nothing else."""
    run = Run(proof.feed, proof.sequence, proof.previous, [proof.compact], [proof.key])
    header = Header(
        bundle_id=proof.bundle_id,
        network_id=home.caps.network_id,
        exporter=home.keypair.public,
        created_ms=now_ms,
        features=("classic-messages",),
        volume=1,
        volume_set=proof.bundle_id,
        generator=f"sneaker {__version__}",
    )
    writer = BundleWriter(header, home.keypair)
    return b"".join((writer.start(), writer.add_messages([run], encode_messages([run])), writer.finish()))


def leave_fork_proofs(context: VisitContext) -> None:
    """Write the messages that prove forks onto a stick, as long as they are news, which is as long as a machine counts."""
    oldest = context.now_ms() - context.options.stale_days * DAY_MS
    for proof in find_fork_proofs(context.home.store):
        if proof.feed in context.blocked:
            continue
        name = bundle_name(proof.bundle_id)
        known = context.bundles.find_file(name)
        is_there = name in context.bundles.present
        if proof.seen_at_ms >= oldest:
            if not is_there:
                _write_fork_proof(context, name, encode_fork_proof(proof, context.home, context.now_ms()))
        elif is_there and known is not None and known.state is FileState.OWN:
            remove_bundles(context, [name])


def _write_fork_proof(context: VisitContext, name: str, data: bytes) -> None:
    folder = context.stick.make_folder(BUNDLES)
    if len(data) > writable_bytes(context) or not folder.write_small(name, data, context.part_prefix):
        return  # another time; or another machine has brought it at this moment
    report = context.report
    report.fork_proofs += 1
    report.fork_proof_bytes += len(data)
    report.files.append((f"{BUNDLES}/{name}", len(data)))
    with folder.open(name) as file:
        status = os.fstat(file.fileno())
    # It covers nothing: no plan may count on a message that contradicts another one.
    entry = Entry(name, status.st_size, status.st_mtime_ns)
    context.bundles.note_file(entry, FileState.OWN, context.home.keypair.public, Coverage())
