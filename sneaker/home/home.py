"""A home: the folder that holds one identity and its store."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sneaker.caps import Caps
from sneaker.errors import HomeMissing, KeysError, OutputError
from sneaker.files.atomic_write import new_file, output_errors
from sneaker.home.folder import make_home_folder
from sneaker.home.origin import Origin, read_origin, write_origin
from sneaker.home.secret_file import load_secret, save_secret
from sneaker.keys import Keypair
from sneaker.store.blobs import BlobStore
from sneaker.store.store import Store

__all__ = [
    "SECRET_NAME",
    "STORE_NAME",
    "Home",
    "create_home",
    "open_home",
    "reopen_store",
]

SECRET_NAME = "secret"  # noqa: S105 (the name of a file)
STORE_NAME = "store.sqlite"


@dataclass(frozen=True, slots=True)
class Home:
    """An opened home; ``close`` it when done, or use it as a context manager."""

    path: Path
    keypair: Keypair
    caps: Caps
    store: Store
    blobs: BlobStore

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store."""
        self.store.close()


def _open_store(path: Path, keypair: Keypair) -> Store:
    from sneaker.feed.private import facts_reader
    from sneaker.store.store import Store

    return Store(path / STORE_NAME, keypair.public, facts_reader(keypair))


def reopen_store(home: Home) -> Store:
    """Open the store of a home once more, for another thread to read in: each sees what is committed when it asks."""
    return _open_store(home.path, home.keypair)


def create_home(path: Path, keypair: Keypair, config_text: str, config_name: str, *, adopted: bool = False) -> None:
    """Make a home for ``keypair``: folder (mode 0700), settings, store and, last, the secret.

    The secret comes last because it is what makes the folder a home: after a power cut in between, ``init`` simply runs
    again.  ``adopted`` says that the identity comes from elsewhere and may have published there.  Raises KeysError if there
    is a secret already, or the messages of a home that has lost another one; HomeUnsafe if others may write there,
    OutputError if something cannot be written.
    """
    if os.path.lexists(path / SECRET_NAME):
        _check_link(path)
        raise KeysError(
            f"there is a home at {path} already", hint="use another --home, or go on with this one: 'sneaker id'"
        )
    with output_errors(path):
        is_other = path.exists() and not path.is_dir()
    if is_other:
        raise OutputError(f"cannot make a home at {path}: it is not a folder", hint="use another --home")
    with output_errors(path):
        make_home_folder(path)
    config, is_used = config_text.encode("utf-8"), _has_messages(path)
    if is_used:
        origin = read_origin(path)
        if not adopted or origin is None or origin.feed != str(keypair.public):
            raise _secret_lost(path, origin)
    with output_errors(path):
        write_origin(path, keypair.public, adopted=adopted)
        if not is_used:
            # Again after a power cut; what another program keeps under that name is not ours to replace.
            with new_file(path / config_name, replaces=config.startswith) as file:
                file.write(config)
    _open_store(path, keypair).close()
    save_secret(path / SECRET_NAME, keypair)


def open_home(path: Path, caps: Caps) -> Home:
    """Open an existing home; raises HomeMissing, KeysError or StoreError."""
    if not (path / SECRET_NAME).exists():
        _check_link(path)
        if _has_messages(path):
            raise _secret_lost(path, read_origin(path))
        raise HomeMissing(f"there is no sneaker home at {path}", hint="run 'sneaker init' to make one")
    keypair = load_secret(path / SECRET_NAME)
    opened = Home(path, keypair, caps, _open_store(path, keypair), BlobStore(path / "blobs"))
    opened.blobs.close_to_others()
    return opened


def _has_messages(path: Path) -> bool:
    """Say whether a folder without a secret holds a store that is in use; that of an ``init`` cut short is empty."""
    from sneaker.store.store import Store

    if not (path / STORE_NAME).exists():
        return False
    with Store(path / STORE_NAME) as store:
        return bool(store.clock() or store.waiting())


def _check_link(path: Path) -> None:
    secret = path / SECRET_NAME
    if secret.is_symlink() and not secret.exists():
        raise KeysError(
            f"the secret {secret} is a link to {secret.readlink()}, which is not there",
            hint="is a disk not mounted? bring it back; a new secret would be a new identity",
        )


def _secret_lost(path: Path, origin: Origin | None) -> KeysError:
    whose = f", that of {origin.feed}," if origin is not None else ""
    return KeysError(
        f"the secret of this home{whose} is missing: {path / SECRET_NAME}",
        hint="bring back the copy that you kept: 'sneaker init --secret FILE' puts it in its place; for a new identity use"
        " another --home",
    )
