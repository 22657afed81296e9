"""The Python API: what other programs may use of sneaker.  ``guide/python-api.md`` shows it.

``import sneaker`` loads this module when one of its names is used, and not before.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sneaker.caps import MAIN_CAPS, MAIN_NETWORK_KEY, Caps
from sneaker.errors import HomeMissing, SneakerError, UsageError
from sneaker.files.read_file import open_for_reading, reading_errors
from sneaker.home.config import load_config
from sneaker.home.home import Home
from sneaker.home.home import open_home as _open_home
from sneaker.ingest.reports import ImportReport
from sneaker.refs import FeedRef
from sneaker.transfer.export import export as _export
from sneaker.transfer.export_options import DEFAULT_VOLUME_BYTES, ExportOptions, ExportReport
from sneaker.transfer.import_files import import_sources
from sneaker.transfer.read_bundle import bundle_messages
from sneaker.transfer.verify import VerifyReport
from sneaker.transfer.verify import verify as _verify

__all__ = [
    "ExportReport",
    "Home",
    "ImportReport",
    "Message",
    "SneakerError",
    "VerifyReport",
    "export",
    "import_files",
    "open_home",
    "read_bundle",
    "verify",
]

AnyPath = str | os.PathLike[str]
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    ``key``, ``author`` and ``previous`` are ids in text; ``previous`` is None in the first message of a feed.  ``timestamp`` is
    the author's claim, in milliseconds since 1970, and may be any JSON value.  ``content`` is an object, or text if it is
    encrypted.  ``text`` is the message itself, with its signature: of a classic one the canonical text, UTF-8.
    """

    key: str
    author: str
    sequence: int
    previous: str | None
    timestamp: Any
    content: dict[str, Any] | str
    text: bytes


def open_home(path: AnyPath) -> Home:
    """Open the home in the folder ``path``; close it with ``close``, or use it in a ``with`` statement.

    Raises HomeMissing if there is none (``sneaker init`` makes one), ConfigError, KeysError or StoreError.
    """
    if "\0" in os.fspath(path):
        raise HomeMissing(f"there is no sneaker home at {os.fspath(path)!r}: no folder can have this name")
    return _open_home(Path(path), load_config(Path(path)).caps)


def import_files(
    home: Home, paths: Iterable[AnyPath], *, hops: int | None = None, dry_run: bool = False
) -> ImportReport:
    """Take in bundles, logs, cards, and folders of them, as ``sneaker import`` does.

    ``hops`` leaves out feeds that are farther away in the follow graph.  What is wrong with a file is in the report; raises
    only StoreError, what is wrong on this machine, and UsageError for fewer than 0 ``hops``.
    """
    _check_hops(hops)
    names = [_file_name(path) for path in _several(paths, "paths")]
    return import_sources(home, names, stdin=io.BytesIO(), now_ms=_now_ms, hops=hops, dry_run=dry_run)


def export(
    home: Home,
    destination: AnyPath,
    *,
    readers: Iterable[str] = (),
    feeds: Iterable[str] | None = None,
    hops: int | None = None,
    max_bytes: int | None = None,
    blobs: bool = True,
    recipients: Iterable[str] = (),
    dry_run: bool = False,
) -> ExportReport:
    """Write a bundle to a file or into a folder, as ``sneaker export`` does.

    ``readers`` are paths of cards or clocks, or ids of known peers: what any of them lacks is written, or all there is if there
    are none.  ``recipients`` are feed ids (or age recipients) to encrypt to.  ``max_bytes`` is at least 65,536.  Raises OutputError,
    UsageError, RefError or StoreError; no file appears that is not whole.
    """
    _check_hops(hops)
    options = ExportOptions(
        readers=tuple(_several(readers, "readers")),
        feeds={FeedRef.parse(feed) for feed in _several(feeds, "feeds")} if feeds is not None else None,
        hops=hops,
        blobs=blobs,
        max_bytes=max_bytes,
        volume_bytes=DEFAULT_VOLUME_BYTES,
        recipients=tuple(_several(recipients, "recipients")),
        dry_run=dry_run,
    )
    name = _file_name(destination)
    return _export(home, name, options, stdout=io.BytesIO(), now_ms=_now_ms(), random_bytes=os.urandom)


def read_bundle(path: AnyPath, *, home: Home | None = None) -> Iterator[Message]:
    """Yield the messages of a bundle, without a store.

    Each is one that its author signed; what is damaged or invalid is left out, and ``verify`` says what that was.  They come in
    order within a feed, but the ones before them may be elsewhere.  An encrypted bundle needs the ``home`` that it is for,
    and one of another network than the main one a home of that network.  Raises SourceError, NotABundle or DecryptionError.
    """
    caps, keypair = (home.caps, home.keypair) if home is not None else (MAIN_CAPS, None)
    with open_for_reading(Path(path)) as file, reading_errors(os.fspath(path)):
        for message in bundle_messages(file, os.fspath(path), keypair=keypair, hmac_key=caps.hmac_key):
            yield Message(
                key=str(message.key),
                author=str(message.author),
                sequence=message.sequence,
                previous=str(message.previous) if message.previous is not None else None,
                timestamp=message.timestamp,
                content=message.content,
                text=message.text,
            )


def verify(path: AnyPath, *, hmac_key: bytes | None = None) -> VerifyReport:
    """Check every signature, hash and chain of a bundle or log, without a store.

    ``hmac_key`` is for test networks that have one.  Raises SourceError, NotABundle, or StoreFull if there is no room to sort.
    """
    with open_for_reading(Path(path)) as file, reading_errors(os.fspath(path)):
        return _verify(file, os.fspath(path), Caps(MAIN_NETWORK_KEY, hmac_key), progress=lambda done: None)


def _check_hops(hops: int | None) -> None:
    if hops is not None and hops < 0:
        raise UsageError(f"hops are steps of follows: 0 or more, not {hops}")


def _several(items: Iterable[_Item], name: str) -> Iterable[_Item]:
    """Return ``items``; raises TypeError for a text, which would be taken letter by letter."""
    if isinstance(items, str | bytes | os.PathLike):
        raise TypeError(f"{name} takes a list, not one of its items: {name}=[{items!r}]")
    return items


def _file_name(path: AnyPath) -> str:
    """Return a path as the rooms below take it: ``-`` is a file here, and not standard input or output."""
    name = os.fspath(path)
    return name if name != "-" else os.path.join(os.curdir, name)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
