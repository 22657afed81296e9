"""The blob store: plain files named by the hash of what is in them.

``blobs/sha256/<2 hex>/<62 hex>``, the layout of ssb-blobs, so that other programs can read the folder.  A blob gets its
name only when it is whole, checked and on the disk; what is read is checked again, because disks rot.  Only their owner
may read folders and files: what a person reads is nobody else's business.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sneaker.errors import BlobError, StoreError, StoreFull
from sneaker.files.atomic_write import PART_SUFFIX, move_file, write_whole_file
from sneaker.files.permissions import make_private_folder
from sneaker.limits import MAX_BLOB_BYTES, MIN_FREE_BESIDE_EARLY_BLOBS_BYTES
from sneaker.refs import BlobRef

__all__ = ["BlobCounts", "BlobStore"]

_EARLY_NAME = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class BlobCounts:
    """How many blobs are held, and their size in bytes."""

    count: int
    bytes: int


class BlobStore:
    """Blobs of one home.  Safe for several processes at once: a name appears whole or not at all."""

    def __init__(self, path: Path) -> None:
        self._home = path.parent
        self._top = path
        self._path = path / "sha256"
        self._early = path / "early"
        self._prefix, self._early_prefix = f"{self._path}/", f"{self._early}/"

    def path_of(self, blob: BlobRef) -> Path:
        """Return where a blob is or would be."""
        name = blob.hex()
        return self._path / name[:2] / name[2:]

    def has(self, blob: BlobRef) -> bool:
        """Say whether a blob is held; the empty blob always is (as in ssb-blobs)."""
        return self.size(blob) is not None

    def size(self, blob: BlobRef) -> int | None:
        """Return a blob's size in bytes, or None if it is not held."""
        if blob == _EMPTY:
            return 0
        try:
            # Called for every blob that a message mentions or a peer wants; with a Path it would take four times as long.
            name = blob.hex()
            found = os.stat(f"{self._prefix}{name[:2]}/{name[2:]}")
        except OSError:
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def read(self, blob: BlobRef) -> bytes | None:
        """Return a blob's bytes, or None if it is not held.

        A file whose bytes no longer match their name is put aside (``.damaged``) and counts as not held, so that it can be
        fetched again.
        """
        if blob == _EMPTY:
            return b""
        data = self._read_whole(blob)
        if data is not None and BlobRef.of(data) != blob:
            self.put_aside(blob)
            return None
        return data

    def is_rotten(self, blob: BlobRef) -> bool:
        """Say whether the file of a blob is there and is not that blob any more; raises StoreError if it cannot be read."""
        data = self._read_whole(blob)
        return data is not None and BlobRef.of(data) != blob

    def put_aside(self, blob: BlobRef) -> None:
        """Rename a blob's file to ``.damaged``: the blob counts as not held then, and can be fetched again."""
        path = self.path_of(blob)
        with contextlib.suppress(OSError):
            path.rename(path.with_name(path.name + ".damaged"))

    def _read_whole(self, blob: BlobRef) -> bytes | None:
        """Return the bytes of a blob's file, cut beyond the size that a blob may have; None if there is no file."""
        try:
            with self.path_of(blob).open("rb") as file:
                return file.read(MAX_BLOB_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"cannot read the blob {blob}: {error.strerror}") from None

    def add_blob(self, data: bytes, expected: BlobRef | None = None) -> tuple[BlobRef, bool]:
        """Store a blob and return its id, and whether it is new, once it is on the disk.

        Raises BlobError if it is too large for SSB or is not ``expected``, StoreFull or StoreError if it cannot be written.
        """
        if len(data) > MAX_BLOB_BYTES:
            raise BlobError(
                f"a blob of {len(data):,} bytes is too large",
                hint=f"other SSB programs take blobs of up to {MAX_BLOB_BYTES:,} bytes",
            )
        blob = BlobRef.of(data)
        if expected is not None and blob != expected:
            raise BlobError(f"what came as blob {expected} is another one, {blob}")
        if self.has(blob):
            return blob, False
        self._write(self.path_of(blob), blob, data)
        return blob, True

    def keep_early(self, blob: BlobRef, data: bytes) -> bool:
        """Keep a checked blob that came before any message that mentions it; False if there is no room for it.

        It does not count as held until ``take_early`` is told of a mention.
        """
        if shutil.disk_usage(self._home).free - len(data) < MIN_FREE_BESIDE_EARLY_BLOBS_BYTES:
            return False
        self._write(self._early / blob.hex(), blob, data)
        return True

    def is_early(self, blob: BlobRef) -> bool:
        """Say whether a blob is kept until a message mentions it."""
        return os.path.isfile(self._early_prefix + blob.hex())  # noqa: PTH113 (as in size)

    def take_early(self, blob: BlobRef) -> bool:
        """Hold a blob that waited for a mention; False if it did not wait, or has rotted meanwhile."""
        if not self.is_early(blob):
            return False
        waiting, path = self._early / blob.hex(), self.path_of(blob)
        try:
            whole = BlobRef.of(waiting.read_bytes()) == blob
            if not whole:
                waiting.unlink()
                return False
            make_private_folder(path.parent)
            move_file(waiting, path)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreError(f"cannot store the blob {blob}: {error.strerror}") from None
        return True

    def early(self) -> list[BlobRef]:
        """Return the blobs that wait for a message that mentions them."""
        return sorted(BlobRef(bytes.fromhex(path.name)) for path in self._early_files())

    def forget_early(self, before_s: float) -> int:
        """Remove blobs that nobody has mentioned since they came, if that was before ``before_s``; return how many."""
        removed = 0
        for path in self._early_files():
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < before_s:
                    path.unlink()
                    removed += 1
        return removed

    def _early_files(self) -> list[Path]:
        try:
            return [path for path in self._early.iterdir() if _EARLY_NAME.fullmatch(path.name) and path.is_file()]
        except OSError:
            return []

    def _write(self, path: Path, blob: BlobRef, data: bytes) -> None:
        try:
            make_private_folder(path.parent)
            write_whole_file(path, data, 0o600, replace=True)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreFull("the disk of this machine is full: a blob could not be stored") from None
            raise StoreError(f"cannot store the blob {blob}: {error.strerror}") from None

    def close_to_others(self) -> None:
        """Close the top folder, and with it all that is inside, to others; version 0.1 made it open."""
        with contextlib.suppress(OSError):
            mode = stat.S_IMODE(self._top.stat().st_mode)
            if mode & 0o077:
                self._top.chmod(mode & 0o700)

    def __iter__(self) -> Iterator[BlobRef]:
        """Yield the blobs held, by id; files that are not blobs are left alone."""
        for folder in self._blob_folders():
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                for entry in sorted(entries, key=lambda item: item.name):
                    name = folder.name + entry.name
                    if len(name) == 64 and entry.is_file(follow_symlinks=False):
                        with contextlib.suppress(ValueError):
                            yield BlobRef(bytes.fromhex(name))

    def counts(self) -> BlobCounts:
        """Return how many blobs there are and how large they are."""
        sizes = [self.size(blob) or 0 for blob in self]
        return BlobCounts(len(sizes), sum(sizes))

    def sweep(self, before_s: float) -> int:
        """Remove what interrupted writes left behind before ``before_s``; return how many files that were."""
        removed = 0
        for folder in (*self._blob_folders(), self._early):
            for path in folder.glob(f"*{PART_SUFFIX}"):
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime < before_s:
                        path.unlink()
                        removed += 1
        return removed

    def _blob_folders(self) -> list[Path]:
        try:
            return sorted(path for path in self._path.iterdir() if path.is_dir() and len(path.name) == 2)
        except OSError:
            return []


_EMPTY = BlobRef.of(b"")
