"""The service manager's socket."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sneaker.desktop.sdnotify import ServiceManager


def test_messages_arrive(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.settimeout(2)
        manager = ServiceManager(address, "30000000")
        assert manager.alive_interval_s == 15
        assert manager.ready()
        assert manager.alive()
        assert manager.status("two\nlines\nREADY=0 ")
        assert manager.stopping()
        assert [listener.recv(1000) for _ in range(4)] == [
            b"READY=1",
            b"WATCHDOG=1",
            b"STATUS=two lines READY=0",
            b"STOPPING=1",
        ]


def test_abstract_sockets() -> None:
    name = f"sneaker-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name)
        assert ServiceManager("@" + name).ready()


@pytest.mark.parametrize("address", [None, "", "/nonexistent/socket", "relative", "/" + "x" * 200, "bad\0name"])
def test_nobody_listens(address: str | None) -> None:
    manager = ServiceManager(address, "soon")
    assert manager.alive_interval_s is None
    assert not manager.ready()
