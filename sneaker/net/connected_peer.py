"""A peer that is connected: its session, the services it finds here, and the account of what went between us.

A service is a family of muxrpc methods, made anew for each connected peer.  It declares its methods with the least caller of
each, and handles the calls; what it does besides (calls of its own, what is due to the peer) it does in the hooks below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from sneaker.net.context import NetContext
from sneaker.net.message_intake import Offer, Outcome
from sneaker.net.method_permissions import Handler, ServedMethods, permission_of
from sneaker.net.own_feed_evidence import OwnMessagesBeyondGap
from sneaker.net.peer_session import PeerSession
from sneaker.net.transfer_counts import TransferCounts
from sneaker.refs import FeedRef
from sneaker.wire.history import ReorderRoom
from sneaker.wire.muxrpc.calls import RequestReceived
from sneaker.wire.muxrpc.manifest import Method, Permission

__all__ = ["ConnectedPeer", "Service", "ServiceFactory"]

# What strangers give by createHistoryStream has to come in order, more or less.
_STRANGER_REORDER_BYTES = 512 * 1024


class Service:
    """One family of methods, for one connected peer.  None of the hooks may wait; what one raises ends the connection."""

    def __init__(self, peer: ConnectedPeer) -> None:
        self.peer = peer
        self.context = peer.context
        self.session = peer.session

    def handlers(self) -> Mapping[Method, Handler]:
        """Return the methods that are served, and what serves each."""
        return {}

    def start(self) -> None:
        """Begin: the connection has just been made."""

    def stop(self) -> None:
        """Take the peer out of all that is shared: the connection is over."""

    def tick(self) -> None:
        """Called about once a second."""

    def feeds_grown(self, grown: Sequence[tuple[FeedRef, int, int]]) -> None:
        """Hear that feeds have grown, and how far each was and is."""

    def policy_changed(self) -> None:
        """Hear that other feeds are replicated now, or other people blocked."""

    def wake(self) -> None:
        """Something may be due to this peer."""

    @property
    def is_busy(self) -> bool:
        """Whether anything is still on its way between this peer and us."""
        return False


#: Makes a service for a peer that has just connected.
ServiceFactory = Callable[["ConnectedPeer"], Service]

AnyService = TypeVar("AnyService", bound=Service)


class ConnectedPeer:
    """Made once the handshake is done; ``run`` it, and look at ``counts`` and ``session.error`` afterwards."""

    def __init__(self, context: NetContext, session: PeerSession, factories: Iterable[ServiceFactory]) -> None:
        self.context = context
        self.session = session
        self.key = session.peer
        self.counts = TransferCounts()
        #: When anything last happened that changes what somebody has, on the loop's clock.
        self.active_at = context.now()
        is_friend = self.is_near or session.dialled
        #: What all histories that this peer gives may hold back together.
        self.reordering = ReorderRoom() if is_friend else ReorderRoom(max_bytes=_STRANGER_REORDER_BYTES)
        self.own_messages = OwnMessagesBeyondGap(context, session)
        self.served_methods = ServedMethods()
        self._services = [factory(self) for factory in factories]
        self._stopped = False
        for service in self._services:
            self.served_methods.add_methods(service.handlers())
        session.on_request = self._request_received
        session.may_read = lambda: not context.intake.is_full

    # ------------------------------------------------------------------------------------------ who it is

    @property
    def is_near(self) -> bool:
        """Whether this peer is one of those we replicate."""
        return self.context.policy.is_near(self.key)

    @property
    def has_our_key(self) -> bool:
        """Whether it has our own key: a program of ours, or another machine with our secret."""
        return self.key == self.context.me

    @property
    def permission(self) -> Permission:
        """What the peer may call."""
        return permission_of(self.key, self.context.me, self.session.host, self.is_near)

    def _request_received(self, request: RequestReceived) -> None:
        self.served_methods.handle(request, self.permission)

    # ------------------------------------------------------------------------------------------ life

    async def run(self) -> None:
        """Do everything that is to be done with this peer, until the connection ends; never raises."""
        try:
            for service in self._services:
                service.start()
        except Exception as error:
            self.session.fail_with(error)
        try:
            await self.session.run()
        finally:
            self.stop_services()

    def stop_services(self) -> None:
        """Take the peer out of everything that is shared; harmless the second time."""
        if self._stopped:
            return
        self._stopped = True
        failure: Exception | None = None
        for service in self._services:
            try:
                service.stop()
            except Exception as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def service(self, kind: type[AnyService]) -> AnyService:
        """Return the service of that kind; raises LookupError if there is none."""
        for service in self._services:
            if isinstance(service, kind):
                return service
        raise LookupError(f"there is no {kind.__name__}")

    def tick(self) -> None:
        """To be called about once a second."""
        for service in self._services:
            service.tick()

    def feeds_grown(self, grown: Sequence[tuple[FeedRef, int, int]]) -> None:
        """Hear that feeds have grown, and how far each was and is."""
        for service in self._services:
            service.feeds_grown(grown)

    def policy_changed(self) -> None:
        """Look at the follow graph again."""
        if self._stopped:
            return
        for service in self._services:
            service.policy_changed()

    def wake(self) -> None:
        """Something may be due to this peer."""
        for service in self._services:
            service.wake()

    @property
    def is_busy(self) -> bool:
        """Whether anything is still on its way between this peer and us, or is not committed yet."""
        return self.session.muxrpc.outgoing_bytes > 0 or any(service.is_busy for service in self._services)

    # ------------------------------------------------------------------------------------------ the account

    def note_activity(self) -> None:
        """Note that something happened that changes what somebody has."""
        self.active_at = self.context.now()

    def count_sent(self, messages: int) -> None:
        """Note messages that were sent."""
        self.counts.sent += messages
        self.note_activity()

    def count_settled(self, offers: list[Offer], outcome: Outcome) -> list[Offer]:
        """Note messages that are in the store now, and those that are not; returns the first one refused of each feed."""
        before, heads, counts = outcome.before, outcome.heads, self.counts
        refused: dict[FeedRef, Offer] = {}
        for offer in offers:
            if offer.sequence <= before[offer.feed]:
                counts.known += 1
            elif offer.sequence <= heads[offer.feed]:
                counts.received += 1
            elif self.context.policy.wants(offer.feed):  # else it was unfollowed after it had been asked for
                counts.refused += 1
                refused.setdefault(offer.feed, offer)
        for offer in refused.values():
            counts.name_refusal(offer.feed, offer.sequence, outcome.reason(offer.feed))
        self.note_activity()
        return list(refused.values())
