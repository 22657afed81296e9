"""What all EBT connections share: our clock, what we replicate, and which peer is asked for which feed.

Every feed is asked for from one peer at a time, its receiver; the others get notes that say "do not send".  A peer
that claims more than the receiver takes over at once.  A receiver that claimed more and sends nothing for three seconds
is given up for the next peer that claims more.  One that goes away or says -1 leaves its feeds to the furthest of the rest.

Time comes in as seconds of any monotonic clock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from sneaker.clock import VectorClock
from sneaker.errors import LocalProtocolError
from sneaker.limits import MAX_UNWANTED_FEEDS
from sneaker.refs import FeedRef
from sneaker.wire.ebt.connection import EbtConnection

__all__ = ["RECONNECTED_TEXT", "SWITCH_AFTER_S", "Replicator"]

# ssb-ebt's default, and what users of several slow peers are used to.
SWITCH_AFTER_S = 3.0

# ssb-ebt takes this text for harmless; end the older of two streams of one peer with it.
RECONNECTED_TEXT = "reconnected to peer"


class Replicator:
    """Our side of EBT as a whole. The store tells it what it has; it never guesses."""

    def __init__(
        self,
        clock: VectorClock,
        wanted: Iterable[FeedRef],
        *,
        me: FeedRef | None = None,
        carry: bool = False,
        closed: Iterable[FeedRef] = (),
    ) -> None:
        """``clock``: what the store has, feed to sequence; ``wanted``: the feeds we replicate, our own included.

        ``me`` is the feed that is fetched before all others.  With ``carry``, peers that ask get the other feeds of the store
        too, but for the ``closed`` ones; we neither mention those feeds first nor ask for them.
        """
        self._clock = {feed: sequence for feed, sequence in clock.items() if sequence > 0}
        self._wanted = dict.fromkeys(wanted)
        #: The feeds we replicate; change them with ``follow`` and ``unfollow``.
        self.wanted: Collection[FeedRef] = self._wanted.keys()
        self.me = me
        self._carry = carry
        #: Feeds that nobody gets, whatever else holds: those we block. Change it before ``unfollow`` and ``follow``.
        self.closed = set(closed)
        self._connections: dict[FeedRef, EbtConnection] = {}
        self._receivers: dict[FeedRef, EbtConnection] = {}
        #: Feeds that are being fetched by createHistoryStream, from whomever, and how far they were.
        self.fetching: dict[FeedRef, int] = {}
        #: When something of a feed that we replicate last came, from anybody.
        self.moved_at: dict[FeedRef, float] = {}
        #: The latest time that anybody told us.
        self.now = 0.0

    def shares(self, feed: FeedRef) -> bool:
        """Whether peers may have ``feed`` from us."""
        return feed not in self.closed and (feed in self._wanted or (self._carry and feed in self._clock))

    @property
    def connections(self) -> Mapping[FeedRef, EbtConnection]:
        """The connections by peer: after every change look which of them ``wants_to_send``."""
        return self._connections

    def is_alive(self, connection: EbtConnection) -> bool:
        """Whether a connection goes on."""
        return self._connections.get(connection.peer) is connection

    def sequence(self, feed: FeedRef) -> int:
        """Return how far our store is in ``feed``, 0 for nothing."""
        return self._clock.get(feed, 0)

    def connect(
        self,
        peer: FeedRef,
        *,
        client: bool,
        now: float,
        saved_clock: Mapping[FeedRef, int] | None = None,
        withheld: Iterable[FeedRef] = (),
        max_unwanted: int = MAX_UNWANTED_FEEDS,
    ) -> EbtConnection:
        """Begin a stream with ``peer``; ``client`` says that we called ``ebt.replicate``.

        ``saved_clock`` is the ``remote_clock`` of the last session, if our store has lost nothing since; ``withheld``
        are the feeds whose authors block this peer; ``max_unwanted``: for how many feeds that we do not replicate its notes
        are remembered.  Raises LocalProtocolError if there is a stream with it: end that one with RECONNECTED_TEXT and call
        ``disconnect`` first.
        """
        if peer in self._connections:
            raise LocalProtocolError(f"there is an EBT stream with {peer} already")
        self.now = now
        connection = EbtConnection(
            self, peer, client=client, saved_clock=saved_clock or {}, withheld=withheld, max_unwanted=max_unwanted
        )
        self._connections[peer] = connection
        return connection

    def disconnect(self, connection: EbtConnection) -> None:
        """Forget a stream that ended; the feeds it was asked for are asked from others. Harmless the second time."""
        if not self.is_alive(connection):
            return
        del self._connections[connection.peer]
        for feed in [feed for feed, receiver in self._receivers.items() if receiver is connection]:
            self.released(feed, connection)

    def follow(self, feed: FeedRef) -> None:
        """Replicate ``feed`` from now on."""
        if feed not in self._wanted:
            self._wanted[feed] = None
            for connection in self._connections.values():
                connection.followed(feed)

    def unfollow(self, feed: FeedRef) -> None:
        """Replicate ``feed`` no longer: it was unfollowed, blocked or forked."""
        if feed in self._wanted:
            del self._wanted[feed]
            self.moved_at.pop(feed, None)
            for connection in self._connections.values():
                connection.unfollowed(feed)

    def appended(self, feed: FeedRef, sequence: int) -> None:
        """Say that the store has committed ``feed`` up to ``sequence``, from whatever source. Going back is ignored."""
        if sequence > self._clock.get(feed, 0):
            self._clock[feed] = sequence
            if feed in self._wanted:
                self.moved_at[feed] = self.now
            for connection in self._connections.values():
                connection.appended(feed)

    # ------------------------------------------------------------------------------------------ time

    def get_timer(self) -> float | None:
        """Return when ``handle_timer`` wants to be called, None for not at all."""
        if len(self._connections) < 2:
            return None
        times = [connection.last_activity for connection in self._connections.values() if connection.awaiting]
        return min(times) + SWITCH_AFTER_S if times else None

    def handle_timer(self, now: float) -> None:
        """Ask others for what a peer claimed to have, was asked for, and does not send."""
        self.now = now
        order = list(self._connections.values())
        for position, connection in enumerate(order):
            if not connection.awaiting or connection.last_activity + SWITCH_AFTER_S > now:
                continue
            # Begin behind it, so that of three peers each gets its turn.
            others = order[position + 1 :] + order[:position]
            for feed in sorted(connection.awaiting):
                ours = self.sequence(feed)
                able = [other for other in others if other.can_serve(feed) and other.claims(feed) > ours]
                if able:
                    connection.give_up(feed)
                    fresh = [other for other in able if not other.is_stalled(feed)]
                    (fresh or able)[0].ask(feed, True)
            connection.last_activity = now

    # ------------------------------------------------------------------------------------------ from connections

    def receiver(self, feed: FeedRef) -> EbtConnection | None:
        """Return the connection that is asked for ``feed``."""
        return self._receivers.get(feed)

    def asked(self, feed: FeedRef, connection: EbtConnection, receive: bool) -> None:
        """Remember that ``connection`` is asked for ``feed``, or was told not to send it."""
        if receive:
            self._receivers[feed] = connection
        elif self._receivers.get(feed) is connection:
            del self._receivers[feed]

    def released(self, feed: FeedRef, connection: EbtConnection) -> None:
        """Ask somebody else for a feed that ``connection`` will not give; the one that claims most."""
        if self._receivers.get(feed) is not connection:
            return
        del self._receivers[feed]
        if feed not in self._wanted:
            return
        able = [other for other in self._connections.values() if other is not connection and other.can_serve(feed)]
        if able:
            max(able, key=lambda other: other.claims(feed)).ask(feed, True)
