"""Private messages: box1 (private-box), as ssb-keys writes and reads it.  PROTOCOL.md, section 3.1.

    nonce (24) || one-time public key (32) || n times a slot (49) || secretbox of the plaintext

Each slot is a secretbox of ``[n] || body key`` under the key that the one-time key and a recipient's key agree on.
Who the recipients are is not in it; one opens the slots that one can.
"""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Callable, Sequence
from typing import Any

from nacl import bindings
from nacl.exceptions import CryptoError

from sneaker.errors import InvalidMessage, PublishUnsafe
from sneaker.feed.classic.javascript_json import format_json, parse_json
from sneaker.feed.content import Facts, FactsReader, facts_in, read_facts
from sneaker.feed.message import Message
from sneaker.keys import Keypair
from sneaker.refs import FeedRef, encode_base64

__all__ = ["MAX_RECIPIENTS", "Opener", "box", "facts_reader", "seal"]

# More would fit; private-box refuses to write or look for them.
MAX_RECIPIENTS = 7

_NONCE = 24
_KEY = 32
_HEADER = _NONCE + _KEY
_MAC = 16
_SLOT = 1 + _KEY + _MAC


def box(content: dict[str, Any], recipients: Sequence[FeedRef], random_bytes: Callable[[int], bytes]) -> str:
    """Encrypt content to recipients and return the text that stands in the message, ``"….box"``.

    Name yourself among the recipients if you want to read it later.  ``random_bytes`` gives so many random bytes.
    Raises PublishUnsafe for none or more than seven recipients, and for feeds whose key is no point on the curve.
    """
    plaintext = format_json(content, indent=0).encode("utf-8")
    sealed = seal(plaintext, recipients, random_bytes(_NONCE), random_bytes(_KEY), random_bytes(_KEY))
    return encode_base64(sealed) + ".box"


def seal(
    plaintext: bytes, recipients: Sequence[FeedRef], nonce: bytes, body_key: bytes, onetime_secret: bytes
) -> bytes:
    """Return the private-box of ``plaintext``; the randomness is given, and must never be used again."""
    if not 1 <= len(recipients) <= MAX_RECIPIENTS:
        raise PublishUnsafe(f"a private message has 1 to {MAX_RECIPIENTS} recipients, not {len(recipients)}")
    parts = [nonce, bindings.crypto_scalarmult_base(onetime_secret)]
    slot = bytes([len(recipients)]) + body_key
    for recipient in recipients:
        try:
            theirs = bindings.crypto_sign_ed25519_pk_to_curve25519(recipient.key)
            shared = bindings.crypto_scalarmult(onetime_secret, theirs)
        except (CryptoError, RuntimeError):
            raise PublishUnsafe(f"{recipient} has no key that one could encrypt to") from None
        parts.append(bindings.crypto_secretbox(slot, nonce, shared))
    parts.append(bindings.crypto_secretbox(plaintext, nonce, body_key))
    return b"".join(parts)


def facts_reader(keypair: Keypair) -> FactsReader:
    """Return a ``read_facts`` that also reads the private messages of the own feed.

    Whom one blocks in private is blocked like anybody else (ssb-friends counts private contact messages, too).  Other
    people's private messages say nothing: to try each costs as much as its signature, and what they follow is public.
    """
    opener, me = Opener(keypair), keypair.public

    def read(message: Message) -> Facts | None:
        if type(message.content) is not str or message.author != me:
            return read_facts(message)
        content = opener.open(message.content)
        return facts_in(content, format_json(content).encode("utf-8")) if isinstance(content, dict) else None

    return read


class Opener:
    """Opens private messages for one identity; makes the encryption key out of the signing key once."""

    def __init__(self, keypair: Keypair) -> None:
        self._secret = bindings.crypto_sign_ed25519_sk_to_curve25519(keypair.secret)

    def open(self, content: str) -> Any:
        """Return the content behind ``"….box"``, or None if it is not for us, damaged, not JSON, or too deep to print.

        Whatever text is given, nothing is raised: anybody can send anything.
        """
        encoded, _, suffix = content.partition(".")
        if suffix != "box":
            return None
        try:
            plaintext = self.open_bytes(a2b_base64(encoded, strict_mode=True))
            opened = parse_json(plaintext) if plaintext is not None else None
            format_json(opened, indent=0)
            return opened
        except (ValueError, InvalidMessage):
            return None

    def open_bytes(self, boxed: bytes) -> bytes | None:
        """Return the plaintext of a private-box, or None if it is not for us or damaged."""
        key = self.open_key(boxed)
        if key is None:
            return None
        try:
            return bindings.crypto_secretbox_open(boxed[_HEADER + _SLOT * key[0] :], boxed[:_NONCE], key[1:])
        except CryptoError:
            return None

    def open_key(self, boxed: bytes) -> bytes | None:
        """Return ``[n] || body key``, which is what an ``unbox`` query in a link holds, or None if there is none for us."""
        nonce = boxed[:_NONCE]
        try:
            shared = bindings.crypto_scalarmult(self._secret, boxed[_NONCE:_HEADER])
        except (CryptoError, RuntimeError, ValueError, TypeError):
            return None
        # private-box looks into eight slots, although it writes seven at most.
        for start in range(_HEADER, _HEADER + _SLOT * (MAX_RECIPIENTS + 1), _SLOT):
            if start + _SLOT > len(boxed) - _MAC:
                return None
            try:
                return bindings.crypto_secretbox_open(boxed[start : start + _SLOT], nonce, shared)
            except CryptoError:
                continue
        return None
