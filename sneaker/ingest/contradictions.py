"""Messages that contradict what is held: refused, and kept as the proof of a fork if their author signed them."""

from __future__ import annotations

from sneaker.errors import InvalidMessage
from sneaker.feed.run import Run
from sneaker.ingest.batches import Proven
from sneaker.ingest.fork_evidence import FeedEnd, find_contradiction
from sneaker.ingest.reports import Code
from sneaker.store.rows import SEQUENCE_BITS

__all__ = ["refuse_contradiction", "refuse_other_end"]


def refuse_contradiction(proven: Proven, feed: FeedEnd, run: Run, overlap: int, hmac_key: bytes | None) -> None:
    """Refuse the first ``overlap`` messages of a run, of which the last one is not the one held here: damage, or a fork?"""
    known, refused, message = find_contradiction(feed, run, overlap, proven.row)
    proven.report.known += known
    if message is None:
        proven.report.note_refusal(feed.ref, run.first, Code.CHAIN_BROKEN, "not the messages held here", refused)
    elif feed.format.is_signed(message, hmac_key):
        ours = proven.row(feed.id << SEQUENCE_BITS | message.sequence)
        proven.add_fork(feed, message, ours[1] if ours is not None else b"")
        detail = "another message than the one held here"
        proven.report.note_refusal(feed.ref, message.sequence, Code.FORKED, detail, refused)
    else:
        proven.report.note_refusal(feed.ref, message.sequence, Code.SIGNATURE_INVALID, "", refused)


def refuse_other_end(proven: Proven, feed: FeedEnd, run: Run, hmac_key: bytes | None) -> None:
    """Refuse a run that begins where its feed ends, but says that it follows another message."""
    count = len(run.compacts)
    try:
        message = feed.format.expand(feed.ref, run.first, run.previous, run.compacts[0])
    except InvalidMessage as error:
        proven.report.note_refusal(feed.ref, run.first, error.reason, error.detail, count)
        return
    if feed.format.is_signed(message, hmac_key):
        proven.add_fork(feed, message, b"")
        detail = "it follows another message than the one held here"
        proven.report.note_refusal(feed.ref, run.first, Code.FORKED, detail, count)
    else:
        proven.report.note_refusal(feed.ref, run.first, Code.SIGNATURE_INVALID, "", count)
