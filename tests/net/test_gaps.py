"""Messages that come without those before them: ours are proof, and nobody is told that both sides are level."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sneaker.errors import CallRefused
from sneaker.feed.message import Message
from sneaker.ingest.ingest import Ingest
from sneaker.keys import Keypair
from sneaker.net import connected_peer, sync_with_peer
from sneaker.net.message_intake import Offer, Outcome
from sneaker.net.own_feed_evidence import OwnMessagesBeyondGap
from sneaker.net.peer_session import PeerSession
from sneaker.net.secret_handshake import shake_hands_as_server
from sneaker.net.transports.transport import ByteStream
from sneaker.refs import FeedRef
from sneaker.wire.address import net_address, parse_address
from sneaker.wire.history import ReorderRoom
from sneaker.wire.muxrpc.calls import CallKind, RequestReceived
from tests.net.attackers import Collector, guest, somebody
from tests.net.machines import Machine, RunningPeer, now_ms, wait_for

pytestmark = pytest.mark.timeout(100)

#: Answers a request of sneaker's.
Answer = Callable[[PeerSession, RequestReceived], None]


class Forgetful:
    """We, who hold the first message of our own feed (we follow a friend), and all six of them."""

    def __init__(self, path: Path) -> None:
        self.friend = somebody()
        whole = Machine(path / "whole")
        whole.follow(str(self.friend.public))
        for number in range(5):
            whole.publish({"type": "post", "text": f"{number}"})
        self.messages = whole.messages(whole.id)
        self.machine = Machine(path / "machine", keypair=whole.keypair)
        take(self.machine, self.messages[:1])

    @property
    def proven(self) -> int:
        with self.machine.home() as home:
            return home.store.own_sequence_seen(self.machine.keypair.public).proven

    def cannot_publish_until_the_rest_is_here(self, sequence: int) -> None:
        """Publishing ends with a word about a fork, and goes on after our ``sequence`` messages."""
        done = self.machine.run("publish", "x")
        assert done.returncode == 23, done.stderr
        assert f"known up to message {sequence}" in done.stderr
        assert self.machine.clock()[self.machine.id] == 1
        take(self.machine, self.messages[1 : sequence - 1])
        assert self.machine.messages(self.machine.id) == self.messages[:sequence]
        assert self.machine.run("publish", "x").returncode == 0


@pytest.fixture
def us(tmp_path: Path) -> Forgetful:
    return Forgetful(tmp_path)


def take(machine: Machine, messages: list[Message]) -> None:
    with machine.home() as home, Ingest(home.store, caps=machine.caps, now_ms=now_ms, workers=1) as ingest:
        for message in messages:
            ingest.add_message(message)


def forged(message: Message) -> bytes:
    return message.text.replace(b'"text": "', b'"text": "not what was signed ')


async def show(peer: RunningPeer, keypair: Keypair, me: str, items: list[bytes], *, note: int | None = None) -> None:
    """Send messages by EBT, and wait until they have been read."""
    async with guest(peer.address, keypair) as connection:
        listener = Collector(connection)
        listener.call = connection.open_stream(["ebt", "replicate"], CallKind.DUPLEX, [{"version": 3}], listener)
        await listener.wait(1)
        if note is not None:
            connection.send_item(listener.call, json.dumps({me: note}).encode())
        for item in items:
            connection.send_item(listener.call, item)
        await connection.call(["whoami"])
        assert not connection.closing


@contextlib.contextmanager
def answering(machine: Machine, answer: Answer) -> Iterator[str]:
    """The address of a stranger who answers us as they please."""
    them = somebody()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = await shake_hands_as_server(
            ByteStream(reader, writer), them, machine.caps, is_welcome=lambda _: True, is_known=lambda _: True
        )

        def serve(request: RequestReceived) -> None:
            if request.name == ("whoami",):
                connection.answer_call(request.call, b"{}")
                return
            if request.kind is CallKind.ASYNC:
                raise CallRefused(f"method:{','.join(request.name)} is not in list of allowed methods")
            connection.attach_receiver(request.call, Collector(connection))
            if request.name == ("blobs", "createWants"):
                connection.send_item(request.call, b"{}")
            else:
                answer(connection, request)

        connection.on_request = serve
        await connection.run()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        server = asyncio.run_coroutine_threadsafe(asyncio.start_server(accepted, "127.0.0.1", 0), loop).result(10)
        yield str(net_address("127.0.0.1", server.sockets[0].getsockname()[1], them.public))
        loop.call_soon_threadsafe(server.close)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def connect(machine: Machine, answer: Answer) -> sync_with_peer.SyncReport:
    """Connect to somebody who answers as they please, in this process."""
    with answering(machine, answer) as address, machine.home() as home:
        return asyncio.run(sync_with_peer.sync_with_peer(home, parse_address(address), remark=print))


def refuse(connection: PeerSession, request: RequestReceived) -> None:
    connection.end_call(request.call, f"method:{','.join(request.name)} is not in list of allowed methods")


def history_of(author: str, items: list[bytes], *, live: bool = False) -> Answer:
    """A peer without EBT that has some messages of one feed, and leaves the stream open or ends it."""

    def answer(connection: PeerSession, request: RequestReceived) -> None:
        if request.name != ("createHistoryStream",):
            refuse(connection, request)
            return
        (options,) = request.arguments
        assert isinstance(options, dict)
        if options["id"] == author:
            for item in items:
                connection.send_item(request.call, item)
        if not live:
            connection.end_call(request.call)

    return answer


# ---------------------------------------------------------------------------------------------------- our own feed


@pytest.mark.parametrize(
    ("known", "note"),
    [
        pytest.param(True, 10, id="friend"),
        pytest.param(False, 10, id="stranger"),
        pytest.param(False, None, id="no-note"),
    ],
)
def test_own_messages_beyond_a_gap_stop_publishing(known: bool, note: int | None, us: Forgetful) -> None:
    them = us.friend if known else somebody()
    with us.machine.peer() as peer:
        shown = [us.messages[4].text, us.messages[3].text]
        asyncio.run(show(peer, them, us.machine.id, shown, note=note))
        wait_for(lambda: us.proven == 5)
    us.cannot_publish_until_the_rest_is_here(5)


def test_the_furthest_of_many_counts(us: Forgetful) -> None:
    with us.machine.peer() as peer:
        asyncio.run(show(peer, somebody(), us.machine.id, [us.messages[at].text for at in (2, 5, 3, 4)]))
        wait_for(lambda: us.proven == 6)


def test_own_messages_after_a_bad_one_count_too(us: Forgetful) -> None:
    """The peer's copy of our feed is refused from there on, and is proof nevertheless."""
    with us.machine.peer() as peer:

        async def main() -> None:
            async with guest(peer.address, us.friend) as connection:
                listener = Collector(connection)
                listener.call = connection.open_stream(
                    ["ebt", "replicate"], CallKind.DUPLEX, [{"version": 3}], listener
                )
                await listener.wait(1)
                connection.send_item(listener.call, json.dumps({us.machine.id: 12}).encode())
                connection.send_item(listener.call, forged(us.messages[1]))
                async with asyncio.timeout(10):
                    while not any(json.loads(item).get(us.machine.id) == -1 for item in listener.items):
                        await asyncio.sleep(0.05)
                connection.send_item(listener.call, us.messages[5].text)
                await asyncio.to_thread(wait_for, lambda: us.proven == 6)

        asyncio.run(main())


