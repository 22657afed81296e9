"""Read a bundle: its messages, one after the other, without a store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from sneaker.bundle.events import MessagesRead
from sneaker.errors import BundleDamaged, DecryptionError, NotABundle
from sneaker.feed.formats import format_of
from sneaker.feed.message import Message
from sneaker.keys import Keypair
from sneaker.transfer.read_encrypted import EncryptedSource
from sneaker.transfer.read_stream import BundleSource
from sneaker.transfer.source_kinds import identify_source
from sneaker.transfer.sources import READ_BYTES, OpenedSource

__all__ = ["bundle_messages"]


def bundle_messages(
    file: BinaryIO, name: str, *, keypair: Keypair | None = None, hmac_key: bytes | None = None
) -> Iterator[Message]:
    """Yield the messages of the bundle in ``file`` that their authors signed; what is damaged or invalid is left out.

    An encrypted one is opened with ``keypair``.  Raises NotABundle, DecryptionError if it is not for ``keypair``.
    """
    start = file.read(READ_BYTES)
    kind = identify_source(start, name)
    if not isinstance(kind, BundleSource | EncryptedSource):
        raise NotABundle(f"{name} is not a bundle")
    if isinstance(kind, EncryptedSource) and keypair is None:
        raise DecryptionError(f"{name} is encrypted, and there is no identity to open it with")
    source = OpenedSource(name, start, file, lambda done: None)
    for event in kind.read_events(source, hmac_key=hmac_key, keypair=keypair):
        if not isinstance(event, MessagesRead):
            continue
        try:
            for run in event.runs():
                feed_format = format_of(run.author)
                for message in feed_format.expand_run(run.author, run.first, run.previous, run.compacts):
                    if feed_format.is_signed(message, hmac_key):
                        yield message
        except BundleDamaged:
            continue
