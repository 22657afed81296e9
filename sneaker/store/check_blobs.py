"""Check of the blobs: is every file what its name says?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sneaker.errors import StoreError
from sneaker.store.blobs import BlobStore
from sneaker.store.check import Problem

__all__ = ["check_blobs"]

# A write takes seconds. What one left behind an hour or more ago belongs to none.
_LEFT_BEHIND_S = 60 * 60


def check_blobs(
    blobs: BlobStore, *, repair: bool, now_ms: int, progress: Callable[[int], None] | None = None
) -> Iterator[Problem]:
    """Read every blob and yield what is wrong; with ``repair``, rotten ones are put aside, so that they are wanted again.

    ``progress`` is called with numbers of blobs.
    """
    for blob in blobs:
        try:
            if blobs.is_rotten(blob):
                yield Problem("blob-damaged", f"the blob {blob} has rotted; it has to be brought again")
                if repair:
                    blobs.put_aside(blob)
        except StoreError as error:
            yield Problem("blob-unreadable", error.message)
            if repair:
                blobs.put_aside(blob)
        if progress is not None:
            progress(1)
    if repair:
        blobs.sweep(now_ms / 1000 - _LEFT_BEHIND_S)
