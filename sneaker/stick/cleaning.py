"""Which bundles on a stick may be removed: own ones of which every other machine has everything.

Nothing is removed on somebody's word alone: what a card says was signed by its machine, and what none of those that count
lacks is no loss to any of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from sneaker.planning.send_order import slowest
from sneaker.stick.bundles import StickBundle
from sneaker.stick.layout import BUNDLES, CARDS
from sneaker.stick.visit_context import VisitContext

__all__ = ["remove_bundles", "remove_unfinished", "remove_unneeded"]


def remove_unfinished(context: VisitContext) -> None:
    """Remove what an interrupted visit of ours left behind."""
    for name in (BUNDLES, CARDS):
        folder = context.stick.folder(name)
        if folder is not None:
            folder.remove_parts(context.part_prefix)


def remove_unneeded(context: VisitContext) -> None:
    """Remove own bundles of which every other machine has everything, and wants no blob; and those that carry somebody
    whom we have come to block: what they hold of others is written again."""
    remove_bundles(context, [bundle.name for bundle in context.bundles.own() if _carries_blocked(context, bundle)])
    if not context.round.cards:
        return
    own = context.bundles.own()
    lowest = slowest(context.round.confirmed, {item.feed for bundle in own for item in bundle.coverage.ranges})
    remove_bundles(
        context,
        [
            bundle.name
            for bundle in own
            if context.round.wants.isdisjoint(bundle.coverage.blobs)
            and all(
                lowest[feed] >= min(last, context.forked.get(feed, last + 1) - 1)
                for feed, _, last in bundle.coverage.ranges
            )
        ],
    )


def _carries_blocked(context: VisitContext, bundle: StickBundle) -> bool:
    return any(item.feed in context.blocked for item in bundle.coverage.ranges)


def remove_bundles(context: VisitContext, names: Iterable[str]) -> None:
    """Remove bundles by name, and say so in the report; raises OSError."""
    folder = context.stick.folder(BUNDLES)
    for name in names:
        if folder is not None:
            folder.remove(name)
        context.report.removed.append(f"{BUNDLES}/{name}")
        context.bundles.forget_file(name)
