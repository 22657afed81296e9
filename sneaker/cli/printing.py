"""What is printed: data to stdout, words and progress to stderr, and never a control sequence that a terminal would obey."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TextIO

from sneaker.errors import SneakerError
from sneaker.escaping import escaped

__all__ = ["Output", "Screen", "clean", "counted", "print_error", "print_failure", "warn_of_memory_problem"]


class Screen:
    """Standard output or error, with everything that is printed safe for a terminal.

    Everything that is printed passes here.  What stands in a line beside our own words goes through ``clean`` first, which
    keeps it on that line.  ``stream`` is the real one, for the few bytes that shall act on a terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        #: Whether it did not take what was printed.
        self.has_failed = False

    @contextmanager
    def noting_failure(self) -> Iterator[None]:
        """Note that it takes nothing, if the block fails for that."""
        try:
            yield
        except OSError:
            self.has_failed = True
            raise

    def write(self, text: str) -> int:
        """Print; returns the number of characters, as files do."""
        with self.noting_failure():
            self.stream.write(escaped(text, keep_lines=True))
        return len(text)

    def flush(self) -> None:
        """Hand over what was printed."""
        with self.noting_failure():
            self.stream.flush()

    @property
    def buffer(self) -> Any:
        """What takes bytes; nothing is escaped there."""
        return _Bytes(self)

    def writelines(self, lines: Iterable[str]) -> None:
        """Print several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's: fileno, isatty, ..."""
        return getattr(self.stream, name)


class _Bytes:
    """The bytes below a screen, which hears of failures."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._stream = screen.stream.buffer

    def write(self, data: bytes) -> int:
        with self._screen.noting_failure():
            return self._stream.write(data)

    def flush(self) -> None:
        with self._screen.noting_failure():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def clean(text: str, limit: int = 200) -> str:
    """Return ``text`` safe to print within a line: controls and line ends escaped, at most ``limit`` characters."""
    return escaped(text if len(text) <= limit else text[: limit - 3] + "...")


def counted(number: int, thing: str, things: str | None = None) -> str:
    """Return for example ``"1 message"`` or ``"2,000 messages"``."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def print_error(error: SneakerError) -> None:
    """Print an error and its hint to stderr, as every command does."""
    print_failure(error.message, error.hint)


def print_failure(message: str, hint: str | None) -> None:
    """Print to stderr what went wrong, and what a person can do."""
    print(f"sneaker: error: {clean(message, 500)}", file=sys.stderr)
    if hint:
        print(f"sneaker: hint: {clean(hint, 500)}", file=sys.stderr)


def warn_of_memory_problem(reason: str | None) -> None:
    """Warn if what was published could not be remembered outside of the home; ``-q`` does not silence that."""
    if reason is not None:
        print(
            f"sneaker: warning: this is not remembered outside of the home: {clean(reason, 300)}; 'sneaker doctor' says more",
            file=sys.stderr,
        )


@dataclass(slots=True)
class Output:
    """What the person asked for: ``json`` for scripts, ``quiet`` for silence on stderr."""

    json: bool = False
    quiet: bool = False

    def print_json(self, value: Mapping[str, object]) -> None:
        """Print a result, or an event, as one line of JSON."""
        from sneaker.cli.json_output.encoder import encode

        print(encode(value))

    def print_remark(self, text: str) -> None:
        """Print a remark to stderr, unless it shall be quiet."""
        if not self.quiet:
            with suppress(OSError):  # nobody may read it any more; a service goes on
                print(text, file=sys.stderr)

    @contextmanager
    def progress(self, total: int | None, label: str, unit: str = "B") -> Iterator[Callable[[int], None]]:
        """Show a bar on stderr while the block runs, if that is a terminal; yields what advances it."""
        if self.quiet or not sys.stderr.isatty():
            yield lambda done: None
            return
        from tqdm import tqdm

        with tqdm(
            total=total,
            desc=label,
            unit=unit,
            unit_scale=True,
            leave=False,
            delay=0.7,
            file=getattr(sys.stderr, "stream", sys.stderr),  # it moves the cursor
            dynamic_ncols=True,
        ) as bar:

            def advance(done: int) -> None:
                bar.update(done)

            yield advance
