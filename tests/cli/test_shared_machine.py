"""A machine with several people: none of them puts a secret, a setting, a program or a file under another one's hands."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

import pytest

from sneaker.errors import SourceError
from sneaker.stick.safe_folder import Folder
from tests.command_line import sneaker
from tests.devices.quick import quick_devices
from tests.homes import make_home


@pytest.fixture(autouse=True)
def open_umask() -> object:
    """Everything that is made here is open to all, unless the code says otherwise."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_init_makes_a_folder_of_its_own(tmp_path: Path) -> None:
    home = tmp_path / "some" / "where" / "home"
    sneaker("init", at=home)
    for folder in (home, home.parent, home.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not [path for path in home.iterdir() if path.stat().st_mode & stat.S_IWOTH]


@pytest.mark.parametrize("below", ["", "home", "a/b/home"])
def test_init_refuses_a_folder_of_everybody(tmp_path: Path, below: str) -> None:
    """Whoever may write there may exchange the secret, or the whole home, before or after."""
    shared = tmp_path / "shared"
    shared.mkdir(0o777)
    done = sneaker("init", at=shared / below, ok=False)
    assert done.code == 16
    assert str(shared) in done.err
    assert f"chmod go-w {shared}" in done.err
    assert not list(shared.rglob("secret"))
    if below:
        (shared / below).mkdir(0o700, parents=True, exist_ok=True)
        assert sneaker("init", at=shared / below, ok=False).code == 16
    shared.chmod(0o755)
    for folder in shared.rglob("*"):
        folder.chmod(0o755)
    sneaker("init", at=shared / below)


def test_init_in_a_sticky_folder(tmp_path: Path) -> None:
    """As in /tmp: others may put things there, and not take ours away."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)
    sneaker("init", at=tmp_path / "shared" / "home")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_init_for_a_group(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir(0o770)
    os.chown(tmp_path / "shared", -1, 12345)
    assert sneaker("init", at=tmp_path / "shared" / "home", ok=False).code == 16


@pytest.fixture
def hooked(tmp_path: Path) -> Path:
    """A home with a hook that leaves a sign, and an inbox for which there is something to tell."""
    home, inbox = tmp_path / "home", tmp_path / "inbox"
    make_home(home)
    sneaker("publish", "hello", at=home)
    inbox.mkdir(0o700)
    script = tmp_path / "hook"
    script.write_text(f"#!/bin/sh\necho ran >> '{tmp_path}/ran'\n")
    script.chmod(0o700)
    (home / "config.toml").write_text(
        f'[inbox]\nfolders = ["{inbox}"]\n[notify]\ndesktop = false\nhook = ["{script}"]\n'
    )
    (home / "config.toml").chmod(0o600)
    return home


def attend(home: Path) -> tuple[bool, str]:
    """Have something told; return whether the hook ran, and what was said."""
    sneaker("export", home.parent / "inbox" / "x.sneaker", at=home)
    done = sneaker("watch", "--once", at=home, ok=False, prepare=quick_devices)
    assert "inbox" in done.out or "x.sneaker" in done.out
    ran = home.parent / "ran"
    if ran.exists():
        ran.unlink()
        return True, done.err
    return False, done.err


def hook_findings(home: Path) -> list[str]:
    report = json.loads(sneaker("doctor", "--json", at=home, ok=False).out)
    return [finding["hint"] for finding in report["findings"] if finding["code"] == "hook-refused"]


def test_a_hook_runs_if_it_is_ones_own(hooked: Path) -> None:
    assert attend(hooked) == (True, "")
    assert hook_findings(hooked) == []


@pytest.mark.parametrize("place", ["home/config.toml", "hook", "home", "script", "folder"])
def test_a_hook_that_others_may_write_is_refused(hooked: Path, place: str) -> None:
    tmp_path = hooked.parent
    config = hooked / "config.toml"
    target = tmp_path / place
    if place == "script":  # the program is the system's, what it runs is not
        target.write_text(f"echo ran >> '{tmp_path}/ran'\n")
        target.chmod(0o666)
        config.write_text(re.sub(r"hook = .*", f'hook = ["sh", "{target}"]', config.read_text()))
    elif place == "folder":  # whoever may write to the folder may exchange the program
        target.mkdir(0o777)
        (target / "hook").write_bytes((tmp_path / "hook").read_bytes())
        (target / "hook").chmod(0o755)
        config.write_text(re.sub(r"hook = .*", f'hook = ["{target}/hook"]', config.read_text()))
    else:
        target.chmod(target.stat().st_mode | 0o002)
    ran, said = attend(hooked)
    assert not ran
    assert f"the hook is not run: others on this machine may write to {target}" in said
    assert hook_findings(hooked) == [f"run: chmod go-w {target}"]
    target.chmod(target.stat().st_mode & ~0o022)
    assert attend(hooked)[0]


def test_a_private_file_with_a_second_name_on_a_stick_is_left_alone(tmp_path: Path) -> None:
    """In a folder that several people share, somebody may have linked to it a file that only we can read."""
    private, public = tmp_path / "private", tmp_path / "public"
    for path, mode in ((private, 0o600), (public, 0o644)):
        path.write_bytes(b"content")
        path.chmod(mode)
    stick = tmp_path / "stick"
    stick.mkdir()
    (stick / "a").hardlink_to(private)
    (stick / "b").hardlink_to(public)  # as files of ours for a moment, and in copies that share what is equal
    with Folder(os.open(stick, os.O_RDONLY)) as folder:
        listing = folder.list(re.compile("[ab]"))
        assert [entry.name for entry in listing.files] == ["b"]
        assert listing.others == 1
        with pytest.raises(SourceError, match="not a plain file"):
            folder.open("a")
        assert folder.read("b", 100) == b"content"
    private.unlink()
    with Folder(os.open(stick, os.O_RDONLY)) as folder:  # one name, of whatever mode
        assert folder.read("a", 100) == b"content"
