"""A peer that is connected: all that goes on between it and us, and the account of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sneaker.errors import CallRefused
from sneaker.net.blobs import BlobTalk
from sneaker.net.connection import Connection
from sneaker.net.fetching import HistoryFetcher, Unplaced
from sneaker.net.histories import HistoryServer
from sneaker.net.intake import Offer, Outcome
from sneaker.net.methods import Methods
from sneaker.net.ownmessages import OwnMessages
from sneaker.net.replication import EbtStream
from sneaker.refs import FeedRef
from sneaker.store.rows import Note
from sneaker.wire.ebt.notes import parse_replicate_arguments
from sneaker.wire.history import ReorderRoom
from sneaker.wire.muxrpc.calls import PeerError, RequestReceived
from sneaker.wire.muxrpc.manifest import Permission, is_unknown_method, refusal

if TYPE_CHECKING:
    from sneaker.net.node import Node

__all__ = ["Meeting", "Tally"]

# A peer that dialled us calls ebt.replicate at once; one that does not for so long has none.
_EBT_WAIT_S = 3.0

_MAX_REFUSALS_KEPT = 100

# What strangers give by createHistoryStream has to come in order, more or less.
_STRANGER_REORDER_BYTES = 512 * 1024


@dataclass(slots=True)
class Tally:
    """What went over a connection: messages new to us, known ones, sent ones, refused ones (the first of them named)."""

    received: int = 0
    known: int = 0
    sent: int = 0
    refused: int = 0
    blobs_received: int = 0
    blobs_sent: int = 0
    refusals: list[tuple[FeedRef, int, str]] = field(default_factory=list)


class Meeting:
    """Made once the handshake is done; ``run`` it, and look at ``tally`` and ``connection.error`` afterwards."""

    def __init__(self, node: Node, connection: Connection) -> None:
        self.node = node
        self.connection = connection
        self.peer = connection.peer
        self.tally = Tally()
        self.ebt: EbtStream | None = None
        self.histories = HistoryServer(self)
        self.fetcher: HistoryFetcher | None = None
        is_friend = self.is_near or connection.dialled
        #: What all histories that this peer gives may hold back together.
        self.reordering = ReorderRoom() if is_friend else ReorderRoom(max_bytes=_STRANGER_REORDER_BYTES)
        self.own_messages = OwnMessages(self)
        self.blobs: BlobTalk | None = None
        self.withheld = node.policy.withheld(self.peer)
        #: When anything last happened that changes what somebody has, on the loop's clock.
        self.active_at = node.now()
        self._methods = Methods(self)
        self._changed: set[FeedRef] = set()
        self._said_of_us = 0
        self._noting_claim = False
        self._detached = False
        connection.on_request = self._request_received
        connection.may_read = lambda: not node.intake.is_full

    # -- life

    async def run(self) -> None:
        """Do everything that is to be done with this peer, until the connection ends; never raises."""
        try:
            self._begin()
        except Exception as error:
            self.connection.fail(error)
        try:
            await self.connection.run()
        finally:
            self.detach()

    def _begin(self) -> None:
        if self.peer != self.node.me:
            self.blobs = BlobTalk(self)
            if self.connection.dialled:
                self.ebt = EbtStream(self)
            else:
                self.connection.spawn(self._expect_ebt())
            self.blobs.start()
        elif self.connection.dialled and self.peer not in self.node.replicator.connections:
            self.ebt = EbtStream(self)

    def detach(self) -> None:
        """Take the peer out of everything that is shared; harmless the second time."""
        if not self._detached:
            self._detached = True
            try:
                if self.ebt is not None:
                    self.ebt.finish()
            finally:
                if self.blobs is not None:
                    self.blobs.finish()

    async def _expect_ebt(self) -> None:
        await asyncio.sleep(_EBT_WAIT_S)
        if self.ebt is None and self.is_near and not self.connection.closing:
            self._fetch_histories()

    def _fetch_histories(self) -> None:
        self.fetcher = HistoryFetcher(self)
        for feed in self.node.replicator.wanted:
            self.fetcher.fetch(feed)

    def ebt_ended(self, stream: EbtStream, error: PeerError | None) -> None:
        """Hear that EBT is over; without it, feeds are fetched one by one."""
        if self.ebt is not stream:
            return
        self._changed.update(stream.stream.remote_clock)
        if error is not None and is_unknown_method(error, ("ebt", "replicate")) and not self.connection.closing:
            self.ebt = None
            self._fetch_histories()

    @property
    def is_near(self) -> bool:
        """Whether this peer is one of those we replicate."""
        return self.node.policy.is_near(self.peer)

    @property
    def permission(self) -> Permission:
        """What the peer may call; with our own key only from this machine, elsewhere it is a copy of us."""
        if self.peer == self.node.me and self.connection.host in ("127.0.0.1", "::1"):
            return Permission.OWN
        return Permission.PEER if self.is_near else Permission.ANONYMOUS

    @property
    def has_worked(self) -> bool:
        """Whether the peer said what it has, or was asked for it: whether anything could be done here at all."""
        return self.fetcher is not None or (self.ebt is not None and self.ebt.heard)

    @property
    def is_busy(self) -> bool:
        """Whether anything is still on its way between this peer and us, or is not committed yet."""
        if self.ebt is None:
            return self.fetcher is None or self.connection.session.outgoing_bytes > 0
        blobs = self.blobs is not None and not self.blobs.heard
        return self.ebt.is_busy or blobs or self.connection.session.outgoing_bytes > 0

    # -- what changes around us

    def policy_changed(self) -> None:
        """Look at the follow graph again."""
        if self._detached:
            return
        withheld = self.node.policy.withheld(self.peer)
        if self.ebt is not None:
            for feed in withheld - self.withheld:
                self.ebt.stream.withhold(feed)
        self.withheld = withheld
        if self.fetcher is not None:
            for feed in self.node.replicator.wanted:
                self.fetcher.fetch(feed)

    def tick(self, pause_s: float) -> None:
        """To be called about once a second; what came before a pause of ``pause_s`` is acknowledged."""
        self.connection.tick()
        if self.ebt is not None:
            self.ebt.acknowledge(pause_s)
            self.ebt.fetch_overdue()

    def feeds_grown(self, grown: Iterable[tuple[FeedRef, int, int]]) -> None:
        """Hear that feeds have grown, and how far each was and is."""
        for feed, _, _ in grown:
            self.histories.appended(feed)

    def wake(self) -> None:
        """Something may be due to this peer."""
        if self.ebt is not None:
            self.ebt.wake()

    # -- the account

    def touch(self) -> None:
        """Note that something happened."""
        self.active_at = self.node.now()

    def count_sent(self, count: int) -> None:
        """Note messages that were sent."""
        self.tally.sent += count
        self.touch()

    def count_settled(self, offers: list[Offer], outcome: Outcome) -> list[Offer]:
        """Note messages that are in the store now, and those that are not; returns the first one refused of each feed."""
        before, heads, tally = outcome.before, outcome.heads, self.tally
        refused: dict[FeedRef, Offer] = {}
        for offer in offers:
            if offer.sequence <= before[offer.feed]:
                tally.known += 1
            elif offer.sequence <= heads[offer.feed]:
                tally.received += 1
            elif self.node.policy.wants(offer.feed):  # else it was unfollowed after it had been asked for
                tally.refused += 1
                refused.setdefault(offer.feed, offer)
        for offer in refused.values():
            if len(tally.refusals) < _MAX_REFUSALS_KEPT:
                tally.refusals.append((offer.feed, offer.sequence, outcome.reason(offer.feed)))
        self.touch()
        return list(refused.values())

    def unplaced(self) -> list[Unplaced]:
        """Return what the peer sent and we could not take because it did not send what comes before it."""
        if self.fetcher is not None:
            return self.fetcher.unplaced()
        streamed = self.ebt.stream.unplaced() if self.ebt is not None else {}
        return [Unplaced(feed, sequence, 1) for feed, sequence in streamed.items()]

    def count_unplaced(self) -> None:
        """Note what cannot be taken, now that nothing more is waited for."""
        for feed, first, count in self.unplaced():
            self.tally.refused += count
            if len(self.tally.refusals) < _MAX_REFUSALS_KEPT:
                missing = self.node.replicator.sequence(feed) + 1
                more = f" ({count:,} messages from here on)" if count > 1 else ""
                reason = f"message {missing}, which comes before it, did not come{more}"
                self.tally.refusals.append((feed, first, reason))

    def clock_received(self, changes: dict[FeedRef, int]) -> None:
        """Take down what the peer says it has; what it says about our own feed at once, so that we publish no fork."""
        self._changed.update(changes)
        me = self.node.me
        said = changes.get(me, 0)
        if said > max(self.node.replicator.sequence(me), self._said_of_us) and self._is_believed:
            self._said_of_us = said
            if not self._noting_claim:
                self._noting_claim = True
                self.node.keep(asyncio.create_task(self._note_claim()))

    async def _note_claim(self) -> None:
        """Write down how far the peer says that our own feed goes; one at a time, however often it says something else."""
        noted = 0
        try:
            while noted < self._said_of_us:
                noted = self._said_of_us
                await self.node.clocks.claim(self.peer, noted)
        finally:
            self._noting_claim = False

    @property
    def _is_believed(self) -> bool:
        """Whether the peer's word goes into the clock store: anybody can make a key and claim anything."""
        return self.is_near or self.connection.dialled or self.node.replicator.sequence(self.node.me) == 0

    def unsaved_notes(self) -> dict[FeedRef, Note]:
        """Return, once, what the peer said or showed and is not in the clock store yet."""
        if self.ebt is None or self.peer == self.node.me or not self._is_believed:
            return {}
        clock = self.ebt.stream.remote_clock
        changed, self._changed = self._changed, set()
        return {feed: Note(max(clock[feed], 0), clock[feed] >= 0) for feed in changed if feed in clock}

    def feed_received(self, feed: FeedRef) -> None:
        """Note that the peer has shown a message of a feed."""
        self._changed.add(feed)

    # -- requests

    def _request_received(self, request: RequestReceived) -> None:
        """Serve a call; raises CallRefused."""
        problem = refusal(request.name, request.kind, self.permission, Methods.SERVED)
        if problem is not None:
            raise CallRefused(problem)
        if request.name == ("ebt", "replicate"):
            self._serve_ebt(request)
        elif request.name == ("createHistoryStream",):
            self.histories.serve(request)
        elif request.name[0] == "blobs" and self.blobs is not None and request.name[1] in ("get", "getSlice"):
            self.blobs.serve_get(request)
        elif request.name == ("blobs", "createWants") and self.blobs is not None:
            self.blobs.serve_wants(request)
        else:
            self._methods.serve(request)

    def _serve_ebt(self, request: RequestReceived) -> None:
        parse_replicate_arguments(request.arguments)
        if self.ebt is not None:
            self.ebt.replace()
        elif self.peer in self.node.replicator.connections:
            raise CallRefused("this peer is being replicated over another connection")
        self.ebt = EbtStream(self, request.call)
