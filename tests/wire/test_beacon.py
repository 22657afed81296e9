from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings

from sneaker.errors import LocalProtocolError, RemoteProtocolError
from sneaker.limits import MAX_BEACON_BYTES
from sneaker.refs import FeedRef, decode_base64, encode_base64
from sneaker.wire.address import net_address, parse_addresses
from sneaker.wire.beacon import decode_legacy, decode_normal, encode_legacy, encode_normal
from tests.tries import tries
from tests.wire.vectors import keypair, load, seeded

PACKETS = load("lan.json")["packets"]
INVALID = load("lan.json")["invalid"]
KEY = bytes(range(32))


@pytest.mark.parametrize("case", PACKETS, ids=range(len(PACKETS)))
def test_packets(case: dict[str, Any]) -> None:
    network_key, pair = decode_base64(case["caps"]), keypair(case["key"])
    addresses = tuple(parse_addresses(case["address"]))
    data = bytes.fromhex(case["normalHex"])
    assert encode_normal(addresses, network_key, pair) == data
    beacon = decode_normal(data, network_key)
    assert (beacon.addresses, beacon.key, beacon.verified) == (addresses, pair.public, True)
    beacon = decode_legacy(case["legacy"].encode())
    assert (beacon.addresses, beacon.key, beacon.verified) == (addresses, pair.public, False)
    if len(addresses) == 1:
        assert encode_legacy(addresses[0]) == case["legacy"].encode()


@pytest.mark.parametrize("case", INVALID, ids=lambda case: case["name"])
def test_invalid_packets(case: dict[str, Any]) -> None:
    network_key, data = decode_base64(case["caps"]), bytes.fromhex(case["normalHex"])
    if "verified=false" in case["expect"]:
        assert not decode_normal(data, network_key).verified
    else:
        with pytest.raises(RemoteProtocolError):
            decode_normal(data, network_key)


def test_every_flipped_bit_is_noticed() -> None:
    data = encode_normal((net_address("10.0.0.1", 8008, seeded(1).public),), KEY, seeded(1))
    for bit in range(0, len(data) * 8, 3):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            assert not decode_normal(bytes(damaged), KEY).verified
        except RemoteProtocolError:
            pass


def sealed(text: bytes) -> bytes:
    return bindings.crypto_secretbox(text, KEY[:24], KEY) + bytes(64)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"address":5}', b'{"address":""}', b'{"address":"net:a:1"}', b'{"address":"\\ud800"}']
)
def test_well_sealed_junk(text: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_normal(sealed(text), KEY)


def test_legacy_junk() -> None:
    one, two = (str(net_address("10.0.0.1", 8008, seeded(number).public)) for number in (1, 2))
    assert decode_legacy(f"{one}\0\0\n".encode()).key == seeded(1).public
    for junk in (b"", b"\xff", b"net:a:1", f"{one};{two}".encode(), one.encode() + b"\x1b[0m", one.encode() * 30):
        with pytest.raises(RemoteProtocolError):
            decode_legacy(junk)


def test_packets_that_others_would_not_read_are_not_made() -> None:
    long = net_address("a" * 90 + ".example", 8008, FeedRef.classic(bytes(32)))
    with pytest.raises(LocalProtocolError):
        encode_legacy(long)
    with pytest.raises(LocalProtocolError):
        encode_normal((long,) * 20, KEY, seeded(1))


@tries(200)
@given(st.binary(max_size=300) | st.just(bytes(MAX_BEACON_BYTES + 1)))
def test_any_bytes_are_a_beacon_or_our_error(data: bytes) -> None:
    for decode in (decode_legacy, lambda data: decode_normal(data, KEY), lambda data: decode_normal(sealed(data), KEY)):
        try:
            decode(data)
        except RemoteProtocolError:
            pass


def test_the_key_in_an_address_has_one_spelling() -> None:
    text = f"net:10.0.0.1:8008~shs:{encode_base64(bytes(31) + bytes([1]))}"
    with pytest.raises(RemoteProtocolError):
        decode_legacy(text.replace("AE=", "AF=").encode())
