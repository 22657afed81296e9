"""Ed25519 key pairs, and the text in which ssb-keys keeps one (PROTOCOL.md, section 1.1)."""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass, field
from typing import Self

from nacl import bindings
from nacl.exceptions import CryptoError

from sneaker.errors import KeysError, RefError
from sneaker.refs import FeedRef, decode_base64, encode_base64

__all__ = ["Keypair", "format_secret", "parse_secret", "verify_signature"]

_SUFFIX = ".ed25519"

# What editors for Windows put before a text that they save as "Unicode".
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

_HEADER = """\
# WARNING: Never show this to anyone.
# WARNING: Never edit it or use it on several devices at once.
#
# This is your SECRET. Whoever has it can speak as you, for ever.
# Two devices that write with it split your feed in two, and other
# people's programs will then refuse to read on.
#
"""

_FOOTER = """
#
# The only part of this file that is safe to share is your public name:
#
#   {id}
"""


@dataclass(frozen=True, slots=True)
class Keypair:
    """An identity: ``public`` names the feed, ``secret`` is libsodium's 64 bytes (seed, then public key)."""

    public: FeedRef
    secret: bytes = field(repr=False)

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """Derive the pair from a 32-byte seed; the caller brings the randomness."""
        if len(seed) != 32:
            raise KeysError(f"a seed has 32 bytes, not {len(seed)}")
        public, secret = bindings.crypto_sign_seed_keypair(seed)
        return cls(FeedRef.classic(public), secret)

    @property
    def seed(self) -> bytes:
        """The 32 bytes that everything else is derived from."""
        return self.secret[:32]

    def sign(self, data: bytes) -> bytes:
        """Return the 64-byte detached signature over ``data``."""
        return bindings.crypto_sign(data, self.secret)[:64]


def verify_signature(public: bytes, signature: bytes, data: bytes) -> bool:
    """Say whether ``signature`` (64 bytes) over ``data`` was made by ``public`` (32 bytes).

    Always libsodium: other Ed25519 implementations differ on edge cases, and a difference splits feeds.
    """
    if len(signature) != 64 or len(public) != 32:
        return False
    try:
        bindings.crypto_sign_open(signature + data, public)
    except CryptoError:
        return False
    return True


def parse_secret(data: bytes) -> Keypair:
    """Read what is in a ``secret`` file as ssb-keys does: comments dropped, lines joined, JSON.

    Raises KeysError if it is not an Ed25519 secret, or if its public half does not belong to its private half.  The caller
    must not make a new identity in its place.
    """
    # Only comments hold anything but ASCII, in the encoding of some editor. ssb-keys skips them too.
    text = data.decode("utf-16" if data.startswith(_UTF16_MARKS) else "utf-8-sig", errors="replace")
    joined = "".join(line.partition("#")[0] for line in text.split("\n"))
    try:
        fields = json.loads(joined)
        if not isinstance(fields, dict) or fields.get("curve") != "ed25519":
            raise KeysError("the secret is not an ed25519 key")
        private = fields["private"]
        public = fields["public"]
        if not (isinstance(private, str) and isinstance(public, str)):
            raise KeysError("the secret has no keys in it")
        secret = decode_base64(private.removesuffix(_SUFFIX), 64)
        stated = decode_base64(public.removesuffix(_SUFFIX), 32)
    except (KeyError, ValueError, RecursionError, RefError):
        raise KeysError(
            "the secret file is damaged", hint="restore it from a backup; sneaker never writes over a secret"
        ) from None
    pair = Keypair.from_seed(secret[:32])
    identity = fields.get("id")
    if identity is not None and (
        not isinstance(identity, str) or identity.lstrip("@") != f"{encode_base64(stated)}{_SUFFIX}"
    ):
        raise KeysError("the secret's id does not belong to its keys")
    if pair.secret != secret or pair.public.key != stated:
        raise KeysError("the public and private halves of the secret do not belong together")
    return pair


def format_secret(pair: Keypair) -> str:
    """Return the text of a ``secret`` file that ssb-keys and every app read."""
    public = encode_base64(pair.public.key) + _SUFFIX
    body = {
        "curve": "ed25519",
        "public": public,
        "private": encode_base64(pair.secret) + _SUFFIX,
        "id": "@" + public,
    }
    return _HEADER + json.dumps(body, indent=2) + "\n" + _FOOTER.format(id="@" + public)
