"""The secret handshake: two strangers who share a network key prove who they are (PROTOCOL.md, section 6).

    message 1, client to server    64 bytes    auth(a, K) || a
    message 2, server to client    64 bytes    auth(b, K) || b
    message 3, client to server   112 bytes    box[K | a.b | a.B]( H ),       H = sign_A(K | B | hash(a.b)) || A
    message 4, server to client    80 bytes    box[K | a.b | a.B | A.b]( sign_B(K | H | hash(a.b)) )

K is the network key, A and B the long-term keys, a and b the ephemeral ones.  The client must know B beforehand; the
server learns A from message 3 and decides then whether to answer.  A refusal is silence: the client cannot tell it
from a wrong key.

    client   WAIT_CHALLENGE -> WAIT_ACCEPT -> DONE
    server   WAIT_CHALLENGE -> WAIT_AUTHENTICATION -> WAIT_DECISION -> ACCEPTED -> DONE
                                                                   -> REFUSED

This module changes only if the handshake does.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from dataclasses import dataclass, field

from nacl import bindings
from nacl.exceptions import CryptoError

from sneaker.caps import auth
from sneaker.errors import HandshakeError, LocalProtocolError
from sneaker.keys import Keypair, verify_signature
from sneaker.refs import FeedRef
from sneaker.wire.stream_reader import NEED_DATA, NeedData, Reader

__all__ = ["BoxKeys", "ClientAuthenticated", "ClientHandshake", "HandshakeDone", "ServerHandshake"]

CHALLENGE_BYTES = 64
AUTHENTICATION_BYTES = 112
ACCEPT_BYTES = 80

# Each box of the handshake has a key of its own, so its nonce may be constant.
_ZERO_NONCE = bytes(24)


@dataclass(frozen=True, slots=True)
class BoxKeys:
    """Keys (32 bytes) and first nonces (24 bytes) of the two box streams, seen from this side."""

    encrypt_key: bytes = field(repr=False)
    encrypt_nonce: bytes
    decrypt_key: bytes = field(repr=False)
    decrypt_nonce: bytes


@dataclass(frozen=True, slots=True)
class HandshakeDone:
    """Both sides are proven; ``trailing_data`` of the handshake already belongs to the box stream."""

    peer: FeedRef
    keys: BoxKeys


@dataclass(frozen=True, slots=True)
class ClientAuthenticated:
    """The server knows who calls and must now ``accept_client()`` or ``refuse_client()``.

    ``opening`` is the client's ``opening``, by which it can know itself again.
    """

    peer: FeedRef
    opening: bytes


class _State(enum.Enum):
    WAIT_CHALLENGE = enum.auto()
    WAIT_AUTHENTICATION = enum.auto()
    WAIT_DECISION = enum.auto()
    ACCEPTED = enum.auto()
    WAIT_ACCEPT = enum.auto()
    DONE = enum.auto()
    REFUSED = enum.auto()


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _multiply(secret: bytes, public: bytes, message_number: int) -> bytes:
    """Return the X25519 product; raises HandshakeError if it is all zero.

    A low-order point makes the product known to everybody, and with it a session that anybody could have with us in
    another's name; libsodium fails then, and so do the Go implementations.
    """
    try:
        return bindings.crypto_scalarmult(secret, public)
    except CryptoError:
        raise HandshakeError(message_number, "low-order", "the peer sent a key of low order") from None


def _open(box: bytes, key: bytes, message_number: int) -> bytes:
    try:
        return bindings.crypto_secretbox_open(box, _ZERO_NONCE, key)
    except CryptoError:
        raise HandshakeError(
            message_number, "forged", "its box does not open; the other side may know a wrong key for this one"
        ) from None


class _Handshake(Reader[HandshakeDone | ClientAuthenticated]):
    """What both roles share: an outbox, the ephemeral key and the derivation of the box keys."""

    def __init__(self, network_key: bytes, keypair: Keypair, ephemeral_seed: bytes) -> None:
        super().__init__()
        if len(network_key) != 32 or len(ephemeral_seed) != 32:
            raise LocalProtocolError("a network key and an ephemeral seed have 32 bytes each")
        self._network_key = network_key
        self._keypair = keypair
        public, secret = bindings.crypto_sign_seed_keypair(ephemeral_seed)
        self._ephemeral_public = bindings.crypto_sign_ed25519_pk_to_curve25519(public)
        self._ephemeral_secret = bindings.crypto_sign_ed25519_sk_to_curve25519(secret)
        self._hello_mac = auth(self._ephemeral_public, network_key)
        self._outbox = bytearray()
        self._state = _State.WAIT_CHALLENGE
        # Filled in as the messages come.
        self._their_ephemeral = b""
        self._their_mac = b""
        self._shared = b""  # a.b
        self._hello = b""  # H of message 3
        self._key_3 = b""  # key of the box in message 3
        self._key_4 = b""  # key of the box in message 4
        self._key_parts = b""  # a.b | a.B | A.b
        self._result: HandshakeDone | None = None

    def data_to_send(self) -> bytes:
        """Return, once, the bytes that must go to the peer now; often none."""
        data = bytes(self._outbox)
        self._outbox.clear()
        return data

    @property
    def opening(self) -> bytes:
        """What our first message begins with; no other handshake has the same."""
        return self._hello_mac

    @property
    def done(self) -> HandshakeDone | None:
        """The result, once there is one."""
        return self._result

    def _want(self, size: int, message_number: int) -> bytes | None:
        """Take a message of ``size`` bytes if it is there; raises HandshakeError if it can no longer come."""
        if len(self._buffer) >= size:
            return self._take(size)
        if self._input_ended:
            if message_number == 4 and not self._buffer:
                raise HandshakeError(
                    message_number,
                    "refused",
                    "the peer hung up on us",
                    hint="it may not follow us, may have blocked us, or has another key than the address says",
                )
            raise HandshakeError(message_number, "closed", "the connection ended")
        return None

    def _read_challenge(self, data: bytes, message_number: int) -> None:
        """Check message 1 or 2, which have the same form, and compute a.b."""
        mac, public = data[:32], data[32:]
        if not hmac.compare_digest(mac, auth(public, self._network_key)):
            raise HandshakeError(
                message_number, "network-key", "the peer is on another network or does not speak SSB at all"
            )
        self._their_mac = mac
        self._their_ephemeral = public
        self._shared = _multiply(self._ephemeral_secret, public, message_number)

    def _finish(self, peer: FeedRef) -> HandshakeDone:
        secret = _hash(_hash(self._network_key + self._key_parts))
        self._result = HandshakeDone(
            peer,
            BoxKeys(
                encrypt_key=_hash(secret + peer.key),
                encrypt_nonce=self._their_mac[:24],
                decrypt_key=_hash(secret + self._keypair.public.key),
                decrypt_nonce=self._hello_mac[:24],
            ),
        )
        # Forward secrecy: what could decrypt a recorded handshake should not outlive it.
        self._ephemeral_secret = self._shared = self._key_3 = self._key_4 = self._key_parts = b""
        return self._result


class ClientHandshake(_Handshake):
    """The side that dials; ``server`` is the key it expects there."""

    def __init__(self, network_key: bytes, keypair: Keypair, server: FeedRef, ephemeral_seed: bytes) -> None:
        """Begin; ``data_to_send()`` has message 1 at once. ``ephemeral_seed``: 32 random bytes, used only here.

        Raises LocalProtocolError if ``server`` is no usable public key.
        """
        super().__init__(network_key, keypair, ephemeral_seed)
        self._server = server
        try:
            self._server_curve = bindings.crypto_sign_ed25519_pk_to_curve25519(server.key)
        except CryptoError:
            raise LocalProtocolError(f"{server} is not the public key of anybody") from None
        self._outbox += self._hello_mac + self._ephemeral_public

    def _read(self) -> HandshakeDone | NeedData:
        if self._state is _State.WAIT_CHALLENGE:
            challenge = self._want(CHALLENGE_BYTES, 2)
            if challenge is None:
                return NEED_DATA
            self._read_challenge(challenge, 2)
            self._send_authentication()
            self._state = _State.WAIT_ACCEPT
        if self._state is _State.WAIT_ACCEPT:
            accept = self._want(ACCEPT_BYTES, 4)
            if accept is None:
                return NEED_DATA
            signature = _open(accept, self._key_4, 4)
            if not verify_signature(self._server.key, signature, self._network_key + self._hello + _hash(self._shared)):
                raise HandshakeError(4, "forged", "the server's signature is wrong")
            self._state = _State.DONE
            return self._finish(self._server)
        return NEED_DATA

    def _send_authentication(self) -> None:
        shared_server = _multiply(self._ephemeral_secret, self._server_curve, 2)  # a.B
        own_curve = bindings.crypto_sign_ed25519_sk_to_curve25519(self._keypair.secret)
        shared_client = _multiply(own_curve, self._their_ephemeral, 2)  # A.b
        self._key_3 = _hash(self._network_key + self._shared + shared_server)
        self._key_parts = self._shared + shared_server + shared_client
        self._key_4 = _hash(self._network_key + self._key_parts)
        signature = self._keypair.sign(self._network_key + self._server.key + _hash(self._shared))
        self._hello = signature + self._keypair.public.key
        self._outbox += bindings.crypto_secretbox(self._hello, _ZERO_NONCE, self._key_3)


class ServerHandshake(_Handshake):
    """The side that is dialled."""

    def __init__(self, network_key: bytes, keypair: Keypair, ephemeral_seed: bytes) -> None:
        """Wait for message 1. ``ephemeral_seed``: 32 random bytes, used only here."""
        super().__init__(network_key, keypair, ephemeral_seed)
        self._client: FeedRef | None = None

    def accept_client(self) -> None:
        """Let the client in: message 4 is ready to send and the next event is HandshakeDone.

        Raises LocalProtocolError unless ClientAuthenticated was the last event.
        """
        if self._state is not _State.WAIT_DECISION or self._client is None:
            raise LocalProtocolError("there is no client to accept")
        signature = self._keypair.sign(self._network_key + self._hello + _hash(self._shared))
        self._outbox += bindings.crypto_secretbox(signature, _ZERO_NONCE, self._key_4)
        self._finish(self._client)
        self._state = _State.ACCEPTED

    def refuse_client(self) -> None:
        """Send nothing more; the caller closes the connection, and the client learns no reason.

        Raises LocalProtocolError unless ClientAuthenticated was the last event.
        """
        if self._state is not _State.WAIT_DECISION:
            raise LocalProtocolError("there is no client to refuse")
        self._state = _State.REFUSED

    def _read(self) -> HandshakeDone | ClientAuthenticated | NeedData:
        if self._state is _State.WAIT_CHALLENGE:
            challenge = self._want(CHALLENGE_BYTES, 1)
            if challenge is None:
                return NEED_DATA
            self._read_challenge(challenge, 1)
            self._outbox += self._hello_mac + self._ephemeral_public
            self._state = _State.WAIT_AUTHENTICATION
        if self._state is _State.WAIT_AUTHENTICATION:
            authentication = self._want(AUTHENTICATION_BYTES, 3)
            if authentication is None:
                return NEED_DATA
            self._client = self._read_authentication(authentication)
            self._state = _State.WAIT_DECISION
            return ClientAuthenticated(self._client, self._their_mac)
        if self._state is _State.ACCEPTED and self._result is not None:
            self._state = _State.DONE
            return self._result
        return NEED_DATA

    def _read_authentication(self, data: bytes) -> FeedRef:
        own_curve = bindings.crypto_sign_ed25519_sk_to_curve25519(self._keypair.secret)
        shared_server = _multiply(own_curve, self._their_ephemeral, 3)  # a.B
        self._key_3 = _hash(self._network_key + self._shared + shared_server)
        self._hello = _open(data, self._key_3, 3)
        signature, client = self._hello[:64], FeedRef.classic(self._hello[64:])
        if not verify_signature(
            client.key, signature, self._network_key + self._keypair.public.key + _hash(self._shared)
        ):
            raise HandshakeError(3, "forged", "the client's signature is wrong")
        try:
            client_curve = bindings.crypto_sign_ed25519_pk_to_curve25519(client.key)
        except CryptoError:
            raise HandshakeError(3, "low-order", "the client's key is not usable") from None
        shared_client = _multiply(self._ephemeral_secret, client_curve, 3)  # A.b
        self._key_parts = self._shared + shared_server + shared_client
        self._key_4 = _hash(self._network_key + self._key_parts)
        return client
