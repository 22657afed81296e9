"""The LAN peer as a service: a node that listens, announces itself, and dials whom it hears."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sneaker.home.home import Home
from sneaker.net.dial_schedule import DialSchedule
from sneaker.net.feeds_to_replicate import DEFAULT_HOPS
from sneaker.net.lan_discovery import LanDiscovery
from sneaker.net.listener import Listener
from sneaker.net.node import Node
from sneaker.wire.address import Address

__all__ = ["PeerOptions", "run_peer", "running_node"]


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


@asynccontextmanager
async def running_node(
    home: Home, hops: int, remark: Callable[[str], None], warn: Callable[[str], None] | None = None
) -> AsyncIterator[Node]:
    """Run a node while the block runs."""
    node = Node(home, hops=hops, remark=remark, warn=warn)
    await node.start()
    try:
        yield node
    finally:
        await node.stop()


async def run_peer(
    home: Home,
    options: PeerOptions,
    *,
    remark: Callable[[str], None],
    warn: Callable[[str], None] | None = None,
    ready: Callable[[Sequence[Address]], None] = lambda addresses: None,
) -> None:
    """Run the peer until this is cancelled; ``ready`` is told the addresses it can be reached at.

    ``remark`` and ``warn`` are told what a person may want to know, and what a person has to know.

    Raises NetworkError if the port cannot be had, StoreError if the store fails.
    """
    async with running_node(home, options.hops, remark, warn) as node:
        listener = Listener(node, options.host, options.port)
        await listener.start_listening()
        schedule = DialSchedule(node)
        schedule.start()
        for address in options.addresses:
            schedule.keep_connected(address)
        discovery = LanDiscovery(
            node.context,
            listener.port_at,
            peer_heard=schedule.beacon_heard,
            own_key_heard=node.own_key.beacon_heard,
        )
        try:
            if options.discovery:
                await discovery.start()
            ready(listener.addresses())
            raise await node.failed
        finally:
            await schedule.stop()
            await discovery.stop()
            listener.stop_listening()
