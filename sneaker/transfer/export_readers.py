"""Whom an export is for: clocks out of cards, JSON files and what peers told us."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sneaker.bundle.card import CARD_MAGIC, MAX_CARD_BYTES, Card, decode_card
from sneaker.caps import Caps
from sneaker.clock import VectorClock
from sneaker.errors import ClockError, NetworkKeyMismatch, RefError, SourceError, UsageError
from sneaker.files.read_file import open_for_reading, reading_error
from sneaker.planning.what_others_have import ClockSource, counted_on
from sneaker.refs import BlobRef, FeedRef
from sneaker.store.store import Store

__all__ = ["Reader", "read_card", "read_reader"]


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody to write for: what they have, and which blobs they want; ``card`` where they gave us one.

    ``ref`` is who they are; an unsigned list does not say.  ``signed`` is the card itself.
    """

    clock: VectorClock
    wants: frozenset[BlobRef] = frozenset()
    card: Card | None = None
    ref: FeedRef | None = None
    signed: bytes = b""


def _read_small(path: Path) -> bytes:
    with open_for_reading(path) as file:
        try:
            data = file.read(MAX_CARD_BYTES + 1)
        except OSError as error:
            raise reading_error(str(path), error) from None
    if len(data) > MAX_CARD_BYTES:
        raise SourceError(f"{path} is too large to be a card or a clock")
    return data


def read_card(path: Path, caps: Caps) -> Card:
    """Read a signed card; raises SourceError, NotABundle, BundleDamaged or NetworkKeyMismatch."""
    card = decode_card(_read_small(path))
    if card.network_id != caps.network_id:
        raise NetworkKeyMismatch(f"the card {path} belongs to another network")
    return card


def read_reader(spec: str, store: Store, caps: Caps) -> Reader:
    """Return the reader that ``spec`` names: a card file, a JSON clock file, or a peer that told us what it has.

    Raises UsageError if it is none of these, else what reading it raises.
    """
    path = Path(spec)
    try:
        is_there = path.exists()
    except OSError as error:
        raise reading_error(spec, error) from None
    if is_there:
        data = _read_small(path)
        if data.startswith(CARD_MAGIC):
            card = read_card(path, caps)
            return Reader(card.clock, card.wants, card, card.machine, signed=data)
        try:
            return Reader(VectorClock.parse(data))
        except ClockError as error:
            raise ClockError(f"{spec} is neither a card nor a clock: {error.message}", hint=error.hint) from None
    try:
        peer = FeedRef.parse_classic(spec)
    except RefError:
        raise UsageError(f"the reader {spec} is no file that is there, and no feed id") from None
    known = store.known_clocks.known(peer)
    clock = counted_on(known)
    if not clock and ClockSource.CARD not in known:
        raise UsageError(
            f"{peer} has not told this machine what it has",
            hint="ask for its card: 'sneaker clock --card FILE' on that machine",
        )
    return Reader(clock, ref=peer)
