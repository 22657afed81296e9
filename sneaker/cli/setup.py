"""setup: put the udev rule and the user unit where they belong, or show them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from sneaker.cli.app import JsonOption, command, settings
from sneaker.cli.environment import default_home
from sneaker.cli.printing import Output, clean
from sneaker.errors import OutputError, UsageError
from sneaker.home.config import load_config

__all__: list[str] = []

_UNIT = "sneaker.service"
_RULE = "90-sneaker.rules"
_POLKIT = "50-sneaker-mount.rules"
# A service of a hub has no seat, so polkit asks for the right of another seat. Whoever mounted something may unmount it.
_MOUNT_ACTIONS = ("filesystem-mount", "filesystem-mount-other-seat")
_POWER_OFF_ACTIONS = ("power-off-drive", "power-off-drive-other-seat")

# Where desktops, udisks2 and people mount sticks. Elsewhere, what is mounted when the service starts is read-only for it;
# what is mounted later is not.
_MOUNT_FOLDERS = ("/media", "/run/media", "/mnt")
_FIRST_LINES = {_UNIT: "# ", _RULE: "# ", _POLKIT: "// "}
_MARK = "made by 'sneaker setup', which also removes it"


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    text: str


def _template(name: str) -> str:
    """Return a file of ``udev/``: from the installed package, or from the checkout of a developer."""
    from importlib import resources

    import sneaker

    packaged = resources.files(sneaker).joinpath("udev", name)
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    return (Path(sneaker.__file__).parent.parent / "udev" / name).read_text(encoding="utf-8")


def _quoted(text: str, *, command: bool = False) -> str:
    """Return a word for a unit file; systemd splits at blanks and expands % and, in commands, $."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    if any(character in escaped for character in "\n\r\0"):
        raise UsageError("a path with a line break in it cannot stand in a unit file")
    if command:
        escaped = escaped.replace("$", "$$")
    return f'"{escaped}"' if any(character in escaped for character in " \t\"'\\;#") else escaped


def _program() -> list[str]:
    """Return how to start this very sneaker again."""
    script = Path(sys.argv[0])
    if script.name == "sneaker" and script.is_file():
        return [str(script.absolute())]
    found = shutil.which("sneaker")
    return [found] if found else [sys.executable, "-m", "sneaker"]


def _unit(for_everybody: bool) -> str:
    """Return the user unit: for the person who runs this, or with the default home of whoever starts it."""
    words = [_quoted(word.replace("%", "%%"), command=True) for word in _program()]
    writable = [f"-{folder}" for folder in _MOUNT_FOLDERS]
    if for_everybody:
        home = "%h/.local/share/sneaker"
    else:
        own = settings.home.absolute()
        home = str(own).replace("%", "%%")
        if own != default_home().absolute():
            words += ["--home", _quoted(home, command=True)]
        writable += [f"-{str(folder.absolute()).replace('%', '%%')}" for folder in load_config(own).inbox.folders]
    text = _template(_UNIT).replace("@SNEAKER@", " ".join(words))
    # The path of a condition is the rest of the line and needs no quotes.
    return text.replace("@HOME@", home).replace("@WRITABLE@", " ".join(map(_quoted, [home, *writable])))


def _polkit_rule(power_off: bool) -> str:
    """Return the rule that lets people mount sticks and, with ``power_off``, switch them off."""
    names = (*_MOUNT_ACTIONS, *(_POWER_OFF_ACTIONS if power_off else ()))
    actions = ", ".join(f'"org.freedesktop.udisks2.{name}"' for name in names)
    return _template(_POLKIT).replace("@ACTIONS@", actions)


def _user_folder() -> Path:
    configured = os.environ.get("XDG_CONFIG_HOME")
    return (Path(configured) if configured else Path.home() / ".config") / "systemd" / "user"


def _files(root: Path, *, system: bool, hub: bool, power_off: bool) -> Iterator[_File]:
    """Yield what to install: for the whole machine, or what one person may."""
    if system:
        yield _File(root / "etc/udev/rules.d" / _RULE, _template(_RULE))
        yield _File(root / "etc/systemd/user" / _UNIT, _unit(for_everybody=True))
        if hub:
            yield _File(root / "etc/polkit-1/rules.d" / _POLKIT, _polkit_rule(power_off))
    else:
        yield _File(_user_folder() / _UNIT, _unit(for_everybody=False))


def _marked(file: _File) -> str:
    return f"{_FIRST_LINES[file.path.name]}{_MARK}\n{file.text}"


