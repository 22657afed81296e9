"""The box stream: what runs encrypted over a connection after the handshake (PROTOCOL.md, section 7).

Each body of 1 to 4096 bytes becomes

    secretbox( length u16BE | mac(16) , n )     34 bytes
    cipher                                      length bytes;  mac | cipher = secretbox(body, n + 1)

and n, a 24-byte big-endian counter that wraps, grows by two.  A header of 18 zero bytes is the goodbye.  A stream that
ends without one was cut, perhaps by an attacker, and is an error.  The borders between bodies mean nothing to the
layer above.
"""

from __future__ import annotations

from nacl import bindings
from nacl.exceptions import CryptoError

from sneaker.errors import LocalProtocolError, RemoteProtocolError
from sneaker.limits import MAX_BOX_BYTES
from sneaker.wire.stream_reader import GOODBYE, NEED_DATA, Goodbye, NeedData, Reader

__all__ = ["Boxer", "Unboxer"]

_MAC_BYTES = 16
_HEADER_BYTES = 2 + _MAC_BYTES
_BOXED_HEADER_BYTES = _HEADER_BYTES + _MAC_BYTES
_GOODBYE_HEADER = bytes(_HEADER_BYTES)
_NONCES = 1 << 192


class Boxer:
    """Encrypts one direction."""

    def __init__(self, key: bytes, nonce: bytes) -> None:
        """``key``: 32 bytes; ``nonce``: the first one, 24 bytes. Both come from the handshake."""
        if len(key) != 32 or len(nonce) != 24:
            raise LocalProtocolError("a box stream needs a key of 32 bytes and a nonce of 24")
        self._key = key
        self._counter = int.from_bytes(nonce, "big")
        self._ended = False

    def box(self, data: bytes) -> bytes:
        """Encrypt ``data``; no data gives no bytes. Raises LocalProtocolError after the goodbye.

        Hand over as much as there is: every call costs at least 34 bytes and two encryptions.
        """
        if self._ended:
            raise LocalProtocolError("this box stream has ended")
        key, counter = self._key, self._counter
        boxed = []
        for start in range(0, len(data), MAX_BOX_BYTES):
            body = data[start : start + MAX_BOX_BYTES]
            cipher = bindings.crypto_secretbox(body, ((counter + 1) % _NONCES).to_bytes(24, "big"), key)
            header = len(body).to_bytes(2, "big") + cipher[:_MAC_BYTES]
            boxed.append(bindings.crypto_secretbox(header, counter.to_bytes(24, "big"), key))
            boxed.append(cipher[_MAC_BYTES:])
            counter = (counter + 2) % _NONCES
        self._counter = counter
        return b"".join(boxed)

    def goodbye(self) -> bytes:
        """Return the 34 bytes that end the stream. Raises LocalProtocolError the second time."""
        if self._ended:
            raise LocalProtocolError("this box stream has ended")
        self._ended = True
        return bindings.crypto_secretbox(_GOODBYE_HEADER, self._counter.to_bytes(24, "big"), self._key)


class Unboxer(Reader["bytes | Goodbye"]):
    """Decrypts one direction: events are plain bytes, then GOODBYE."""

    def __init__(self, key: bytes, nonce: bytes) -> None:
        """``key``: 32 bytes; ``nonce``: the first one, 24 bytes. Both come from the handshake."""
        super().__init__()
        if len(key) != 32 or len(nonce) != 24:
            raise LocalProtocolError("a box stream needs a key of 32 bytes and a nonce of 24")
        self._key = key
        self._counter = int.from_bytes(nonce, "big")
        self._header: bytes | None = None
        self._ended = False

    def _read(self) -> bytes | Goodbye | NeedData:
        while not self._ended:
            if self._header is None:
                if len(self._buffer) < _BOXED_HEADER_BYTES:
                    return self._wait("between two boxes" if not self._buffer else "inside a header")
                self._header = self._open(self._take(_BOXED_HEADER_BYTES), "header")
                if self._header == _GOODBYE_HEADER:
                    self._ended = True
                    return GOODBYE
            length = int.from_bytes(self._header[:2], "big")
            if len(self._buffer) < length:
                return self._wait("inside a body")
            body = self._open(self._header[2:] + self._take(length), "body")
            self._header = None
            if body:  # nobody sends empty bodies, and the layer above would take one for the end of input
                return body
        return NEED_DATA

    def _wait(self, where: str) -> NeedData:
        if self._input_ended:
            raise RemoteProtocolError(f"the connection was cut {where}, without a goodbye")
        return NEED_DATA

    def _open(self, box: bytes, what: str) -> bytes:
        nonce = self._counter.to_bytes(24, "big")
        self._counter = (self._counter + 1) % _NONCES
        try:
            return bindings.crypto_secretbox_open(box, nonce, self._key)
        except CryptoError:
            raise RemoteProtocolError(f"box stream: a {what} was damaged or forged on the way") from None
