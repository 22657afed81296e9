"""sneaker setup: what it writes, where, and that it takes back all of it and nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Collection
from pathlib import Path

import pytest

from tests.command_line import Done, sneaker

ROOT = Path(__file__).parent.parent.parent


def setup(tmp_path: Path, *arguments: str, check: bool = True, home: str | None = None) -> Done:
    before = ["--home", home] if home else []
    env = {**os.environ, "HOME": str(tmp_path)}
    return sneaker(*before, "setup", *arguments, ok=check, cwd=tmp_path, env=env)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_print_shows_and_writes_nothing(tmp_path: Path) -> None:
    shown = setup(tmp_path, "--print").out
    for word in (
        "90-sneaker.rules",
        "sneaker.service",
        "50-sneaker-mount.rules",
        "NoNewPrivileges=yes",
        "polkit.addRule",
    ):
        assert word in shown
    assert "@" not in re.sub(r"~?@(system-service|privileged|resources|obsolete)", "", shown)
    value = json.loads(setup(tmp_path, "--print", "--json").out)
    assert "/etc/udev/rules.d/90-sneaker.rules" in [file["path"] for file in value["files"]]
    assert files(tmp_path) == []


@pytest.mark.systemd
def test_install_and_uninstall_below_a_folder(tmp_path: Path) -> None:
    image = tmp_path / "image"
    kept = image / "etc/udev/rules.d/10-other.rules"
    kept.parent.mkdir(parents=True)
    kept.write_text("# somebody else's\n")
    setup(tmp_path, "--root", str(image), "--hub")
    assert files(image) == [
        "etc/polkit-1/rules.d/50-sneaker-mount.rules",
        "etc/systemd/user/sneaker.service",
        "etc/udev/rules.d/10-other.rules",
        "etc/udev/rules.d/90-sneaker.rules",
    ]
    link = image / "etc/systemd/user/default.target.wants/sneaker.service"
    assert link.is_symlink()
    setup(tmp_path, "--root", str(image), "--hub")  # twice is once
    setup(tmp_path, "--root", str(image), "--uninstall")
    assert not link.is_symlink()
    assert files(image) == ["etc/udev/rules.d/10-other.rules"]
    setup(tmp_path, "--root", str(image), "--uninstall")


def test_a_file_of_somebody_elses_is_not_overwritten_nor_removed(tmp_path: Path) -> None:
    unit = tmp_path / "image/etc/systemd/user/sneaker.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    done = setup(tmp_path, "--root", str(tmp_path / "image"), check=False)
    assert done.code == 37
    assert "not made by sneaker" in done.err
    assert files(tmp_path / "image") == ["etc/systemd/user/sneaker.service"]
    setup(tmp_path, "--root", str(tmp_path / "image"), "--uninstall")
    assert unit.exists()


@pytest.mark.parametrize("has_bus", [True, False])
def test_a_person_installs_and_removes(
    has_bus: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Enabling goes without a user manager, as after ``su``; what needs one is tried, and its failure said."""
    from sneaker.cli import setup as module
    from sneaker.cli.printing import Output

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(module, "_unit", lambda for_everybody: "[Service]\n")
    asked = tmp_path / "asked"
    program = tmp_path / "bin/systemctl"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$SYSTEMD_OFFLINE$*" >> "{asked}"\n[ -n "$SYSTEMD_OFFLINE" ] && exit 0\n'
        + ("exit 0\n" if has_bus else "echo 'Failed to connect to bus' >&2; exit 1\n")
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")

    def files() -> list[module._File]:
        return list(module._files(Path("/"), system=False, hub=False, power_off=False))

    (unit,) = module._install(files(), Output(), root=None, system=False)
    assert unit == tmp_path / "config/systemd/user/sneaker.service"
    assert unit.exists()
    said = capsys.readouterr().err
    assert ("the service runs, and will from login on" in said) == has_bus
    assert ("Failed to connect to bus" in said) == ("from your next login on" in said) == (not has_bus)
    assert module._remove(files(), Output(), root=None, system=False) == [unit]
    assert not unit.exists()
    assert asked.read_text().splitlines() == [
        "1--user --quiet enable sneaker.service",
        "--user daemon-reload",
        *(["--user restart sneaker.service"] if has_bus else []),
        "1--user --quiet disable sneaker.service",
        "--user stop sneaker.service",
        "--user daemon-reload",
    ]
    assert module._remove(files(), Output(), root=None, system=False) == []


def test_no_rule_runs_anything() -> None:
    rule = (ROOT / "udev/90-sneaker.rules").read_text()
    assert "RUN" not in re.sub(r"#.*", "", rule)


@pytest.mark.systemd
@pytest.mark.parametrize("name", ["plain", "with blank", 'quo"te', "percent%h", "dollar$HOME"])
def test_paths_of_all_kinds_stand_in_the_unit(tmp_path: Path, name: str) -> None:
    """systemd reads back what was meant; only systemd itself can say so."""
    from sneaker.cli.setup import _quoted

    path = f"/home/{name}"
    word = _quoted(path.replace("%", "%%"), command=True)
    assert word.replace("%%", "%").replace("$$", "$").strip('"').replace('\\"', '"') == path
    unit = tmp_path / "test.service"
    unit.write_text(f"[Service]\nExecStart=/bin/true {word}\nReadWritePaths={_quoted('-' + path.replace('%', '%%'))}\n")
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    mine = [line for line in done.stderr.splitlines() if "test.service" in line]
    assert not mine