@command()
def setup(
    show: Annotated[bool, typer.Option("--print", help="Show the files and where they go; change nothing.")] = False,
    uninstall: Annotated[bool, typer.Option("--uninstall", help="Stop the service and remove the files.")] = False,
    hub: Annotated[
        bool,
        typer.Option(
            "--hub",
            help="As root: also let members of the group plugdev mount sticks without a desktop.",
        ),
    ] = False,
    power_off: Annotated[
        bool,
        typer.Option("--power-off", help="With --hub: also let them switch sticks off, for drives.power_off."),
    ] = False,
    root: Annotated[
        Path | None,
        typer.Option(
            "--root",
            metavar="DIR",
            help="Put the machine's files below DIR and start nothing: for packages and images.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Let sneaker start by itself: a user service and a udev rule.

    Run it as yourself: it installs and starts your own service, which runs from login on. Run it as root as well, or instead: then
    everybody who has a sneaker home gets the service, from login on and when a stick is plugged in.
    """
    output = settings.output(json)
    system = root is not None or os.geteuid() == 0
    if hub and not (system or show):
        raise UsageError("--hub changes the machine's settings", hint="run 'sudo sneaker setup --hub'")
    if power_off and not hub and not show:
        raise UsageError("--power-off goes with --hub")
    top = root.absolute() if root is not None else Path("/")
    if show:
        files = list(_files(top, system=True, hub=True, power_off=power_off))
        if not system:
            files += _files(top, system=False, hub=False, power_off=False)
        if json:
            output.print_json({"files": [{"path": str(file.path), "text": _marked(file)} for file in files]})
        else:
            print("\n".join(f"# ---- {clean(str(file.path))}\n{_marked(file)}" for file in files))
        return
    files = list(_files(top, system=system, hub=hub or uninstall, power_off=power_off))
    if uninstall:
        changed = _remove(files, output, root=root, system=system)
    else:
        changed = _install(files, output, root=root, system=system)
    if json:
        output.print_json({"changed": [str(path) for path in changed]})
    else:
        for path in changed:
            print(clean(str(path)))


def _install(files: Sequence[_File], output: Output, *, root: Path | None, system: bool) -> list[Path]:
    for file in files:
        if file.path.exists() and _MARK not in file.path.read_text(encoding="utf-8", errors="replace"):
            raise OutputError(
                f"{file.path} is there already, and not made by sneaker", hint="look at it; move it away if it may go"
            )
    for file in files:
        _write(file)
    # At login too: a user manager does not hear of sticks that were plugged in before it started.
    _enable("enable", output, root=root, system=system)
    if root is not None:
        return [file.path for file in files]
    if system:
        _reload_udev(output)
        output.print_remark("done: people with a sneaker home get the service at login, and when a stick is plugged in")
        output.print_remark("to start it without a login, as on a hub: loginctl enable-linger PERSON")
    else:
        # It may be running with the old files.
        if _user_manager(["daemon-reload"], ["restart", _UNIT], output=output):
            output.print_remark(
                f"the service runs, and will from login on; 'journalctl --user -u {_UNIT}' shows what it does"
            )
        else:
            output.print_remark("the service will run from your next login on")
        if not (Path("/etc/udev/rules.d") / _RULE).exists():
            output.print_remark("'sudo sneaker setup' also lets it start when a stick is plugged in")
    return [file.path for file in files]


def _remove(files: Sequence[_File], output: Output, *, root: Path | None, system: bool) -> list[Path]:
    if any(file.path.name == _UNIT and _is_ours(file.path) for file in files):
        _enable("disable", output, root=root, system=system)
        if not system:
            _user_manager(["stop", _UNIT], output=output)
    gone = []
    for file in files:
        try:
            if _MARK not in file.path.read_text(encoding="utf-8", errors="replace"):
                output.print_remark(f"{clean(str(file.path))} was not made by sneaker and stays")
                continue
            file.path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise OutputError(f"cannot remove {file.path}: {error.strerror}") from None
        gone.append(file.path)
    if system and root is None:
        _reload_udev(output)
    elif not system:
        _user_manager(["daemon-reload"], output=output)
    return gone


def _write(file: _File) -> None:
    from sneaker.files.atomic_write import new_file

    try:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        if file.path.is_symlink():
            file.path.unlink()
        with new_file(file.path, replaces=lambda _: True) as out:
            out.write(_marked(file).encode())
    except OSError as error:
        raise OutputError(f"cannot write {file.path}: {error.strerror}") from None


def _is_ours(path: Path) -> bool:
    try:
        return _MARK in path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _enable(verb: str, output: Output, *, root: Path | None, system: bool) -> None:
    """Make or remove the link that starts the service at login; that needs no service manager, as after ``su``."""
    where = [f"--root={root.absolute()}"] if root is not None else []
    _run(["systemctl", "--global" if system else "--user", *where, "--quiet", verb, _UNIT], output, offline=True)


def _user_manager(*commands: list[str], output: Output) -> bool:
    """Give the person's service manager commands, until one fails."""
    return all(_run(["systemctl", "--user", *command], output) for command in commands)


def _reload_udev(output: Output) -> None:
    if not _run(["udevadm", "control", "--reload"], output):
        output.print_remark("the rule takes effect at the next start of the machine")


def _run(arguments: list[str], output: Output, *, offline: bool = False) -> bool:
    """Run a program and return whether it succeeded; a failure is printed, and setup goes on."""
    environment = {**os.environ, "SYSTEMD_OFFLINE": "1"} if offline else None
    try:
        done = subprocess.run(
            arguments, capture_output=True, text=True, errors="replace", check=False, timeout=60, env=environment
        )
        failure = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "it does not say why"
        failed = done.returncode != 0
    except (OSError, subprocess.TimeoutExpired) as error:
        failure, failed = str(error), True
    if failed:
        output.print_remark(f"'{' '.join(arguments)}' did not work: {clean(failure)}")
    return not failed
