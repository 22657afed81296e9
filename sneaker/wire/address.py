"""Multiserver addresses: where a peer is and what key it has there (PROTOCOL.md, section 1.5).

    addresses   alternatives joined by ";"
    address     transport and transforms joined by "~"         net:192.168.1.2:8008~shs:<base64 key>
    part        name and data joined by ":"; in data "!" escapes ! ~ : ;

Of ``net:`` everything up to the last colon is the host, so an IPv6 address needs no escapes.  The form from before
multiserver, ``host:port:@key.ed25519``, and ``ssb:address/multiserver`` URIs are read too.  Spaces around an address and
capitals in the names of its parts are forgiven: people paste them.  Addresses come from the network and from sticks:
they are bounded and hold nothing that could upset a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple
from urllib.parse import parse_qs

from sneaker.errors import AddressError, RefError
from sneaker.limits import MAX_ADDRESS_CHARACTERS
from sneaker.refs import FeedRef, decode_base64, encode_base64

__all__ = ["Address", "Part", "format_addresses", "net_address", "parse_address", "parse_addresses"]

_DEFAULT_PORTS = {"net": 8008, "onion": 8008, "ws": 8989, "wss": 443}

_NAME = re.compile(r"[a-z][a-z0-9-]+")
# Printable ASCII without the four special characters, or one of these escaped.
_DATA = re.compile(r"(?:[\"-9<-}]|![!~:;])*")
_LEGACY = re.compile(r"(?P<host>.*):(?P<port>\d{1,5}):(?P<key>@[A-Za-z0-9+/]{43}=\.ed25519)")
_HOST = re.compile(r"[A-Za-z0-9._:%-]+")
_URI = re.compile(r"ssb:(?://)?address[/:]multiserver/?\?(?P<query>.*)", re.ASCII | re.IGNORECASE)


class Part(NamedTuple):
    """A transport or transform: its name and its data, unescaped."""

    name: str
    data: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Address:
    """One way to reach a peer: a transport and the transforms on top of it, any of which we may not know.

    ``others`` are more ways to reach the same peer, to be tried after this one.
    """

    transport: Part
    transforms: tuple[Part, ...] = ()
    others: tuple[Address, ...] = ()

    @property
    def key(self) -> FeedRef | None:
        """The key of the peer, from the ``shs`` transform; None if there is none or it is malformed."""
        data = self._shs_data()
        try:
            return FeedRef.classic(decode_base64(data[0], 32)) if data else None
        except RefError:
            return None

    @property
    def host(self) -> str | None:
        """The host of a net, ws, wss or onion address, an IPv6 address without brackets; else None."""
        return self._host_and_port()[0]

    @property
    def port(self) -> int | None:
        """The port, or the usual one if none is stated; None where there are no ports."""
        return self._host_and_port()[1]

    def __str__(self) -> str:
        return "~".join(_format_part(part) for part in (self.transport, *self.transforms))

    def _shs_data(self) -> tuple[str, ...]:
        for part in self.transforms:
            if part.name.startswith("shs"):
                return part.data
        return ()

    def _host_and_port(self) -> tuple[str | None, int | None]:
        name, data = self.transport
        if name not in _DEFAULT_PORTS or not data:
            return None, None
        parts = list(data)
        if name in ("ws", "wss"):
            parts[0] = parts[0].removeprefix("//")
            parts[-1] = parts[-1].partition("/")[0]
        port = _DEFAULT_PORTS[name]
        if len(parts) > 1:
            if not (parts[-1].isascii() and parts[-1].isdigit() and 0 < int(parts[-1]) < 65536):
                return None, None
            port = int(parts.pop())
        host = ":".join(parts).removeprefix("[").removesuffix("]")
        return (host, port) if _HOST.fullmatch(host) else (None, None)


def parse_addresses(text: str) -> list[Address]:
    """Read one or several addresses.

    Names that we do not know are kept, so that an address may be passed on. Raises AddressError if the text is too
    long or does not follow the grammar.
    """
    if len(text) > MAX_ADDRESS_CHARACTERS:
        raise AddressError("an address is too long")
    text = text.strip()
    if text[:4].lower() == "ssb:":
        text = _unwrap_uri(text)
    return [_parse_one(address.strip()) for address in _split(text, ";")]


def parse_address(text: str) -> Address:
    """Read one or several addresses of one peer; returns the first ``net`` one with a key, or of another transport.

    The rest with the same key are its ``others``. Raises AddressError if none has a key.
    """
    found = [address for address in parse_addresses(text) if address.key is not None]
    if not found:
        raise AddressError(
            "the address does not say the peer's key",
            hint="addresses look like net:192.168.1.2:8008~shs:<base64 of the key>",
        )
    found.sort(key=lambda address: address.transport.name != "net")
    return replace(found[0], others=tuple(other for other in found[1:] if other.key == found[0].key))


def format_addresses(addresses: Iterable[Address]) -> str:
    """Return several alternatives as one text."""
    return ";".join(str(address) for address in addresses)


def net_address(host: str, port: int, key: FeedRef) -> Address:
    """Make the usual kind of address. Raises AddressError for a host or port that cannot be in one."""
    host = host.removeprefix("[").removesuffix("]")
    if not _HOST.fullmatch(host) or not 0 < port < 65536:
        raise AddressError("not a host and port that can be in an address")
    return Address(Part("net", (*host.split(":"), str(port))), (Part("shs", (encode_base64(key.key),)),))


def _legacy_address(host: str, port: str, key: str) -> Address:
    try:
        return net_address(host or "localhost", int(port), FeedRef.parse_classic(key))
    except RefError:
        raise AddressError("the key in the address is malformed") from None


def _parse_one(text: str) -> Address:
    legacy = _LEGACY.fullmatch(text)
    if legacy is not None:
        return _legacy_address(legacy["host"], legacy["port"], legacy["key"])
    parts = []
    for part in _split(text, "~"):
        name, *data = _split(part, ":")
        name = name.lower()
        if not _NAME.fullmatch(name) or not all(_DATA.fullmatch(item) for item in data):
            raise AddressError("not a multiserver address")
        parts.append(Part(name, tuple(re.sub(r"!([!~:;])", r"\1", item) for item in data)))
    if parts[0].name == "ssb":  # alone it would be read as a URI
        raise AddressError("not a multiserver address")
    return Address(parts[0], tuple(parts[1:]))


def _split(text: str, separator: str) -> list[str]:
    """Split at separators that no ``!`` escapes."""
    pieces, start, at = [], 0, 0
    while at < len(text):
        if text[at] == "!":
            at += 1  # whatever follows is data; the grammar is checked afterwards
        elif text[at] == separator:
            pieces.append(text[start:at])
            start = at + 1
        at += 1
    pieces.append(text[start:])
    return pieces


def _format_part(part: Part) -> str:
    """Escape what stands in data; the colons of an IPv6 host stand between data here, and JavaScript expects them bare."""
    return ":".join((part.name, *(re.sub(r"([!~:;])", r"!\1", item) for item in part.data)))


def _unwrap_uri(text: str) -> str:
    match = _URI.fullmatch(text)
    try:
        values = parse_qs(match["query"], max_num_fields=20).get("multiserverAddress") if match else None
    except ValueError:  # too many fields
        values = None
    if not values:
        raise AddressError("the SSB URI holds no address")
    # parse_qs takes "+" for a space, as in web forms; base64 is full of them and addresses have no spaces.
    found: str = values[0].replace(" ", "+")
    return found
