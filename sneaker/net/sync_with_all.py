"""One sync with every peer that can be found on the LAN or was named."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from sneaker.errors import NetworkError, SneakerError
from sneaker.home.home import Home
from sneaker.net.connected_peer import ConnectedPeer
from sneaker.net.dial import dial_from_home
from sneaker.net.lan_discovery import LanDiscovery
from sneaker.net.listener import Listener
from sneaker.net.peer_addresses import PeerAddresses
from sneaker.net.run_peer import PeerOptions, running_node
from sneaker.net.sync_with_peer import SyncReport, sync_over_session, wait_until_level, why_it_ended
from sneaker.refs import FeedRef
from sneaker.wire.address import Address

__all__ = ["sync_with_all"]

# At how many addresses we seek a peer that is heard at several.
_MAX_TRIES = 3
# When both hear each other at once, the one with the higher key dials so much later.
_POLITE_S = 1.5


async def sync_with_all(
    home: Home,
    options: PeerOptions,
    *,
    remark: Callable[[str], None],
    timeout_s: float = 60.0,
    listen_s: float = 6.0,
) -> list[SyncReport]:
    """Sync with every peer that can be found on the LAN or was named, once; returns what came of each.

    Waits ``listen_s`` for peers to be heard, and at most ``timeout_s`` altogether. Others may dial us meanwhile, if the port
    is free.
    """
    reports: list[SyncReport] = []
    syncing: dict[FeedRef, asyncio.Task[None]] = {}
    async with running_node(home, options.hops, remark) as node:

        async def sync_with(address: Address, wait_s: float) -> None:
            await asyncio.sleep(wait_s)
            if address.key is None or address.key in node.peers:
                return
            tried: set[Address] = set()
            known = heard.get(address.key)
            at = (known.best_address(now()) if known is not None else None) or address
            while True:
                tried.add(at)
                try:
                    session = await dial_from_home(home, at)
                    reports.append(await sync_over_session(node, session, str(at)))
                    return
                except Exception as error:
                    failure = SyncReport(address.key, str(at), detail=why_it_ended(error))
                other = known.best_address(now(), frozenset(tried)) if known is not None else None
                if other is None or len(tried) == _MAX_TRIES:
                    reports.append(failure)
                    return
                at = other

        async def sync_with_guest(peer: ConnectedPeer) -> None:
            reports.append(await wait_until_level(node, peer, peer.session.remote))

        def beacon_heard(address: Address, signed: bool) -> None:
            key = address.key
            if key is None or not node.context.policy.is_near(key):
                return
            heard.setdefault(key, PeerAddresses()).beacon_heard(address, signed, now())
            if key not in syncing:
                syncing[key] = asyncio.create_task(sync_with(address, _POLITE_S if node.me > key else 0))

        def look_for_guests() -> None:
            for key, peer in node.peers.items():
                if not peer.session.dialled and key not in guests:
                    guests[key] = asyncio.create_task(sync_with_guest(peer))

        guests: dict[FeedRef, asyncio.Task[None]] = {}
        heard: dict[FeedRef, PeerAddresses] = {}
        now = node.context.now
        node.listeners.append(look_for_guests)
        listener = Listener(node, options.host, options.port)
        discovery = LanDiscovery(
            node.context, listener.port_at, peer_heard=beacon_heard, own_key_heard=node.own_key.beacon_heard
        )
        try:
            with contextlib.suppress(NetworkError):  # a service may be running: it takes those who dial
                await listener.start_listening()
            for address in options.addresses:
                if address.key is not None and address.key not in syncing:
                    syncing[address.key] = asyncio.create_task(sync_with(address, 0))
            if options.discovery:
                await discovery.start()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await asyncio.sleep(listen_s if options.discovery else 0.1)
                    while tasks := [task for task in (*syncing.values(), *guests.values()) if not task.done()]:
                        await asyncio.wait(tasks)
        finally:
            await discovery.stop()
            listener.stop_listening()
            tasks = [*syncing.values(), *guests.values()]
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            node.listeners.remove(look_for_guests)
        for result in results:
            if isinstance(result, SneakerError):
                raise result
    return reports
