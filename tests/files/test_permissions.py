"""What is in a home is its owner's alone, and who else may write somewhere is seen."""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
from pathlib import Path

import pytest

from sneaker.files.permissions import keeps_permissions, make_private_folder, writable_by_others
from sneaker.store.database import connect
from tests.homes import home


def modes_in(folder: Path) -> set[tuple[str, int]]:
    return {
        ("folder" if path.is_dir() else "file", stat.S_IMODE(path.stat().st_mode))
        for path in [folder, *folder.rglob("*")]
    }


@pytest.fixture(autouse=True)
def open_umask() -> object:
    before = os.umask(0)
    yield
    os.umask(before)


def test_blobs_are_their_owners_alone(tmp_path: Path) -> None:
    with home(tmp_path / "home", b"\x01" * 32) as opened:
        blob, _ = opened.blobs.add_blob(b"a letter")
        opened.blobs.keep_early(blob, b"a letter")
        assert modes_in(tmp_path / "home" / "blobs") == {("folder", 0o700), ("file", 0o600)}
        (tmp_path / "home" / "blobs").chmod(0o755)
    with home(tmp_path / "home") as opened:
        assert opened.blobs.read(blob) == b"a letter"
    assert stat.S_IMODE((tmp_path / "home" / "blobs").stat().st_mode) == 0o700


def test_sqlite_believes_nothing_of_the_file(tmp_path: Path) -> None:
    connection = connect(tmp_path / "store.sqlite")
    try:
        assert connection.execute("PRAGMA trusted_schema").fetchone() == (0,)
        assert connection.execute("PRAGMA cell_size_check").fetchone() == (1,)
        if sys.version_info >= (3, 12):
            connection.execute("PRAGMA writable_schema = ON")
            with pytest.raises(sqlite3.OperationalError):
                connection.execute("UPDATE sqlite_schema SET sql = 'x'")
    finally:
        connection.close()


def test_who_else_may_write(tmp_path: Path) -> None:
    make_private_folder(tmp_path / "a" / "b")
    file = tmp_path / "a" / "b" / "file"
    file.touch(0o600)
    assert modes_in(tmp_path / "a") == {("folder", 0o700), ("file", 0o600)}
    assert writable_by_others(file) is None
    file.chmod(0o666)
    assert writable_by_others(file) == file
    file.chmod(0o644)
    (tmp_path / "a").chmod(0o777)  # its folder is closed, but can be exchanged
    assert writable_by_others(file) == tmp_path / "a"
    (tmp_path / "a").chmod(0o1777)
    assert writable_by_others(file) is None
    link = tmp_path / "link"
    link.symlink_to(file)
    file.chmod(0o622)
    assert writable_by_others(link) in (link, file)


def test_a_group_of_ones_own_is_nobody_else(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    file.chmod(0o664)
    os.chown(file, -1, os.getegid())
    own = writable_by_others(file)
    if os.geteuid() == 0:
        assert own is None  # root's group is root's
        os.chown(file, -1, 12345)
        assert writable_by_others(file) == file


def test_most_file_systems_keep_permissions(tmp_path: Path) -> None:
    assert keeps_permissions(tmp_path)
    assert not list(tmp_path.iterdir())
