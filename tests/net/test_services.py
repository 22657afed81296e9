"""What a peer serves to others, call by call, and held against ssb-server where that serves it too."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sneaker.errors import CallRefused
from sneaker.wire.calls import CallKind
from tests import js_oracle
from tests.net.attackers import Listener, guest
from tests.net.machines import Machine, RunningPeer, feed_named, small_log

pytestmark = pytest.mark.timeout(100)

FEED = feed_named("bob")

# What a peer may ask of createHistoryStream; those that are live are looked at for a moment.
QUERIES: list[dict[str, Any]] = [
    {},
    {"seq": 1},
    {"sequence": 5},
    {"seq": 5, "limit": 2},
    {"limit": 1},
    {"keys": False},
    {"values": False},
    {"seq": 7, "keys": False, "live": False},
    {"seq": 100_000},
    {"old": False},
    {"old": True, "live": True},
    {"seq": 3, "limit": 4, "live": True},
    {"seq": 100_000, "live": True, "keys": False},
    {"live": True, "old": False, "keys": False},
]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_log(tmp_path_factory.mktemp("log") / "log.ndjson")


@pytest.fixture(scope="module")
def served(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machine, RunningPeer]]:
    machine = Machine(tmp_path_factory.mktemp("served") / "machine")
    machine.take(log)
    with machine.peer() as peer:
        yield machine, peer


def history(address: str, query: dict[str, Any], feed: str = FEED) -> tuple[list[Any], bool]:
    """Ask for a history; returns the items, without the time of receipt, and whether it ended by itself."""

    async def ask() -> tuple[list[Any], bool]:
        async with guest(address) as connection:
            listener = Listener(connection)
            arguments = [{"id": feed, **query}]
            listener.call = connection.open(["createHistoryStream"], CallKind.SOURCE, arguments, listener)
            ended = False
            with suppress(TimeoutError):
                async with asyncio.timeout(2 if query.get("live") else 15):
                    assert await listener.ended is None
                    ended = True
            return [json.loads(item) for item in listener.items], ended

    items, ended = asyncio.run(ask())
    for item in items:
        if isinstance(item, dict) and "key" in item:
            assert isinstance(item.pop("timestamp"), int | float)
            item.pop("rts", None)
    return items, ended


def expected(machine: Machine, query: dict[str, Any]) -> tuple[list[Any], bool]:
    messages = machine.messages(FEED)[max(query.get("seq", query.get("sequence", 1)), 1) - 1 :]
    messages = messages[: query.get("limit", len(messages))] if query.get("old", True) else []
    items: list[Any] = []
    for message in messages:
        value = json.loads(message.text)
        if query.get("keys", True) and query.get("values", True):
            items.append({"key": str(message.key), "value": value})
        else:
            items.append(value if query.get("values", True) else str(message.key))
    return items, not query.get("live") or len(items) == query.get("limit")


@pytest.mark.parametrize("query", QUERIES, ids=json.dumps)
def test_history_streams(query: dict[str, Any], served: tuple[Machine, RunningPeer]) -> None:
    machine, peer = served
    assert history(peer.address, query) == expected(machine, query)


def test_a_history_of_nobody_ends_at_once(served: tuple[Machine, RunningPeer]) -> None:
    stranger = "@" + "B" * 42 + "A=.ed25519"
    assert history(served[1].address, {}, stranger) == ([], True)
    assert history(served[1].address, {"live": True}, stranger) == ([], True)


@pytest.mark.node
def test_ssb_server_gives_the_same_histories(served: tuple[Machine, RunningPeer], log: Path, tmp_path: Path) -> None:
    if reason := js_oracle.available(js_oracle.PEERS):
        pytest.skip(reason)
    with js_oracle.Peer("server.cjs", path=str(tmp_path)) as theirs:
        assert not theirs.ask("import", file=str(log))["refused"]
        for query in QUERIES:
            if query in ({"values": False}, {"old": False}):
                continue  # seen: it sends nothing, and never ends
            items, ended = history(theirs.address, query)
            items = [item for item in items if item != {"sync": True}]
            ours = expected(served[0], query)
            assert items == ours[0], query
            # A live one goes on there when its limit is reached.
            assert query.get("live") or ended == ours[1], query


def test_a_live_history_goes_on(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    machine.publish({"type": "post", "text": "old"})

    async def main(address: str) -> None:
        async with guest(address) as connection:
            streams = []
            for query in ({"live": True, "keys": False}, {"live": True, "old": False, "limit": 2, "values": False}):
                stream = Listener(connection)
                arguments = [{"id": machine.id, **query}]
                stream.call = connection.open(["createHistoryStream"], CallKind.SOURCE, arguments, stream)
                streams.append(stream)
            everything, news = streams
            await everything.wait(1)
            keys = []
            for number in range(3):
                message = await asyncio.to_thread(machine.publish, {"type": "post", "text": f"{number}"})
                keys.append(str(message.key))
                await everything.wait(number + 2)
            async with asyncio.timeout(5):
                assert await news.ended is None
            assert [json.loads(item) for item in news.items] == keys[:2]
            assert [json.loads(item)["sequence"] for item in everything.items] == [1, 2, 3, 4]
            assert not everything.ended.done()

    with machine.peer() as peer:
        asyncio.run(main(peer.address))


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


def test_pings_are_answered_with_the_time(served: tuple[Machine, RunningPeer]) -> None:
    async def main() -> None:
        async with guest(served[1].address) as connection:
            ping = Listener(connection)
            ping.call = connection.open(["gossip", "ping"], CallKind.DUPLEX, [{"timeout": 300_000}], ping)
            for count in (1, 2):
                connection.send(ping.call, b"1700000000000")
                await ping.wait(count)
            connection.end(ping.call)
            async with asyncio.timeout(5):
                assert await ping.ended is None
            assert all(json.loads(item) > 1_700_000_000_000 for item in ping.items)

    asyncio.run(main())
