"""What the steps of a visit share: the home, the stick, what is known of it, for whom to write, and the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sneaker.home.home import Home
from sneaker.refs import FeedRef
from sneaker.stick.bundles import StickBundles
from sneaker.stick.report import VisitOptions, VisitReport
from sneaker.stick.stick import Stick
from sneaker.stick.who_counts import Round

__all__ = ["VisitContext"]


@dataclass(slots=True)
class VisitContext:
    """One visit, after what the stick brought is taken in.

    ``blocked`` are the feeds that we block, ``forked`` the first sequence of each forked feed for which there are two messages.
    ``part_prefix`` begins the names of files that this machine has not finished.
    """

    home: Home
    stick: Stick
    bundles: StickBundles
    round: Round
    options: VisitOptions
    report: VisitReport
    blocked: frozenset[FeedRef] | set[FeedRef]
    forked: dict[FeedRef, int]
    part_prefix: str
    now_ms: Callable[[], int]
    random_bytes: Callable[[int], bytes]
