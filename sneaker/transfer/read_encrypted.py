"""Encrypted bundles as a source: an age file, and the bundle that is in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sneaker.bundle.events import End, Status
from sneaker.errors import DecryptionError, NotABundle
from sneaker.keys import Keypair
from sneaker.transfer.read_stream import BundleSource
from sneaker.transfer.source_events import SourceEvent
from sneaker.transfer.sources import AGE_ARMOR, BUNDLE_SUFFIX, ENCRYPTED_SUFFIX, READ_BYTES, OpenedSource, SourceKind

__all__ = ["EncryptedSource"]

_AGE = (b"age-encryption.org/v1", AGE_ARMOR)


class EncryptedSource(SourceKind):
    """A bundle that is encrypted to some people."""

    kind = "encrypted"
    # Among downloads there are age files of all kinds.
    inbox_suffixes = (BUNDLE_SUFFIX, ENCRYPTED_SUFFIX)

    def recognises(self, start: bytes) -> bool:
        """Say whether an age file begins like this."""
        return start.startswith(_AGE)

    def read_events(
        self, source: OpenedSource, *, hmac_key: bytes | None, keypair: Keypair | None
    ) -> Iterator[SourceEvent]:
        """Yield the events of the bundle in it; the last one says what was wrong with the encryption, if anything.

        Raises DecryptionError if it is not for ``keypair``, NotABundle if something else is in it.
        """
        if keypair is None:
            raise DecryptionError("encrypted; there is no identity here to open it with")
        from sneaker.transfer.age_encryption import decrypting

        end = End(Status.OK, "")
        inside = BundleSource()
        with decrypting(source.rejoined(), keypair) as plain:
            start = plain.file.read(READ_BYTES)
            if start and not inside.recognises(start):
                raise NotABundle(f"{source.name} is encrypted, but what is in it is not a bundle")
            opened = OpenedSource(source.name, start, plain.file, source.progress)
            for event in inside.read_events(opened, hmac_key=hmac_key, keypair=keypair) if start else ():
                if isinstance(event, End):
                    end = event  # whether this was all is known when the file is read to its end
                else:
                    yield event
        yield replace(end, status=Status.DAMAGED, detail=plain.damage) if plain.damage else end
