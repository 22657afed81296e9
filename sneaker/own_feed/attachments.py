"""Attachments: files that become blobs, and the links to them in a post.

A blob is public: whoever sees its id may ask anybody for it.  So it is stored only once its message may be published.
"""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sneaker.errors import BlobError, UsageError
from sneaker.files.read_file import open_for_reading, reading_error
from sneaker.home.home import Home
from sneaker.home.secret_guard import check_file
from sneaker.limits import MAX_BLOB_BYTES
from sneaker.refs import BlobRef
from sneaker.store.blobs import BlobStore

__all__ = ["Attachments", "read_attachments"]


@dataclass(frozen=True, slots=True)
class Attachments:
    """Files with their names, read and not stored yet; ``blobs`` is where they will be."""

    blobs: BlobStore
    files: tuple[tuple[str, bytes], ...]

    def linked_from(self, content: dict[str, Any]) -> dict[str, Any]:
        """Return ``content`` with links to the files; raises UsageError if its mentions are no list.

        Each is mentioned (link, name, type, size) as other programs do, and a post's text gets a Markdown link, which is
        what they show.
        """
        mentions = content.get("mentions", [])
        if not isinstance(mentions, list):
            raise UsageError("the content's mentions are not a list, so nothing can be attached to it")
        added = []
        links = []
        for name, data in self.files:
            blob = BlobRef.of(data)
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            added.append({"link": str(blob), "name": name, "type": kind, "size": len(data)})
            label = name.replace("\\", "/").replace("[", "(").replace("]", ")")
            links.append(f"{'!' if kind.startswith('image/') else ''}[{label}]({blob})")
        result = {**content, "mentions": [*mentions, *added]}
        if content.get("type") == "post" and isinstance(content.get("text"), str):
            result["text"] = "\n\n".join([*([content["text"]] if content["text"] else []), *links])
        return result

    def store(self) -> None:
        """Store the files as blobs; raises StoreError."""
        for _, data in self.files:
            self.blobs.add_blob(data)


def read_attachments(home: Home, paths: Sequence[Path]) -> Attachments:
    """Read files that are to be attached; raises SourceError, BlobError, and PublishUnsafe for what is not for others."""
    files = []
    for path in paths:
        data = _read(path)
        check_file(path, data, home)
        files.append((_name(path), data))
    return Attachments(home.blobs, tuple(files))


def _name(path: Path) -> str:
    """Return the name of a file as text: names are bytes, and may have anything in them."""
    name = os.fsencode(path.name).decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in name) or "file"


def _read(path: Path) -> bytes:
    with open_for_reading(path) as file:
        try:
            data = file.read(MAX_BLOB_BYTES + 1)
        except OSError as error:
            raise reading_error(str(path), error) from None
    if len(data) > MAX_BLOB_BYTES:
        raise BlobError(
            f"{path} is too large to attach", hint=f"other SSB programs take blobs of up to {MAX_BLOB_BYTES:,} bytes"
        )
    return data
