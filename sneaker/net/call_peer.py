"""One call to a peer, as muxrpcli makes it: the answer as JSON, a source as one JSON value to a line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from sneaker.errors import CallRefused, LocalProtocolError, NetworkError
from sneaker.escaping import escaped_json
from sneaker.home.home import Home
from sneaker.net.dial import dial_from_home
from sneaker.net.own_key_elsewhere import proves_own_key_elsewhere
from sneaker.net.peer_session import PeerSession
from sneaker.net.services.admin import MANIFEST
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
    async with _session_with(home, address) as session:
        if kind is None:
            kind = await _find_kind(session, name)
        if kind is CallKind.ASYNC:
            answer = await session.call(name, values, timeout_s=600)
            write(_printed(answer.kind, answer.body))
        else:
            source = _Source(session, write, limit)
            source.call = session.open_stream(name, kind, values, source)
            await source.over
    return True


@asynccontextmanager
async def _session_with(home: Home, address: Address) -> AsyncIterator[PeerSession]:
    """Connect to a peer only to call it; raises AddressError, NetworkError or HandshakeError."""
    session = await dial_from_home(home, address)
    if proves_own_key_elsewhere(home.keypair.public, session):
        home.store.own_keys.note_own_key(home.keypair.public, session.host)
    running = asyncio.create_task(session.run())
    try:
        yield session
        await session.hang_up()
    finally:
        session.abort()
        await asyncio.wait([running])


def _parse_argument(text: str) -> object:
    raw = text.encode("utf-8", "surrogateescape")
    try:
        parse_json(raw)
    except ValueError:
        return text
    return raw


async def _find_kind(session: PeerSession, name: list[str]) -> CallKind:
    """Ask the manifest; async if it does not say."""
    try:
        level: object = (await session.call(MANIFEST.name)).value()
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

    def __init__(self, session: PeerSession, write: Callable[[bytes], None], limit: int | None) -> None:
        self.call = 0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._session = session
        self._write = write
        self._left = limit

    def item_received(self, kind: BodyKind, body: bytes) -> None:
        self._session.consumed(self.call, len(body))
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
                self._session.end_call(self.call)
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
