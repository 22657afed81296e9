"""The folder of a home: one's own, where nobody else on this machine can put a secret in the place of ours."""

from __future__ import annotations

import os
from pathlib import Path

from sneaker.errors import HomeUnsafe
from sneaker.files.permissions import keeps_permissions, make_private_folder, writable_by_others

__all__ = ["make_home_folder"]


def make_home_folder(path: Path) -> None:
    """Make the folder of a home, or look at the one that is there; raises HomeUnsafe and OSError.

    On file systems without owners (FAT, exFAT) everything belongs to whoever may use them; that is accepted.
    """
    is_new = not path.is_dir()
    make_private_folder(path)
    try:
        _check_folder(path)
    except HomeUnsafe:
        if is_new:
            path.rmdir()
        raise


def _check_folder(path: Path) -> None:
    status = path.stat()
    is_foreign = status.st_uid != os.geteuid() != 0
    found = writable_by_others(path)
    if (is_foreign or found is not None) and not keeps_permissions(path):
        is_foreign, found = False, writable_by_others(path, but_not_on=status.st_dev)
    if found is not None:
        raise HomeUnsafe(
            f"others on this machine may write to {found}, and could put a secret of theirs in the place of yours",
            hint=f"use another --home, or run: chmod go-w {found}",
        )
    if is_foreign:
        raise HomeUnsafe(f"{path} belongs to another user of this machine", hint="use another --home")
