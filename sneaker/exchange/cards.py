"""Cards as files: the signed have-list of this machine, written for others to export by."""

from __future__ import annotations

from pathlib import Path

from sneaker.bundle.card import Card, encode_card
from sneaker.caps import Caps
from sneaker.exchange.output import new_file, output_errors
from sneaker.keys import Keypair
from sneaker.store.base import Store

__all__ = ["make_card", "write_card"]


def make_card(store: Store, keypair: Keypair, caps: Caps, *, now_ms: int) -> bytes:
    """Return this machine's card as of now.

    The counter is the time, which grows from card to card on one machine and needs no state that a restored backup
    could set back.
    """
    card = Card(
        machine=keypair.public,
        network_id=caps.network_id,
        counter=now_ms,
        time_ms=now_ms,
        clock=store.clock(),
    )
    return encode_card(card, keypair)


def write_card(path: Path, store: Store, keypair: Keypair, caps: Caps, *, now_ms: int) -> None:
    """Write the card to a file; raises OutputError."""
    data = make_card(store, keypair, caps, now_ms=now_ms)
    with output_errors(path), new_file(path) as file:
        file.write(data)
