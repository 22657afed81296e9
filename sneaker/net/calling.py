"""One call to a peer, as muxrpcli makes it: the answer as JSON, a source as one JSON value to a line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from sneaker.errors import CallRefused, LocalProtocolError, NetworkError
from sneaker.escaping import escaped_json
from sneaker.home.home import Home
from sneaker.net.connection import Connection
from sneaker.net.service import calling
from sneaker.wire.address import Address
from sneaker.wire.json_text import encode_json, parse_json
from sneaker.wire.muxrpc.calls import CallKind, PeerError
from sneaker.wire.muxrpc.packets import BodyKind
from sneaker.wire.muxrpc.session import CLOSED_TEXT

__all__ = ["call_peer"]


async def call_peer(
    home: Home,
    address: Address,
    method: str,
    arguments: Sequence[str],
    write: Callable[[bytes], None],
    *,
    kind: CallKind | None = None,
    limit: int | None = None,
) -> bool:
    """Make the call and write what comes; binary items go out as they are. Returns True.

    ``kind`` None asks the peer's manifest. Raises CallRefused with the peer's words, AddressError, NetworkError.
    """
    name = method.split(".")
    values = [_parse_argument(text) for text in arguments]
    async with calling(home, address) as connection:
        if kind is None:
            kind = await _find_kind(connection, name)
        if kind is CallKind.ASYNC:
            answer = await connection.call(name, values, timeout_s=600)
            write(_printed(answer.kind, answer.body))
        else:
            source = _Source(connection, write, limit)
            source.call = connection.open(name, kind, values, source)
            await source.over
    return True


def _parse_argument(text: str) -> object:
    raw = text.encode("utf-8", "surrogateescape")
    try:
        parse_json(raw)
    except ValueError:
        return text
    return raw


async def _find_kind(connection: Connection, name: list[str]) -> CallKind:
    """Ask the manifest; async if it does not say."""
    try:
        level: object = (await connection.call(["manifest"])).value()
    except (CallRefused, ValueError):
        return CallKind.ASYNC
    for part in name:
        level = level.get(part) if isinstance(level, dict) else None
    if level in ("sink", "duplex"):
        raise LocalProtocolError(f"{'.'.join(name)} is a {level}: it needs more than a command line")
    return CallKind.SOURCE if level == "source" else CallKind.ASYNC


def _printed(kind: BodyKind, body: bytes) -> bytes:
    if kind is BodyKind.BINARY:
        return body
    if kind is BodyKind.TEXT:
        return escaped_json(encode_json(body.decode("utf-8", "replace"))) + b"\n"
    # On one line, whatever the peer's layout.
    try:
        return escaped_json(encode_json(parse_json(body))) + b"\n"
    except ValueError:
        raise NetworkError("the peer's answer is not JSON") from None


class _Source:
    """Writes the items of a source."""

    def __init__(self, connection: Connection, write: Callable[[bytes], None], limit: int | None) -> None:
        self.call = 0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._connection = connection
        self._write = write
        self._left = limit

    def item_received(self, kind: BodyKind, body: bytes) -> None:
        self._connection.consumed(self.call, len(body))
        if self.over.done():
            return
        try:
            self._write(_printed(kind, body))
        except (NetworkError, OSError) as error:
            self.over.set_exception(error)
            return
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self._connection.end(self.call)
                self.over.set_result(None)

    def end_received(self, error: PeerError | None, *, still_open: bool) -> None:
        if self.over.done():
            return
        if error is None:
            self.over.set_result(None)
        elif error.message == CLOSED_TEXT:
            self.over.set_exception(NetworkError("the peer ended the connection"))
        else:
            self.over.set_exception(CallRefused(error.message))
