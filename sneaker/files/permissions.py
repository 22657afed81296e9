"""Who else on this machine may change what is here: folders of one's own, and a look at those of others."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
import tempfile
from pathlib import Path

from sneaker.files.atomic_write import sync_names

__all__ = ["keeps_permissions", "make_private_folder", "writable_by_others"]


def make_private_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing, each for its owner alone and to stay; raises OSError."""
    if path.is_dir():
        return
    if path.parent != path:
        make_private_folder(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
        # Files that are to stay in it are lost without the folder's own name.
        try:
            descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except PermissionError:
            return  # we may make a folder there, but not open the one above it
        try:
            sync_names(descriptor)
        finally:
            os.close(descriptor)


def writable_by_others(path: Path, *, but_not_on: int | None = None) -> Path | None:
    """Return the first of ``path`` and the folders above it that others on this machine may write to; None if there is none.

    Who may write to a folder may put something else in the place of what is in it, unless the folder is sticky, as /tmp.
    Where links lead is looked at, too.  ``but_not_on`` is the number of a device that is left out.  Raises OSError.
    """
    for place in (path.absolute(), path.resolve()):
        for part in (place, *place.parents):
            status = part.stat()
            sticky = part != place and bool(status.st_mode & stat.S_ISVTX)
            if status.st_dev != but_not_on and not sticky and _is_open(status):
                return part
    return None


def _is_open(status: os.stat_result) -> bool:
    mode = status.st_mode
    return bool(mode & stat.S_IWOTH) or (bool(mode & stat.S_IWGRP) and not _is_own_group(status.st_gid))


def _is_own_group(group_id: int) -> bool:
    """Say whether a group is the one that many systems make for each person, and holds nobody else."""
    try:
        group, name = grp.getgrgid(group_id), pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return False
    return group.gr_name == name and set(group.gr_mem) <= {name}


def keeps_permissions(folder: Path) -> bool:
    """Say whether a folder's file system knows whom a file belongs to; FAT and exFAT do not.  Raises OSError."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".sneaker-") as probe:
        return not Path(probe).stat().st_mode & 0o077
