"""Bundles as a source: from the first byte to the last, whatever is still readable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sneaker.bundle.events import End, Event
from sneaker.bundle.frames import MAGIC, SYNC
from sneaker.bundle.reader import BundleReader
from sneaker.keys import Keypair
from sneaker.need_data import NeedData
from sneaker.transfer.source_events import SourceEvent
from sneaker.transfer.sources import SNIFF_BYTES, OpenedSource, SourceKind

__all__ = ["BundleSource", "bundle_events"]


class BundleSource(SourceKind):
    """A bundle."""

    kind = "bundle"

    def recognises(self, start: bytes) -> bool:
        """Say whether a bundle begins like this, whole or damaged."""
        return start.startswith(MAGIC) or SYNC in start[:SNIFF_BYTES]

    def read_events(
        self, source: OpenedSource, *, hmac_key: bytes | None, keypair: Keypair | None
    ) -> Iterator[SourceEvent]:
        """Yield the events of the bundle, up to and with ``End``."""
        return bundle_events(source.chunks())


def bundle_events(chunks: Iterable[bytes]) -> Iterator[Event]:
    """Yield the events of the bundle in ``chunks``, up to and with ``End``."""
    reader, rest = BundleReader(), iter(chunks)
    while True:
        event = reader.next_event()
        if isinstance(event, NeedData):
            reader.receive_data(next(rest, b""))
        else:
            yield event
            if isinstance(event, End):
                return
