"""Which feeds an import takes: all but those we block, or those within some hops of us."""

from __future__ import annotations

import re
from binascii import a2b_base64

from sneaker.exchange.home import Home
from sneaker.refs import FeedRef
from sneaker.store.base import EdgeState

__all__ = ["Selection"]

_AUTHOR = re.compile(rb'"author":\s*"@([A-Za-z0-9+/]{43}=)\.ed25519"')


class Selection:
    """The feeds that one import takes; ``skipped`` counts the messages that it left out.

    With ``hops``, the circle grows as contact messages come in; ``has_widened`` says that it did.
    """

    def __init__(self, home: Home, hops: int | None) -> None:
        self._home = home
        self._hops = hops
        self._near = self._find_near(hops) if hops is not None else frozenset()
        me = home.keypair.public
        # Never our own, or we could not find out that others have more of it.
        self._blocked = {edge.contact for edge in home.store.edges(me) if edge.state == EdgeState.BLOCK} - {me}
        self.skipped = 0
        self.has_widened = False

    def takes(self, feed: FeedRef, messages: int = 1) -> bool:
        """Say whether messages of this feed are taken, and count them if not."""
        if feed not in self._blocked and (self._hops is None or feed in self._near):
            return True
        self.skipped += messages
        return False

    def takes_line(self, value: bytes) -> bool:
        """Say whether a message is taken, by the author it names; what names none is for ingest to refuse."""
        if not self._blocked and self._hops is None:
            return True
        match = _AUTHOR.search(value)
        return match is None or self.takes(FeedRef(a2b_base64(match[1])))

    def look_again(self) -> None:
        """See whether what has come in meanwhile brings more feeds near."""
        if self._hops is not None:
            near = self._find_near(self._hops)
            self.has_widened = self.has_widened or near != self._near
            self._near = near

    def start_again(self) -> None:
        """Begin another round over the same sources, with the circle as wide as it is now."""
        self.skipped, self.has_widened = 0, False

    def _find_near(self, hops: int) -> frozenset[FeedRef]:
        me = self._home.keypair.public
        found = self._home.store.hops(me, hops)
        return frozenset({me, *(feed for feed, distance in found.items() if distance >= 0)})
