"""A stick: the ``SNEAKER`` folder on a device, or in any folder, with its marker, its cards and its bundles."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from sneaker.errors import SourceError, StickError
from sneaker.files.atomic_write import reason_of
from sneaker.stick.finder_readme import README_TEXT
from sneaker.stick.layout import BUNDLES, CARDS, FOLDER, MARKER, README
from sneaker.stick.marker import Marker, format_marker, parse_marker
from sneaker.stick.safe_folder import Folder

__all__ = ["Stick", "stick_errors"]

_MAX_MARKER_BYTES = 64 * 1024

# On a medium the next machine writes with another user id: anybody may add files, and only who wrote one may remove it.
# A folder on this machine's own disk is the business of its owner.
_MEDIUM_MODE = 0o1777
_FOLDER_MODE = 0o755


@contextlib.contextmanager
def stick_errors(root: Path) -> Iterator[None]:
    """Turn what a stick does to who reads it (OSError, or something strange in a file's place) into StickError."""
    try:
        yield
    except OSError as error:
        raise StickError(f"the stick at {root} failed: {reason_of(error)}") from error
    except SourceError as error:
        raise StickError(error.message, hint="somebody put something else there; look at it yourself") from error


class Stick:
    """An opened stick; a context manager.

    ``root`` is the folder that has ``SNEAKER`` in it.  OSErrors from its folders come as they are.
    """

    def __init__(self, path: Path) -> None:
        """Open the stick at ``path``, which may also be its ``SNEAKER`` folder itself.

        Raises StickError if ``path`` is no folder, or something else has that folder's name.
        """
        self.root = _root_of(path)
        self._folders: dict[str, Folder] = {}
        try:
            self._top = Folder(os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError as error:
            reason = "it is not a folder" if error.errno == errno.ENOTDIR else reason_of(error)
            raise StickError(f"cannot open {self.root}: {reason}") from None
        try:
            with stick_errors(self.root):
                found = self._top.subfolder(FOLDER)
        except BaseException:
            self._top.close()
            raise
        if found is not None:
            self._folders[""] = found

    def __enter__(self) -> Stick:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all folders."""
        for folder in (*self._folders.values(), self._top):
            folder.close()
        self._folders.clear()

    def folder(self, name: str) -> Folder | None:
        """Return ``CARDS`` or ``BUNDLES``, or None if it is not there (a replicator may bring it later)."""
        if name not in self._folders and "" in self._folders:
            found = self._folders[""].subfolder(name)
            if found is not None:
                self._folders[name] = found
        return self._folders.get(name)

    def make_folder(self, name: str) -> Folder:
        """Return ``CARDS`` or ``BUNDLES``, made if need be."""
        found = self.folder(name)
        if found is None:
            found = self._folders[name] = self._folders[""].make_subfolder(name, self._mode)
        return found

    @property
    def _mode(self) -> int:
        return _MEDIUM_MODE if self._top.is_mount_point else _FOLDER_MODE

    def marker(self) -> Marker | None:
        """Return the stick's marker, or None if there is none; raises StickError if it cannot be read or understood."""
        folder = self._folders.get("")
        if folder is None:
            return None
        with stick_errors(self.root):
            try:
                data = folder.read(MARKER, _MAX_MARKER_BYTES)
            except FileNotFoundError:
                return None
        try:
            return parse_marker(data)
        except StickError as error:
            raise StickError(f"{self.root}: {error.message}", hint=error.hint) from None

    def create(self, marker: Marker) -> None:
        """Make the folder and its marker; whoever comes first wins, and nothing that is there is changed.  Raises OSError."""
        if "" not in self._folders:
            self._folders[""] = self._top.make_subfolder(FOLDER, self._mode)
        self.make_folder(CARDS)
        self.make_folder(BUNDLES)
        self._folders[""].write_small(README, README_TEXT.encode("ascii"))
        self._folders[""].write_small(MARKER, format_marker(marker))
        self._top.sync()

    def free_bytes(self) -> int:
        """Return the room that is left on the file system."""
        return self._top.free_bytes()

    def sync(self) -> None:
        """Make the names on the stick durable."""
        for folder in self._folders.values():
            folder.sync()


def _root_of(path: Path) -> Path:
    """Return the folder above, if ``path`` is the ``SNEAKER`` folder of a stick: people name either."""
    with contextlib.suppress(OSError):
        real = path.resolve()
        if real.name == FOLDER and (real / MARKER).is_file() and not (real / FOLDER).is_dir():
            return real.parent
    return path
