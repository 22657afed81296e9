"""Whether a person's hook may run: nobody else on this machine may have a say in what it is."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from sneaker.files.permissions import writable_by_others
from sneaker.home.config import CONFIG_NAME

__all__ = ["hook_problem"]


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
