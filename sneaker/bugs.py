"""The line that people see when a bug shows itself, with enough in it to report the bug.

Services go on after a bug: the code that started a piece of work (a connection, a visit, a file of an inbox) ends that
piece and prints this line.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from sneaker.errors import SneakerError

__all__ = ["Reporter", "bug_words", "what_went_wrong"]

_PACKAGE = __file__.removesuffix("bugs.py")
_MAX_PLACES = 3
_MAX_TEXT = 60
_SAY_AGAIN_S = 60.0
_MAX_SAID = 100


def what_went_wrong(error: BaseException) -> str:
    """Return what to tell people about any exception: our own words, the system's, or that it is a bug."""
    if isinstance(error, SneakerError):
        return error.message
    if isinstance(error, OSError):
        return (error.strerror or str(error) or "the system gives no reason").lower()
    return bug_words(error)


def bug_words(error: BaseException) -> str:
    """Return the line for a bug: which exception it is, and where in sneaker it came from, innermost place first.

    The text of the exception may quote what somebody sent, so it has to be escaped before it is printed.
    """
    try:
        text = str(error)[:_MAX_TEXT]
    except Exception:  # its text cannot be made, which may be the bug itself
        text = ""
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    places = _places(error.__traceback__)
    where = f", at {' < '.join(places)}" if places else ""
    return f"this is a bug in sneaker, please report it: {what}{where}"


def _places(trace: TracebackType | None) -> list[str]:
    """Return the innermost places of this package in a traceback; a recursion counts once."""
    found: dict[str, None] = {}
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if name.startswith(_PACKAGE):
            place = f"{name.removeprefix(_PACKAGE)}:{trace.tb_lineno}"
            found.pop(place, None)
            found[place] = None
        trace = trace.tb_next
    return list(found)[-_MAX_PLACES:][::-1]


class Reporter:
    """Reports what ended a piece of work; the same thing at most once a minute.

    A peer can make some things fail as often as it likes, and the log is on this machine's disk.
    """

    def __init__(self, say: Callable[[str], None], now: Callable[[], float]) -> None:
        """``now`` gives seconds of any monotonic clock."""
        self._say = say
        self._now = now
        self._said: dict[str, float] = {}

    def __call__(self, error: BaseException, where: str = "") -> None:
        """Say it; ``where`` is not part of what makes two things the same."""
        words, now = what_went_wrong(error), self._now()
        self._said = {text: when for text, when in self._said.items() if now - when < _SAY_AGAIN_S}
        if words not in self._said and len(self._said) < _MAX_SAID:
            self._said[words] = now
            self._say(f"{where}: {words}" if where else words)
