"""The configuration file: whatever is in it, an error names it, and none ends a command with a bug."""

from __future__ import annotations

from pathlib import Path

import pytest

from sneaker.errors import ConfigError
from sneaker.home.config import (
    CONFIG_NAME,
    Config,
    DeviceSettings,
    NotifySettings,
    PeerSettings,
    StickSettings,
    load_config,
)

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


WRONG = {
    "drives.mount": ("1", "true or false, not 1"),
    "drives.filesystems": ('["vfat", 1]', "a list of texts such as"),
    "inbox.folders": ('[""]', "a list of texts such as"),
    "notify.hook": ("'notify-me'", "not 'notify-me'"),
    "notify.bell": ('"' + "yes" * 99 + '"', "true or false, not 'yesyes"),
    "peer.listen": ('""', "a text such as \"192.168.1.2:8008\", not ''"),
    "peer.hops": ("11", "a whole number from 0 to 10, not 11"),
    "sticks.stale_days": ("true", "a whole number from 1 to 36500, not True"),
    "sticks.min_free": ("-1", 'a size such as 500_000 or "500M", not -1'),
    "sticks.max_size": ('"many"', "not 'many'"),
    "network.key": ("77", "32 bytes in base64, not what is there"),
}


@pytest.mark.parametrize("setting", WRONG)
def test_an_error_names_the_setting_what_it_takes_and_what_it_was_given(tmp_path: Path, setting: str) -> None:
    value, words = WRONG[setting]
    section, name = setting.split(".")
    (tmp_path / CONFIG_NAME).write_text(f"[{section}]\n{name} = {value}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path)
    assert f"{tmp_path / CONFIG_NAME}: {setting} takes " in caught.value.message
    assert words in caught.value.message
    assert len(caught.value.message) < len(str(tmp_path)) + 200


def test_settings_of_all_kinds(tmp_path: Path) -> None:
    (tmp_path / CONFIG_NAME).write_text(
        '[drives]\nfilesystems = ["vfat"]\nmount = true\n[inbox]\nfolders = ["/in"]\n[notify]\nhook = ["a", "b"]\n'
        '[peer]\nlisten = "[::1]:8008"\nhops = 3\n[sticks]\nmin_free = "1M"\nmax_size = 5000\n'
    )
    config = load_config(tmp_path)
    assert config.drives == DeviceSettings(frozenset({"vfat"}), mount=True)
    assert config.inbox.folders == (Path("/in"),)
    assert config.notify == NotifySettings(hook=("a", "b"))
    assert config.peer == PeerSettings("[::1]:8008", hops=3)
    assert config.sticks == StickSettings(90, 1_000_000, 5000)


def test_defaults_of_the_file_are_those_of_the_program(tmp_path: Path) -> None:
    (tmp_path / CONFIG_NAME).write_text(
        "".join(f"[{name}]\n" for name in ("drives", "inbox", "notify", "peer", "sticks"))
    )
    assert load_config(tmp_path) == Config()


def test_a_misspelt_setting_gets_a_hint(tmp_path: Path) -> None:
    (tmp_path / CONFIG_NAME).write_text("[drives]\nmuont = true\n")
    with pytest.raises(ConfigError, match=r"there is no setting 'drives\.muont'") as caught:
        load_config(tmp_path)
    assert caught.value.hint == "did you mean 'mount'?"
