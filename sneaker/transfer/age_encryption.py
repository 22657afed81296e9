"""Encrypted bundles: the age format, to the owners of feeds (``bundles-format.md``, "Encryption").

A feed's X25519 recipient is its Ed25519 key mapped to Curve25519, as libsodium maps it, so the ordinary ``age`` tool can write
to a feed and its owner can read with it.  Both directions stream through a pipe, in bounded memory.
"""

from __future__ import annotations

import contextlib
import os
import threading
from binascii import a2b_base64
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import bech32
import pyrage
from nacl import bindings
from nacl.exceptions import CryptoError

from sneaker.errors import DecryptionError, RefError, SneakerError, UsageError
from sneaker.keys import Keypair
from sneaker.refs import FeedRef
from sneaker.transfer.sources import AGE_ARMOR, rejoined

__all__ = ["decrypting", "encrypting", "format_identity", "format_recipient", "parse_recipient", "recipients_among"]

_RECIPIENT = "age"
_IDENTITY = "age-secret-key-"

# pyrage takes quadratic time for a head (320 KiB: 4 seconds). A recipient takes 98 bytes.
_MAX_HEAD_BYTES = 32 * 1024
_MAX_RECIPIENTS = 256


def _bech32(prefix: str, data: bytes) -> str:
    return str(bech32.bech32_encode(prefix, bech32.convertbits(data, 8, 5) or []))


def format_recipient(feed: FeedRef) -> str:
    """Return the age recipient (``age1...``) of a feed; raises RefError if its key is not on the curve."""
    try:
        return _bech32(_RECIPIENT, bindings.crypto_sign_ed25519_pk_to_curve25519(feed.key))
    except (CryptoError, RuntimeError):
        raise RefError(f"{feed} is not a real key: nobody could decrypt what is encrypted to it") from None


def format_identity(keypair: Keypair) -> str:
    """Return the age identity (``AGE-SECRET-KEY-1...``) of a key pair: a secret as good as the key itself."""
    return _bech32(_IDENTITY, bindings.crypto_sign_ed25519_sk_to_curve25519(keypair.secret)).upper()


def parse_recipient(text: str) -> pyrage.x25519.Recipient:
    """Read a feed id or an age recipient (``age1...``); raises UsageError."""
    try:
        if text.startswith("age1"):
            return pyrage.x25519.Recipient.from_str(text)
        return pyrage.x25519.Recipient.from_str(format_recipient(FeedRef.parse_classic(text)))
    except (pyrage.RecipientError, RefError) as error:
        raise UsageError(f"cannot encrypt to {text[:80]!r}: {error}") from None


def recipients_among(feeds: Iterable[FeedRef], recipients: Iterable[str]) -> list[FeedRef]:
    """Return those of ``feeds`` that ``recipients`` name, by feed id or as age recipient; raises UsageError for a bad one."""
    named = {str(parse_recipient(text)) for text in recipients}
    found = []
    for feed in feeds:
        with contextlib.suppress(RefError):
            if format_recipient(feed) in named:
                found.append(feed)
    return found


class _Guarded:
    """A file that remembers the error it raised: pyrage turns it into one without errno."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            self.error = error
            raise

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """Do nothing: whoever opened the file flushes and syncs it."""


@contextlib.contextmanager
def encrypting(file: BinaryIO, recipients: Sequence[str]) -> Iterator[BinaryIO]:
    """Open a file that encrypts what is written to it into ``file``; all of it is there when the block has ended.

    Raises UsageError for a bad recipient, or too many, before anything is written, and OSError from writing ``file``.
    """
    if len(recipients) > _MAX_RECIPIENTS:
        raise UsageError(f"cannot encrypt to more than {_MAX_RECIPIENTS} recipients at once")
    keys = [parse_recipient(text) for text in recipients]
    reading, writing = os.pipe()
    failure: list[BaseException] = []
    target = _Guarded(file)

    def work() -> None:
        with os.fdopen(reading, "rb") as source:
            try:
                pyrage.encrypt_io(source, target, keys)
            except BaseException as error:  # handed to the thread that waits
                failure.append(error)

    thread = threading.Thread(target=work, name="age", daemon=True)
    thread.start()
    try:
        with os.fdopen(writing, "wb") as plain:
            yield plain
    except BrokenPipeError:
        if not failure:
            thread.join()
        if not failure:
            raise
    finally:
        thread.join()
    if failure:
        raise target.error or failure[0]


def _ends_its_head(start: bytes) -> bool:
    """Say whether the head of an age file ends within its limit; its last line is the first that begins with dashes."""
    if start.startswith(AGE_ARMOR):
        packed = b"".join(start.removeprefix(AGE_ARMOR).partition(b"-")[0].split())
        try:
            start = a2b_base64(packed[: len(packed) // 4 * 4])
        except ValueError:
            return False
    return b"\n---" in start[:_MAX_HEAD_BYTES]


class Decrypted:
    """The plain side of an encrypted file.  ``damage`` says what was wrong with it, once its end was reached."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.damage: str = ""


@contextlib.contextmanager
def decrypting(file: BinaryIO, keypair: Keypair) -> Iterator[Decrypted]:
    """Open the plain side of an age file that is encrypted to the owner of ``keypair``.

    Everything before damage can be read; ``damage`` then says what it was.  Raises DecryptionError, usually at the end of the
    block, if the file is not for us at all, and OSError from reading ``file``.
    """
    start = file.read(2 * _MAX_HEAD_BYTES)
    if not _ends_its_head(start):
        raise DecryptionError(
            f"the head of the encrypted file is damaged, or larger than {_MAX_HEAD_BYTES // 1024} KiB",
            hint=f"sneaker reads what is encrypted to at most {_MAX_RECIPIENTS} recipients",
        )
    identity = pyrage.x25519.Identity.from_str(format_identity(keypair))
    reading, writing = os.pipe()
    failure: list[BaseException] = []
    source = _Guarded(rejoined(start, file))
    produced = 0

    class Sink:
        def write(self, data: Any) -> int:
            nonlocal produced
            produced += len(data)
            view = memoryview(data)
            while view:
                view = view[os.write(writing, view) :]
            return len(data)

        def flush(self) -> None:
            pass

    def work() -> None:
        try:
            pyrage.decrypt_io(source, Sink(), [identity])
        except BaseException as error:  # handed to the thread that waits
            failure.append(error)
        finally:
            os.close(writing)

    thread = threading.Thread(target=work, name="age", daemon=True)
    thread.start()
    plain = Decrypted(os.fdopen(reading, "rb"))
    try:
        with plain.file:
            yield plain
    finally:
        thread.join()
    if failure:
        error = failure[0]
        if isinstance(error, BrokenPipeError):  # we stopped reading
            return
        if isinstance(error, SneakerError):
            raise error
        if source.error is not None:
            raise source.error
        if not isinstance(error, OSError):  # pyrage raises OSError without a number for a chunk that fails its check
            raise DecryptionError("the file is not encrypted to this identity, or its head is damaged")
        read = f"the {produced:,} bytes before that were read" if produced else "nothing of it could be read"
        plain.damage = f"the encrypted file is cut or damaged; {read}"
