"""Where the home and its memory are if the person does not say: the environment, else the platform's folders."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["default_home", "default_memory"]


def default_home() -> Path:
    """Return the home to use when ``--home`` is not given: ``SNEAKER_HOME``, else the platform's data folder."""
    given = os.environ.get("SNEAKER_HOME")
    if given:
        return Path(given)
    import platformdirs

    return Path(platformdirs.user_data_dir("sneaker", appauthor=False))


def default_memory() -> Path:
    """Return the folder outside of all homes in which this user's machine remembers what it published."""
    import platformdirs

    return Path(platformdirs.user_state_dir("sneaker", appauthor=False))
