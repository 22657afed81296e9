"""The inputs that are kept: ``corpus/TARGET/``, small files, those that were found to break something by their story's name.

    python -m tests.fuzz.corpus TARGET FOLDER

adds to them what of FOLDER reaches code that nothing kept reaches, the shortest first.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from tests.fuzz.targets import TARGETS

__all__ = ["CORPUS", "saved"]

CORPUS = Path(__file__).parent / "corpus"
ROOT = Path(__file__).resolve().parents[2]
# Enough for every branch of every reader; a fuzzer finds the rest again.
MAX_SAVED = 40
MAX_SAVED_BYTES = 1024


def saved(name: str) -> list[Path]:
    """Return the files kept for a target."""
    return sorted((CORPUS / name).glob("*"))


def steps_of(check: Callable[[bytes], None], data: bytes) -> set[tuple[Any, int, int]]:
    """Return the steps from line to line that ``check`` takes in our code."""
    found: set[tuple[Any, int, int]] = set()
    ours = str(ROOT / "sneaker")

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(ours):
            return None
        last = 0

        def step(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal last
            found.add((frame.f_code, last, frame.f_lineno))
            last = frame.f_lineno
            return step

        return step

    sys.settrace(enter)
    try:
        check(data)
    finally:
        sys.settrace(None)
    return found


def save(name: str, folder: Path) -> int:
    """Keep what of ``folder`` is new; return how many files that is."""
    target = TARGETS[name]
    known: set[Any] = set()
    for data in [*target.seeds(), *(path.read_bytes() for path in saved(name))]:
        known |= steps_of(target.check, data)
    added = 0
    grown = sorted((path.read_bytes() for path in folder.iterdir()), key=lambda data: (len(data), data))
    for data in grown:
        if len(data) > MAX_SAVED_BYTES or len(saved(name)) >= MAX_SAVED:
            break
        steps = steps_of(target.check, data)
        if not steps <= known:
            known |= steps
            (CORPUS / name).mkdir(parents=True, exist_ok=True)
            (CORPUS / name / hashlib.sha256(data).hexdigest()[:12]).write_bytes(data)
            added += 1
    return added


if __name__ == "__main__":
    print(f"{sys.argv[1]}: {save(sys.argv[1], Path(sys.argv[2]))} inputs added")
