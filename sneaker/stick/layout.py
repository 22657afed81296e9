"""The names of files and folders on a stick, and how large a bundle there may be.

    SNEAKER/drive.json                       the marker: what makes a folder a stick
    SNEAKER/README.txt                       for the finder
    SNEAKER/cards/<machine>-<counter>.card   one for each machine
    SNEAKER/bundles/<bundle id>.sneaker

Ids are lower-case base32, which every file system keeps as it is.  A file is never changed after it got its name.
"""

from __future__ import annotations

import re
from base64 import b32decode, b32encode

from sneaker.refs import FeedRef

__all__ = [
    "BUNDLES",
    "BUNDLE_NAME",
    "CARDS",
    "CARD_NAME",
    "FOLDER",
    "MARKER",
    "MAX_STICK_BUNDLE_BYTES",
    "README",
    "base32",
    "bundle_name",
    "card_name",
    "from_base32",
]

FOLDER = "SNEAKER"
CARDS = "cards"
BUNDLES = "bundles"
MARKER = "drive.json"
README = "README.txt"

BUNDLE_NAME = re.compile(r"[a-z2-7]{26}\.sneaker")
CARD_NAME = re.compile(r"([a-z2-7]{52})-([0-9]{1,19})\.card")

# Larger bundles would not fit on every file system, and take old machines too long.
MAX_STICK_BUNDLE_BYTES = 1 << 30


def base32(data: bytes) -> str:
    """Return lower-case base32 without padding: a name that every file system keeps as it is."""
    return b32encode(data).decode("ascii").rstrip("=").lower()


def from_base32(text: str, length: int) -> bytes | None:
    """Return the ``length`` bytes that ``base32`` made ``text`` of, or None if it is not such a name."""
    try:
        data = b32decode(text.upper() + "=" * (-len(text) % 8))
    except ValueError:
        return None
    return data if len(data) == length and base32(data) == text else None


def bundle_name(bundle_id: bytes) -> str:
    """Return the name of the file of a bundle, by its id (16 bytes)."""
    return f"{base32(bundle_id)}.sneaker"


def card_name(machine: FeedRef, counter: int) -> str:
    """Return the name of the file of a machine's card, by its public key and the card's counter."""
    return f"{base32(machine.key)}-{counter}.card"
