"""What a peer serves to others, call by call."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from sneaker.errors import CallRefused
from sneaker.wire.muxrpc.calls import CallKind
from tests.net.attackers import Listener, guest
from tests.net.machines import Machine

pytestmark = pytest.mark.timeout(100)


def test_blobs_whole_and_in_parts(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    data = os.urandom(200_000)
    blob, missing = machine.add_blob(data), "&" + "C" * 42 + "A=.sha256"

    async def get(address: str, method: str, argument: object) -> bytes:
        async with guest(address) as connection:
            listener = Listener(connection)
            listener.call = connection.open(["blobs", method], CallKind.SOURCE, [argument], listener)
            async with asyncio.timeout(10):
                error = await listener.ended
            if error is not None:
                raise CallRefused(error.message)
            return b"".join(listener.items)

    async def main(address: str) -> None:
        for argument in (blob, {"key": blob}, {"hash": blob, "size": len(data)}, {"id": blob, "max": len(data)}):
            assert await get(address, "get", argument) == data
        assert await get(address, "getSlice", {"key": blob, "start": 70_000, "end": 190_001}) == data[70_000:190_001]
        assert await get(address, "getSlice", {"key": blob, "start": 199_990}) == data[199_990:]
        with pytest.raises(CallRefused, match="could not get blob"):
            await get(address, "get", missing)
        with pytest.raises(CallRefused, match="incorrect file length"):
            await get(address, "get", {"key": blob, "size": 5})
        with pytest.raises(CallRefused):
            await get(address, "get", {"key": blob, "max": 1000})
        async with guest(address) as connection:
            assert (await connection.call(["blobs", "has"], [blob])).value() is True
            assert (await connection.call(["blobs", "has"], [[missing, blob]])).value() == [False, True]
            for method in ("size", "want"):  # these are for the owner
                with pytest.raises(CallRefused):
                    await connection.call(["blobs", method], [blob])

    with machine.peer() as peer:
        asyncio.run(main(peer.address))
        assert machine.run("call", peer.address, "blobs.size", blob).stdout == f"{len(data)}\n"
        assert machine.run("call", peer.address, "blobs.size", missing).stdout == "null\n"
        assert machine.run("call", peer.address, "blobs.want", blob).stdout == "true\n"


def test_pings_are_answered_with_the_time(tmp_path: Path) -> None:
    async def main(address: str) -> None:
        async with guest(address) as connection:
            ping = Listener(connection)
            ping.call = connection.open(["gossip", "ping"], CallKind.DUPLEX, [{"timeout": 300_000}], ping)
            for count in (1, 2):
                connection.send(ping.call, b"1700000000000")
                await ping.wait(count)
            connection.end(ping.call)
            async with asyncio.timeout(5):
                assert await ping.ended is None
            assert all(json.loads(item) > 1_700_000_000_000 for item in ping.items)

    with Machine(tmp_path / "machine").peer() as peer:
        asyncio.run(main(peer.address))
