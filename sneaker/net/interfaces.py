"""The network interfaces of this machine: addresses to announce, and where to broadcast."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from typing import NamedTuple

import ifaddr

__all__ = ["Interface", "find_interfaces", "is_own_address"]


class Interface(NamedTuple):
    """An interface on which one can broadcast: its name, IPv4 address and broadcast address."""

    name: str
    address: str
    broadcast: str


def find_interfaces() -> list[Interface]:
    """Return the interfaces on which peers could be found, in the system's order; none where the system will not tell."""
    found: list[Interface] = []
    with contextlib.suppress(OSError):
        for adapter in ifaddr.get_adapters():
            for own in adapter.ips:
                if not isinstance(own.ip, str):
                    continue  # IPv6 has no broadcast
                network = ipaddress.IPv4Interface(f"{own.ip}/{own.network_prefix}").network
                if not network.is_loopback and network.prefixlen <= 30:  # a longer one has room for nobody else
                    found.append(Interface(adapter.nice_name, own.ip, str(network.broadcast_address)))
    return found


def is_own_address(host: str) -> bool:
    """Say whether an IP address is one of this machine's own; True where the system will not tell."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((host, 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True
