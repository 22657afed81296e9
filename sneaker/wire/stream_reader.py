"""What every reader of a byte stream here does alike: store bytes, end once, fail once, hand on what is left.

The contract: ``receive_data`` only stores; ``b""`` is the end of input and more data after it is the caller's bug;
``next_event`` returns an event or NEED_DATA; after an error from the peer the reader stays in the error state.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from typing import Final, Generic, TypeVar

from sneaker.errors import RemoteProtocolError
from sneaker.need_data import NEED_DATA, NeedData

__all__ = ["GOODBYE", "NEED_DATA", "Goodbye", "NeedData", "Reader"]

Event_co = TypeVar("Event_co", covariant=True)


class Goodbye(enum.Enum):
    """The type of GOODBYE, an enum of one so that type checkers can tell it from other events."""

    GOODBYE = "GOODBYE"

    def __repr__(self) -> str:
        return self.value


#: The peer ended its stream properly; the box stream and muxrpc have one each.
GOODBYE: Final = Goodbye.GOODBYE


class Reader(ABC, Generic[Event_co]):
    """A buffer with an end and an error state; subclasses say what an event is by writing ``_read``."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._input_ended = False
        self._failure: RemoteProtocolError | None = None

    def receive_data(self, data: bytes) -> None:
        """Store bytes from the peer; ``b""`` says that there are no more.

        Raises RuntimeError for data after the end: that is a bug in the caller, not the peer's doing.
        """
        if not data:
            self._input_ended = True
        elif self._input_ended:
            raise RuntimeError("data received after the end of input")
        elif self._failure is None:
            self._buffer += data

    def next_event(self) -> Event_co | NeedData:
        """Return the next event in the buffer, or NEED_DATA.

        Raises RemoteProtocolError if the peer broke the protocol, now and on every later call. Any other exception
        is a bug in sneaker: please report it.
        """
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        try:
            return self._read()
        except RemoteProtocolError as error:
            self.fail(error)
            raise

    def fail(self, error: RemoteProtocolError) -> None:
        """Enter the error state: ``error`` comes from now on, and nothing more is stored.

        It is for a layer above that found the peer's bytes wrong.
        """
        self._failure = error
        self._buffer.clear()

    @property
    def trailing_data(self) -> bytes:
        """The bytes received and not used: after the last event they belong to the next layer."""
        return bytes(self._buffer)

    @property
    def input_ended(self) -> bool:
        """Whether the end of input was received."""
        return self._input_ended

    @abstractmethod
    def _read(self) -> Event_co | NeedData:
        """Take one event out of the buffer; raises RemoteProtocolError."""

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data
