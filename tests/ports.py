"""Ports for programs that have to be told one: none that the system gives to outgoing connections meanwhile."""

from __future__ import annotations

import random
import socket

__all__ = ["free_port"]


def free_port() -> int:
    """Return a TCP port of loopback that nobody listens on; from below the range of outgoing connections (32768 and up)."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as found:
            try:
                found.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
