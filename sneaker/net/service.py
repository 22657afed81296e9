"""What the commands use: run the peer, sync with one peer until both are level, meet everybody once, make one call."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from sneaker.bugs import what_went_wrong
from sneaker.errors import CallRefused, NetworkError, SneakerError
from sneaker.home.home import Home
from sneaker.net.connection import Connection
from sneaker.net.discovery import Discovery
from sneaker.net.interfaces import find_interfaces
from sneaker.net.meeting import Meeting, Tally
from sneaker.net.node import Node
from sneaker.net.ownkey import dial_from, proves_own_key_elsewhere
from sneaker.net.places import Places
from sneaker.net.policy import DEFAULT_HOPS
from sneaker.net.reasons import reason_of
from sneaker.net.scheduler import Scheduler
from sneaker.net.server import Server
from sneaker.refs import FeedRef
from sneaker.wire.address import Address, net_address

__all__ = ["PeerOptions", "SyncReport", "calling", "connect", "meet_all", "running_node", "serve"]

# Both sides are level if nothing has happened for so long. A JavaScript peer that got contact messages thinks for a
# second or so before it asks for the feeds of those it follows now.
_QUIET_S = 2.0
# When nothing at all has gone over the connection.
_NOTHING_S = 1.0
_LOOK_S = 0.1
# Places where one peer is sought that is heard at several.
_MAX_TRIES = 3
# A peer that promised more and sends nothing for so long will not.
_STALLED_S = 20.0


@dataclass(frozen=True, slots=True)
class PeerOptions:
    """How to run a peer: where to listen ("" is every interface), whom to stay connected to.

    ``port`` None is the usual one, or a free one if another SSB program on this machine has that.
    """

    host: str = ""
    port: int | None = None
    discovery: bool = True
    hops: int = DEFAULT_HOPS
    addresses: Sequence[Address] = ()


@dataclass(slots=True)
class SyncReport:
    """What came of one peer: ``level`` if both sides had everything of each other at the end, else ``detail`` says why."""

    peer: FeedRef
    address: str
    level: bool = False
    detail: str = ""
    tally: Tally = field(default_factory=Tally)
    seconds: float = 0.0


@asynccontextmanager
async def running_node(
    home: Home, hops: int, say: Callable[[str], None], warn: Callable[[str], None] | None = None
) -> AsyncIterator[Node]:
    """Run a node while the block runs; raises what made its store fail."""
    node = Node(home, hops=hops, say=say, warn=warn)
    await node.start()
    try:
        yield node
    finally:
        await node.stop()


async def serve(
    home: Home,
    options: PeerOptions,
    *,
    say: Callable[[str], None],
    warn: Callable[[str], None] | None = None,
    ready: Callable[[Sequence[Address]], None] = lambda addresses: None,
) -> None:
    """Run the peer until this is cancelled; ``ready`` is told the addresses it can be reached at.

    ``say`` and ``warn`` are told what a person may want to know, and what a person has to know.

    Raises NetworkError if the port cannot be had, StoreError if the store fails.
    """
    async with running_node(home, options.hops, say, warn) as node:
        server = Server(node, options.host, options.port)
        await server.start()
        scheduler = Scheduler(node)
        scheduler.start()
        for address in options.addresses:
            scheduler.add(address)
        discovery = Discovery(node, server.port_at, scheduler.found) if options.discovery else None
        try:
            if discovery is not None:
                await discovery.start()
            ready(_addresses(node, options.host, server))
            raise await node.failed
        finally:
            await scheduler.stop()
            if discovery is not None:
                await discovery.stop()
            await server.stop()


def _addresses(node: Node, host: str, server: Server) -> list[Address]:
    if host and host not in ("0.0.0.0", "::"):  # noqa: S104 (compared, not bound)
        return [net_address(host, server.port, node.me)]
    ports = {interface.address: server.port_at(interface.address) for interface in find_interfaces()}
    found = [net_address(address, port, node.me) for address, port in ports.items() if port is not None]
    return found or [net_address("::1" if host == "::" else "127.0.0.1", server.port, node.me)]


async def connect(
    home: Home,
    address: Address,
    *,
    say: Callable[[str], None],
    hops: int = DEFAULT_HOPS,
    live: bool = False,
    progress: Callable[[Tally], None] = lambda tally: None,
) -> SyncReport:
    """Sync with one peer until both sides are level, or, with ``live``, until it goes.

    Raises AddressError, NetworkError or HandshakeError if it cannot be reached, StoreError.
    """
    async with running_node(home, hops, say) as node:
        connection = await dial_from(home, address)
        return await _sync(node, connection, str(address), live=live, progress=progress)


async def _sync(
    node: Node,
    connection: Connection,
    address: str,
    *,
    live: bool = False,
    progress: Callable[[Tally], None] = lambda tally: None,
) -> SyncReport:
    """Meet a peer that is connected, and leave it when both sides are level."""
    begun: asyncio.Future[Meeting] = asyncio.get_running_loop().create_future()
    meeting_task = asyncio.create_task(node.meet(connection, on_start=begun.set_result))
    try:
        waiting: list[asyncio.Future[Any]] = [begun, meeting_task]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not begun.done():
            return SyncReport(connection.peer, address, detail="it is connected already")
        report = await _until_level(node, begun.result(), address, live=live, progress=progress)
        await connection.close()
        return report
    finally:
        if not meeting_task.done():
            connection.abort()
        await asyncio.wait([meeting_task])


async def _until_level(
    node: Node,
    meeting: Meeting,
    address: str,
    *,
    live: bool = False,
    progress: Callable[[Tally], None] = lambda tally: None,
) -> SyncReport:
    connection = meeting.connection
    report = SyncReport(meeting.peer, address, tally=meeting.tally)
    started = node.now()
    while not connection.closing:
        await asyncio.sleep(_LOOK_S)
        if node.failed.done():
            raise node.failed.result()
        progress(meeting.tally)
        if live:
            continue
        quiet = node.now() - meeting.active_at
        if quiet > _STALLED_S:
            silent = meeting.ebt is not None and not meeting.ebt.heard
            report.detail = "the peer does not replicate with us" if silent else "the peer announced more than it sent"
            break
        happened = meeting.tally != Tally()
        if meeting.is_busy or not node.is_settled or quiet < (_QUIET_S if happened else _NOTHING_S):
            continue
        if meeting.ebt is not None:
            meeting.ebt.acknowledge()
        before = meeting.active_at
        # An answer, even a refusal, proves that the peer has read all that was sent before the question.
        with contextlib.suppress(CallRefused, NetworkError):
            await connection.call(["whoami"], timeout_s=_STALLED_S)
        if meeting.active_at == before and not meeting.is_busy and not connection.closing:
            report.detail = _shortcoming(meeting)
            report.level = not report.detail
            break
    if not report.level and not report.detail:
        report.detail = _reason(connection.error) if not live or connection.error else "the peer went away"
    meeting.count_unplaced()
    report.seconds = node.now() - started
    return report


def _shortcoming(meeting: Meeting) -> str:
    """Say what the peer did not give although it is done, "" if nothing is missing."""
    if meeting.unplaced():
        return "the peer sent messages without those that come before them"
    return meeting.fetcher.problem if meeting.fetcher is not None else ""


def _reason(error: Exception | None) -> str:
    if error is None:
        return "the peer ended the connection"
    return reason_of(error) if isinstance(error, OSError) else what_went_wrong(error)


async def meet_all(
    home: Home,
    options: PeerOptions,
    *,
    say: Callable[[str], None],
    timeout_s: float = 60.0,
    listen_s: float = 6.0,
) -> list[SyncReport]:
    """Sync with every peer that can be found on the LAN or was named, once; returns what came of each.

    Waits ``listen_s`` for peers to be heard, and at most ``timeout_s`` altogether. Others may dial us meanwhile, if the port
    is free.
    """
    reports: list[SyncReport] = []
    syncing: dict[FeedRef, asyncio.Task[None]] = {}
    async with running_node(home, options.hops, say) as node:

        async def sync_with(address: Address, wait_s: float) -> None:
            await asyncio.sleep(wait_s)
            if address.key is None or address.key in node.meetings:
                return
            tried: set[Address] = set()
            known = places.get(address.key)
            at = (known.choose(node.now()) if known is not None else None) or address
            while True:
                tried.add(at)
                try:
                    connection = await dial_from(home, at)
                    reports.append(await _sync(node, connection, str(at)))
                    return
                except Exception as error:
                    failure = SyncReport(address.key, str(at), detail=_reason(error))
                other = known.choose(node.now(), frozenset(tried)) if known is not None else None
                if other is None or len(tried) == _MAX_TRIES:
                    reports.append(failure)
                    return
                at = other

        async def host(meeting: Meeting) -> None:
            reports.append(await _until_level(node, meeting, meeting.connection.remote))

        def found(address: Address, signed: bool) -> None:
            key = address.key
            if key is None or not node.policy.is_near(key):
                return
            places.setdefault(key, Places()).hear(address, signed, node.now())
            if key not in syncing:
                syncing[key] = asyncio.create_task(sync_with(address, 1.5 if node.me > key else 0))

        def met() -> None:
            for key, meeting in node.meetings.items():
                if not meeting.connection.dialled and (key not in hosted):
                    hosted[key] = asyncio.create_task(host(meeting))

        hosted: dict[FeedRef, asyncio.Task[None]] = {}
        places: dict[FeedRef, Places] = {}
        node.listeners.append(met)
        server = Server(node, options.host, options.port)
        discovery: Discovery | None = None
        try:
            with contextlib.suppress(NetworkError):  # a service may be running: it will meet those who dial
                await server.start()
            for address in options.addresses:
                if address.key is not None and address.key not in syncing:
                    syncing[address.key] = asyncio.create_task(sync_with(address, 0))
            if options.discovery:
                discovery = Discovery(node, server.port_at, found)
                await discovery.start()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await asyncio.sleep(listen_s if options.discovery else 0.1)
                    while tasks := [task for task in (*syncing.values(), *hosted.values()) if not task.done()]:
                        await asyncio.wait(tasks)
        finally:
            if discovery is not None:
                await discovery.stop()
            await server.stop()
            tasks = [*syncing.values(), *hosted.values()]
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            node.listeners.remove(met)
        for result in results:
            if isinstance(result, SneakerError):
                raise result
    return reports


@asynccontextmanager
async def calling(home: Home, address: Address) -> AsyncIterator[Connection]:
    """Connect to a peer only to call it; raises AddressError, NetworkError or HandshakeError."""
    connection = await dial_from(home, address)
    if proves_own_key_elsewhere(home, connection):
        home.store.own_keys.note_own_key(home.keypair.public, connection.host)
    running = asyncio.create_task(connection.run())
    try:
        yield connection
        await connection.close()
    finally:
        connection.abort()
        await asyncio.wait([running])
