"""The inputs that are kept: ``corpus/TARGET/``, small files, those that were found to break something by their story's name.

    python -m tests.fuzz.corpus TARGET FOLDER

adds to them what of FOLDER takes the most steps that nothing kept takes.
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
# Enough to walk through a reader; a fuzzer finds the rest again.
MAX_SAVED = 16
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
    grown = {path.read_bytes() for path in folder.iterdir() if path.stat().st_size <= MAX_SAVED_BYTES}
    new = {data: steps_of(target.check, data) - known for data in sorted(grown, key=lambda data: (len(data), data))}
    added = 0
    while new and len(saved(name)) < MAX_SAVED:
        best = max(new, key=lambda data: len(new[data]))  # of equals the shortest
        steps = new.pop(best)
        if not steps:
            break
        for others in new.values():
            others -= steps
        (CORPUS / name).mkdir(parents=True, exist_ok=True)
        (CORPUS / name / hashlib.sha256(best).hexdigest()[:12]).write_bytes(best)
        added += 1
    return added


if __name__ == "__main__":
    print(f"{sys.argv[1]}: {save(sys.argv[1], Path(sys.argv[2]))} inputs added")
