"""The own secret, and the home that holds it, are never given away by mistake: not as text, not as a file, not on a stick."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sneaker.errors import KeysError, PublishUnsafe, StickError
from sneaker.feed.classic.javascript_json import format_json
from sneaker.home.home import Home
from sneaker.keys import Keypair, parse_secret
from sneaker.limits import MAX_SECRET_BYTES
from sneaker.refs import encode_base64

__all__ = ["check_content", "check_file", "check_stick"]

# A key is still readable with these in it: line breaks, spaces, the zeros of UTF-16, backslashes of JSON or a shell.
_SPACES = b" \t\r\n\v\f\0"
_ESCAPES = re.compile(rb"\\[nrt]?")
_TO_BASE64 = bytes.maketrans(b"-_", b"+/")

# The first letters of base64 that do not depend on whether the public key follows the seed, as in the secret file.
_SEED_LETTERS = 42

_FOR_EVER = "whoever gets it can write in your name, for ever"
_STICK_HINT = "name the folder where the stick is mounted, or a folder to be used like one"


def check_content(content: dict[str, Any], keypair: Keypair) -> None:
    """Raise PublishUnsafe if our private key stands anywhere in ``content``."""
    if _has_key(format_json(content).encode("utf-8"), keypair):
        raise PublishUnsafe(f"your private key stands in the content: {_FOR_EVER}", hint="nothing was published")


def check_file(path: Path, data: bytes, home: Home) -> None:
    """Raise PublishUnsafe if the file at ``path``, with ``data`` in it, is not for others.

    That is a file with our private key in it, anybody's secret file, and all that lies in our home.
    """
    if _lies_in(path, home.path):
        raise PublishUnsafe(
            f"{path} lies in your home, beside your secret, so it was not attached",
            hint="if anybody may have this file, copy it to another folder first",
        )
    if _has_key(data, home.keypair):
        raise PublishUnsafe(f"your private key stands in {path}: {_FOR_EVER}", hint="nothing was published")
    if _is_secret(data):
        raise PublishUnsafe(
            f"{path} is the secret of an identity: whoever gets it can write in its name, for ever",
            hint="nothing was published",
        )


def check_stick(root: Path, home: Home) -> None:
    """Raise StickError if ``root`` is the root of this machine, lies in our home, or has our home in it."""
    if root.samefile("/"):
        raise StickError(f"{root} is the root of this machine, not a stick", hint=_STICK_HINT)
    if _lies_in(root, home.path):
        raise StickError(f"{root} is in your home, beside your secret, so it cannot be a stick", hint=_STICK_HINT)
    if _lies_in(home.path, root):
        raise StickError(
            f"your home {home.path} is in {root}, and your secret would lie on the stick: {_FOR_EVER}", hint=_STICK_HINT
        )


def _lies_in(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _is_secret(data: bytes) -> bool:
    if len(data) > MAX_SECRET_BYTES:
        return False
    try:
        parse_secret(data)
    except KeysError:
        return False
    return True


def _has_key(data: bytes, keypair: Keypair) -> bool:
    """Say whether the seed of ``keypair`` is in ``data``: as bytes, as hex or as base64 of either alphabet."""
    text = _ESCAPES.sub(b"", data.translate(None, _SPACES))
    return (
        keypair.seed in data
        or keypair.seed.hex().encode() in text.lower()
        or encode_base64(keypair.seed)[:_SEED_LETTERS].encode() in text.translate(_TO_BASE64)
    )
