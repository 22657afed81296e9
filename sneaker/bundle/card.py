"""Cards: one machine's signed have-list (``bundles-format.md``, "Cards").

A card is a hint.  Its signature says whose it is, so nobody can speak for another machine.  What it claims is used for
planning, and for nothing else.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from sneaker.bundle.frames import Cursor, encode_varint, feed_bytes
from sneaker.bundle.records import decode_clock, encode_clock
from sneaker.clock import VectorClock
from sneaker.errors import BundleDamaged, NotABundle
from sneaker.keys import Keypair, verify_signature
from sneaker.refs import BlobRef, FeedRef, MessageRef

__all__ = ["CARD_MAGIC", "MAX_CARD_BYTES", "MAX_UNREADABLE", "Card", "decode_card", "encode_card", "read_card_clock"]

CARD_MAGIC = b"\x89SNC\r\n\x1a\n"
_HAS_HEAD = 1
_HAS_UNREADABLE = 2
# With more damaged bundles than this a stick is broken, and a longer list helps nobody.
MAX_UNREADABLE = 1000
_ID_BYTES = 16
# A clock of MAX_CLOCK_FEEDS feeds takes 7.4 MB; the wants take less.
MAX_CARD_BYTES = 12 * 1024 * 1024
_MAX_WANTS = 100_000
_CONTEXT = b"sneaker card 1\0"
_HEAD = struct.Struct("<8sHHI32s32sQQI")


@dataclass(frozen=True, slots=True)
class Card:
    """What ``machine`` says of itself.

    ``counter`` grows with every card of this machine.  ``time_ms`` is the machine's wall clock, ``clock`` what it has
    (feed to sequence), ``wants`` the blobs that it lacks.  ``head`` is the id of its own last message, the one
    that ``clock`` counts up to: by it a machine notices another one that writes with the same key, even if both have
    equally many messages.  ``unreadable`` are the ids of bundles that it found and could not read: what they hold has to
    come another way.
    """

    machine: FeedRef
    network_id: bytes
    counter: int
    time_ms: int
    clock: VectorClock = field(default_factory=VectorClock)
    wants: frozenset[BlobRef] = frozenset()
    head: MessageRef | None = None
    unreadable: frozenset[bytes] = frozenset()


def encode_card(card: Card, keypair: Keypair) -> bytes:
    """Return the card signed by ``keypair``, which must be the machine's.

    Raises ValueError for more feeds or wants than a card may hold.
    """
    if keypair.public != card.machine:
        raise ValueError("a card is signed by its own machine")
    if len(card.wants) > _MAX_WANTS:
        raise ValueError(f"a card with {len(card.wants)} wants")
    clock = encode_clock(card.clock)
    if len(card.unreadable) > MAX_UNREADABLE or any(len(bundle_id) != _ID_BYTES for bundle_id in card.unreadable):
        raise ValueError("a card with impossible bundle ids")
    flags = (_HAS_HEAD if card.head is not None else 0) | (_HAS_UNREADABLE if card.unreadable else 0)
    time_ms = max(0, card.time_ms)
    start = _HEAD.pack(
        CARD_MAGIC, 1, flags, 0, feed_bytes(card.machine), card.network_id, card.counter, time_ms, len(clock)
    )
    body = b"".join((start, clock, encode_varint(len(card.wants)), *sorted(card.wants), card.head or b""))
    if card.unreadable:
        body += b"".join((encode_varint(len(card.unreadable)), *sorted(card.unreadable)))
    return body + keypair.sign(_CONTEXT + body)


def decode_card(data: bytes) -> Card:
    """Read a card; raises NotABundle if it is none, BundleDamaged if it is cut, altered or over a limit."""
    if not data.startswith(CARD_MAGIC):
        raise NotABundle("not a card")
    if not _HEAD.size + 64 <= len(data) <= MAX_CARD_BYTES:
        raise BundleDamaged("the card has an impossible length")
    body, signature = data[:-64], data[-64:]
    _, version, flags, _, machine, network_id, counter, time_ms, clock_bytes = _HEAD.unpack_from(body)
    if version != 1:
        raise BundleDamaged(f"the card has version {version}, which this sneaker does not know")
    if not verify_signature(machine, signature, _CONTEXT + body):
        raise BundleDamaged("the card's signature is not its machine's")
    if counter >= 2**63 or time_ms >= 2**63:  # more than SQLite's integers hold
        raise BundleDamaged("the card holds an impossible number")
    cursor = Cursor(body[_HEAD.size :])
    clock = decode_clock(cursor.take(clock_bytes))
    wants = frozenset(BlobRef(cursor.take(32)) for _ in range(cursor.varint(_MAX_WANTS)))
    head = MessageRef(cursor.take(32)) if flags & _HAS_HEAD else None
    number = cursor.varint(MAX_UNREADABLE) if flags & _HAS_UNREADABLE else 0
    unreadable = frozenset(cursor.take(_ID_BYTES) for _ in range(number))
    cursor.finish()
    return Card(FeedRef.classic(machine), network_id, counter, time_ms, clock, wants, head, unreadable)


def read_card_clock(data: bytes) -> VectorClock:
    """Return the clock in a card whose signature was checked before; raises BundleDamaged."""
    if len(data) < _HEAD.size:
        raise BundleDamaged("the card has an impossible length")
    clock_bytes = _HEAD.unpack_from(data)[-1]
    return decode_clock(Cursor(data[_HEAD.size : -64]).take(clock_bytes))
