"""Looking at bundles on a stick again: do they still hold what they say they hold?

A bundle's index says what is in it, and its exporter signed that.  The exporter may have lied, or its memory may be bad;
and media lose bits.  Whoever counts on a bundle that others cannot use lets them starve.
"""

from __future__ import annotations

import contextlib
import os

from sneaker.bundle.frames import RecordType
from sneaker.bundle.indexed_file import IndexedBundle, open_indexed
from sneaker.bundle.message_records import decode_messages
from sneaker.bundle.records import RecordEntry, decode_blob
from sneaker.errors import BundleDamaged, BundleUnsupported, SourceError
from sneaker.refs import FeedRef
from sneaker.stick.safe_folder import Folder
from sneaker.store.store import Store

__all__ = ["is_sound", "packed_by"]


def packed_by(folder: Folder, name: str) -> FeedRef | None:
    """Return whose bundle a file is, by its signature; None if it is not an intact one."""
    try:
        with folder.open(name) as file:
            indexed = open_indexed(file)
    except (BundleUnsupported, SourceError, OSError):
        return None
    return indexed.header.exporter if indexed is not None else None


def is_sound(folder: Folder, name: str, store: Store) -> bool:
    """Read a whole bundle from the medium: is every record intact, does it hold what the index says, and is that what we hold?

    What we do not hold ourselves is not judged.
    """
    try:
        with folder.open(name) as file:
            with contextlib.suppress(OSError):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            indexed = open_indexed(file)
            return indexed is not None and all(_holds(indexed, record, store) for record in indexed.index.records)
    except (BundleDamaged, BundleUnsupported, SourceError, OSError):
        return False


def _holds(bundle: IndexedBundle, record: RecordEntry, store: Store) -> bool:
    payload = bundle.read(record)
    if record.type == RecordType.BLOB:
        return decode_blob(payload)[0] == record.blob
    if record.type != RecordType.MESSAGES:
        return True
    runs = decode_messages(payload)
    feeds = bundle.index.feeds
    said = [(feeds[segment.feed].feed, segment.first, segment.messages) for segment in record.segments]
    if said != [(run.author, run.first, len(run.compacts)) for run in runs]:
        return False
    return all(
        row.compact == run.compacts[row.sequence - run.first]
        for run in runs
        for row in store.rows(run.author, run.first, run.last)
    )