def test_what_is_forged_proves_nothing_and_costs_one_signature(us: Forgetful, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []

    class Counting(OwnMessagesBeyondGap):
        def offers_settled(self, offers: list[Offer], outcome: Outcome) -> None:
            looked_at.extend(offer.sequence for offer in offers)
            super().offers_settled(offers, outcome)

    monkeypatch.setattr(connected_peer, "OwnMessagesBeyondGap", Counting)
    items = [forged(us.messages[at]) for at in (2, 3, 4, 5)]
    report = connect(us.machine, history_of(us.machine.id, items))
    assert looked_at == [3]
    assert us.proven == 1
    assert not report.level
    assert us.machine.run("publish", "x").returncode == 0


@pytest.mark.parametrize(
    ("asked", "live"),
    [
        pytest.param(True, True, id="open"),
        pytest.param(True, False, id="ended"),
        pytest.param(False, False, id="another"),
    ],
)
def test_a_history_with_a_gap_in_our_own_feed_stops_publishing(asked: bool, live: bool, us: Forgetful) -> None:
    feed = us.machine.id if asked else str(us.friend.public)
    report = connect(us.machine, history_of(feed, [us.messages[4].text], live=live))
    us.cannot_publish_until_the_rest_is_here(5)
    assert report.level is not asked


def test_own_messages_too_many_to_hold_back_stop_publishing(us: Forgetful, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connected_peer, "ReorderRoom", lambda: ReorderRoom(max_messages=1))
    report = connect(us.machine, history_of(us.machine.id, [item.text for item in us.messages[2:]], live=True))
    assert report.counts.refusals[0][:2] == (us.machine.keypair.public, 3)
    assert report.counts.refused == 2
    us.cannot_publish_until_the_rest_is_here(4)


# ---------------------------------------------------------------------------------------------------- others' feeds


def other_feed(path: Path, us: Forgetful) -> list[Message]:
    friend = Machine(path / "friend", keypair=us.friend)
    for number in range(6):
        friend.publish({"type": "post", "text": f"{number}"})
    return friend.messages(friend.id)


@pytest.mark.parametrize(
    ("start", "live"), [pytest.param(1, False, id="from-the-first"), pytest.param(4, True, id="in-the-middle")]
)
def test_connect_says_what_could_not_be_placed(start: int, live: bool, us: Forgetful, tmp_path: Path) -> None:
    author = str(us.friend.public)
    messages = other_feed(tmp_path, us)
    items = [message.text for message in (*messages[: start - 1], *messages[start:])]
    with answering(us.machine, history_of(author, items, live=live)) as address:
        done = us.machine.run("connect", address)
        assert done.returncode == 3, done.stdout
        assert "level: the peer sent messages without those that come before them" in done.stdout
        assert "both sides are level" not in done.stdout
        assert f"message {start + 1} of {author}: message {start}, which comes before it, did not come" in done.stderr
        report = us.machine.connect(address)
    assert report["level"] is False
    assert report["messages"]["refused"] == 6 - start
    assert us.machine.clock().get(author, 0) == start - 1


def test_a_peer_with_ebt_that_sends_what_it_did_not_announce(us: Forgetful, tmp_path: Path) -> None:
    messages = other_feed(tmp_path, us)

    def answer(connection: PeerSession, request: RequestReceived) -> None:
        if request.name != ("ebt", "replicate"):
            connection.end_call(request.call)
            return
        for item in (b"{}", messages[3].text):
            connection.send_item(request.call, item)

    report = connect(us.machine, answer)
    assert report.detail == "the peer sent messages without those that come before them"
    assert [refusal[:2] for refusal in report.counts.refusals] == [(us.friend.public, 4)]
    assert not report.level


def test_a_peer_that_gives_nothing_in_any_way_is_not_level(us: Forgetful) -> None:
    report = connect(us.machine, refuse)
    assert (report.level, report.detail) == (False, "the peer does not replicate with us")


def test_a_stranger_may_have_a_large_clock(us: Forgetful) -> None:
    """All of it in one body, as ssb-server sends it."""
    notes = {str(FeedRef.classic(os.urandom(32))): 2 * 100_000 for _ in range(10_000)}
    body = json.dumps({**notes, us.machine.id: 2}, separators=(",", ":")).encode()
    assert 600_000 < len(body) < 1_000_000

    async def main(address: str) -> None:
        async with guest(address) as connection:
            listener = Collector(connection)
            listener.call = connection.open_stream(["ebt", "replicate"], CallKind.DUPLEX, [{"version": 3}], listener)
            await listener.wait(1)
            connection.send_item(listener.call, body)
            assert (await connection.call(["whoami"])).value()

    with us.machine.peer() as peer:
        asyncio.run(main(peer.address))
