"""Where the volumes of an export go, and how large a bundle may be so that its file is not too large."""

from __future__ import annotations

import contextlib
from base64 import b32encode
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from sneaker.bundle.frames import MAGIC
from sneaker.errors import OutputError
from sneaker.files.atomic_write import new_file, output_errors
from sneaker.files.read_file import is_folder
from sneaker.transfer.add_parity import append_parity, plain_limit
from sneaker.transfer.encrypted_size import limit_before_encryption
from sneaker.transfer.export_options import ExportOptions
from sneaker.transfer.sources import BUNDLE_SUFFIX, ENCRYPTED_SUFFIX

__all__ = ["ExportFiles"]


class ExportFiles:
    """Opens volumes for an export: in a file, in a folder, or standard output; encrypted, and with parity, if asked for."""

    def __init__(self, destination: str, options: ExportOptions, stdout: BinaryIO) -> None:
        """Raises OutputError if ``destination`` names a folder, by a ``/`` at its end, and is none, or cannot be looked at."""
        self.options = options
        self.stdout = stdout
        self.written: list[tuple[str, int]] = []
        self.to_stdout = destination == "-"
        self.path = Path(destination)
        if not destination:  # for the system that is the folder one is in, and seldom meant
            raise OutputError("cannot write to a file without a name")
        with output_errors(destination):
            self.into_folder = not self.to_stdout and is_folder(self.path)
        if destination.endswith("/") and not self.into_folder:
            # Without this, the bundle would become a plain file of that name, in the place of a stick that is not there.
            reason = "it is not a folder" if self.path.exists() else "there is no such folder"
            raise OutputError(
                f"cannot write to {destination}: {reason}",
                hint="a name that ends in / is that of a folder; is the stick there?",
            )

    def plain_limit(self, size: int | None) -> int | None:
        """Return how large a bundle may be so that the file made of it is not larger than ``size``."""
        if size is None:
            return None
        if self.options.parity:
            return plain_limit(size, self.options.parity)
        if not self.options.recipients:
            return size
        return limit_before_encryption(size, len(self.options.recipients), padded=self.options.pad)

    def open_volume(self, number: int, bundle_id: bytes) -> AbstractContextManager[Callable[[bytes], object]]:
        """Open volume ``number``, from 1; raises OutputError for a second one on standard output."""
        if self.options.dry_run:
            return contextlib.nullcontext(len)
        if self.to_stdout:
            if number > 1:
                raise OutputError(
                    "the bundle does not fit into one volume", hint="export to a folder, or use --max-size"
                )
            return self._to_stdout()
        return self._to_file(number, bundle_id)

    @contextlib.contextmanager
    def _to_stdout(self) -> Iterator[Callable[[bytes], object]]:
        with output_errors("standard output"), self._encrypted(self.stdout) as file:
            yield file.write
        self.stdout.flush()

    @contextlib.contextmanager
    def _to_file(self, number: int, bundle_id: bytes) -> Iterator[Callable[[bytes], object]]:
        path = self._name(number, bundle_id)
        with output_errors(path):
            with new_file(path, replaces=_is_bundle) as file:
                with self._encrypted(file) as plain:
                    yield plain.write
                if self.options.parity:
                    # Larger than any record number of the bundle: the numbers only have to grow.
                    append_parity(file, bundle_id[:8], 1 << 31, self.options.parity)
                size = file.tell()
            self.written.append((str(path), size))

    def _encrypted(self, file: BinaryIO) -> AbstractContextManager[BinaryIO]:
        if not self.options.recipients:
            return contextlib.nullcontext(file)
        from sneaker.transfer.age_encryption import encrypting

        return encrypting(file, self.options.recipients)

    def _name(self, number: int, bundle_id: bytes) -> Path:
        """Return the file of a volume: a random name in a folder, or the given one, numbered from the second volume on."""
        if self.into_folder:
            name = b32encode(bundle_id).decode("ascii").rstrip("=").lower()
            return self.path / (name + (ENCRYPTED_SUFFIX if self.options.recipients else BUNDLE_SUFFIX))
        return self.path if number == 1 else self.path.with_name(f"{self.path.stem}.{number}{self.path.suffix}")


def _is_bundle(start: bytes) -> bool:
    return start.startswith((MAGIC, b"age-encryption.org/"))
