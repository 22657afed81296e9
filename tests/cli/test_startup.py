"""What a command loads before it knows what it is to do: every person waits for it, every time."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import sneaker.cli
from sneaker.cli.commands import MODULES, registered

# What takes longest of all that is installed with sneaker, and only some commands need.
HEAVY = [
    "asyncio",
    "msgspec",
    "pydantic",
    "pyudev",
    "rich.markdown",
    "nacl",
    "sneaker.net.node",
    "sneaker.store.store",
    "sqlite3",
    "tqdm",
    "watchdog",
    "zfec",
]


def loaded(arguments: list[str], modules: list[str]) -> list[str]:
    """Run a command in a Python of its own, and return which of the modules it has loaded."""
    program = f"import sys\nsys.argv[1:] = {arguments!r}\nfrom sneaker.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
    program += f"print('loaded:', *[name for name in {modules!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()[1:]


@pytest.mark.parametrize("arguments", [["--help"], ["sync", "--help"], ["status", "--home", "/nonexistent"]])
def test_nothing_heavy_is_loaded_for_nothing(arguments: list[str]) -> None:
    assert loaded(arguments, HEAVY) == []


def test_only_the_command_that_is_asked_for_is_loaded() -> None:
    assert loaded(["log", "--help"], [f"sneaker.cli.{name}" for name in dict.fromkeys(MODULES.values())]) == [
        "sneaker.cli.log"
    ]


def test_every_command_is_in_the_table() -> None:
    for module in pkgutil.iter_modules(sneaker.cli.__path__, "sneaker.cli."):
        importlib.import_module(module.name)
    assert {name: f"sneaker.cli.{module}" for name, module in MODULES.items()} == {
        name: (app.registered_callback or app.registered_commands[0]).callback.__module__  # type: ignore[union-attr]
        for name, app in registered.items()
    }
