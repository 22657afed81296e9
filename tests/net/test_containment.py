"""Whatever goes wrong in one connection is the end of that connection: one line says it, and everything else goes on.

Bugs are put into handlers, for the known ones are mended; and what once was one is sent as it was found.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sneaker.feed.message import Message
from sneaker.ingest.ingest import Ingest
from sneaker.net import background
from sneaker.net.connected_peer import ConnectedPeer
from sneaker.net.node import Node
from sneaker.net.services.blobs import BlobService
from sneaker.net.what_peers_said import PeerClocks
from sneaker.wire.address import Address
from sneaker.wire.boxstream import Boxer
from sneaker.wire.ebt.connection import EbtConnection
from sneaker.wire.ebt.replicator import Replicator
from sneaker.wire.muxrpc.calls import CallKind
from sneaker.wire.muxrpc.packets import encode_packet
from tests.net.attackers import Collector, guest, plain_socket, reads_end, shake_hands, somebody
from tests.net.machines import Machine, chain, wait_for
from tests.net.nodes import running, until

pytestmark = pytest.mark.timeout(100)

HOSTILE = sorted((Path(__file__).parent.parent / "data/wire/hostile").glob("*.muxrpc"))
BUG = re.compile(r"this is a bug in sneaker, please report it: \w+(: .*)?, at ([\w/]+\.py:\d+)( < [\w/]+\.py:\d+)*")


def raising(error: type[BaseException]) -> Callable[..., Any]:
    def bug(*_: object, **__: object) -> Any:
        raise error("a secret value" * 50)

    return bug


async def has_blob(address: Address) -> None:
    """Ask, and be hung up on."""
    async with guest(address) as connection:
        Collector(connection)
        connection.muxrpc.request(["blobs", "has"], CallKind.ASYNC, ["&x.sha256"])
        connection.wake_writer()
        await until(lambda: connection.closing)


async def replicate(address: Address) -> None:
    async with guest(address) as connection:
        listener = Collector(connection)
        listener.call = connection.open_stream(["ebt", "replicate"], CallKind.DUPLEX, [{"version": 3}], listener)
        await listener.wait(1)
        connection.send_item(listener.call, b"{}")
        await until(lambda: connection.closing)


async def get_blob(address: Address, blob: str) -> None:
    async with guest(address) as connection:
        listener = Collector(connection)
        listener.call = connection.open_stream(["blobs", "get"], CallKind.SOURCE, [blob], listener)
        await until(lambda: connection.closing)


async def just_connect(address: Address) -> None:
    async with guest(address) as connection:
        await until(lambda: connection.closing)


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("answer", MemoryError),
        ("answer", KeyError),
        ("answer", AssertionError),
        *[(where, RecursionError) for where in ("answer", "item", "task", "start", "tick", "end")],
    ],
)
def test_a_bug_in_a_handler_ends_its_connection(
    where: str, error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path / "machine")
    blob = machine.add_blob(b"x" * 1000)
    said: list[str] = []
    patches: dict[str, tuple[type, str]] = {
        "answer": (BlobService, "_serve_has"),
        "item": (EbtConnection, "receive"),
        "task": (BlobService, "_send_blob"),
        "start": (BlobService, "start"),
        "tick": (ConnectedPeer, "tick"),
        "end": (Replicator, "disconnect"),
    }

    async def main() -> None:
        async with running(machine, said.append) as (node, address), guest(address) as bystander:
            assert (await bystander.call(["whoami"])).value() == {"id": machine.id}
            with monkeypatch.context() as patch:
                owner, name = patches[where]
                original = getattr(owner, name)

                def bug(self: Any, *arguments: Any, **options: Any) -> Any:
                    if getattr(self, "session", None) in spared:
                        return original(self, *arguments, **options)
                    raise error("a secret value" * 50)

                spared = [peer.session for peer in node.peers.values()]
                patch.setattr(owner, name, bug)
                if where == "answer":
                    await has_blob(address)
                elif where == "item":
                    await replicate(address)
                elif where == "task":
                    await get_blob(address, blob)
                elif where == "end":
                    async with guest(address) as connection:
                        listener = Collector(connection)
                        arguments = [{"version": 3}]
                        listener.call = connection.open_stream(
                            ["ebt", "replicate"], CallKind.DUPLEX, arguments, listener
                        )
                        await listener.wait(1)
                else:
                    await just_connect(address)
                await until(lambda: len(node.peers) == 1)
                await until(lambda: said)
            assert (await bystander.call(["whoami"])).value() == {"id": machine.id}
            assert not node.failed.done()
            async with guest(address) as another:
                assert (await another.call(["whoami"])).value() == {"id": machine.id}

    asyncio.run(main())
    (line,) = said
    found = BUG.search(line)
    assert found, line
    assert error.__name__ in line
    assert "\n" not in line
    assert len(line) < 500


def test_a_bug_that_one_peers_messages_show_costs_that_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages of all peers go through one thread; who offered what it cannot take is found out."""
    machine, good, bad = Machine(tmp_path / "machine"), somebody(), somebody()
    machine.follow(str(good.public), str(bad.public))
    said: list[str] = []
    original = Ingest.add_messages

    def add_messages(self: Ingest, messages: list[Message], compacts: Any) -> None:
        if messages[0].author == bad.public:
            raise RecursionError("too deep")
        original(self, messages, compacts)

    monkeypatch.setattr(Ingest, "add_messages", add_messages)

    async def offer(address: Address, keypair: Any, done: Callable[[Any], object]) -> None:
        async with guest(address, keypair) as connection:
            listener = Collector(connection)
            listener.call = connection.open_stream(["ebt", "replicate"], CallKind.DUPLEX, [{"version": 3}], listener)
            await listener.wait(1)
            connection.send_item(listener.call, b'{"%b":100}' % str(keypair.public).encode())
            await until(lambda: any(str(keypair.public).encode() in item for item in listener.items))
            for text in chain(keypair, 50):
                connection.send_item(listener.call, text)
            await until(lambda: done(connection), 30)

    async def main() -> None:
        async with running(machine, said.append) as (node, address):
            await asyncio.gather(
                offer(address, bad, lambda connection: connection.closing),
                offer(address, good, lambda _: node.context.replicator.sequence(good.public) == 50),
            )
            assert node.context.intake.is_idle
            assert not node.failed.done()

    asyncio.run(main())
    assert machine.clock()[str(good.public)] == 50
    assert machine.clock().get(str(bad.public), 0) <= 1
    (line,) = said
    assert BUG.search(line), line
    assert str(bad.public) in line


