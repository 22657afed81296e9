"""Attachments: files that become blobs, and the links to them in a post."""

from __future__ import annotations

import io
import mimetypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sneaker.errors import BlobError, UsageError
from sneaker.exchange.sources import Source, open_source, source_errors
from sneaker.limits import MAX_BLOB_BYTES
from sneaker.store.blobs import BlobStore

__all__ = ["attach_files"]


def attach_files(blobs: BlobStore, paths: Sequence[Path], content: dict[str, Any]) -> dict[str, Any]:
    """Store files as blobs and return ``content`` with links to them.

    Each is mentioned (link, name, type, size) as other programs do, and a post's text gets a Markdown link, which is what
    they show.  All files are read before any is stored.  Raises SourceError, BlobError or UsageError.
    """
    mentions = content.get("mentions", [])
    if not isinstance(mentions, list):
        raise UsageError("the content's mentions are not a list, so nothing can be attached to it")
    files = [(path, _read(path)) for path in paths]
    added = []
    links = []
    for path, data in files:
        blob, _ = blobs.add(data)
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        name = _name(path)
        added.append({"link": str(blob), "name": name, "type": kind, "size": len(data)})
        label = name.replace("\\", "/").replace("[", "(").replace("]", ")")
        links.append(f"{'!' if kind.startswith('image/') else ''}[{label}]({blob})")
    result = {**content, "mentions": [*mentions, *added]}
    if content.get("type") == "post" and isinstance(content.get("text"), str):
        result["text"] = "\n\n".join([*([content["text"]] if content["text"] else []), *links])
    return result


def _name(path: Path) -> str:
    """Return the name of a file as text: names are bytes, and may have anything in them."""
    name = os.fsencode(path.name).decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in name) or "file"


def _read(path: Path) -> bytes:
    with open_source(Source(str(path), path), io.BytesIO()) as file:
        try:
            data = file.read(MAX_BLOB_BYTES + 1)
        except OSError as error:
            raise source_errors(str(path), error) from None
    if len(data) > MAX_BLOB_BYTES:
        raise BlobError(
            f"{path} is too large to attach", hint=f"other SSB programs take blobs of up to {MAX_BLOB_BYTES:,} bytes"
        )
    return data
