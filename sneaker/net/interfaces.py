"""The network interfaces of this machine: addresses to announce, and where to broadcast."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import socket
import struct
from typing import NamedTuple

__all__ = ["Interface", "find_interfaces", "is_own_address"]

_SIOCGIFFLAGS = 0x8913
_SIOCGIFADDR = 0x8915
_SIOCGIFBRDADDR = 0x8919
_IFF_UP = 0x1
_IFF_BROADCAST = 0x2
_IFF_LOOPBACK = 0x8


class Interface(NamedTuple):
    """An interface that is up and can broadcast: its name, IPv4 address and broadcast address."""

    name: str
    address: str
    broadcast: str


def find_interfaces() -> list[Interface]:
    """Return the interfaces on which peers could be found, in the system's order."""
    found: list[Interface] = []
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # it has no IPv4 address, or has just gone
                flags = struct.unpack_from("<H", _ask(sock, _SIOCGIFFLAGS, name), 16)[0]
                if flags & (_IFF_UP | _IFF_BROADCAST | _IFF_LOOPBACK) == _IFF_UP | _IFF_BROADCAST:
                    address, broadcast = (
                        socket.inet_ntoa(_ask(sock, request, name)[20:24])
                        for request in (_SIOCGIFADDR, _SIOCGIFBRDADDR)
                    )
                    if broadcast != "0.0.0.0":  # noqa: S104 (compared, not bound)
                        found.append(Interface(name, address, broadcast))
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


def _ask(sock: socket.socket, request: int, name: str) -> bytes:
    return fcntl.ioctl(sock.fileno(), request, struct.pack("256s", name.encode()[:15]))
