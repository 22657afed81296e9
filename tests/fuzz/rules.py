"""What every target asks of a reader, written once.

A target is a function of bytes that returns for whatever it is given, and raises if a promise is broken: by an error
that the reader does not document, or by an assertion here.  Nothing in it depends on chance: where to cut a stream, and
which of several orders to try, follows from the bytes.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import FrameType
from typing import Any, NamedTuple, Protocol

from sneaker.errors import CallRefused, RemoteProtocolError, SneakerError

__all__ = ["Failed", "Taker", "Target", "check_stream", "little_stack", "pieces_of", "raised", "read_stream", "said"]


class Target(NamedTuple):
    """One reader: the rule, inputs to begin with, and how long an input may get."""

    check: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    max_bytes: int = 4096


class StreamReader(Protocol):
    """The contract of readers: see sneaker/wire/stream_reader.py."""

    @property
    def trailing_data(self) -> bytes: ...

    def receive_data(self, data: bytes) -> None: ...

    def next_event(self) -> Any: ...


class Failed(NamedTuple):
    """A documented error, in a form that can be compared."""

    kind: type[Exception]
    message: str


def said(error: Exception) -> Failed:
    """Return what an error says; all but those that go back to the peer who asked go to a terminal as they are."""
    if isinstance(error, SneakerError) and not isinstance(error, CallRefused):
        assert error.message.isprintable(), error.message
        assert len(error.message) < 2000
    return Failed(type(error), str(error))


def raised(
    errors: type[Exception] | tuple[type[Exception], ...], call: Callable[..., Any], *args: Any, **named: Any
) -> Any:
    """Return what the call returns, or Failed for one of the errors that it documents."""
    try:
        return call(*args, **named)
    except errors as error:
        return said(error)


def pieces_of(data: bytes) -> list[bytes]:
    """Cut ``data`` at up to three places that follow from it; one short input in eight is cut between all bytes."""
    seed = zlib.crc32(data)
    if len(data) <= 300 and seed & 0x1C == 0:
        return [data[at : at + 1] for at in range(len(data))]
    places = sorted((seed >> shift) % (len(data) + 1) for shift in (3, 11, 17))
    return [data[start:stop] for start, stop in itertools.pairwise((0, *places, len(data))) if stop > start]


def read_stream(
    reader: StreamReader, pieces: Iterable[bytes], errors: type[SneakerError] = RemoteProtocolError
) -> tuple[list[Any], bytes]:
    """Feed pieces and the end of input; return the events, an error as the last of them, and what was left over.

    After an error the same error comes again, and nothing is kept of what comes after it.
    """
    events: list[Any] = []
    for piece in [*pieces, b""]:
        reader.receive_data(piece)
        while True:
            try:
                event = reader.next_event()
            except errors as error:
                failure = said(error)
                if piece:
                    reader.receive_data(b"\0" * 64)
                assert reader.trailing_data == b""
                assert raised(errors, reader.next_event) == failure
                return [*events, failure], b""
            if type(event).__name__ == "NeedData":
                break
            events.append(event)
    try:
        reader.receive_data(b"more")
    except RuntimeError:
        return events, reader.trailing_data
    raise AssertionError("data after the end of input was taken")


def check_stream(
    make: Callable[[], StreamReader],
    data: bytes,
    errors: type[SneakerError] = RemoteProtocolError,
    merge: Callable[[list[Any]], list[Any]] = list,
) -> list[Any]:
    """Check that a reader gives the same however its input is cut; return its events."""
    events, left = read_stream(make(), [data] if data else [], errors)
    again, left_again = read_stream(make(), pieces_of(data), errors)
    assert merge(events) == merge(again)
    assert left == left_again
    assert data.endswith(left)
    return events


@contextlib.contextmanager
def little_stack(depth: int = 150) -> Iterator[None]:
    """Leave room for so many calls: readers are deep in other code when something nested comes to them."""
    before = sys.getrecursionlimit()
    frame: FrameType | None = sys._getframe()
    here = 0
    while frame is not None:
        frame, here = frame.f_back, here + 1
    sys.setrecursionlimit(here + depth)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


class Taker:
    """Takes small choices off the front of an input, so that what is made of it can be shaped; then zeros, for ever."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return len(self.data) - self.at

    def byte(self) -> int:
        """Return the next byte."""
        if self.at >= len(self.data):
            return 0
        self.at += 1
        return self.data[self.at - 1]

    def number(self, size: int) -> int:
        """Return ``size`` bytes as a number."""
        return int.from_bytes(self.take(size), "little")

    def take(self, length: int) -> bytes:
        """Return the next ``length`` bytes, fewer at the end."""
        start = self.at
        self.at = min(start + length, len(self.data))
        return self.data[start : self.at]

    def piece(self) -> bytes:
        """Return bytes with their length before them."""
        length = self.byte()
        return self.take(length if length < 0xC0 else (length & 0x3F) << 8 | self.byte())

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(len(self.data))

    def choose(self, choices: Sequence[Any]) -> Any:
        """Return one of ``choices``."""
        return choices[self.byte() % len(choices)]


def put_piece(data: bytes) -> bytes:
    """Return what ``Taker.piece`` reads ``data`` from; for seeds."""
    assert len(data) < 1 << 14
    head = bytes((len(data),)) if len(data) < 0xC0 else bytes((0xC0 | len(data) >> 8, len(data) & 0xFF))
    return head + data
