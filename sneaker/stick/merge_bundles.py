"""Many small bundles become one: which own bundles on a stick a new one shall replace."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sneaker.stick.layout import BUNDLES
from sneaker.stick.reread import is_sound
from sneaker.stick.visit_context import VisitContext

__all__ = ["find_replaceable"]

# So many own bundles of less than this size are packed into one.
_SMALL_COUNT = 16
_SMALL_BYTES = 4 * 1024 * 1024


def find_replaceable(context: VisitContext, count_lacked: Callable[[Iterable[str]], int]) -> list[str]:
    """Return the names of own bundles that one new one shall replace; all of them for ``drive gc``, if that saves anything.

    ``count_lacked`` says how many messages the others lack if bundles of these names were not there.
    """
    if not context.options.writes:
        return []
    own = context.bundles.own()
    if not context.options.collect:
        small = [bundle.name for bundle in own if bundle.size < _SMALL_BYTES]
        return small if len(small) >= _SMALL_COUNT else []
    names = [bundle.name for bundle in own]
    lies_there = sum(item.messages for bundle in own for item in bundle.coverage.ranges)
    is_as_it_should = len(own) <= 1 and lies_there <= count_lacked(names) and _are_sound(context, names)
    return [] if is_as_it_should else names


def _are_sound(context: VisitContext, names: Iterable[str]) -> bool:
    folder = context.stick.folder(BUNDLES)
    return folder is not None and all(is_sound(folder, name, context.home.store) for name in names)
