"""What may be opened for reading, by whatever name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sneaker.errors import SourceError
from sneaker.files.read_file import file_bytes, is_folder, open_for_reading


def test_a_pipe_is_read_by_the_names_of_open_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    folder = os.open(tmp_path, os.O_RDONLY)
    source, target = os.pipe()
    os.write(target, b"data")
    os.close(target)
    try:
        named = (
            "fifo",
            "/proc/self/cwd/fifo",
            f"/proc/self/root{tmp_path}/fifo",
            f"/dev/fd/{folder}/fifo",
            f"/proc/self/fd/{folder}/fifo",
        )
        for name in named:
            with pytest.raises(SourceError, match="is a named pipe"):
                open_for_reading(Path(name))
        open_for_reading(Path(f"/proc/{os.getpid()}/fd/{source}")).close()
        open_for_reading(Path(f"/proc/self/fd/{source}")).close()
        with open_for_reading(Path(f"/dev/fd/{source}")) as file:
            assert file.read(100) == b"data"
    finally:
        os.close(folder)
        os.close(source)


def test_a_file_that_has_nothing_yet_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = os.pipe()
    os.set_blocking(source, False)
    with monkeypatch.context() as patch:
        patch.setattr("sneaker.files.read_file.os.open", lambda path, flags: source)
        patch.setattr("sneaker.files.read_file.stat.S_ISFIFO", lambda mode: False)
        patch.setattr("sneaker.files.read_file.stat.S_ISREG", lambda mode: True)
        file = open_for_reading(tmp_path / "file")
    with file:
        assert file.read(10) == b""
    os.close(target)


def test_folders_and_sizes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"four")
    (tmp_path / "loop").symlink_to("loop")
    assert is_folder(tmp_path)
    for name in ("file", "missing", "file/below", "loop"):
        assert not is_folder(tmp_path / name)
    for name, words in (("n" * 300, "File name too long"), ("a\0b", "no file of this name")):
        with pytest.raises(OSError, match=words):
            is_folder(tmp_path / name)
        assert file_bytes(tmp_path / name) is None
        with pytest.raises(SourceError):
            open_for_reading(tmp_path / name)
    assert file_bytes(tmp_path / "file") == 4
    assert file_bytes(tmp_path) is None
