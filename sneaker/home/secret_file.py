"""The ``secret`` file: read whole or not at all, and never written over."""

from __future__ import annotations

from pathlib import Path

from sneaker.errors import KeysError
from sneaker.files.atomic_write import write_whole_file
from sneaker.keys import Keypair, format_secret, parse_secret
from sneaker.limits import MAX_SECRET_BYTES

__all__ = ["load_secret", "save_secret"]


def load_secret(path: Path) -> Keypair:
    """Read a ``secret`` file; raises KeysError if it is missing, unreadable or damaged."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SECRET_BYTES + 1)
    except FileNotFoundError:
        raise KeysError(f"no secret file at {path}") from None
    except OSError as error:
        raise KeysError(f"cannot read the secret file {path}: {error.strerror}") from None
    if len(data) > MAX_SECRET_BYTES:
        raise KeysError(f"{path} is too large to be a secret file")
    try:
        return parse_secret(data)
    except KeysError as error:
        raise KeysError(f"{path}: {error.message}", hint=error.hint) from None


def save_secret(path: Path, pair: Keypair) -> None:
    """Write a new ``secret`` file, mode 0600, synced to disk; raises KeysError if one is there already.

    A power cut leaves either no secret or a whole one, and two ``init`` at once cannot overwrite each other.
    """
    try:
        write_whole_file(path, format_secret(pair).encode("utf-8"), 0o600, replace=False)
    except FileExistsError:
        raise KeysError(f"there is a secret at {path} already", hint="sneaker never writes over a secret") from None
    except OSError as error:
        raise KeysError(f"cannot write the secret file {path}: {error.strerror}") from None
