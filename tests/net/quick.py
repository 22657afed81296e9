"""Peers that wait less than people's programs and networks may need: what ``tests.command_line`` calls ``prepare``.

Each shortens what its tests would have to sit out, and nothing else.
"""

from __future__ import annotations

from sneaker.net import secret_handshake
from sneaker.net.services import ebt, settled

__all__ = ["handshakes", "peer"]


def peer() -> None:
    """For peers that have no EBT, and those that announce more than they send."""
    ebt._EBT_WAIT_S = 0.5
    settled._PATIENCE_S = 1.0


def handshakes() -> None:
    """For those who never finish one."""
    secret_handshake.HANDSHAKE_TIMEOUT_S = 1.5
