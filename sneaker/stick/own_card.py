"""This machine's card: its signed have-list, for sticks and for others to export by.

Its counter grows with every card, whatever the clock of this machine does, and it is written into the store before anybody
sees it: so no two cards of ours have the same counter, and a restored home goes on from the newest card that it finds.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from pathlib import Path

from sneaker.bundle.card import CARD_MAGIC, MAX_UNREADABLE, Card, decode_card, encode_card
from sneaker.clock import VectorClock
from sneaker.errors import BundleError
from sneaker.files.atomic_write import new_file, output_errors
from sneaker.home.home import Home
from sneaker.refs import BlobRef
from sneaker.stick.layout import from_base32
from sneaker.store.blob_ledger import BlobLedger
from sneaker.store.what_others_said import KnownCard

__all__ = ["current_card", "decode_known", "make_card", "wanted_blobs", "write_card"]

# More wants make cards large, and nobody brings that many at once.
MAX_WANTS = 20_000

# A card that says nothing new is written again after this time: machines without a sign of life are forgotten.
_REFRESH_MS = 7 * 24 * 60 * 60 * 1000


def decode_known(known: KnownCard | None) -> Card | None:
    """Return a remembered card; None if there is none, or it cannot be read."""
    if known is None:
        return None
    try:
        return decode_card(known.data)
    except BundleError:
        return None


def wanted_blobs(home: Home, before: Card | None = None, clock: VectorClock | None = None) -> frozenset[BlobRef]:
    """Return the blobs that messages here mention and that are not here.

    ``before`` is an earlier card of ours: then only the messages since are looked through, and the blobs that it wanted.
    """
    ledger = BlobLedger(home.store, home.blobs)
    if before is None or not before.clock or len(before.wants) >= MAX_WANTS:
        missing = ledger.missing()
    else:
        ours = home.store.clock().classic() if clock is None else clock
        since = before.clock
        missing = ledger.missing(((feed, since.get(feed, 0) + 1, last) for feed, last in ours.items()), before.wants)
    return frozenset(sorted(missing)[:MAX_WANTS])


def make_card(
    home: Home,
    *,
    now_ms: int,
    counter: int,
    clock: VectorClock,
    wants: frozenset[BlobRef],
    unreadable: frozenset[bytes] = frozenset(),
) -> bytes:
    """Return this machine's signed card; ``counter`` has to be higher than that of any card before."""
    me = home.keypair.public
    sequence = clock.get(me, 0)
    card = Card(
        machine=me,
        network_id=home.caps.network_id,
        counter=counter,
        time_ms=now_ms,
        clock=clock,
        wants=wants,
        head=home.store.key_at(me, sequence) if sequence else None,
        unreadable=unreadable,
    )
    return encode_card(card, home.keypair)


def current_card(
    home: Home, *, now_ms: int, seen: Card | None = None, taken: AbstractSet[int] = frozenset()
) -> KnownCard:
    """Return this machine's card as of now: the newest one if it still says how things are, else a new one.

    It is the newest one remembered, unless ``seen``, a card of ours found elsewhere, is newer: this home may be a restored
    copy.  A new one is remembered before it is returned; it gets none of the counters in ``taken``.
    """
    me = home.keypair.public
    clock = home.store.clock().classic()
    sequence = clock.get(me, 0)
    head = home.store.key_at(me, sequence) if sequence else None
    unreadable = _unreadable_bundles(home)
    while True:
        known = home.store.known_clocks.card(me)
        mine = decode_known(known)
        wants = wanted_blobs(home, mine, clock)
        counters = [card.counter for card in (known, seen) if card is not None]
        if known is not None and mine is not None and known.counter == max(counters) and known.counter not in taken:
            is_recent = abs(now_ms - mine.time_ms) < _REFRESH_MS
            state = (mine.clock, mine.wants, mine.head, mine.unreadable)
            if is_recent and state == (clock, wants, head, unreadable):
                return known
        counter = max(now_ms, 1, *(counter + 1 for counter in counters))
        while counter in taken:
            counter += 1
        data = make_card(home, now_ms=now_ms, counter=counter, clock=clock, wants=wants, unreadable=unreadable)
        made = KnownCard(me, counter, now_ms, data)
        if home.store.sticks.put_own_card(made):
            return made  # else another process made one meanwhile


def _unreadable_bundles(home: Home) -> frozenset[bytes]:
    """Return the ids of bundles on any stick that we could not read; a bundle's name on a stick is its id."""
    ids = (from_base32(name.partition(".")[0], 16) for name in home.store.sticks.unusable_files(MAX_UNREADABLE))
    return frozenset(bundle_id for bundle_id in ids if bundle_id is not None)


def write_card(path: Path, home: Home, *, now_ms: int) -> None:
    """Write this machine's card to a file, in the place of an older card if there is one; raises OutputError."""
    with output_errors(path), new_file(path, replaces=_is_card) as file:
        file.write(current_card(home, now_ms=now_ms).data)


def _is_card(start: bytes) -> bool:
    return start.startswith(CARD_MAGIC)
