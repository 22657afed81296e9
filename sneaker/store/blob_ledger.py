"""Which blobs the messages here mention, which of them are here, and which are missing: the one place that says so.

Cards, exports, sticks, imports and peers ask it; it looks into the store and the folder of blobs, and keeps nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from sneaker.planning.send_order import Range, joined
from sneaker.refs import BlobRef, FeedRef
from sneaker.store.blobs import BlobStore
from sneaker.store.rows import BlobLink
from sneaker.store.store import Store

__all__ = ["BlobLedger", "BlobToSend"]

# From so many blobs on it is faster to list those that are here than to look for each.
_LIST_FROM = 2000


class BlobToSend(NamedTuple):
    """A blob to pack, and the message that mentions it (None: a reader asked for it); it goes only if that one went."""

    blob: BlobRef
    mention: tuple[FeedRef, int] | None = None


class BlobLedger:
    """Answers about the blobs of one home."""

    def __init__(self, store: Store, blobs: BlobStore) -> None:
        self._store = store
        self._blobs = blobs

    # -- missing

    def missing_links(self, ranges: Iterable[tuple[FeedRef, int, int]] | None = None) -> Iterator[BlobLink]:
        """Yield for each blob that is mentioned and not here the first message that mentions it, lazily.

        ``ranges`` are the messages to look through, each as feed, first and last sequence; by default all.
        """
        seen: set[BlobRef] = set()
        for link in self._links(ranges):
            if link.blob not in seen:
                seen.add(link.blob)
                if not self._blobs.has(link.blob):
                    yield link

    def missing(
        self, ranges: Iterable[tuple[FeedRef, int, int]] | None = None, also: Iterable[BlobRef] = ()
    ) -> set[BlobRef]:
        """Return the blobs that messages in ``ranges`` mention, and those of ``also``, that are not here."""
        named = {link.blob for link in self._links(ranges)}
        named.update(also)
        return named - self._held(named)

    def lacks(self, blob: BlobRef) -> bool:
        """Say whether a blob neither is here nor waits for a message that mentions it."""
        return not self._blobs.has(blob) and not self._blobs.is_early(blob)

    def must_fetch(self, blob: BlobRef) -> bool:
        """Say whether a blob that is mentioned has to be fetched; one that waited for that is here from now on."""
        return not self._blobs.has(blob) and not self._blobs.take_early(blob)

    # -- to be sent

    def to_send(
        self,
        ranges: Iterable[Range],
        wants: AbstractSet[BlobRef] = frozenset(),
        *,
        there: AbstractSet[BlobRef] = frozenset(),
        max_bytes: int | None = None,
    ) -> list[BlobToSend]:
        """Return the blobs here that readers asked for, then those that messages to be sent mention, in that order.

        Not those that are ``there`` already, nor larger ones than ``max_bytes``.
        """
        mentions: dict[BlobRef, tuple[FeedRef, int] | None] = dict.fromkeys(sorted(wants - there))
        for link in self._links(joined(ranges)):
            if link.blob not in there:
                mentions.setdefault(link.blob, (link.feed, link.sequence))
        held = self._held(mentions)
        return [
            BlobToSend(blob, mention)
            for blob, mention in mentions.items()
            if blob in held and (max_bytes is None or (self._blobs.size(blob) or 0) <= max_bytes)
        ]

    # -- mentioned at last

    def is_mentioned(self, blob: BlobRef) -> bool:
        """Say whether any message here mentions a blob."""
        return self._store.blob_is_linked(blob)

    def take_mentioned(self) -> int:
        """Hold the blobs that came early and are mentioned by now; return how many those were."""
        return sum(self.is_mentioned(blob) and self._blobs.take_early(blob) for blob in self._blobs.early())

    # -- helpers

    def _links(self, ranges: Iterable[tuple[FeedRef, int, int]] | None) -> Iterator[BlobLink]:
        if ranges is None:
            yield from self._store.blob_links()
            return
        for feed, first, last in ranges:
            if first <= last:
                yield from self._store.blob_links(feed, first, last)

    def _held(self, named: Collection[BlobRef]) -> set[BlobRef]:
        if len(named) < _LIST_FROM:
            return {blob for blob in named if self._blobs.has(blob)}
        return set(self._blobs).intersection(named)
