"""Peers that announce what they do not send: asked for by createHistoryStream on the same connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sneaker.feed.message import Message
from sneaker.net import sync_with_peer
from sneaker.net.peer_session import PeerSession
from sneaker.net.secret_handshake import shake_hands_as_server
from sneaker.net.transports.transport import ByteStream
from sneaker.wire.address import net_address
from sneaker.wire.ebt import overdue
from sneaker.wire.muxrpc.calls import CallKind, RequestReceived
from tests.net import quick
from tests.net.attackers import Collector, guest
from tests.net.machines import Machine, wait_for

pytestmark = pytest.mark.timeout(100)


class Silent:
    """A friend that has EBT, announces, and sends no message by it; keeps the calls of createHistoryStream."""

    def __init__(self, connection: PeerSession, answer: Callable[[int, dict[str, Any]], None]) -> None:
        self.connection = connection
        self.calls: list[dict[str, Any]] = []
        self._answer = answer
        connection.on_request = self._request
        self.ebt = Collector(connection)
        self.ebt.call = connection.open_stream(["ebt", "replicate"], CallKind.DUPLEX, [{"version": 3}], self.ebt)

    def _request(self, request: RequestReceived) -> None:
        if request.name == ("createHistoryStream",):
            (options,) = request.arguments
            assert isinstance(options, dict)
            self.calls.append(options)
            self.connection.attach_receiver(request.call, Collector(self.connection))
            self._answer(request.call, options)

    async def announce(self, clock: dict[str, int]) -> None:
        await self.ebt.wait(1)
        notes = json.dumps({feed: 2 * sequence + 1 for feed, sequence in clock.items()})
        self.connection.send_item(self.ebt.call, notes.encode())


def friends(tmp_path: Path, more: int = 5) -> tuple[Machine, Machine, Machine, list[Message]]:
    """We, who hold three of an author's messages; a friend; the author; and all of the author's messages."""
    machine, friend, author = (Machine(tmp_path / name) for name in ("machine", "friend", "author"))
    machine.follow(friend.id, author.id)
    for number in range(3):
        author.publish({"type": "post", "text": f"{number}"})
    log = tmp_path / "log.ndjson"
    log.write_text(author.run("log", "--json").stdout)
    assert machine.take(log) == 3
    for number in range(more):
        author.publish({"type": "post", "text": f"more {number}"})
    return machine, friend, author, author.messages(author.id)


def test_what_does_not_come_is_asked_for(tmp_path: Path) -> None:
    machine, friend, author, messages = friends(tmp_path)

    async def main(address: str) -> None:
        async with guest(address, friend.keypair) as connection:

            def answer(call: int, options: dict[str, Any]) -> None:
                for message in messages[options["seq"] - 1 :]:
                    connection.send_item(call, message.text)
                connection.end_call(call)

            peer = Silent(connection, answer)
            await peer.announce({author.id: 8})
            await asyncio.to_thread(wait_for, lambda: machine.clock()[author.id] == 8)
            assert peer.calls == [{"id": author.id, "seq": 4, "live": False, "keys": False}]
            # The peer hears that it need not send them any more.
            async with asyncio.timeout(10):
                while json.loads(peer.ebt.items[-1]).get(author.id) not in (16, 17):
                    await asyncio.sleep(0.05)

    with machine.peer(prepare=quick.fetch) as peer:
        asyncio.run(main(peer.address))
    assert machine.messages(author.id) == messages


def test_a_peer_that_refuses_is_asked_once(tmp_path: Path) -> None:
    machine, friend, author, _ = friends(tmp_path)

    async def main(address: str) -> None:
        async with guest(address, friend.keypair) as connection:
            text = "method:createHistoryStream is not in list of allowed methods"
            peer = Silent(connection, lambda call, options: connection.end_call(call, text))
            await peer.announce({author.id: 8, friend.id: 3, machine.id: 9})
            await asyncio.to_thread(wait_for, lambda: peer.calls)
            await asyncio.sleep(1.5)
            assert peer.calls[0]["id"] == machine.id  # our own first
            assert len(peer.calls) <= 3  # those that were under way
            assert not connection.closing

    with machine.peer(prepare=quick.fetch) as peer:
        asyncio.run(main(peer.address))


def test_messages_that_are_not_valid_end_it(tmp_path: Path) -> None:
    machine, friend, author, messages = friends(tmp_path)

    async def main(address: str) -> None:
        async with guest(address, friend.keypair) as connection:

            def answer(call: int, options: dict[str, Any]) -> None:
                for message in messages[3:5]:
                    connection.send_item(call, message.text)
                connection.send_item(call, messages[5].text.replace(b"more", b"less"))
                connection.send_item(call, messages[6].text)

            peer = Silent(connection, answer)
            await peer.announce({author.id: 8})
            await asyncio.to_thread(wait_for, lambda: machine.clock()[author.id] == 5)
            async with asyncio.timeout(10):  # it is told that nothing more of this feed is wanted
                while json.loads(peer.ebt.items[-1]).get(author.id) != -1:
                    await asyncio.sleep(0.05)
            await asyncio.sleep(1.5)
            assert len(peer.calls) == 1

    with machine.peer(prepare=quick.fetch) as peer:
        asyncio.run(main(peer.address))
    assert machine.messages(author.id) == messages[:5]


def test_while_a_slow_peer_sends_something_else_nothing_is_asked_for(tmp_path: Path) -> None:
    machine, friend, author, messages = friends(tmp_path, more=14)

    async def main(address: str) -> None:
        async with guest(address, friend.keypair) as connection:
            peer = Silent(connection, lambda call, options: None)
            await peer.announce({author.id: 17, friend.id: 100})
            for message in messages[3:]:
                await asyncio.sleep(0.2)
                connection.send_item(peer.ebt.call, message.text)
            await asyncio.to_thread(wait_for, lambda: machine.clock()[author.id] == 17)
            assert peer.calls == []

    with machine.peer(prepare=quick.patient_fetch) as peer:
        asyncio.run(main(peer.address))


def test_connect_does_not_say_level_while_something_announced_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The friend announces and gives nothing, in whatever way it is asked."""
    machine, friend, author, _ = friends(tmp_path)
    monkeypatch.setattr(sync_with_peer, "_STALLED_S", 3.0)
    monkeypatch.setattr(overdue, "PATIENCE_S", 0.5)
    asked: list[str] = []

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = await shake_hands_as_server(
            ByteStream(reader, writer), friend.keypair, machine.caps, is_welcome=lambda _: True, is_known=lambda _: True
        )

        def serve(request: RequestReceived) -> None:
            asked.append(".".join(request.name))
            connection.attach_receiver(request.call, Collector(connection))
            if request.name == ("ebt", "replicate"):
                connection.send_item(request.call, json.dumps({author.id: 17}).encode())
            elif request.name == ("blobs", "createWants"):
                connection.send_item(request.call, b"{}")
            else:
                connection.end_call(request.call)

        connection.on_request = serve
        await connection.run()

    async def main() -> sync_with_peer.SyncReport:
        async with await asyncio.start_server(accepted, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with machine.home() as home:
                return await sync_with_peer.sync_with_peer(
                    home, net_address("127.0.0.1", port, friend.keypair.public), remark=print
                )

    report = asyncio.run(main())
    assert "createHistoryStream" in asked
    assert not report.level
    assert report.detail == "the peer announced more than it sent"
