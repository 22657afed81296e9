"""The configuration file: whatever is in it, an error names it, and none ends a command with a bug."""

from __future__ import annotations

from pathlib import Path

import pytest

from sneaker.errors import ConfigError
from sneaker.home.config import CONFIG_NAME, load_config

ODD = {
    "not UTF-8": b"\xff",
    "not TOML": b"[inbox",
    "nested": b"a = " + b"[" * 2000,
    "a number of thousands of digits": b"a = " + b"\n".join([b"1" * 4000]) + b"1" * 90,
    "a hexadecimal one": b"a = 0x" + b"f" * 4000,
    "a date that there is not": b"a = 2024-02-31",
    "a folder of nobody": b'[inbox]\nfolders = ["~nosuchuser/Inbox"]',
    "a long key": b"a" + b".a" * 30_000 + b" = 1",
    "too large": b"# remark\n" * 10_000,
    "a section that is none": b"inbox = 1",
    "an unknown setting": b"[inbox]\nfolder = []",
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_configuration_is_an_error_of_its_own(tmp_path: Path, name: str) -> None:
    (tmp_path / CONFIG_NAME).write_bytes(ODD[name])
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path)
    assert str(tmp_path / CONFIG_NAME) in caught.value.message
