"""Cards as files: the signed have-list of this machine, written for others to export by."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sneaker.bundle.card import Card, encode_card
from sneaker.exchange.home import Home
from sneaker.exchange.output import new_file, output_errors
from sneaker.refs import BlobRef, FeedRef

__all__ = ["make_card", "wanted_blobs", "write_card"]

# More wants than this do not fit into a card.
_MAX_WANTS = 100_000


def wanted_blobs(home: Home) -> frozenset[BlobRef]:
    """Return the blobs that messages here mention and that are not here."""
    linked = {link.blob for link in home.store.blob_links()}
    missing = sorted(linked - set(home.blobs))
    return frozenset(missing[:_MAX_WANTS])


def make_card(
    home: Home, *, now_ms: int, counter: int, clock: Mapping[FeedRef, int], wants: frozenset[BlobRef]
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
    )
    return encode_card(card, home.keypair)


def write_card(path: Path, home: Home, *, now_ms: int) -> None:
    """Write a card as of now to a file; raises OutputError."""
    data = make_card(home, now_ms=now_ms, counter=now_ms, clock=home.store.clock(), wants=wanted_blobs(home))
    with output_errors(path), new_file(path) as file:
        file.write(data)
