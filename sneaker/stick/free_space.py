"""How much a visit may still write to a stick, and what is said when it is full.

Some room always stays free (``VisitOptions.min_free_bytes``); ``--max-size`` bounds what one visit writes.
"""

from __future__ import annotations

import errno

from sneaker.stick.visit_context import VisitContext
from sneaker.transfer.pack import MIN_VOLUME_BYTES

__all__ = ["full_stick_problem", "is_full_error", "writable_bytes"]

#: What the system says when something does not fit.
_FULL_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_full_error(error: OSError) -> bool:
    """Say whether an error means that something does not fit on the stick."""
    return error.errno in _FULL_ERRORS


def writable_bytes(context: VisitContext) -> int:
    """Return how many bytes may still be written: less than a bundle needs, even less than 0, if the stick is full."""
    room = context.stick.free_bytes() - context.options.min_free_bytes
    if context.options.max_bytes is not None:
        exported = context.report.exported
        written = exported.bytes if exported is not None else 0
        room = min(room, context.options.max_bytes - written - context.report.fork_proof_bytes)
    return room


def full_stick_problem(context: VisitContext, messages: int) -> str:
    """Return the sentence for people about ``messages`` that do not go onto the stick."""
    max_bytes = context.options.max_bytes
    is_option = max_bytes is not None and max_bytes < MIN_VOLUME_BYTES
    reason = "no bundle is as small as was asked for" if is_option else "the stick is full"
    what = "1 message was" if messages == 1 else f"{messages:,} messages were"
    return f"{reason}: {what} not put on it"
