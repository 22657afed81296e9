"""What the store keeps because it can be read out of messages: follow edges, names, links to blobs.

Made while messages are stored, and made again by ``check``, by the same code; what messages say is read by
``sneaker.feed.content``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sneaker.feed.content import Facts
from sneaker.store.rows import SEQUENCE_BITS, SEQUENCE_MASK

__all__ = ["Derived", "derive"]


class Derived(NamedTuple):
    """Rows for the tables.

    ``edges``: (author id, contact, state, sequence); ``names``: (about, author id, name, sequence);
    ``links``: (message id, blob).
    """

    edges: list[tuple[int, bytes, int, int]]
    names: list[tuple[bytes, int, str, int]]
    links: list[tuple[int, bytes]]


def derive(facts: Iterable[tuple[int, Facts]]) -> Derived:
    """Return rows for what messages say; ``facts`` are pairs of message id and what it says."""
    edges: list[tuple[int, bytes, int, int]] = []
    names: list[tuple[bytes, int, str, int]] = []
    links: list[tuple[int, bytes]] = []
    for row_id, (edge, name, blobs) in facts:
        if edge is not None:
            edges.append((row_id >> SEQUENCE_BITS, edge[0], int(edge[1]), row_id & SEQUENCE_MASK))
        if name is not None:
            # SQLite keeps UTF-8, which has no lone surrogates. They may be replaced: names are only shown.
            text = name[1].encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")
            names.append((name[0], row_id >> SEQUENCE_BITS, text, row_id & SEQUENCE_MASK))
        if blobs:
            links.extend([(row_id, blob) for blob in blobs])
    return Derived(edges, names, links)
