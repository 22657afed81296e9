"""One ``ebt.replicate`` stream: between a connection, the replicator, the intake and the store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sneaker.errors import RemoteProtocolError, StoreDamaged
from sneaker.feed.classic.compact import expand_run
from sneaker.feed.message import Message
from sneaker.net.fetching import OverdueFetcher
from sneaker.net.intake import Offer, Outcome
from sneaker.refs import FeedRef
from sneaker.store.store import Store
from sneaker.wire.ebt.connection import ClockReceived, OwnMessageSeen
from sneaker.wire.ebt.notes import MessageItem
from sneaker.wire.ebt.replicator import RECONNECTED_TEXT
from sneaker.wire.muxrpc.calls import CallKind, PeerError
from sneaker.wire.muxrpc.packets import BodyKind

if TYPE_CHECKING:
    from sneaker.net.meeting import Meeting

__all__ = ["EbtStream", "read_run"]

# Messages sent of one feed before another one has its turn.
_RUN_MESSAGES = 100

# Strangers' clocks: a new user's apps know some thousand feeds.
_STRANGER_FEEDS = 5_000
_PEER_FEEDS = 50_000

# A peer that sends so many messages that are refused is broken or worse, and checking each costs us.
_MAX_REFUSALS = 50


class EbtStream:
    """Our side of one stream; makes itself known to the replicator, until ``finish``."""

    def __init__(self, meeting: Meeting, call: int | None = None) -> None:
        """``call``: the peer's call that we serve; None to call the peer."""
        node, connection = meeting.node, meeting.connection
        self._meeting = meeting
        self._node = node
        self.connection = connection
        near = node.policy.is_near(connection.peer)
        self.stream = node.replicator.connect(
            connection.peer,
            client=call is None,
            now=node.now(),
            saved_clock=node.clocks.saved(connection.peer),
            withheld=node.policy.withheld(connection.peer),
            max_unwanted=_PEER_FEEDS if near else _STRANGER_FEEDS,
        )
        self._overdue = OverdueFetcher(meeting, self.stream, self._refuse)
        #: Whether the peer has told us how far it is.
        self.heard = False
        self._refusals = 0
        self._received_at = node.now()
        self._finished = False
        self._due = asyncio.Event()
        if call is None:
            arguments = [{"version": 3, "format": "classic"}]
            self.call = connection.open(["ebt", "replicate"], CallKind.DUPLEX, arguments, self)
        else:
            self.call = call
            connection.attach(call, self)
        self._sender = connection.spawn(self._send())
        self.wake()

    def wake(self) -> None:
        """Look whether there is something to send."""
        if self.stream.wants_to_send:
            self._due.set()

    @property
    def is_busy(self) -> bool:
        """Whether something is still to be sent or is promised to come."""
        return not self.heard or self.stream.wants_to_send or self.stream.is_behind

    def acknowledge(self, pause_s: float = 0.0) -> None:
        """Tell the peer what is committed of what it sent, if it has paused for so long."""
        if not self._finished and self._node.now() - self._received_at >= pause_s:
            self.stream.acknowledge()
            self.wake()

    def fetch_overdue(self) -> None:
        """Ask in another way for what the peer announced and does not send; to be called every second."""
        if not self._finished:
            self._overdue.look()

    # -- what comes

    def item_received(self, kind: BodyKind, body: bytes) -> None:
        """Take a message or notes; raises RemoteProtocolError for anything else."""
        if kind is not BodyKind.JSON:
            raise RemoteProtocolError("an EBT item is not JSON")
        now = self.connection.heard_at
        event = self.stream.receive(body, now)
        if isinstance(event, MessageItem):
            self._received_at = now
            self._meeting.feed_received(event.author)
            self._node.intake.offer(Offer(self, event.author, event.sequence, body))
            return
        if isinstance(event, ClockReceived):
            self.heard = True
            self._meeting.clock_received(event.changes)
            sequence, wanted = self._node.replicator.sequence, self._node.replicator.wanted
            promised = [there - sequence(feed) for feed, there in event.changes.items() if feed in wanted]
            self._node.intake.expect(sum([count for count in promised if count > 0]))
            self._meeting.touch()
        elif isinstance(event, OwnMessageSeen):
            self._meeting.own_messages.seen(event.item)
        self.connection.consumed(self.call, len(body))
        self.wake()
        if self._node.replicator.get_timer() is not None:
            self._node.replicator_changed()

    def settled(self, offers: list[Offer], outcome: Outcome) -> None:
        """Hear that offered messages are in the store, or that their feeds end before them."""
        self.connection.consumed(self.call, sum([len(offer.raw) for offer in offers]))
        for offer in self._meeting.count_settled(offers, outcome):
            self._refuse(offer.feed)

    def _refuse(self, feed: FeedRef) -> None:
        if self._finished:
            return
        self.stream.refuse(feed)
        self._refusals += 1
        if self._refusals == _MAX_REFUSALS:
            self.connection.abort("the peer sends messages that are not valid")

    def end_received(self, error: PeerError | None, *, still_open: bool) -> None:
        """The stream is over."""
        if still_open:
            self.connection.end(self.call)
        self.finish()
        self._meeting.ebt_ended(self, error)

    def replace(self) -> None:
        """End this stream, because the peer has opened another one."""
        self.connection.end(self.call, RECONNECTED_TEXT)
        self.finish()

    def finish(self) -> None:
        """Forget the stream; harmless the second time."""
        if not self._finished:
            self._finished = True
            self._sender.cancel()
            self._node.replicator.disconnect(self.stream)
            self._node.wake_all()

    # -- what goes

    async def _send(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            while self.stream.wants_to_send:
                await self.connection.room()
                self._send_some()
                # Others have a turn; room() does not wait while there is room.
                await asyncio.sleep(0)

    def _send_some(self) -> None:
        send, call = self.connection.send, self.call
        for item in self.stream.notes_to_send():
            send(call, item)
        run = self.stream.next_run(_RUN_MESSAGES)
        if run is None:
            return
        try:
            messages = read_run(self._node.store, run.feed, run.first, run.last)
        except StoreDamaged as error:
            self._node.say(error.message)
            self.stream.rewind(run.feed, run.first - 1)
            self.stream.stop_sending(run.feed)
            return
        for message in messages:
            # The canonical text is JSON like any other, and needs no printing.
            send(call, message.text)
        self._meeting.count_sent(len(messages))


def read_run(store: Store, feed: FeedRef, first: int, last: int) -> list[Message]:
    """Return messages of a feed; raises StoreDamaged if some are missing or are not what they were."""
    previous = store.key_at(feed, first - 1) if first > 1 else None
    rows = list(store.rows(feed, first, last))
    messages = expand_run(feed, first, previous, [row.compact for row in rows])
    if len(messages) != last - first + 1 or messages[-1].key != rows[-1].key:
        raise StoreDamaged(f"messages {first} to {last} of {feed} cannot be read", hint="run 'sneaker check --repair'")
    return messages
