"""Runs a command of the person's or the desktop's: without a shell, silent, and not for longer than it may take."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Sequence

__all__ = ["run_command"]

log = logging.getLogger(__name__)


def run_command(command: Sequence[str], timeout_s: float) -> bool:
    """Run ``command`` (program and arguments) and wait for it; return whether it ended well. Never raises."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        log.debug("%s did not run: %s", command[0], error)
        return False
    return done.returncode == 0
