"""Nodes in the test's own process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sneaker.net.listener import Listener
from sneaker.net.node import Node
from sneaker.wire.address import Address, net_address
from tests.net.machines import Machine


@asynccontextmanager
async def running(
    machine: Machine, say: Callable[[str], None] = lambda text: None
) -> AsyncIterator[tuple[Node, Address]]:
    """A node in this very process, which listens."""
    with machine.home() as home:
        node = Node(home, remark=say)
        await node.start()
        server = Listener(node, "127.0.0.1", 0)
        await server.start_listening()
        try:
            yield node, net_address("127.0.0.1", server.port, node.me)
        finally:
            server.stop_listening()
            await node.stop()


async def until(condition: Callable[[], object], timeout_s: float = 10) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)
