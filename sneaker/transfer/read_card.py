"""Cards as a source: what one machine has and wants."""

from __future__ import annotations

from collections.abc import Iterator

from sneaker.bundle.card import CARD_MAGIC, MAX_CARD_BYTES, decode_card
from sneaker.keys import Keypair
from sneaker.transfer.source_events import CardRead, SourceEvent
from sneaker.transfer.sources import OpenedSource, SourceKind

__all__ = ["CardSource"]


class CardSource(SourceKind):
    """A card."""

    kind = "card"

    def recognises(self, start: bytes) -> bool:
        """Say whether a card begins like this."""
        return start.startswith(CARD_MAGIC)

    def read_events(
        self, source: OpenedSource, *, hmac_key: bytes | None, keypair: Keypair | None
    ) -> Iterator[SourceEvent]:
        """Yield the card; raises BundleError if it cannot be read."""
        data = source.rejoined().read(MAX_CARD_BYTES + 1)
        yield CardRead(decode_card(data), data)
