"""What peers shout on a LAN to be found: two kinds of UDP packet (PROTOCOL.md, section 11).

    legacy, port 8008     the address as plain text
    normal, port 26830    secretbox( {"address": "..."} , nonce = K[0:24], key = K ) | signature(64)

The signature is over the same object printed with two spaces of indent, by the key that the address names.  A packet
proves at most who wrote the address, not who sent it or that it is still true: the handshake proves the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

from nacl import bindings
from nacl.exceptions import CryptoError

from sneaker.errors import AddressError, LocalProtocolError, RemoteProtocolError
from sneaker.keys import Keypair, verify_signature
from sneaker.limits import MAX_BEACON_BYTES, MAX_LEGACY_BEACON_BYTES
from sneaker.refs import FeedRef
from sneaker.wire.address import Address, format_addresses, parse_addresses
from sneaker.wire.json_text import encode_json, parse_json

__all__ = [
    "LEGACY_PORT",
    "NORMAL_PORT",
    "Beacon",
    "decode_legacy",
    "decode_normal",
    "encode_legacy",
    "encode_normal",
]

LEGACY_PORT = 8008
NORMAL_PORT = 26830
_SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Beacon:
    """A peer that says it is here; ``verified``: its own key signed the addresses."""

    addresses: tuple[Address, ...]
    key: FeedRef
    verified: bool


def encode_legacy(address: Address) -> bytes:
    """Return the plain packet. Send it from the very IP it names: go-ssb drops it otherwise.

    Raises LocalProtocolError if it is longer than go-ssb reads.
    """
    data = str(address).encode("ascii")
    if len(data) > MAX_LEGACY_BEACON_BYTES:
        raise LocalProtocolError("the address is too long for a legacy LAN packet")
    return data


def decode_legacy(data: bytes) -> Beacon:
    """Read a plain packet; raises RemoteProtocolError if it is none."""
    if len(data) > MAX_BEACON_BYTES:
        raise RemoteProtocolError("a LAN packet is too long")
    return _beacon(data, verified=False)


def encode_normal(addresses: tuple[Address, ...], network_key: bytes, keypair: Keypair) -> bytes:
    """Return the encrypted and signed packet, the same bytes every time for the same addresses.

    Raises LocalProtocolError if it does not fit one datagram.
    """
    text = format_addresses(addresses)
    box = bindings.crypto_secretbox(encode_json({"address": text}), network_key[:24], network_key)
    data = box + keypair.sign(_signed_text(text))
    if len(data) > MAX_BEACON_BYTES:
        raise LocalProtocolError("the addresses do not fit one LAN packet")
    return data


def decode_normal(data: bytes, network_key: bytes) -> Beacon:
    """Read an encrypted packet; raises RemoteProtocolError if it is none, or from another network.

    A wrong signature gives a Beacon that is not verified, as with ssb-lan: no worse than a legacy packet.
    """
    if not _SIGNATURE_BYTES < len(data) <= MAX_BEACON_BYTES:
        raise RemoteProtocolError("a LAN packet has the wrong length")
    box, signature = data[:-_SIGNATURE_BYTES], data[-_SIGNATURE_BYTES:]
    try:
        value = parse_json(bindings.crypto_secretbox_open(box, network_key[:24], network_key))
    except (CryptoError, ValueError):
        raise RemoteProtocolError("a LAN packet is from another network, or none at all") from None
    text = value.get("address") if isinstance(value, dict) else None
    if not isinstance(text, str) or not text.isascii():
        raise RemoteProtocolError("a LAN packet holds no address")
    beacon = _beacon(text.encode("ascii"), verified=False)
    if verify_signature(beacon.key.key, signature, _signed_text(text)):
        return Beacon(beacon.addresses, beacon.key, verified=True)
    return beacon


def _signed_text(text: str) -> bytes:
    return b'{\n  "address": ' + encode_json(text) + b"\n}"


def _beacon(data: bytes, *, verified: bool) -> Beacon:
    try:
        addresses = tuple(parse_addresses(data.decode("ascii").strip("\0\r\n ")))
    except (UnicodeDecodeError, AddressError):
        raise RemoteProtocolError("a LAN packet holds no address") from None
    keys = {address.key for address in addresses} - {None}
    key = keys.pop() if keys else None
    # Addresses of several peers in one packet: whose would it be?
    if key is None or keys:
        raise RemoteProtocolError("a LAN packet does not name one peer")
    return Beacon(addresses, key, verified)
