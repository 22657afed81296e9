"""What a command loads before it knows what it is to do: every person waits for it, every time."""

from __future__ import annotations

import subprocess
import sys

import pytest

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


@pytest.mark.parametrize("arguments", [["--help"], ["sync", "--help"], ["status", "--home", "/nonexistent"]])
def test_nothing_heavy_is_loaded_for_nothing(arguments: list[str]) -> None:
    program = f"import sys\nsys.argv[1:] = {arguments!r}\nfrom sneaker.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
    program += f"print('loaded:', [name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded: []"
