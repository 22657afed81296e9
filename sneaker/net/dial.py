"""From an address to a session with the peer that has its key."""

from __future__ import annotations

from sneaker.caps import Caps
from sneaker.errors import AddressError, HandshakeError, NetworkError, SneakerError
from sneaker.home.home import Home
from sneaker.keys import Keypair
from sneaker.net.interfaces import is_own_address
from sneaker.net.peer_session import PeerSession
from sneaker.net.secret_handshake import OnOpening, client_handshake, shake_hands_as_client
from sneaker.net.transports.tcp import TcpTransport
from sneaker.net.transports.transport import Transport
from sneaker.wire.address import Address

__all__ = ["dial", "dial_from_home"]

#: The transports that addresses may name.
_TRANSPORTS: dict[str, Transport] = {transport.name: transport for transport in (TcpTransport(),)}


async def dial(
    address: Address, keypair: Keypair, caps: Caps, *, on_opening: OnOpening = lambda host, opening: None
) -> PeerSession:
    """Connect to a peer, in each of the ways that the address gives until one works, and prove both sides.

    ``on_opening`` is told the IP address that answers, and what our handshake opens with, before that begins.
    Raises AddressError, NetworkError or HandshakeError.
    """
    failures = []
    for way in (address, *address.others):
        try:
            return await _dial_way(way, keypair, caps, on_opening)
        except (AddressError, NetworkError, HandshakeError) as error:
            failures.append(error)
    told = next((failure for failure in failures if isinstance(failure, HandshakeError)), failures[0])
    if len(failures) > 1 and type(told) is NetworkError:
        raise NetworkError("; ".join(dict.fromkeys(failure.message for failure in failures)))
    raise told


async def _dial_way(way: Address, keypair: Keypair, caps: Caps, on_opening: OnOpening) -> PeerSession:
    """Connect to one host: a name may stand for several, each of which may be another machine or not answer."""
    if way.key is None:
        raise AddressError("the address does not say the peer's key")
    transport = _TRANSPORTS.get(way.transport.name)
    if transport is None:
        known = " and ".join(f"{name}:" for name in _TRANSPORTS)
        raise AddressError(f"{way.transport.name} addresses are not supported", hint=f"{known} addresses are")
    failure: SneakerError | None = None
    for endpoint in await transport.endpoints(way):
        handshake = client_handshake(way.key, keypair, caps)
        try:
            return await shake_hands_as_client(handshake, await endpoint.connect(), on_opening=on_opening)
        except (NetworkError, HandshakeError) as error:
            if failure is None or isinstance(error, HandshakeError):
                failure = error
    raise failure or NetworkError("the address leads nowhere")


async def dial_from_home(home: Home, address: Address) -> PeerSession:
    """Connect to a peer of any key, our own too: what such a handshake opens with is written down first.

    Raises AddressError, NetworkError, HandshakeError or StoreError.
    """
    is_for_us = any(way.key == home.keypair.public for way in (address, *address.others))

    def note_opening(host: str, opening: bytes) -> None:
        if is_for_us and not is_own_address(host):
            home.store.own_keys.note_opened(opening)

    return await dial(address, home.keypair, home.caps, on_opening=note_opening)
