"""What a person names for import: it is opened, recognised, and read without trust in it."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from sneaker.bundle.frames import FOOTER_BYTES, SYNC, parse_footer
from sneaker.errors import SourceError
from sneaker.files.read_file import open_for_reading, reading_error, wait_for_data
from sneaker.keys import Keypair
from sneaker.transfer.source_events import SourceEvent

__all__ = [
    "AGE_ARMOR",
    "BUNDLE_SUFFIX",
    "ENCRYPTED_SUFFIX",
    "LOG_SUFFIXES",
    "READ_BYTES",
    "SNIFF_BYTES",
    "OpenedSource",
    "Source",
    "SourceKind",
    "ends_like_a_bundle",
    "expand_folder",
    "open_source",
    "rejoined",
]

READ_BYTES = 256 * 1024
SNIFF_BYTES = 64 * 1024
AGE_ARMOR = b"-----BEGIN AGE ENCRYPTED FILE-----"
# How our files end.
LOG_SUFFIXES: tuple[str, ...] = (".ndjson", ".jsonl")
BUNDLE_SUFFIX = ".sneaker"
ENCRYPTED_SUFFIX = ".sneaker.age"

# A person chose this folder. A stick's folder is read by the visit, which is stricter.
_MAX_FOLDER_ENTRIES = 100_000
# Folders that file systems have for themselves.
_OF_THE_SYSTEM = ("lost+found", "System Volume Information")


@dataclass(slots=True)
class OpenedSource:
    """An opened file, of which ``start`` was read already.

    There is no path: it may be a pipe, or a copy that has no name.  ``file`` can seek only if ``file.seekable()`` says so.
    ``progress`` is called with bytes read.  ``before_reading`` is called before more is read: a pipe may take as long for
    that as it likes.
    """

    name: str
    start: bytes
    file: BinaryIO
    progress: Callable[[int], None]
    before_reading: Callable[[], None] | None = None

    def chunks(self) -> Iterator[bytes]:
        """Yield the beginning, and then the rest of the file."""
        yield self.start
        while True:
            if self.before_reading is not None:
                self.before_reading()
            data = self.file.read(READ_BYTES)
            if not data:
                return
            self.progress(len(data))
            yield data

    def rejoined(self) -> BinaryIO:
        """Return a file that gives the beginning and then the rest, for pipes, which cannot go back."""
        return rejoined(self.start, self.file)


class SourceKind(ABC):
    """A kind of thing that messages come from: one module each, behind this."""

    #: What reports and ``--json`` call it.
    kind: ClassVar[str]
    #: How its files end, if their first bytes alone do not make them ours in a folder that a person named; else none.
    folder_suffixes: ClassVar[tuple[str, ...]] = ()
    #: The same for an inbox, a folder such as that of downloads, where nobody chose what lies there.
    inbox_suffixes: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def recognises(self, start: bytes) -> bool:
        """Say from its first bytes (up to SNIFF_BYTES count) whether something is of this kind."""

    @abstractmethod
    def read_events(
        self, source: OpenedSource, *, hmac_key: bytes | None, keypair: Keypair | None
    ) -> Iterator[SourceEvent]:
        """Yield what is in it; what is wrong with parts of it is an event, what is wrong with all of it an error.

        ``hmac_key`` is that of the network; ``keypair`` opens what is encrypted to its owner.  Raises SneakerErrors (NotABundle,
        SourceError, DecryptionError, ...) and lets OSErrors of the file through.  Anything else is a bug: import refuses the
        source with it, and goes on with the others.
        """


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
    return wait_for_data(stdin) if source.path is None else open_for_reading(source.path, source.name)


def expand_folder(path: Path, unread: Callable[[str, SourceError], None]) -> Iterator[Source]:
    """Yield the plain files in a folder and the folders in it, by name; links and hidden files are left alone.

    ``unread`` is called with each folder that cannot be read, and why; not for those that systems keep to themselves.
    """
    seen = 0
    waiting = [path]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if folder.name not in _OF_THE_SYSTEM:
                unread(str(folder), reading_error(str(folder), error))
            continue
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
    file.seek(max(0, size - SNIFF_BYTES))
    end = file.read(SNIFF_BYTES)
    return SYNC in end or parse_footer(end[-FOOTER_BYTES:]) is not None


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


def rejoined(start: bytes, rest: BinaryIO) -> BinaryIO:
    """Return a file that gives ``start`` and then ``rest``, for pipes, which cannot go back."""
    return io.BufferedReader(_Chain(start, rest), READ_BYTES)
