"""Which commands there are.  The module of a command is imported when somebody asks for it: the others only cost time."""

from __future__ import annotations

import importlib
from collections import UserDict
from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperGroup

__all__ = ["MODULES", "CommandGroup", "command", "command_group", "registered"]

# The module in this room that has each command, in the order of 'sneaker --help': as a person meets them.
MODULES = {
    "init": "init_id",
    "id": "init_id",
    "publish": "publish",
    "follow": "follow",
    "unfollow": "follow",
    "block": "follow",
    "unblock": "follow",
    "log": "log",
    "status": "status",
    "clock": "clock",
    "export": "import_export",
    "import": "import_export",
    "inspect": "inspect_verify",
    "verify": "inspect_verify",
    "check": "check",
    "sync": "sync",
    "watch": "watch_run",
    "run": "watch_run",
    "setup": "setup",
    "peer": "peer",
    "connect": "connect",
    "once": "once",
    "call": "call",
    "doctor": "doctor",
    "demo": "demo",
    "drive": "drive",
}

Function = TypeVar("Function", bound=Callable[..., Any])

# How all of them look.
_LOOK: dict[str, Any] = {"add_completion": False, "rich_markup_mode": None, "pretty_exceptions_enable": False}

#: The commands of the modules that are imported so far.
registered: dict[str, typer.Typer] = {}


def command(name: str | None = None) -> Callable[[Function], Function]:
    """Register a command; usage lines and help come from its signature and docstring."""

    def register(function: Function) -> Function:
        alone = registered[name or function.__name__] = typer.Typer(**_LOOK)
        return alone.command(name)(function)

    return register


def command_group(name: str, words: str) -> typer.Typer:
    """Register a command that has commands of its own; ``words`` say what it is for."""
    group = registered[name] = typer.Typer(name=name, help=words, no_args_is_help=True, **_LOOK)
    return group


class _Commands(UserDict[str, Any]):
    """Every command by its name; one is imported and built when it is taken."""

    def __getitem__(self, name: str) -> Any:
        module = MODULES[name]
        if name not in registered:
            importlib.import_module(f"sneaker.cli.{module}")
        if self.data[name] is None:
            self.data[name] = typer.main.get_command(registered[name])
        return self.data[name]


class CommandGroup(TyperGroup):
    """``sneaker``: all commands."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = _Commands(dict.fromkeys(MODULES))
