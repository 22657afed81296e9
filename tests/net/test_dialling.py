"""Addresses with several ways to a peer: each is tried until one works."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from sneaker.errors import HandshakeError
from sneaker.net.dial import dial
from sneaker.wire.address import net_address, parse_address
from tests.net.machines import Machine

pytestmark = pytest.mark.timeout(100)


def test_each_way_in_turn(tmp_path: Path) -> None:
    ours, theirs, another = (Machine(tmp_path / name) for name in ("ours", "theirs", "another"))
    key = theirs.id[1:-8]
    with theirs.peer() as peer, another.peer() as wrong:
        nobody = f"net:127.0.0.1:1~shs:{key}"
        unknown = f"net:no-such-host.invalid:8008~shs:{key}"
        other_machine = f"{wrong.address.partition('~')[0]}~shs:{key}"
        for first in (nobody, unknown, f"ws://127.0.0.1:1~shs:{key}", other_machine, f"{nobody};{unknown}"):
            assert ours.connect(f"{first};{peer.address}")["level"], first
        assert ours.connect(f"  {peer.address.replace('net', 'NET')} ; {nobody}\n")["level"]

        failed = ours.run("connect", "--", f"{nobody};{unknown}")
        assert failed.returncode == 53
        assert "connection refused" in failed.stderr
        assert "no-such-host.invalid" in failed.stderr
        refused = ours.run("connect", "--", f"{nobody};{other_machine}")
        assert refused.returncode == HandshakeError.exit_code, refused.stderr


def test_each_address_of_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs, another = (Machine(tmp_path / name) for name in ("ours", "theirs", "another"))
    found: list[str] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **named: Any) -> Any:
        if host == "village.example":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found]
        return real(host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with another.peer(listen="127.0.0.2:0") as wrong:
        port = int(wrong.address.partition("~")[0].rpartition(":")[2])
        with theirs.peer(listen=f"127.0.0.1:{port}"):
            address = net_address("village.example", port, theirs.keypair.public)

            async def meet() -> None:
                connection = await dial(address, ours.keypair, ours.caps)
                running = asyncio.create_task(connection.run())
                await connection.call(["whoami"])
                await connection.hang_up()
                await running

            # Nobody is at the first, somebody else at the second.
            found[:] = ["127.0.0.3", "127.0.0.2", "127.0.0.1"]
            asyncio.run(meet())
            found[:] = ["127.0.0.2", "127.0.0.3"]
            with pytest.raises(HandshakeError):
                asyncio.run(meet())


def test_localhost_has_two_addresses(tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    ours, theirs = Machine(tmp_path / "ours"), Machine(tmp_path / "theirs")
    with theirs.peer(listen="[::1]:0") as peer:
        port = parse_address(peer.address).port
        assert ours.connect(f"net:localhost:{port}~shs:{theirs.id[1:-8]}")["level"]
