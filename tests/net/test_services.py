"""What a peer serves to others, call by call."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from sneaker.errors import CallRefused
from sneaker.wire.muxrpc.calls import CallKind
from sneaker.wire.muxrpc.manifest import Permission, refusal_text
from tests.net.attackers import Collector, guest, somebody
from tests.net.machines import Machine
from tests.net.nodes import running, until
from tests.wire.vectors import transcript

pytestmark = pytest.mark.timeout(100)


def test_blobs_whole_and_in_parts(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    data = os.urandom(200_000)
    blob, missing = machine.add_blob(data), "&" + "C" * 42 + "A=.sha256"

    async def get(address: str, method: str, argument: object) -> bytes:
        async with guest(address) as connection:
            listener = Collector(connection)
            listener.call = connection.open_stream(["blobs", method], CallKind.SOURCE, [argument], listener)
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
            ping = Collector(connection)
            ping.call = connection.open_stream(["gossip", "ping"], CallKind.DUPLEX, [{"timeout": 300_000}], ping)
            for count in (1, 2):
                connection.send_item(ping.call, b"1700000000000")
                await ping.wait(count)
            connection.end_call(ping.call)
            async with asyncio.timeout(5):
                assert await ping.ended is None
            assert all(json.loads(item) > 1_700_000_000_000 for item in ping.items)

    with Machine(tmp_path / "machine").peer() as peer:
        asyncio.run(main(peer.address))


STRANGER: dict[str, object] = {
    "manifest": "sync",
    "whoami": "sync",
    "gossip": {"ping": "duplex"},
    "createHistoryStream": "source",
    "ebt": {"replicate": "duplex"},
    "blobs": {"get": "source", "getSlice": "source", "has": "async", "createWants": "source"},
}


def test_what_strangers_friends_and_our_own_programs_may_call(tmp_path: Path) -> None:
    """The whole list: a service that serves more has to change it here."""
    machine, friend = Machine(tmp_path / "machine"), somebody()
    machine.follow(str(friend.public))
    expected = {
        somebody(): STRANGER,
        friend: {**STRANGER, "ebt": {"replicate": "duplex", "clock": "async"}},
        machine.keypair: {
            **STRANGER,
            "ebt": {"replicate": "duplex", "clock": "async"},
            "blobs": {
                "get": "source",
                "getSlice": "source",
                "has": "async",
                "createWants": "source",
                "size": "async",
                "want": "async",
            },
            "status": "sync",
        },
    }

    async def main() -> None:
        async with running(machine) as (_, address):
            for keypair, methods in expected.items():
                async with guest(address, keypair) as connection:
                    assert (await connection.call(["manifest"])).value() == methods

    asyncio.run(main())


def test_what_recorded_peers_asked_for_is_served_or_refused_with_the_text_they_got(tmp_path: Path) -> None:
    requests = 0

    async def main() -> None:
        nonlocal requests
        async with running(Machine(tmp_path / "machine")) as (node, address), guest(address):
            await until(lambda: node.peers)
            (peer,) = node.peers.values()
            for name in ("db2-dials-ssb-server.seen-by-server.jsonl", "ssb-server-dials-server-without-ebt.jsonl"):
                for row in transcript(name):
                    body = row.get("body")
                    if isinstance(body, dict) and isinstance(body.get("name"), list):
                        requests += 1
                        method = peer.served_methods.find(tuple(body["name"]))
                        kind = CallKind(body.get("type", "async"))
                        text = refusal_text(method, body["name"], kind, Permission.STRANGER)
                        missing = body["name"] in (["room", "metadata"], ["tunnel", "isRoom"], ["ooo", "stream"])
                        assert (text is not None) == missing

    asyncio.run(main())
    assert requests > 10


def test_our_own_programs_get_blobs(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    blob = machine.add_blob(b"x" * 1000)
    with machine.peer() as peer:
        assert machine.run("call", peer.address, "blobs.get", blob).stdout == "x" * 1000
