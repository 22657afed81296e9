"""The origin of a home: whose it is, in which place, and whether its identity was brought from elsewhere."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from sneaker.files.atomic_write import output_errors
from sneaker.home.copy_detection import read_note, write_note
from sneaker.refs import FeedRef

__all__ = ["Origin", "read_origin", "write_origin"]

_ORIGIN_NAME = "origin.json"


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose home a folder is, and where it is at home; see ``own_feed.fork_guard``.

    ``name`` is a random one, which this home and its copies have and no other.  ``adopted`` says that the identity comes
    from elsewhere and may have published there.  ``is_here`` is that of the note.
    """

    feed: str
    name: str
    adopted: bool
    is_here: bool | None


def read_origin(path: Path) -> Origin | None:
    """Return the origin of the home at ``path``; None if there is none, or it cannot be read."""
    note = read_note(path / _ORIGIN_NAME)
    if note is None:
        return None
    feed, name = note.fields.get("feed"), note.fields.get("name")
    if not isinstance(feed, str) or not isinstance(name, str):
        return None
    return Origin(feed, name, note.fields.get("adopted") is not False, note.is_here)


def write_origin(path: Path, feed: FeedRef, *, name: str | None = None, adopted: bool = False) -> str:
    """Write down that the home at ``path`` is that of ``feed``, here; return its name, a new one if none is given.

    Raises OutputError.
    """
    chosen = name if name is not None else secrets.token_hex(16)
    with output_errors(path / _ORIGIN_NAME):
        write_note(path / _ORIGIN_NAME, {"feed": str(feed), "name": chosen, "adopted": adopted})
    return chosen
