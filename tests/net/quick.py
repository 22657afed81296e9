"""Peers that wait less than people's programs and networks may need: what ``tests.command_line`` calls ``prepare``.

Each shortens what its tests would have to sit out, and nothing else.
"""

from __future__ import annotations

from sneaker.net import node, secret_handshake, sync_with_peer
from sneaker.net.services import ebt
from sneaker.wire.ebt import overdue
from tests.net.settled import serve_settled

__all__ = ["connect_to_sneaker", "fetch", "handshakes", "patient_fetch", "peer"]


def peer() -> None:
    """For peers that have no EBT; and what came of it all can be asked for (``tests.net.settled``)."""
    ebt._EBT_WAIT_S = 0.5
    serve_settled()


def handshakes() -> None:
    """For those who never finish one."""
    secret_handshake.HANDSHAKE_TIMEOUT_S = 1.5
    serve_settled()


def fetch() -> None:
    """For what peers announce and do not send: it is soon asked for in another way."""
    node._TICK_S = 0.2
    overdue._LOOK_S = 0.2
    overdue.PATIENCE_S = 0.5


def patient_fetch() -> None:
    """The same, for a peer that is slow only."""
    fetch()
    overdue.PATIENCE_S = 2.0


def connect_to_sneaker() -> None:
    """For peers that do not think for long before they ask for more.  What they confirm, a second later, is not heard."""
    sync_with_peer._QUIET_S = 1.0
    sync_with_peer._NOTHING_S = 0.5
