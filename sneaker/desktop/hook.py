"""The person's hook: a command of theirs that is run for every happening, and whether it may run.

Nobody else on this machine may have a say in what it is.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sneaker.desktop.notification import Notification
from sneaker.desktop.run_command import run_command
from sneaker.files.permissions import writable_by_others
from sneaker.home.config import CONFIG_NAME

__all__ = ["Hook", "hook_problem"]

_HOOK_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Hook:
    """A person's own command, run for every happening: lights, sounds, a display on a hub.

    ``command`` is a list of arguments and never goes through a shell.  Appended are the happening and three numbers:
    messages taken in, people they are from, messages written out.  No text from a stick gets there.
    """

    command: Sequence[str]

    def run_hook(self, notification: Notification) -> bool:
        """Run the command and wait for it, within reason; return whether it ended well. Never raises."""
        numbers = (notification.messages_in, notification.people, notification.messages_out)
        return run_command([*self.command, str(notification.happening), *map(str, numbers)], _HOOK_TIMEOUT_S)


def hook_problem(home: Path, command: Sequence[str]) -> tuple[str, str] | None:
    """Say why a hook does not run, and what to do: others may write to the settings that name it, or to what it runs.

    What it runs is its program, and whatever file is named among its arguments, such as a script.
    """
    program = shutil.which(command[0])
    places = [home / CONFIG_NAME, *([Path(program)] if program else []), *(Path(word) for word in command[1:])]
    for place in places:
        try:
            found = writable_by_others(place) if place.is_absolute() or place.exists() else None
        except (OSError, ValueError):  # an argument that is no path
            continue
        if found is not None:
            return (
                f"the hook is not run: others on this machine may write to {found}, and so choose what it does",
                f"run: chmod go-w {found}",
            )
    return None
