"""Which SSB network we are on: the network key, and the HMAC key that some test networks sign with."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from sneaker.errors import CapsError, RefError
from sneaker.refs import decode_base64, encode_base64

__all__ = ["MAIN_CAPS", "MAIN_NETWORK_KEY", "Caps", "auth", "parse_cap"]

# The key of the one public network (PROTOCOL.md, section 1.4).
MAIN_NETWORK_KEY = decode_base64("1KHLiKZvAvjbY1ziZEHMXawbCEIM6qwjCDm3VYRan/s=", 32)


def auth(data: bytes, key: bytes) -> bytes:
    """Return libsodium's ``crypto_auth``: the first 32 bytes of HMAC-SHA-512 of ``data`` under ``key``."""
    return hmac.digest(key, data, hashlib.sha512)[:32]


def parse_cap(text: str) -> bytes:
    """Read a 32-byte key from canonical base64; raises CapsError."""
    try:
        return decode_base64(text.strip(), 32)
    except RefError:
        raise CapsError(
            "a network key is 32 bytes of base64", hint="the main network's key is used when none is given"
        ) from None


@dataclass(frozen=True, slots=True)
class Caps:
    """The keys that separate one SSB network from another.

    ``network_key``: 32 bytes, proves membership in the secret handshake.  ``hmac_key``: 32 bytes or None, goes into
    every signature on networks that set ``caps.sign``.
    """

    network_key: bytes = MAIN_NETWORK_KEY
    hmac_key: bytes | None = None

    def __post_init__(self) -> None:
        for key in (self.network_key, self.hmac_key):
            if key is not None and len(key) != 32:
                raise CapsError("a network key has 32 bytes")

    @property
    def network_id(self) -> bytes:
        """32 bytes that name this network in a file without giving its key away."""
        return hashlib.sha256(b"sneaker network\0" + self.network_key + (self.hmac_key or b"")).digest()

    def __str__(self) -> str:
        return encode_base64(self.network_key)


MAIN_CAPS = Caps()
