"""Bundles are read again that another machine says it cannot read: do they still hold what they say they hold?

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
from sneaker.stick.cleaning import remove_bundles
from sneaker.stick.layout import BUNDLES, bundle_name
from sneaker.stick.safe_folder import Folder
from sneaker.stick.visit_context import VisitContext
from sneaker.store.sticks import FileState
from sneaker.store.store import Store

__all__ = ["is_sound", "packed_by", "reread_doubted"]

# So much of bundles is read once more at a visit if other machines could not use them.
_MAX_REREAD_BYTES = 64 * 1024 * 1024


def reread_doubted(context: VisitContext) -> None:
    """Read the bundles that another machine could not use: those that are not as they say are not counted on.

    Its word alone changes nothing.  An own bundle goes if it is still seen to be one; what it held is written again.
    """
    doubted = {bundle_name(bundle_id) for card in context.round.cards for bundle_id in card.unreadable}
    left = _MAX_REREAD_BYTES
    for bundle in [bundle for bundle in context.bundles.useful() if bundle.name in doubted]:
        left -= bundle.size
        folder = context.stick.folder(BUNDLES)
        if left < 0 or folder is None or is_sound(folder, bundle.name, context.home.store):
            continue
        if bundle.own and packed_by(folder, bundle.name) == context.home.keypair.public:
            remove_bundles(context, [bundle.name])
        else:
            context.bundles.note_file(context.bundles.present[bundle.name], FileState.DAMAGED)


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