@pytest.mark.systemd
def test_the_unit_exposes_little(tmp_path: Path) -> None:
    """At most 2.5, as 'systemd-analyze security' counts it; what it counts for user root does not even apply."""
    setup(tmp_path, "--root", str(tmp_path / "image"))
    unit = tmp_path / "image/etc/systemd/user/sneaker.service"
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=25", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr


_ASK_THE_RULE = """
const rules = [];
global.polkit = {addRule: rule => rules.push(rule), Result: {YES: "yes"}};
const {rule, asked} = JSON.parse(require("fs").readFileSync(0, "utf8"));
(0, eval)(rule);
const answer = ({id, details, groups}) => rules[0](
    {id, lookup: name => details[name]}, {isInGroup: name => groups.includes(name)}) || "not handled";
console.log(JSON.stringify(asked.map(questions => questions.map(answer))));
"""

_STICK = {"drive.removable": "true", "drive.removable.bus": "usb", "id.usage": "filesystem"}
_MOUNT = ("filesystem-mount", "filesystem-mount-other-seat")
_POWER_OFF = ("power-off-drive", "power-off-drive-other-seat")
# Everything that udisks2 2.10 asks polkit for.
_UDISKS_ACTIONS = (
    *_MOUNT,
    *_POWER_OFF,
    "filesystem-mount-system",
    "filesystem-fstab",
    "filesystem-unmount-others",
    "filesystem-take-ownership",
    "encrypted-unlock",
    "encrypted-unlock-other-seat",
    "encrypted-unlock-system",
    "encrypted-lock-others",
    "encrypted-change-passphrase",
    "loop-setup",
    "loop-delete-others",
    "loop-modify-others",
    "manage-swapspace",
    "manage-md-raid",
    "power-off-drive-system",
    "eject-media",
    "eject-media-other-seat",
    "eject-media-system",
    "modify-device",
    "modify-device-other-seat",
    "modify-device-system",
    "modify-system-configuration",
    "open-device",
    "open-device-system",
    "rescan",
    "cancel-job",
    "ata-smart-update",
    "ata-secure-erase",
    "nvme-format-namespace",
)


# What udisks2 2.9 and 2.10 ask before they modify a device, all with one right.
_QUESTIONS = {
    "Authentication is required to repair the filesystem on $(drive)": True,
    "Authentication is required to check the filesystem on $(drive)": True,
    "Authentication is required to format $(drive)": False,
    "Authentication is required to resize the filesystem on $(drive)": False,
    "Authentication is required to change the filesystem label on $(drive)": False,
    "Authentication is required to create a partition on $(drive)": False,
    "Authentication is required to open $(drive) for writing": False,
}


@pytest.mark.node
@pytest.mark.parametrize("power_off", [False, True])
@pytest.mark.timeout(120)
def test_the_polkit_rule_gives_mounting_of_what_is_plugged_in(power_off: bool, tmp_path: Path) -> None:
    shown = json.loads(setup(tmp_path, "--print", "--json", *(["--power-off"] if power_off else [])).out)
    (rule,) = [file["text"] for file in shown["files"] if "polkit" in file["path"]]

    # Who asks for what: node is started once and answers all of it.
    people: list[tuple[dict[str, str], list[str], str]] = []
    expected: list[tuple[set[str], set[str], str]] = []

    def ask(
        details: dict[str, str],
        groups: list[str],
        allowed: set[str],
        among: Collection[str] = _UDISKS_ACTIONS,
        why: str = "",
        prefix: str = "org.freedesktop.udisks2.",
    ) -> None:
        people.append((details, groups, prefix))
        expected.append((allowed, set(among), why))

    ask(_STICK, ["plugdev"], {*_MOUNT, *(_POWER_OFF if power_off else ())})
    for question, repairs in _QUESTIONS.items():
        modify = {"modify-device", "modify-device-other-seat"}
        asking = {**_STICK, "polkit.message": question}
        ask(asking, ["plugdev"], modify if repairs else set(), among=modify, why=question)
        ask({"polkit.message": question}, ["plugdev"], set(), why="only what is plugged in")
        ask(asking, ["users"], set())
    ask(_STICK, ["users"], set())
    ask({"id.usage": "filesystem"}, ["plugdev"], set(), why="a disk that is built in")
    ask({**_STICK, "drive.removable": "false"}, ["plugdev"], set())
    ask(_STICK, ["plugdev"], set(), prefix="org.freedesktop.login1.")

    asked = [
        [{"id": prefix + name, "details": details, "groups": groups} for name in _UDISKS_ACTIONS]
        for details, groups, prefix in people
    ]
    done = subprocess.run(
        ["node", "-e", _ASK_THE_RULE],
        input=json.dumps({"rule": rule, "asked": asked}),
        capture_output=True,
        text=True,
        check=True,
    )
    for answers, (allowed, among, why) in zip(json.loads(done.stdout), expected, strict=True):
        given = {name for name, answer in zip(_UDISKS_ACTIONS, answers, strict=True) if answer == "yes"}
        assert given & among == allowed, why
