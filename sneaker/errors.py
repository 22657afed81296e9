"""The error tree: every way in which sneaker says no.

Each class has a stable ``code`` for scripts, an ``exit_code`` of its own for shells and, where a person can do
something about it, a ``hint``.  Expected refusals (one bad message in a bundle) are values in reports, not
exceptions; these classes are for what ends an operation.

This module imports nothing of ours, so that every layer can raise from it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

__all__ = [
    "AddressError",
    "BlobError",
    "BundleDamaged",
    "BundleError",
    "BundleUnsupported",
    "CallRefused",
    "CapsError",
    "ClockError",
    "ConfigError",
    "ConnectionLost",
    "DecryptionError",
    "ExitCode",
    "FeedError",
    "ForkError",
    "HandshakeError",
    "HomeMissing",
    "HomeUnsafe",
    "InvalidMessage",
    "KeysError",
    "LocalProtocolError",
    "NetworkError",
    "NetworkKeyMismatch",
    "NotABundle",
    "OutputError",
    "ProtocolError",
    "PublishUnsafe",
    "RefError",
    "RemoteProtocolError",
    "SneakerError",
    "SourceError",
    "StickError",
    "StoreDamaged",
    "StoreError",
    "StoreFull",
    "StoreLocked",
    "StoreVersion",
    "UsageError",
]


class ExitCode(IntEnum):
    """Exit codes that do not come from an error class."""

    DONE = 0
    BUG = 1
    USAGE = 2
    #: Finished, but something was refused or damaged; the report says what.
    PARTIAL = 3


class SneakerError(Exception):
    """Base of every error that sneaker raises on purpose.

    ``str(error)`` is one line in lower case without a full stop; ``error.hint`` says what the person can do, or is None.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 4
    #: One line for the table of exit codes in guide/exit-codes.md.
    meaning: ClassVar[str] = "another error of sneaker's own"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SneakerError):
    """The command line asks for something that makes no sense."""

    code = "usage"
    exit_code = 2
    meaning = "the command line is wrong"


class RefError(SneakerError):
    """Text that should be a feed, message or blob id is not one."""

    code = "ref-invalid"
    exit_code = 10
    meaning = "not a valid feed, message or blob id"


class KeysError(SneakerError):
    """A secret file cannot be read, parsed or written."""

    code = "secret-invalid"
    exit_code = 11
    meaning = "the secret file is missing, damaged or would be overwritten"


class CapsError(SneakerError):
    """A network key or HMAC key is not 32 bytes of base64."""

    code = "caps-invalid"
    exit_code = 12
    meaning = "a network key or HMAC key is malformed"


class NetworkKeyMismatch(SneakerError):
    """Something belongs to another SSB network than this home."""

    code = "network-key-mismatch"
    exit_code = 13
    meaning = "the bundle, stick or peer belongs to another network"


class ConfigError(SneakerError):
    """The configuration file is not understood."""

    code = "config-invalid"
    exit_code = 14
    meaning = "the configuration file is wrong"


class HomeMissing(SneakerError):
    """There is no sneaker home here yet."""

    code = "home-missing"
    exit_code = 15
    meaning = "no home here yet; run 'sneaker init'"


class HomeUnsafe(SneakerError):
    """Others on this machine could put their own files into this home."""

    code = "home-unsafe"
    exit_code = 16
    meaning = "others on this machine may write where the home would be"


# ---------------------------------------------------------------------------------------------------- feeds


class FeedError(SneakerError):
    """A message or feed is not what the protocol demands."""

    code = "feed-error"
    exit_code = 20
    meaning = "a feed or message breaks the rules"


class InvalidMessage(FeedError):
    """One message breaks a rule of its feed format.

    ``reason`` is the stable code of the rule (``"signature-invalid"``, ``"too-long"``, ...).
    """

    code = "message-invalid"
    exit_code = 21
    meaning = "a message is invalid"

    def __init__(self, reason: str, detail: str = "", *, hint: str | None = None) -> None:
        super().__init__(f"invalid message: {reason}{': ' + detail if detail else ''}", hint=hint)
        self.reason = reason
        self.detail = detail


class PublishUnsafe(FeedError):
    """What should be published would not survive on every implementation (PROTOCOL.md, section 2.4)."""

    code = "publish-unsafe"
    exit_code = 22
    meaning = (
        "some SSB programs would refuse the message, or it would give away more than you meant; it was not published"
    )


class ForkError(FeedError):
    """Publishing now would fork, or a feed has been forked."""

    code = "fork"
    exit_code = 23
    meaning = "publishing would fork the own feed, or the feed is forked"


class ClockError(FeedError):
    """Text that should be a vector clock is not one."""

    code = "clock-invalid"
    exit_code = 24
    meaning = "not a valid vector clock"


# ---------------------------------------------------------------------------------------------------- bundles


