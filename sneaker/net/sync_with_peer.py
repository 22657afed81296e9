"""One sync with one peer, until both sides are level, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sneaker.bugs import what_went_wrong
from sneaker.home.home import Home
from sneaker.net.connected_peer import ConnectedPeer
from sneaker.net.dial import dial_from_home
from sneaker.net.feeds_to_replicate import DEFAULT_HOPS
from sneaker.net.node import Node
from sneaker.net.peer_session import PeerSession
from sneaker.net.run_peer import running_node
from sneaker.net.services.admin import ask_whoami
from sneaker.net.services.ebt import EbtService
from sneaker.net.socket_errors import socket_error_words
from sneaker.net.transfer_counts import TransferCounts
from sneaker.refs import FeedRef
from sneaker.wire.address import Address

__all__ = ["SyncReport", "sync_over_session", "sync_with_peer", "wait_until_level", "why_it_ended"]

# Both sides are level if nothing has happened for so long. A JavaScript peer that got contact messages thinks for a
# second or so before it asks for the feeds of those it follows now; and a disk may take its time over what we sent.
_QUIET_S = 2.0
# The same, where nothing at all has gone over the connection.
_NOTHING_S = 1.0
_LOOK_S = 0.05
# A peer that promised more and sends nothing for so long will not.
_STALLED_S = 20.0


@dataclass(slots=True)
class SyncReport:
    """What came of one peer: ``level`` if both sides had everything of each other at the end, else ``detail`` says why."""

    peer: FeedRef
    address: str
    level: bool = False
    detail: str = ""
    counts: TransferCounts = field(default_factory=TransferCounts)
    seconds: float = 0.0


async def sync_with_peer(
    home: Home,
    address: Address,
    *,
    remark: Callable[[str], None],
    hops: int = DEFAULT_HOPS,
    live: bool = False,
    progress: Callable[[TransferCounts], None] = lambda counts: None,
) -> SyncReport:
    """Sync with one peer until both sides are level, or, with ``live``, until it goes.

    Raises AddressError, NetworkError or HandshakeError if it cannot be reached, StoreError.
    """
    async with running_node(home, hops, remark) as node:
        session = await dial_from_home(home, address)
        return await sync_over_session(node, session, str(address), live=live, progress=progress)


async def sync_over_session(
    node: Node,
    session: PeerSession,
    address: str,
    *,
    live: bool = False,
    progress: Callable[[TransferCounts], None] = lambda counts: None,
) -> SyncReport:
    """Replicate with a peer that is connected, and leave it when both sides are level, or, with ``live``, when it goes."""
    begun: asyncio.Future[ConnectedPeer] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(node.run_session(session, on_start=begun.set_result))
    try:
        waiting: list[asyncio.Future[Any]] = [begun, running]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not begun.done():
            return SyncReport(session.peer, address, detail="it is connected already")
        report = await wait_until_level(node, begun.result(), address, live=live, progress=progress)
        await session.hang_up()
        return report
    finally:
        if not running.done():
            session.abort()
        await asyncio.wait([running])


async def wait_until_level(
    node: Node,
    peer: ConnectedPeer,
    address: str,
    *,
    live: bool = False,
    progress: Callable[[TransferCounts], None] = lambda counts: None,
) -> SyncReport:
    """Wait until both sides have everything of each other, and say what came of it; does not hang up."""
    session, replication = peer.session, peer.service(EbtService)
    report = SyncReport(peer.key, address, counts=peer.counts)
    now = node.context.now
    started = now()
    while not session.closing:
        await asyncio.sleep(_LOOK_S)
        if node.failed.done():
            raise node.failed.result()
        progress(peer.counts)
        if live:
            continue
        quiet = now() - peer.active_at
        if quiet > _STALLED_S:
            silent = replication.stream is not None and not replication.stream.heard
            report.detail = "the peer does not replicate with us" if silent else "the peer announced more than it sent"
            break
        happened = peer.counts != TransferCounts()
        if peer.is_busy or not node.is_settled or quiet < (_QUIET_S if happened else _NOTHING_S):
            continue
        replication.acknowledge()
        before = peer.active_at
        # An answer, even a refusal, proves that the peer has read all that was sent before the question.
        await ask_whoami(session, _STALLED_S)
        if peer.active_at == before and not peer.is_busy and node.is_settled and not session.closing:
            report.detail = replication.shortcoming()
            report.level = not report.detail
            break
    if not report.level and not report.detail:
        report.detail = why_it_ended(session.error) if not live or session.error else "the peer went away"
    replication.count_unplaced()
    report.seconds = now() - started
    return report


def why_it_ended(error: Exception | None) -> str:
    """Return the words for why a connection ended, or could not be made."""
    if error is None:
        return "the peer ended the connection"
    return socket_error_words(error) if isinstance(error, OSError) else what_went_wrong(error)
