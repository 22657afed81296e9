"""What programs keep of messages that they changed before they print them.

Programs open private messages.  Such a message is no longer what its author signed, but the original content is kept beside
it: by ssb-db in ``value.meta.original`` and ``value.cyphertext``, by ssb-db2 in ``meta.originalContent`` beside the value
(PROTOCOL.md, section 15).  It is put back, added fields are taken out, and the signature shows whether that was right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["kept_originals"]


def kept_originals(value: dict[str, Any], wrappings: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the original fields of a message that stand in it, or in the objects around it (the outermost first)."""
    found: list[dict[str, Any]] = []
    for holder in (value, *wrappings[::-1]):
        meta = holder.get("meta")
        for place in (meta, holder) if isinstance(meta, dict) else (holder,):
            original = place.get("original")
            if isinstance(original, dict):
                found.append(original)
            found += [{"content": place[name]} for name in ("originalContent", "cyphertext") if name in place]
    return found