class BundleError(SneakerError):
    """A bundle file cannot be used."""

    code = "bundle-error"
    exit_code = 30
    meaning = "a bundle cannot be used"


class NotABundle(BundleError):
    """The input is not a bundle at all."""

    code = "bundle-unrecognised"
    exit_code = 31
    meaning = "the input is not a bundle or a log"


class BundleDamaged(BundleError):
    """A record of the bundle fails its check."""

    code = "bundle-damaged"
    exit_code = 33
    meaning = "the bundle is damaged"


class BundleUnsupported(BundleError):
    """The bundle needs a feature that this version does not have."""

    code = "bundle-unsupported"
    exit_code = 34
    meaning = "the bundle needs a newer sneaker"


class DecryptionError(BundleError):
    """An encrypted bundle is not for this identity."""

    code = "decryption-failed"
    exit_code = 35
    meaning = "the bundle is encrypted to somebody else"


class SourceError(SneakerError):
    """A file or folder to read from cannot be read."""

    code = "source-unreadable"
    exit_code = 36
    meaning = "a file or folder cannot be read"


class OutputError(SneakerError):
    """A file or folder to write to cannot be written."""

    code = "output-unwritable"
    exit_code = 37
    meaning = "a file or folder cannot be written"


class BlobError(SneakerError):
    """A blob is too large, missing or does not match its id."""

    code = "blob-error"
    exit_code = 38
    meaning = "a blob is too large, missing or damaged"


# ---------------------------------------------------------------------------------------------------- the store


class StoreError(SneakerError):
    """The store on this machine cannot be used."""

    code = "store-error"
    exit_code = 40
    meaning = "the store cannot be used"


class StoreLocked(StoreError):
    """Another sneaker is writing to the store."""

    code = "store-locked"
    exit_code = 41
    meaning = "another sneaker is writing to the store"


class StoreDamaged(StoreError):
    """The store file is damaged."""

    code = "store-damaged"
    exit_code = 42
    meaning = "the store is damaged"


class StoreVersion(StoreError):
    """The store was written by a newer sneaker."""

    code = "store-version"
    exit_code = 43
    meaning = "the store was written by a newer sneaker"


class StoreFull(StoreError):
    """The disk under the store is full."""

    code = "store-full"
    exit_code = 44
    meaning = "the disk of this machine is full"


# ---------------------------------------------------------------------------------------------------- the network


class ProtocolError(SneakerError):
    """Base of what goes wrong inside a protocol."""

    code = "protocol-error"
    exit_code = 50
    meaning = "a network protocol was broken"


class LocalProtocolError(ProtocolError):
    """We asked our own protocol stack for something illegal."""

    code = "protocol-local"
    exit_code = 51
    meaning = "sneaker used a network protocol wrongly"


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol."""

    code = "protocol-remote"
    exit_code = 52
    meaning = "the peer broke the network protocol"


class NetworkError(SneakerError):
    """A peer cannot be reached, or it refused us."""

    code = "network-error"
    exit_code = 53
    meaning = "a peer cannot be reached, or refused us"


class HandshakeError(RemoteProtocolError):
    """The secret handshake failed.

    ``message_number`` is the message (1 to 4) that was wrong or never came.  ``reason`` is ``"network-key"`` (another
    network, or no SSB program at all), ``"forged"`` (a box or signature does not open), ``"low-order"`` (a key that
    makes the secret known to everybody), ``"refused"`` (the server hung up when it knew our identity; a wrong key, a
    block and a stranger look alike, on purpose) or ``"closed"`` (the connection ended earlier).
    """

    code = "handshake-failed"
    exit_code = 54
    meaning = "the secret handshake with a peer failed"

    def __init__(self, message_number: int, reason: str, detail: str, *, hint: str | None = None) -> None:
        super().__init__(f"secret handshake failed at message {message_number}: {detail}", hint=hint)
        self.message_number = message_number
        self.reason = reason


class AddressError(SneakerError):
    """Text that should be a multiserver address is not one, or not one we can use."""

    code = "address-invalid"
    exit_code = 55
    meaning = "not a usable peer address"


class CallRefused(ProtocolError):
    """One muxrpc call is refused, by us or by the peer; the connection goes on.

    ``message`` is the exact text on the wire.
    """

    code = "call-refused"
    exit_code = 56
    meaning = "a peer refused a call"


class ConnectionLost(NetworkError):
    """A connection ended while something was still expected of it."""

    code = "connection-lost"
    exit_code = 57
    meaning = "the connection to a peer broke"


# ---------------------------------------------------------------------------------------------------- sticks


class StickError(SneakerError):
    """A stick, or the device that it is on, cannot be used."""

    code = "drive-error"
    exit_code = 60
    meaning = "a stick, or the device that it is on, cannot be used"
