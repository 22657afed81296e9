"""A home: the folder that holds one identity and its store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sneaker.caps import Caps
from sneaker.errors import HomeMissing, KeysError
from sneaker.exchange.homefolder import make_home_folder
from sneaker.exchange.output import new_file, output_errors
from sneaker.exchange.placenote import write_note
from sneaker.keys import Keypair, load_secret, save_secret
from sneaker.store.base import Store
from sneaker.store.blobs import BlobStore

__all__ = ["ADOPTED", "ORIGIN_NAME", "SECRET_NAME", "STORE_NAME", "Home", "create_home", "open_home", "reopen_store"]

SECRET_NAME = "secret"  # noqa: S105 (the name of a file)
STORE_NAME = "store.sqlite"
# Says where this home is at home, and with ADOPTED that its identity may have published elsewhere; see ``standing``.
ORIGIN_NAME = "origin.json"
ADOPTED = "adopted"


@dataclass(frozen=True, slots=True)
class Home:
    """An opened home; close ``store`` when done (or use it as a context manager)."""

    path: Path
    keypair: Keypair
    caps: Caps
    store: Store

    @property
    def blobs(self) -> BlobStore:
        """The blobs of this home."""
        return BlobStore(self.path / "blobs")


def _open_store(path: Path, keypair: Keypair) -> Store:
    from sneaker.private import facts_reader
    from sneaker.store.sqlite import SqliteStore

    return SqliteStore.open(path / STORE_NAME, keypair.public, facts_reader(keypair))


def reopen_store(home: Home) -> Store:
    """Open the store of a home once more, for another thread to read in: each sees what is committed when it asks."""
    return _open_store(home.path, home.keypair)


def create_home(path: Path, keypair: Keypair, config_text: str, config_name: str, *, adopted: bool = False) -> None:
    """Make a home for ``keypair``: folder (mode 0700), settings, store and, last, the secret.

    The secret comes last because it is what makes the folder a home: after a power cut in between, ``init`` simply runs
    again.  ``adopted`` says that the identity comes from elsewhere and may have published there.  Raises KeysError if there is a
    secret already, HomeUnsafe if others may write there, OutputError if something cannot be written.
    """
    if (path / SECRET_NAME).exists():
        raise KeysError(
            f"there is a home at {path} already", hint="use another --home, or go on with this one: 'sneaker id'"
        )
    with output_errors(path):
        make_home_folder(path)
        write_note(path / ORIGIN_NAME, {ADOPTED: adopted})
        with new_file(path / config_name) as file:
            file.write(config_text.encode("utf-8"))
    _open_store(path, keypair).close()
    save_secret(path / SECRET_NAME, keypair)


def open_home(path: Path, caps: Caps) -> Home:
    """Open an existing home; raises HomeMissing, KeysError or StoreError."""
    if not (path / SECRET_NAME).exists():
        raise HomeMissing(f"there is no sneaker home at {path}", hint="run 'sneaker init' to make one")
    keypair = load_secret(path / SECRET_NAME)
    opened = Home(path, keypair, caps, _open_store(path, keypair))
    opened.blobs.close_to_others()
    return opened
