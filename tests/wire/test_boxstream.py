from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings

from sneaker.errors import LocalProtocolError, RemoteProtocolError
from sneaker.wire.boxstream import Boxer, Unboxer
from sneaker.wire.stream_reader import GOODBYE, NEED_DATA
from tests.readers import Failed, check_reader, read_all
from tests.tries import tries
from tests.wire.vectors import load

STREAMS = load("box-stream.json")["streams"]
BROKEN = load("box-stream.json")["broken"]
KEY, NONCE = bytes(range(32)), bytes(range(24))


def make(case: dict[str, Any]) -> Unboxer:
    return Unboxer(bytes.fromhex(case["key"]), bytes.fromhex(case["nonce"]))


@pytest.mark.parametrize("case", STREAMS, ids=range(len(STREAMS)))
def test_streams(case: dict[str, Any]) -> None:
    wire = base64.b64decode(case["wire"])
    writes = [base64.b64decode(write) for write in case["writes"]]
    boxer = Boxer(bytes.fromhex(case["key"]), bytes.fromhex(case["nonce"]))
    assert b"".join(boxer.box(write) for write in writes) + boxer.goodbye() == wire
    events = read_all(make(case), [wire])
    assert events[-1] is GOODBYE
    assert b"".join(events[:-1]) == b"".join(writes)
    check_reader(lambda: make(case), wire, events, examples=10)


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case["name"])
def test_broken_streams(case: dict[str, Any]) -> None:
    wire = base64.b64decode(case["wire"])
    events = read_all(make(case), [wire])
    assert events[-1] == Failed()
    assert b"".join(events[:-1]) == base64.b64decode(case["plaintextBeforeError"])
    check_reader(lambda: make(case), wire, events, examples=10)


def test_a_body_longer_than_anybody_sends_is_read() -> None:
    body = bytes(65535)
    cipher = bindings.crypto_secretbox(body, (int.from_bytes(NONCE, "big") + 1).to_bytes(24, "big"), KEY)
    header = bindings.crypto_secretbox(len(body).to_bytes(2, "big") + cipher[:16], NONCE, KEY)
    assert read_all(Unboxer(KEY, NONCE), [header + cipher[16:]], end=False) == [body]


def test_an_empty_body_is_passed_over() -> None:
    cipher = bindings.crypto_secretbox(b"", (int.from_bytes(NONCE, "big") + 1).to_bytes(24, "big"), KEY)
    header = bindings.crypto_secretbox(bytes(2) + cipher, NONCE, KEY)
    assert read_all(Unboxer(KEY, NONCE), [header], end=False) == []


def test_nothing_is_boxed_after_the_goodbye() -> None:
    boxer = Boxer(KEY, NONCE)
    assert boxer.box(b"") == b""
    boxer.goodbye()
    with pytest.raises(LocalProtocolError):
        boxer.box(b"x")
    with pytest.raises(LocalProtocolError):
        boxer.goodbye()
    with pytest.raises(LocalProtocolError):
        Boxer(b"short", NONCE)
    with pytest.raises(LocalProtocolError):
        Unboxer(KEY, b"short")


def test_every_flipped_bit_is_noticed() -> None:
    boxer = Boxer(KEY, NONCE)
    wire = boxer.box(b"hello") + boxer.goodbye()
    for bit in range(len(wire) * 8):
        damaged = bytearray(wire)
        damaged[bit // 8] ^= 1 << bit % 8
        assert read_all(Unboxer(KEY, NONCE), [bytes(damaged)])[-1] == Failed()


@tries(50)
@given(st.lists(st.binary(max_size=9000), max_size=5), st.binary(max_size=100))
def test_any_writes_come_out_and_any_bytes_behind_them_are_an_error(writes: list[bytes], junk: bytes) -> None:
    boxer, unboxer = Boxer(KEY, NONCE), Unboxer(KEY, NONCE)
    unboxer.receive_data(b"".join(map(boxer.box, writes)) + junk or b"\0")
    plain = b""
    try:
        while (event := unboxer.next_event()) is not NEED_DATA:
            assert isinstance(event, bytes)
            plain += event
    except RemoteProtocolError:
        assert junk or not any(writes)
    assert plain == b"".join(writes)
