"""Opening what a person names for import: finding out what it is, and reading it without trusting it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

from sneaker.bundle.card import CARD_MAGIC
from sneaker.bundle.frames import FOOTER_BYTES, MAGIC, SYNC, parse_footer
from sneaker.errors import NotABundle, SourceError
from sneaker.feed.json_stream import looks_like_objects
from sneaker.files.read_file import open_for_reading, reading_error

__all__ = [
    "AGE_ARMOR",
    "BUNDLE_SUFFIX",
    "ENCRYPTED_SUFFIX",
    "LOG_SUFFIXES",
    "READ_BYTES",
    "Kind",
    "Source",
    "chunks",
    "ends_like_a_bundle",
    "expand_folder",
    "open_source",
    "rejoined",
    "sniff",
]

READ_BYTES = 256 * 1024
_SNIFF_BYTES = 64 * 1024
AGE_ARMOR = b"-----BEGIN AGE ENCRYPTED FILE-----"
_AGE = (b"age-encryption.org/v1", AGE_ARMOR)
_ZSTD = b"\x28\xb5\x2f\xfd"
# How our files end. In a folder, logs are known by that, for there may be other JSON; bundles and cards by their first bytes.
LOG_SUFFIXES = (".ndjson", ".jsonl")
BUNDLE_SUFFIX = ".sneaker"
ENCRYPTED_SUFFIX = ".sneaker.age"

# A person chose this folder. A stick's folder is read by the visit, which is stricter.
_MAX_FOLDER_ENTRIES = 100_000


class Kind(StrEnum):
    """What a source is, as reports name it."""

    BUNDLE = "bundle"
    ENCRYPTED = "encrypted"
    NDJSON = "ndjson"
    CARD = "card"


@dataclass(frozen=True, slots=True)
class Source:
    """Something to import: ``path`` is None for standard input; ``name`` is for reports.

    ``found`` says that it was found in a folder, not named by the person: then files of other kinds are passed over.
    """

    name: str
    path: Path | None
    found: bool = False


def open_source(source: Source, stdin: BinaryIO) -> BinaryIO:
    """Open a source for reading; raises SourceError for what is not a plain file."""
    return stdin if source.path is None else open_for_reading(source.path, source.name)


def expand_folder(path: Path) -> Iterator[Source]:
    """Yield the plain files in a folder and the folders in it, by name; links and hidden files are left alone."""
    seen = 0
    waiting = [path]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise reading_error(str(folder), error) from None
        seen += len(found)
        if seen > _MAX_FOLDER_ENTRIES:
            raise SourceError(f"there are more than {_MAX_FOLDER_ENTRIES} files in {path}")
        for entry in found:
            if entry.name.startswith("."):
                continue
            if entry.is_file(follow_symlinks=False):
                yield Source(entry.path, Path(entry.path), found=True)
        waiting += [
            Path(entry.path)
            for entry in reversed(found)
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
        ]


def ends_like_a_bundle(file: BinaryIO) -> bool:
    """Say whether a seekable file ends as a bundle does, though its beginning may be lost to a bad sector."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _SNIFF_BYTES))
    end = file.read(_SNIFF_BYTES)
    return SYNC in end or parse_footer(end[-FOOTER_BYTES:]) is not None


def sniff(start: bytes, name: str) -> Kind:
    """Say what begins with ``start`` (up to 64 KiB); raises NotABundle if it is nothing sneaker reads."""
    if start.startswith(MAGIC) or SYNC in start[:_SNIFF_BYTES]:
        return Kind.BUNDLE
    if start.startswith(CARD_MAGIC):
        return Kind.CARD
    if start.startswith(_AGE):
        return Kind.ENCRYPTED
    if looks_like_objects(start):
        return Kind.NDJSON
    if not start:
        raise NotABundle(f"{name} is empty")
    hint = "unpack it first: zstdcat FILE | sneaker import -" if start.startswith((_ZSTD, b"\x1f\x8b")) else None
    raise NotABundle(f"{name} is not a bundle and not a log of messages", hint=hint)


class _Chain(io.RawIOBase):
    """Bytes that were read already, then the rest of a file."""

    def __init__(self, start: bytes, rest: BinaryIO) -> None:
        self._start = memoryview(start)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._start:
            data = self._rest.read(len(buffer))
            buffer[: len(data)] = data
            return len(data)
        count = min(len(buffer), len(self._start))
        buffer[:count] = self._start[:count]
        self._start = self._start[count:]
        return count


def chunks(
    start: bytes, rest: BinaryIO, progress: Callable[[int], None], before: Callable[[], None] | None = None
) -> Iterator[bytes]:
    """Yield ``start``, which was read already, and then the rest of a file; ``progress`` is called with bytes read.

    ``before`` is called before more is read, because a pipe may keep us waiting.
    """
    data = start
    while True:
        yield data
        if before is not None:
            before()
        data = rest.read(READ_BYTES)
        if not data:
            return
        progress(len(data))


def rejoined(start: bytes, rest: BinaryIO) -> BinaryIO:
    """Return a file that gives ``start`` and then ``rest``, for pipes, which cannot go back."""
    return io.BufferedReader(_Chain(start, rest), READ_BYTES)
