"""Cards: round trip, forged, truncated, absurd."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sneaker.bundle.card import CARD_MAGIC, MAX_CARD_BYTES, Card, decode_card, encode_card
from sneaker.bundle.frames import encode_varint
from sneaker.errors import BundleDamaged, NotABundle
from sneaker.keys import Keypair
from sneaker.limits import MAX_CLOCK_FEEDS, MAX_SEQUENCE
from sneaker.refs import BlobRef, FeedRef, MessageRef
from tests.bundle.bundles import keypair
from tests.tries import amount, tries

pytestmark = pytest.mark.timeout(300)

ADA = keypair("ada")
keys = st.binary(min_size=32, max_size=32)


def signed(body: bytes, pair: Keypair = ADA) -> bytes:
    return body + pair.sign(b"sneaker card 1\0" + body)


def body_of(
    clock: bytes = b"\0", wants: bytes = b"\0", counter: int = 1, time_ms: int = 2, version: int = 1, flags: int = 0
) -> bytes:
    head = struct.pack(
        "<8sHHI32s32sQQI", CARD_MAGIC, version, flags, 0, ADA.public.key, bytes(32), counter, time_ms, len(clock)
    )
    return head + clock + wants


CARD = Card(
    machine=ADA.public,
    network_id=bytes(range(32)),
    counter=7,
    time_ms=1_700_000_000_000,
    clock={ADA.public: 3, keypair("ben").public: 2**31 - 1},
    wants=frozenset({BlobRef.of(b"one"), BlobRef.of(b"two")}),
    head=MessageRef(bytes(range(32))),
    unreadable=frozenset({bytes(16), bytes(range(16))}),
)
SMALL = encode_card(CARD, ADA)


@tries(60)
@given(
    st.dictionaries(keys.map(FeedRef.classic), st.integers(0, MAX_SEQUENCE), max_size=9),
    st.frozensets(keys.map(BlobRef), max_size=5),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**63 - 1),
    st.none() | keys.map(MessageRef),
    st.frozensets(st.binary(min_size=16, max_size=16), max_size=5),
)
def test_round_trip(
    clock: dict[FeedRef, int],
    wants: frozenset[BlobRef],
    counter: int,
    time_ms: int,
    head: MessageRef | None,
    unreadable: frozenset[bytes],
) -> None:
    card = Card(ADA.public, bytes(32), counter, time_ms, clock, wants, head, unreadable)
    assert decode_card(encode_card(card, ADA)) == card


def test_the_body_of_these_tests_is_right() -> None:
    assert decode_card(signed(body_of())) == Card(ADA.public, bytes(32), 1, 2)


def test_a_card_is_signed_by_its_machine() -> None:
    with pytest.raises(ValueError, match="its own machine"):
        encode_card(CARD, keypair("ben"))
    with pytest.raises(BundleDamaged):
        decode_card(signed(body_of(), keypair("ben")))


def test_every_bit_flipped() -> None:
    for place in range(len(SMALL)):
        for bit in (1, 16, 128):
            data = bytearray(SMALL)
            data[place] ^= bit
            with pytest.raises((BundleDamaged, NotABundle)):
                decode_card(bytes(data))


def test_every_cut() -> None:
    for length in range(len(SMALL)):
        with pytest.raises((BundleDamaged, NotABundle)):
            decode_card(SMALL[:length])
    with pytest.raises(BundleDamaged):
        decode_card(SMALL + b"\0")


@pytest.mark.parametrize(
    "body",
    [
        body_of(version=2),
        body_of(counter=2**63),
        body_of(time_ms=2**64 - 1),
        body_of(clock=b""),
        body_of(clock=b"\0\0"),
        body_of(clock=encode_varint(MAX_CLOCK_FEEDS)),
        body_of(clock=b"\1" + bytes(32) + encode_varint(2**31)),
        body_of(clock=b"\1" + bytes(32) + encode_varint(2**53)),
        body_of(wants=encode_varint(100_001) + bytes(3_200_032)),
        body_of(wants=encode_varint(2**62)),
        body_of(wants=b"\1" + bytes(31)),
        body_of(wants=b"\0\0"),
        body_of(flags=1),
        body_of(flags=1) + bytes(31),
        body_of(flags=1) + bytes(33),
        body_of() + bytes(32),
        body_of(flags=2),
        body_of(flags=2) + encode_varint(1001) + bytes(16 * 1001),
        body_of(flags=2) + b"\2" + bytes(31),
        body_of(flags=2) + b"\1" + bytes(17),
        body_of(wants=b""),
        body_of()[:60],
    ],
)
def test_absurd_cards_that_are_signed(body: bytes) -> None:
    with pytest.raises(BundleDamaged):
        decode_card(signed(body))


def test_a_clock_length_beyond_the_card() -> None:
    body = bytearray(body_of())
    body[96:100] = b"\xff\xff\xff\xff"
    with pytest.raises(BundleDamaged):
        decode_card(signed(bytes(body)))


def test_too_long_a_card() -> None:
    with pytest.raises(BundleDamaged):
        decode_card(CARD_MAGIC + bytes(MAX_CARD_BYTES))


def test_what_is_no_card() -> None:
    for data in (b"", b"hello", CARD_MAGIC[:-1], b"\x89SNK\r\n\x1a\n" + bytes(200)):
        with pytest.raises(NotABundle):
            decode_card(data)


def test_a_clock_before_1970_is_written_as_0() -> None:
    assert decode_card(encode_card(Card(ADA.public, bytes(32), 1, -5), ADA)).time_ms == 0


def test_the_largest_card() -> None:
    """Or a card with an eighth of what it holds, in an eighth of its room."""
    share = amount(quick=8, thorough=1)
    feeds, blobs = MAX_CLOCK_FEEDS // share, 100_000 // share
    clock = {FeedRef.classic(number.to_bytes(32, "little")): MAX_SEQUENCE for number in range(feeds)}
    wants = frozenset(BlobRef(number.to_bytes(32, "little")) for number in range(blobs))
    data = encode_card(Card(ADA.public, bytes(32), 1, 1, clock, wants), ADA)
    assert len(data) <= MAX_CARD_BYTES // share
    card = decode_card(data)
    assert len(card.clock) == feeds
    assert len(card.wants) == blobs
