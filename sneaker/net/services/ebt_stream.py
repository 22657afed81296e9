"""One ``ebt.replicate`` stream: between a connection, the replicator, the intake and the store."""

from __future__ import annotations

import asyncio
from typing import Protocol

from sneaker.errors import RemoteProtocolError, StoreDamaged
from sneaker.net.connected_peer import ConnectedPeer
from sneaker.net.message_intake import Offer, Outcome
from sneaker.net.services.history_fetch import OverdueFetcher
from sneaker.net.services.read_messages import read_messages
from sneaker.refs import FeedRef
from sneaker.wire.ebt.events import ClockReceived, OwnMessageSeen
from sneaker.wire.ebt.notes import MessageItem
from sneaker.wire.ebt.replicator import RECONNECTED_TEXT
from sneaker.wire.muxrpc.calls import PeerError
from sneaker.wire.muxrpc.manifest import Method
from sneaker.wire.muxrpc.packets import BodyKind

__all__ = ["EbtStream", "StreamOwner"]

# Messages sent of one feed before another one has its turn.
_RUN_MESSAGES = 100

# Of how many feeds that we do not replicate a clock may speak: a new user's apps know some thousand.
_STRANGER_FEEDS = 5_000
_PEER_FEEDS = 50_000

# A peer that sends so many messages that are refused is broken or worse, and checking each costs us.
_MAX_REFUSALS = 50


class StreamOwner(Protocol):
    """Who hears what a peer says on its stream."""

    def clock_received(self, changes: dict[FeedRef, int]) -> None:
        """Hear what the peer says it has, where that changed; -1 for not replicated."""

    def message_shown(self, feed: FeedRef) -> None:
        """Hear that the peer sent a message of a feed."""

    def stream_ended(self, stream: EbtStream, error: PeerError | None) -> None:
        """Hear that the peer ended the stream, and why."""


class EbtStream:
    """Our side of one stream; makes itself known to the replicator, until ``finish``."""

    def __init__(self, peer: ConnectedPeer, owner: StreamOwner, method: Method, call: int | None = None) -> None:
        """``call``: the peer's call of ``method`` that we serve; None to call the peer."""
        context, session = peer.context, peer.session
        self.session = session
        self._peer = peer
        self._owner = owner
        self._context = context
        self.connection = context.replicator.connect(
            peer.key,
            client=call is None,
            now=context.now(),
            saved_clock=context.peer_clocks.begin_session(peer.key),
            withheld=context.policy.withheld(peer.key),
            max_unwanted=_PEER_FEEDS if peer.is_near else _STRANGER_FEEDS,
        )
        self._overdue = OverdueFetcher(peer, self.connection, self._refuse_feed)
        #: Whether the peer has told us how far it is.
        self.heard = False
        self._refusals = 0
        self._received_at = context.now()
        self._finished = False
        self._due = asyncio.Event()
        if call is None:
            arguments = [{"version": 3, "format": "classic"}]
            self.call = session.open_stream(method.name, method.kind, arguments, self)
        else:
            self.call = call
            session.attach_receiver(call, self)
        self._sender = session.spawn(self._send_all())
        self.wake()

    def wake(self) -> None:
        """Look whether there is something to send."""
        if self.connection.wants_to_send:
            self._due.set()

    @property
    def is_busy(self) -> bool:
        """Whether something is still to be sent or is promised to come."""
        return not self.heard or self.connection.wants_to_send or self.connection.is_behind

    def acknowledge_after_pause(self, pause_s: float) -> None:
        """Tell the peer what is committed of what it sent, if it has paused for so long."""
        if not self._finished and self._context.now() - self._received_at >= pause_s:
            self.connection.acknowledge()
            self.wake()

    def fetch_overdue(self) -> None:
        """Ask in another way for what the peer announced and does not send; to be called every second."""
        if not self._finished:
            self._overdue.look_for_overdue()

    # -- what comes

    def item_received(self, kind: BodyKind, body: bytes) -> None:
        """Take a message or notes; raises RemoteProtocolError for anything else."""
        if kind is not BodyKind.JSON:
            raise RemoteProtocolError("an EBT item is not JSON")
        now = self.session.heard_at
        event = self.connection.receive(body, now)
        if isinstance(event, MessageItem):
            self._received_at = now
            self._owner.message_shown(event.author)
            self._context.intake.offer_message(Offer(self, event.author, event.sequence, body))
            return
        if isinstance(event, ClockReceived):
            self.heard = True
            self._owner.clock_received(event.changes)
            sequence, wanted = self._context.replicator.sequence, self._context.replicator.wanted
            promised = [there - sequence(feed) for feed, there in event.changes.items() if feed in wanted]
            self._context.intake.expect_messages(sum([count for count in promised if count > 0]))
            self._peer.note_activity()
        elif isinstance(event, OwnMessageSeen):
            self._peer.own_messages.unplaced_message_seen(event.item)
        self.session.consumed(self.call, len(body))
        self.wake()
        if self._context.replicator.get_timer() is not None:
            self._context.replicator_timer_changed()

    def offers_settled(self, offers: list[Offer], outcome: Outcome) -> None:
        """Hear that offered messages are in the store, or that their feeds end before them."""
        self.session.consumed(self.call, sum([len(offer.raw) for offer in offers]))
        for offer in self._peer.count_settled(offers, outcome):
            self._refuse_feed(offer.feed)

    def _refuse_feed(self, feed: FeedRef) -> None:
        if self._finished:
            return
        self.connection.refuse_feed(feed)
        self._refusals += 1
        if self._refusals == _MAX_REFUSALS:
            self.session.abort("the peer sends messages that are not valid")

    def end_received(self, error: PeerError | None, *, still_open: bool) -> None:
        """Hear that the stream is over."""
        if still_open:
            self.session.end_call(self.call)
        self.finish()
        self._owner.stream_ended(self, error)

    def replace(self) -> None:
        """End this stream, because the peer has opened another one."""
        self.session.end_call(self.call, RECONNECTED_TEXT)
        self.finish()

    def finish(self) -> None:
        """Forget the stream; harmless the second time."""
        if not self._finished:
            self._finished = True
            self._sender.cancel()
            self._context.replicator.disconnect(self.connection)
            self._context.wake_peers()

    # -- what goes

    async def _send_all(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            while self.connection.wants_to_send:
                await self.session.wait_for_room()
                self._send_some()
                # Others have a turn; wait_for_room() does not wait while there is room.
                await asyncio.sleep(0)

    def _send_some(self) -> None:
        send, call = self.session.send_item, self.call
        for item in self.connection.notes_to_send():
            send(call, item)
        run = self.connection.next_run(_RUN_MESSAGES)
        if run is None:
            return
        try:
            messages = read_messages(self._context.store, run.feed, run.first, run.last)
        except StoreDamaged as error:
            self._context.remark(error.message)
            self.connection.rewind(run.feed, run.first - 1)
            self.connection.stop_sending(run.feed)
            return
        for message in messages:
            # The canonical text is JSON like any other, and needs no printing.
            send(call, message.text)
        self._peer.count_sent(len(messages))
