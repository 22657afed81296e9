"""What a transport is: something that makes byte streams between two machines, or two programs.

A transport is one module: it reads its own form of addresses, connects, and listens.  Everything above (secret handshake,
box stream, muxrpc) takes a ``ByteStream``, whatever it runs over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sneaker.refs import FeedRef
from sneaker.wire.address import Address

__all__ = ["STREAM_LIMIT_BYTES", "ByteStream", "Endpoint", "Listening", "Transport"]

# asyncio stops reading a socket when twice this waits to be taken.
STREAM_LIMIT_BYTES = 128 * 1024


@dataclass(frozen=True, slots=True)
class ByteStream:
    """A connected stream, both ways.

    ``host``: the IP address of the other end, "" if there is none; ``remote``: where the other end is, for people.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    host: str = ""
    remote: str = ""

    def abort(self) -> None:
        """End it now; what was not sent is lost."""
        self.writer.transport.abort()


class Endpoint(Protocol):
    """One place where an address may be reached."""

    async def connect(self) -> ByteStream:
        """Connect, within a time that is right for this transport; raises NetworkError."""


class Listening(Protocol):
    """What listens for those who connect."""

    def addresses(self, key: FeedRef) -> list[Address]:
        """Return the addresses at which a peer with ``key`` can be reached here."""

    def stop_listening(self) -> None:
        """Listen no longer; the streams go on."""


class Transport(Protocol):
    """One way to make byte streams."""

    #: The name of the transport in multiserver addresses.
    name: str

    async def endpoints(self, address: Address) -> Sequence[Endpoint]:
        """Return the places for an address, at least one, to be tried in this order; each may be another machine.

        Raises AddressError if this is no address of this transport, NetworkError if nobody knows where it is.
        """

    async def listen(self, host: str, port: int | None, accepted: Callable[[ByteStream], Awaitable[None]]) -> Listening:
        """Listen, and call ``accepted`` for everybody who connects; raises NetworkError."""
