"""One test for everything that reads a stream: whole, byte by byte, cut anywhere, and the rest survives."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sneaker.errors import SneakerError
from tests.tries import tries

__all__ = ["Failed", "check_reader", "read_all"]


class StreamReader(Protocol):
    """The contract of readers: see sneaker/wire/stream_reader.py."""

    @property
    def trailing_data(self) -> bytes: ...

    def receive_data(self, data: bytes) -> None: ...

    def next_event(self) -> Any: ...


class Failed:
    """Stands at the end of the expected events for an error with this code."""

    def __init__(self, code: str = "protocol-remote") -> None:
        self.code = code

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Failed) and other.code == self.code

    def __hash__(self) -> int:
        return hash(self.code)

    def __repr__(self) -> str:
        return f"Failed({self.code!r})"


def needs_data(event: object) -> bool:
    """Whether ``event`` is a reader's NEED_DATA, whichever module's it is."""
    return type(event).__name__ == "NeedData"


def drain(reader: StreamReader) -> list[Any]:
    """Return the events up to NEED_DATA or an error, which is checked to stay."""
    events: list[Any] = []
    while True:
        try:
            event = reader.next_event()
        except SneakerError as error:
            with pytest.raises(type(error), match=re.escape(str(error))):
                reader.next_event()
            return [*events, Failed(error.code)]
        if needs_data(event):
            return events
        events.append(event)


def read_all(reader: StreamReader, pieces: Iterable[bytes], *, end: bool = True) -> list[Any]:
    """Feed the pieces, then the end of input; return all events, with a Failed behind them if there was an error."""
    events: list[Any] = []
    for piece in [*(piece for piece in pieces if piece), *([b""] if end else [])]:
        reader.receive_data(piece)
        events += drain(reader)
        if events and isinstance(events[-1], Failed):
            break
    return events


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut ``data`` at some offsets."""
    borders = sorted({0, len(data), *(place for place in places if 0 < place < len(data))})
    return [data[start:stop] for start, stop in itertools.pairwise(borders)]


def check_reader(
    make: Callable[[], StreamReader],
    data: bytes,
    expected: Sequence[Any],
    *,
    end: bool = True,
    trailing: bool = True,
    examples: int = 25,
    merge: Callable[[list[Any]], list[Any]] = list,
) -> None:
    """Check that ``data`` gives the ``expected`` events however it is cut.

    ``end``: whether the end of input follows. ``trailing``: whether the events end the stream, so that bytes behind
    them must survive for the next layer. ``merge`` joins events whose borders depend on the cuts (parts of a blob).
    """
    wanted = list(expected)
    assert merge(read_all(make(), [data], end=end)) == wanted
    if len(data) <= 20_000:
        assert merge(read_all(make(), [data[at : at + 1] for at in range(len(data))], end=end)) == wanted

    @tries(examples, database=None)
    @given(st.lists(st.integers(0, max(len(data), 1)), max_size=8))
    def cut_anywhere(places: list[int]) -> None:
        assert merge(read_all(make(), cut(data, places), end=end)) == wanted

    cut_anywhere()
    if trailing and not (wanted and isinstance(wanted[-1], Failed)):
        for pieces in ([data + b"rest"], [data, b"rest"], [data[:-1], data[-1:] + b"re", b"st"]):
            reader = make()
            assert merge(read_all(reader, pieces, end=False)) == wanted
            assert reader.trailing_data == b"rest"
    reader = make()
    reader.receive_data(b"")
    with pytest.raises(RuntimeError):
        reader.receive_data(b"more")