def test_work_in_the_background_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path / "machine")
    said: list[str] = []
    calls = []
    again = pytest.MonkeyPatch()
    again.setattr(background, "_AGAIN_S", 0.1)

    def bug(self: Node) -> None:
        calls.append(1)
        raise KeyError("x")

    async def main() -> None:
        async with running(machine, said.append) as (node, _):
            monkeypatch.setattr(node, "_drop_blocked", lambda: bug(node))
            for count in range(2):
                await asyncio.to_thread(machine.publish, {"type": "post", "text": str(count)})
                await until(lambda count=count: len(calls) > count)
            monkeypatch.undo()
            await until(lambda: node.context.replicator.sequence(node.me) == 2)

    try:
        asyncio.run(main())
    finally:
        again.undo()
    (line,) = said
    assert BUG.search(line), line


def test_a_clock_that_cannot_be_saved_is_the_end_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, friend = Machine(tmp_path / "machine"), Machine(tmp_path / "friend")
    machine.follow(friend.id)
    friend.follow(machine.id)
    monkeypatch.setattr(PeerClocks, "save_notes", raising(ZeroDivisionError))
    said: list[str] = []

    async def main() -> None:
        async with running(machine, said.append) as (node, address):
            for _ in range(2):
                report = await asyncio.to_thread(friend.connect, str(address))
                assert report["level"], report
                await until(lambda: not node.peers)

    asyncio.run(main())
    assert len(said) == 1, "said once, not for every connection"


# ---------------------------------------------------------------------------------------------------- whole programs


BROKEN = """
import sys
from sneaker.net.services.blobs import BlobService
def bug(self, request):
    return bug(self, request)
BlobService._serve_has = bug
sys.argv[0] = "sneaker"
from sneaker.cli import main
main()
"""


class Service:
    """``sneaker run`` or ``sneaker peer`` as a process that listens."""

    def __init__(self, machine: Machine, command: str, *, broken: bool) -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        (machine.path / "config.toml").write_text(
            "[drives]\nmount = false\n[notify]\ndesktop = false\n"
            f'[peer]\nlisten = "127.0.0.1:{port}"\ndiscovery = false\n'
        )
        key = machine.id.removeprefix("@").removesuffix(".ed25519")
        self.address = f"net:127.0.0.1:{port}~shs:{key}"
        program = ["-c", BROKEN] if broken else ["-m", "sneaker"]
        environment = {name: value for name, value in os.environ.items() if name != "SNEAKER_DEBUG"}
        self.process = subprocess.Popen(
            [sys.executable, *program, "--home", str(machine.path), command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment, "PYTHONPATH": str(Path(__file__).parent.parent.parent)},
        )
        wait_for(self._listens, 30, "listening")

    def _listens(self) -> bool:
        assert self.process.poll() is None
        try:
            plain_socket(self.address).close()
        except OSError:
            return False
        return True

    def stop(self) -> str:
        """End it and return what it said."""
        self.process.terminate()
        assert self.process.stderr is not None
        said = self.process.stderr.read()
        assert self.process.wait(30) == 0, said
        return said


@contextmanager
def service(machine: Machine, command: str, *, broken: bool = False) -> Iterator[Service]:
    running = Service(machine, command, broken=broken)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()
        assert running.process.stderr is not None
        running.process.stderr.close()


def send(address: str, packet: bytes) -> None:
    """Send a packet after an honest handshake, and wait until it was dealt with."""
    with plain_socket(address) as sock:
        boxer: Boxer = shake_hands(sock, address, somebody())
        sock.sendall(boxer.box(packet + encode_packet(1000, b'{"name":["whoami"]}')) + boxer.goodbye())
        assert reads_end(sock)


@pytest.mark.parametrize("command", ["peer", pytest.param("run", marks=pytest.mark.udev)])
@pytest.mark.parametrize("broken", [False, True], ids=["as-it-is", "with-a-bug"])
def test_one_packet_never_ends_a_service(command: str, broken: bool, tmp_path: Path) -> None:
    machine, friend = Machine(tmp_path / "machine"), Machine(tmp_path / "friend")
    machine.follow(friend.id)
    friend.follow(machine.id)
    packets = [path.read_bytes() for path in HOSTILE]
    assert len(packets) == 5
    packets.append(encode_packet(7, b'{"name":["blobs","has"],"args":[{"a":1}]}'))
    with service(machine, command, broken=broken) as running:
        for packet in packets * 2:
            send(running.address, packet)
        report = friend.connect(running.address)
        assert report["level"], report
        said = running.stop()
    bugs = [line for line in said.splitlines() if "bug" in line]
    assert "Traceback" not in said
    assert len(bugs) == broken, said
    assert not broken or BUG.search(bugs[0]), said
