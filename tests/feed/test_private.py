from __future__ import annotations

import itertools
import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings

from sneaker.errors import PublishUnsafe
from sneaker.feed.classic.message import create_message
from sneaker.feed.private import MAX_RECIPIENTS, Opener, box, seal
from sneaker.refs import FeedRef, decode_base64, encode_base64
from tests.feed.forge import seeded
from tests.feed.vectors import keypair, load
from tests.tries import tries

CASES = load("private-box.json")["cases"]
ME = seeded(1)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{len(case['recipients'])} recipients")
def test_vectors(case: dict[str, Any]) -> None:
    pairs = [keypair(keys) for keys in case["recipients"]]
    random = [bytes.fromhex(case[name]) for name in ("nonce", "bodyKey", "onetimeSecret")]
    sealed = seal(case["plaintext"].encode(), [pair.public for pair in pairs], *random)
    assert encode_base64(sealed) + ".box" == case["boxed"]
    for pair in pairs:
        opener = Opener(pair)
        assert opener.open(case["boxed"]) == json.loads(case["plaintext"])
        assert opener.open_bytes(sealed) == case["plaintext"].encode()
        key = opener.open_key(sealed)
        assert key is not None
        assert encode_base64(key) == case["unboxKey"]
    assert Opener(ME).open(case["boxed"]) is None
    taken = iter(random)
    content = json.loads(case["plaintext"])
    assert box(content, [pair.public for pair in pairs], lambda size: next(taken)) == case["boxed"]


def test_box_is_publishable_and_opens() -> None:
    content = {"type": "post", "text": "é🦀\u2028", "n": 1.0, "7": [], "recps": [str(ME.public)]}
    boxed = box(content, [seeded(2).public, ME.public], os.urandom)
    message = create_message(ME, None, 1, boxed)
    for number in (1, 2):
        assert Opener(seeded(number)).open(str(message.content)) == content
    assert Opener(seeded(3)).open(boxed) is None
    assert box(content, [ME.public], os.urandom) != box(content, [ME.public], os.urandom)


@pytest.mark.parametrize("count", [0, MAX_RECIPIENTS + 1])
def test_recipients_are_one_to_seven(count: int) -> None:
    with pytest.raises(PublishUnsafe):
        box({"type": "post"}, [ME.public] * count, os.urandom)


@pytest.mark.parametrize("key", [bytes(32), b"\x01" + bytes(31), b"\xff" * 32, b"\x02" + bytes(31)])
def test_keys_that_are_no_points_are_refused(key: bytes) -> None:
    with pytest.raises(PublishUnsafe):
        box({"type": "post"}, [FeedRef.classic(key)], os.urandom)


def test_eight_slots_are_looked_into() -> None:
    """private-box looks into one slot more than it writes; so a message to eight can be read by all of them."""
    nonce, key, secret = bytes(24), bytes(range(32)), bytes(range(1, 33))
    slots = []
    for number in range(9):
        theirs = bindings.crypto_sign_ed25519_pk_to_curve25519(seeded(number).public.key)
        shared = bindings.crypto_scalarmult(secret, theirs)
        slots.append(bindings.crypto_secretbox(bytes([9]) + key, nonce, shared))
    body = bindings.crypto_secretbox(b'{"type":"post"}', nonce, key)
    sealed = nonce + bindings.crypto_scalarmult_base(secret) + b"".join(slots) + body
    opened = [Opener(seeded(number)).open_bytes(sealed) is not None for number in range(9)]
    assert opened == [True] * 8 + [False]


def test_damage_opens_nothing() -> None:
    content = {"type": "post", "text": "secret"}
    boxed = decode_base64(box(content, [seeded(2).public, ME.public], os.urandom)[:-4])
    opener = Opener(ME)
    assert opener.open_bytes(boxed) is not None
    for cut in range(len(boxed)):
        assert opener.open_bytes(boxed[:cut]) is None
    for at in itertools.chain(range(56), range(56 + 49, len(boxed))):
        broken = bytearray(boxed)
        broken[at] ^= 0x40
        assert opener.open_bytes(bytes(broken)) is None, at


def test_plaintext_that_is_no_json_is_nothing() -> None:
    sealed = seal(b"not json", [ME.public], bytes(24), bytes(32), bytes(range(32)))
    assert Opener(ME).open_bytes(sealed) == b"not json"
    assert Opener(ME).open(encode_base64(sealed) + ".box") is None


@tries(300)
@given(st.one_of(st.text(max_size=50), st.binary(max_size=300).map(lambda data: encode_base64(data) + ".box")))
def test_any_text_opens_or_does_not(text: str) -> None:
    assert Opener(ME).open(text) is None


def test_other_kinds_of_encryption_are_left_alone() -> None:
    assert Opener(ME).open("AAAA.box2") is None
    assert Opener(ME).open("AAAA") is None
    assert Opener(ME).open("") is None
