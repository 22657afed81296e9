"""A process that dies in the middle: from one call to the system on, nothing it does has any effect any more."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# What changes something on a disk, or makes it durable. SQLite calls the system by itself: to it, the end comes between
# two of its transactions, which is where a kill leaves it after recovery, too.
_CALLS = ("open", "link", "unlink", "remove", "rename", "replace", "fsync", "mkdir", "write", "ftruncate")


class Crash(BaseException):
    """The process is dead; no ``except Exception`` of the program's may survive it."""


@contextmanager
def crashing(after: int) -> Iterator[None]:
    """Let the call number ``after`` (from 0) and all later ones raise Crash; the block ends quietly then."""
    left = after
    originals = {name: getattr(os, name) for name in _CALLS}

    def dying(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            if left <= 0:
                raise Crash
            left -= 1
            return original(*arguments, **options)

        return call

    for name, original in originals.items():
        setattr(os, name, dying(original))
    try:
        yield
    except Crash:
        pass
    finally:
        for name, original in originals.items():
            setattr(os, name, original)
