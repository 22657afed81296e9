"""Blobs that an import brings: kept if a message mentions them, waiting if none does yet.

Volumes arrive in any order, so a blob may well come before its message, in this import or one in a month.  A blob that
nobody ever mentions was of no use to anybody, and is forgotten after MAX_EARLY_BLOB_AGE_S.
"""

from __future__ import annotations

from collections.abc import Iterable

from sneaker.feed.content import find_blobs
from sneaker.ingest.reports import BlobCounts
from sneaker.limits import MAX_EARLY_BLOB_AGE_S
from sneaker.refs import BlobRef
from sneaker.store.blob_ledger import BlobLedger
from sneaker.store.blobs import BlobStore
from sneaker.store.store import Store

__all__ = ["IncomingBlobs"]

# How many blobs of messages that were left out are remembered; more than these wait in vain for a while.
_MAX_UNWANTED = 100_000


class IncomingBlobs:
    """Takes in the blobs of one import.  With ``dry_run`` they are only counted."""

    def __init__(self, blobs: BlobStore, store: Store, *, dry_run: bool) -> None:
        self._blobs = blobs
        self._ledger = BlobLedger(store, blobs)
        self._dry_run = dry_run
        self.counts = BlobCounts()
        #: Those that were refused because there was no room for them to wait.
        self.without_room = 0
        self._unwanted: set[BlobRef] = set()

    def lacks(self, blob: BlobRef) -> bool:
        """Say whether a blob is neither held nor waiting."""
        return self._ledger.lacks(blob)

    def leave_out(self, contents: Iterable[bytes]) -> None:
        """Let no blob wait for these messages, which are left out on purpose."""
        for content in contents:
            if len(self._unwanted) < _MAX_UNWANTED:
                self._unwanted.update(find_blobs(content))

    def take_blob(self, blob: BlobRef, data: bytes) -> None:
        """Keep a blob whose hash was checked; the messages that came with it have to be in the store."""
        if self._blobs.has(blob):
            self.counts.known += 1
        elif self._ledger.is_mentioned(blob):
            if not self._dry_run and not self._blobs.take_early(blob):
                self._blobs.add_blob(data, blob)
            self.counts.accepted += 1
        elif blob in self._unwanted:
            return
        elif self._blobs.is_early(blob):
            self.counts.known += 1
        elif self._dry_run or self._blobs.keep_early(blob, data):
            self.counts.waiting += 1
        else:
            self.counts.refused += 1
            self.without_room += 1

    def refuse_blob(self) -> None:
        """Count a blob that is not what it says it is."""
        self.counts.refused += 1

    def finish(self, now_ms: int, *, has_grown: bool) -> BlobCounts:
        """Take over the waiting blobs that a message mentions by now, and return what became of all.

        Unless the store ``has_grown``, there is no new mention, and they are not looked through.
        """
        if self._dry_run or not has_grown:
            return self.counts
        taken = self._ledger.take_mentioned()
        self.counts.accepted += taken
        # Some may have begun to wait in an earlier import.
        self.counts.waiting = max(0, self.counts.waiting - taken)
        self._blobs.forget_early(now_ms / 1000 - MAX_EARLY_BLOB_AGE_S)
        return self.counts
