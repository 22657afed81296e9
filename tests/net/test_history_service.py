"""createHistoryStream as it is served: whatever the arguments, the answer is ssb-server's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sneaker.feed.message import Message
from sneaker.wire.muxrpc.calls import CallKind
from tests import js_oracle
from tests.net.attackers import Collector, guest, somebody
from tests.net.machines import ROOT, Machine, RunningPeer, wait_for

pytestmark = pytest.mark.timeout(100)

# Arguments of all kinds; what ssb-server 16.0.1 answers about a feed (ME) of six messages; ours, where it is another
# answer, and why. K3 is message 3 with its key, v3 without; NOBODY is a feed that nobody has.
TABLE: list[dict[str, Any]] = json.loads((ROOT / "tests/data/wire/history-arguments.json").read_text())

# Connections at once: a peer has few places for strangers.
_AT_ONCE = 8


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machine, RunningPeer]]:
    machine = Machine(tmp_path_factory.mktemp("served") / "machine")
    for number in range(6):
        machine.publish({"type": "post", "text": f"{number}"})
    with machine.peer() as peer:
        yield machine, peer


def described(stream: Collector, messages: list[Message]) -> str:
    """What came, in the words of the table."""
    words = []
    for raw in stream.items:
        item = json.loads(raw)
        if isinstance(item, str):
            assert item in {str(message.key) for message in messages}
            words.append("key")
            continue
        value = item.get("value", item)
        message = messages[value["sequence"] - 1]
        assert value == json.loads(message.text)
        assert item.get("key", str(message.key)) == str(message.key)
        assert "key" not in item or isinstance(item["timestamp"], int | float)
        words.append(f"{'K' if 'key' in item else 'v'}{value['sequence']}")
    end = "open" if not stream.ended.done() else "end" if stream.ended.result() is None else "error"
    return " ".join([*words, end])


async def check(address: str, row: dict[str, Any], expected: str, machine: Machine) -> None:
    names = {"ME": machine.id, "NOBODY": str(somebody().public)}
    messages = machine.messages(machine.id)
    arguments = [
        {**part, "id": names.get(str(part["id"]), part["id"])}
        if isinstance(part, dict) and "id" in part
        else names.get(str(part), part)
        for part in row["arguments"]
    ]
    async with guest(address) as connection:
        stream = Collector(connection)
        stream.call = connection.open_stream(["createHistoryStream"], CallKind.SOURCE, arguments, stream)
        try:
            async with asyncio.timeout(20):
                while described(stream, messages) != expected:
                    await asyncio.sleep(0.02)
        except TimeoutError:
            assert described(stream, messages) == expected, row
        await asyncio.sleep(0.3)  # and nothing more
        assert described(stream, messages) == expected, row


def check_all(address: str, rows: list[tuple[dict[str, Any], str]], machine: Machine) -> None:
    async def main() -> None:
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(row: dict[str, Any], expected: str) -> None:
            async with places:
                await check(address, row, expected, machine)

        async with asyncio.TaskGroup() as group:
            for row, expected in rows:
                group.create_task(one(row, expected))

    asyncio.run(main())


def test_whatever_the_arguments_are(served: tuple[Machine, RunningPeer]) -> None:
    machine, peer = served
    check_all(peer.address, [(row, row.get("ours", row["ssb-server"])) for row in TABLE], machine)


@pytest.mark.node
def test_ssb_server_answers_so(served: tuple[Machine, RunningPeer], tmp_path: Path) -> None:
    if reason := js_oracle.available(js_oracle.PEERS):
        pytest.skip(reason)
    machine, _ = served
    log = tmp_path / "log.ndjson"
    log.write_text(machine.run("log", "--json").stdout)
    with js_oracle.Peer("server.cjs", path=str(tmp_path / "theirs")) as theirs:
        assert not theirs.ask("import", file=str(log))["refused"]
        check_all(theirs.address, [(row, row["ssb-server"]) for row in TABLE], machine)


def test_a_live_stream_waits_for_a_feed_that_is_not_here_yet(tmp_path: Path) -> None:
    machine, author = Machine(tmp_path / "machine"), Machine(tmp_path / "author")
    for number in range(3):
        author.publish({"type": "post", "text": f"{number}"})

    async def main(address: str) -> None:
        async with guest(address) as connection:
            streams = []
            for query in ({"live": True, "keys": False}, {"live": True, "seq": 3}, {"old": False, "values": False}):
                stream = Collector(connection)
                arguments = [{"id": author.id, **query}]
                stream.call = connection.open_stream(["createHistoryStream"], CallKind.SOURCE, arguments, stream)
                streams.append(stream)
            # One who has lost interest.
            connection.end_call(
                connection.open_stream(["createHistoryStream"], CallKind.SOURCE, arguments, Collector(connection))
            )
            await connection.call(["whoami"])
            log = tmp_path / "log.ndjson"
            log.write_text(author.run("log", "--json").stdout)
            assert await asyncio.to_thread(machine.take, log) == 3
            for stream, count in zip(streams, (3, 1, 3), strict=True):
                await stream.wait(count)
            messages = author.messages(author.id)
            assert [described(stream, messages) for stream in streams] == [
                "v1 v2 v3 open",
                "K3 open",
                "key key key open",
            ]

    with machine.peer() as peer:
        asyncio.run(main(peer.address))


def test_whom_we_block_is_not_waited_for(tmp_path: Path) -> None:
    machine, enemy = Machine(tmp_path / "machine"), Machine(tmp_path / "enemy")
    machine.block(enemy.id)
    with machine.peer() as peer:
        check_all(peer.address, [({"arguments": [{"id": enemy.id, "live": True}]}, "end")], machine)


def test_a_live_history_goes_on(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    machine.publish({"type": "post", "text": "old"})
    machine.publish({"type": "post", "text": "old"})

    async def main(address: str) -> None:
        async with guest(address) as connection:
            streams = []
            for query in ({"live": True, "keys": False}, {"old": False, "values": False}, {"live": True, "limit": 1}):
                stream = Collector(connection)
                arguments = [{"id": machine.id, **query}]
                stream.call = connection.open_stream(["createHistoryStream"], CallKind.SOURCE, arguments, stream)
                streams.append(stream)
            await streams[0].wait(2)
            await streams[2].wait(1)
            for number in range(2):
                await asyncio.to_thread(machine.publish, {"type": "post", "text": f"{number}"})
                await streams[0].wait(number + 3)
            await asyncio.to_thread(wait_for, lambda: len(streams[1].items) == 2 and len(streams[2].items) == 3)
            messages = machine.messages(machine.id)
            assert [described(stream, messages) for stream in streams] == [
                "v1 v2 v3 v4 open",
                "key key open",
                "K1 K3 K4 open",  # a limit counts what was there
            ]

    with machine.peer() as peer:
        asyncio.run(main(peer.address))
