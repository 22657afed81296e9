"""Which feeds an import takes with ``--hops``: those within so many hops of us."""

from __future__ import annotations

from sneaker.home.home import Home
from sneaker.refs import FeedRef
from sneaker.social import replicated

__all__ = ["FeedSelection"]


class FeedSelection:
    """The feeds within ``hops`` of us.  New contact messages may bring more feeds near; ``has_widened`` says that they did."""

    def __init__(self, home: Home, hops: int) -> None:
        self._home = home
        self._hops = hops
        self._near = self._find_near()
        self.has_widened = False

    def takes(self, feed: FeedRef) -> bool:
        """Say whether a feed is near enough."""
        return feed in self._near

    def look_again(self) -> None:
        """Find out whether new messages have brought more feeds near."""
        near = self._find_near()
        self.has_widened = self.has_widened or near != self._near
        self._near = near

    def _find_near(self) -> set[FeedRef]:
        me = self._home.keypair.public
        return {me, *replicated(self._home.store.hops(me, self._hops), self._hops)}
