"""Epidemic broadcast trees, version 3: one connection's side of it (PROTOCOL.md, section 9).

Both sides tell each other how far they are in every feed (notes) and send what the other lacks and wants.  The server
speaks first, even if only ``{}``; the client waits for that, so that a peer without EBT can still refuse.

    notes received   not replicated here, or its author blocks them     -> note -1, once
                     they are ahead and we ask nobody for it            -> note "send"
                     they are ahead, further than whom we ask           -> note "send", and "do not" to the other
                     they are behind and want it                        -> messages
                     they are behind and do not want it                 -> note with our sequence
    our feed grows   they want it and have all before                   -> messages
                     they are behind and do not want it now             -> note "do not send", so that they may ask

What all connections share (our clock, what we replicate, whom we ask for what) is ``replicator.Replicator``; what a
connection needs of it is ``SharedState``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from sneaker.errors import LocalProtocolError, RemoteProtocolError
from sneaker.limits import MAX_UNWANTED_FEEDS
from sneaker.refs import FeedRef
from sneaker.wire.ebt.events import ClockReceived, EbtEvent, OwnMessageSeen, Run
from sneaker.wire.ebt.notes import MessageItem, Note, NotesItem, encode_note, format_notes, parse_item
from sneaker.wire.ebt.overdue import OverdueFeeds

__all__ = ["EbtConnection", "SharedState"]


class _Feed:
    """What one connection knows about one feed.

    ``send``: they want messages (their last note was even).  ``sent``: what they have as far as we can tell, None
    until they said so in this session.  ``receive``: our last note asked for messages.  ``received``: the sequence that the
    next message must follow.  ``denied``: our last note was -1.  ``stalled``: asked, and nothing came.  ``gap``: the
    furthest message that came without those before it, 0 since one came in order.
    """

    __slots__ = ("denied", "gap", "receive", "received", "send", "sent", "stalled")

    def __init__(self) -> None:
        self.send = False
        self.sent: int | None = None
        self.receive = False
        self.received = 0
        self.denied = False
        self.stalled = False
        self.gap = 0


class SharedState(Protocol):
    """What all connections share, as one of them sees it; ``Replicator`` says what each part means."""

    me: FeedRef | None
    wanted: Collection[FeedRef]
    now: float
    fetching: dict[FeedRef, int]
    moved_at: dict[FeedRef, float]

    def sequence(self, feed: FeedRef) -> int:
        """Return how far our store is in ``feed``, 0 for nothing."""

    def shares(self, feed: FeedRef) -> bool:
        """Whether peers may have ``feed`` from us."""

    def is_alive(self, connection: EbtConnection) -> bool:
        """Whether a connection goes on."""

    def receiver(self, feed: FeedRef) -> EbtConnection | None:
        """Return the connection that is asked for ``feed``."""

    def asked(self, feed: FeedRef, connection: EbtConnection, receive: bool) -> None:
        """Remember that ``connection`` is asked for ``feed``, or was told not to send it."""

    def released(self, feed: FeedRef, connection: EbtConnection) -> None:
        """Ask somebody else for a feed that ``connection`` will not give."""


class EbtConnection:
    """One ``ebt.replicate`` stream; made by ``Replicator.connect``."""

    def __init__(
        self,
        shared: SharedState,
        peer: FeedRef,
        *,
        client: bool,
        saved_clock: Mapping[FeedRef, int],
        withheld: Iterable[FeedRef],
        max_unwanted: int = MAX_UNWANTED_FEEDS,
    ) -> None:
        self.peer = peer
        self._max_unwanted = max_unwanted
        self._shared = shared
        self._client = client
        self._clock: dict[FeedRef, int] = dict(saved_clock)
        self._withheld = set(withheld)
        self._refused: set[FeedRef] = set()
        self._feeds: dict[FeedRef, _Feed] = {}
        self._unwanted = sum(feed not in shared.wanted for feed in self._clock)
        self._notes: dict[FeedRef, int] = {}
        self._owes_notes = False
        self._queue: deque[FeedRef] = deque()
        self._queued: set[FeedRef] = set()
        self._unacknowledged: set[FeedRef] = set()
        #: Feeds that we ask for here and that the peer claims to have more of.
        self.awaiting: set[FeedRef] = set()
        self.last_activity = shared.now
        self._overdue = OverdueFeeds()
        self._heard_at = shared.now
        self.started = False
        self._failure: RemoteProtocolError | None = None
        if not client:
            self._start()

    # ------------------------------------------------------------------------------------------ what comes

    def receive(self, raw: bytes, now: float) -> EbtEvent | None:
        """Take one item of the stream (a whole body); returns what it means, None if it is nothing to us.

        Raises RemoteProtocolError if it is neither message nor notes, now and ever after.
        """
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        self._shared.now = now
        try:
            item = parse_item(raw)
        except RemoteProtocolError as error:
            self._failure = error
            raise
        if isinstance(item, MessageItem):
            event = self._message_received(item)
            if event is None and item.author == self._shared.me and item.sequence > self._shared.sequence(item.author):
                return OwnMessageSeen(item)
            return event
        if isinstance(item, NotesItem):
            return self._notes_received(item.notes)
        return None

    @property
    def remote_clock(self) -> Mapping[FeedRef, int]:
        """How far the peer is as it said or showed, -1 for what it does not replicate: save this per peer.

        It is a hint. Forget the saved ones whenever our own store has lost something.
        """
        return self._clock

    def refuse_feed(self, feed: FeedRef) -> None:
        """Exchange nothing of ``feed`` with this peer any more: what it sent breaks the feed's rules or forks it."""
        self._refused.add(feed)
        self._deny(feed, self._feed(feed))

    def withhold(self, feed: FeedRef) -> None:
        """Send this peer nothing of ``feed`` any more: its author blocks the peer."""
        self._withheld.add(feed)
        if feed in self._feeds:
            self._deny(feed, self._feeds[feed])

    # ------------------------------------------------------------------------------------------ what we send

    @property
    def wants_to_send(self) -> bool:
        """Whether ``notes_to_send`` or ``next_run`` has something."""
        return bool(self._notes or self._owes_notes or self._queue)

    def notes_to_send(self) -> list[bytes]:
        """Return, once, the items with our notes; call it before ``next_run`` so that both sides work at once."""
        if not self._notes and not self._owes_notes:
            return []
        items = list(format_notes(self._notes))
        self._notes = {}
        self._owes_notes = False
        return items

    def next_run(self, max_messages: int = 100) -> Run | None:
        """Return messages that the peer lacks, a few of each feed in turn, or None.

        They count as sent: read them from the store and send them all, or call ``rewind``. Call this only while the
        connection takes data; that is the back-pressure.
        """
        while self._queue:
            feed = self._queue.popleft()
            self._queued.discard(feed)
            state, ours = self._feeds[feed], self._shared.sequence(feed)
            if not self._sendable(feed, state, ours):
                continue
            first = (state.sent or 0) + 1
            state.sent = min(ours, first + max_messages - 1)
            self._enqueue(feed, state)
            return Run(feed, first, state.sent)
        return None

    def rewind(self, feed: FeedRef, sequence: int) -> None:
        """Say that of the last run of ``feed`` only messages up to ``sequence`` were sent; the rest stays due.

        Raises LocalProtocolError for a feed without a run.
        """
        state = self._feeds.get(feed)
        if state is None or state.sent is None:
            raise LocalProtocolError(f"nothing of {feed} was sent to this peer")
        state.sent = sequence
        self._enqueue(feed, state)

    def stop_sending(self, feed: FeedRef) -> None:
        """Send no more of ``feed`` until the peer asks again: the store cannot read it."""
        if feed in self._feeds:
            self._feeds[feed].send = False

    def acknowledge(self) -> None:
        """Tell the peer how far we are in the feeds of which it sent us messages; call it when it pauses.

        EBT has no acknowledgements, but notes may be sent at any time. Peers remember them, and so know what to skip the
        next time and what somebody's stick need not carry. A feed waits while messages of it are not committed yet.
        """
        for feed in list(self._unacknowledged):
            state = self._feeds[feed]
            if state.denied:
                self._unacknowledged.discard(feed)
            elif state.received == self._shared.sequence(feed):
                self._unacknowledged.discard(feed)
                self._note(feed, state, state.receive)

    # ------------------------------------------------------------------------------------------ what does not come

    @property
    def is_behind(self) -> bool:
        """Whether the peer has announced something that we want and do not have."""
        return self._overdue.any_missing(self._is_missing)

    def unplaced(self) -> dict[FeedRef, int]:
        """Return the feeds of which the peer sent messages without those before them, and the furthest one of each."""
        ours = self._shared.sequence
        return {feed: state.gap for feed, state in self._feeds.items() if state.gap > ours(feed) and self._wants(feed)}

    def next_fetch(self, now: float) -> FeedRef | None:
        """Return a feed that the peer announced and does not send, to ask for by createHistoryStream; or None.

        Ask again when the time has come, and after every ``fetch_ended``, which has to be called for every feed.
        """
        if not self._is_alive:
            return None
        feed = self._overdue.next_overdue(
            now,
            heard_at=self._heard_at,
            first=self._shared.me,
            is_missing=self._is_missing,
            moved_at=self._moved_at,
        )
        if feed is not None:
            self._shared.fetching[feed] = self._shared.sequence(feed)
        return feed

    def fetch_ended(self, feed: FeedRef, now: float, *, error: bool = False, refused: bool = False) -> None:
        """Say that a fetch is over, and that what it gave is committed; see ``OverdueFeeds.fetch_ended`` for the rest."""
        moved = self._shared.sequence(feed) > self._shared.fetching.pop(feed)
        self._overdue.fetch_ended(feed, now, moved=moved, error=error, refused=refused)
        state = self._feeds.get(feed)
        if moved and self._is_alive and state is not None and not state.denied:
            self._note(feed, state, state.receive)  # so that it stops sending what came by the call

    @property
    def _is_alive(self) -> bool:
        return self._shared.is_alive(self)

    def _is_missing(self, feed: FeedRef) -> bool:
        return self.started and self.claims(feed) > self._shared.sequence(feed) and self._wants(feed)

    def _moved_at(self, feed: FeedRef) -> float | None:
        """When something of a feed last came; None while it is being fetched, or has come and is not committed."""
        if feed in self._shared.fetching or self._feed(feed).received > self._shared.sequence(feed):
            return None
        return self._shared.moved_at.get(feed, 0.0)

    # ------------------------------------------------------------------------------------------ from the replicator

    def claims(self, feed: FeedRef) -> int:
        """Return how far the peer says it is in ``feed``; 0 if it said nothing, -1 if it does not replicate it."""
        return self._clock.get(feed, 0)

    def can_serve(self, feed: FeedRef) -> bool:
        """Whether this peer could be asked for ``feed``."""
        return self.started and self._wants(feed) and self.claims(feed) >= 0

    def is_stalled(self, feed: FeedRef) -> bool:
        """Whether the peer was asked for ``feed``, sent nothing, and was given up for it."""
        state = self._feeds.get(feed)
        return state is not None and state.stalled

    def ask(self, feed: FeedRef, receive: bool) -> None:
        """Tell the peer how far we are in ``feed``, and whether to send (``receive``)."""
        if receive:
            self.last_activity = self._shared.now
        self._note(feed, self._feed(feed), receive)

    def give_up(self, feed: FeedRef) -> None:
        """Tell the peer not to send ``feed``: it was asked and sent nothing."""
        state = self._feed(feed)
        self._note(feed, state, False)
        state.stalled = True

    def followed(self, feed: FeedRef) -> None:
        """Mention a feed that is replicated from now on."""
        if self.can_serve(feed):
            self.ask(feed, self._shared.receiver(feed) is None)
            self._enqueue(feed, self._feed(feed))

    def unfollowed(self, feed: FeedRef) -> None:
        """Cancel a feed that is no longer replicated; it may still be given to peers that ask.

        ssb-ebt keeps quiet here and ignores what still comes; scuttlego says -1, which saves the peer the sending.
        """
        state = self._feeds.get(feed)
        if state is None or state.denied:
            return
        if self._shares(feed):
            self._note(feed, state, False)
        else:
            self._deny(feed, state)

    def appended(self, feed: FeedRef) -> None:
        """Say that our store has more of ``feed`` now, from wherever."""
        if not self.started or not self._shares(feed):
            return
        state = self._feeds.get(feed)
        if state is not None:
            self._track(feed, state)
            if feed in self._notes:
                self._note(feed, state, state.receive)  # what has not gone out yet may as well be up to date
            if state.send and state.sent is not None:
                self._enqueue(feed, state)
                return
            if state.sent is None:
                return  # asked, and not answered yet
        elif feed not in self._shared.wanted:
            return
        # They want nothing now, or we skipped the feed because they were level: say that there is more.
        if -1 < self.claims(feed) < self._shared.sequence(feed):
            receive = self._wants(feed) and self._shared.receiver(feed) in (None, self)
            self._note(feed, state or self._feed(feed), receive)

    # ------------------------------------------------------------------------------------------ inside

    def _start(self) -> None:
        """Put our first notes together: every feed we share, but those in which the saved clock says we are level."""
        self.started = True
        self._owes_notes = True
        for feed in self._shared.wanted:
            if feed in self._withheld:
                continue
            ours, saved = self._shared.sequence(feed), self._clock.get(feed)
            if saved is not None and (saved < 0 or saved == ours > 0):
                continue
            self._note(feed, self._feed(feed), self._shared.receiver(feed) is None)

    def _message_received(self, item: MessageItem) -> MessageItem | None:
        feed, sequence = item.author, item.sequence
        state = self._feeds.get(feed)
        if state is None or sequence <= state.received:
            return None  # never mentioned by anybody, or sent before our last note reached them
        if sequence > state.received + 1:
            if not state.denied:
                if not state.gap:
                    # It has no place here; our note makes them start again at the right one, once.
                    self._note(feed, state, state.receive)
                state.gap = max(state.gap, sequence)
            return None
        if self._clock.get(feed, 0) < sequence:
            self._clock[feed] = sequence
        if state.sent is not None and state.sent < sequence:
            state.sent = sequence
        if sequence <= self._shared.sequence(feed):
            # We have it from elsewhere: let them go on after what we have, or stop if another peer is quicker.
            if not state.denied:
                self._note(feed, state, self._shared.receiver(feed) is self)
            return None
        state.received = sequence
        if state.denied or not self._wants(feed):
            return None
        state.stalled = False
        state.gap = 0
        self.last_activity = self._heard_at = self._shared.now
        self._unacknowledged.add(feed)
        if sequence >= self._clock[feed] or feed not in self.awaiting:
            self._track(feed, state)
        return item

    def _notes_received(self, notes: Mapping[FeedRef, Note]) -> ClockReceived:
        if not self.started:
            self._start()
        changes = {}
        for feed, note in notes.items():
            wanted = feed in self._shared.wanted
            if not wanted and feed not in self._clock:
                if self._unwanted >= self._max_unwanted:
                    continue
                self._unwanted += 1
            sequence = max(note.sequence, -1)
            if self._clock.get(feed) != sequence:
                self._clock[feed] = changes[feed] = sequence
            self._note_received(feed, note, sequence)
        return ClockReceived(changes)

    def _note_received(self, feed: FeedRef, note: Note, sequence: int) -> None:
        known = feed in self._feeds
        state = self._feed(feed)
        state.send = note.receive and sequence >= 0
        state.sent = sequence
        if not self._shares(feed):
            if not state.denied:
                self._deny(feed, state)
            return
        ours = self._shared.sequence(feed)
        receiver = self._shared.receiver(feed)
        if (
            sequence > ours
            and self._wants(feed)
            and not state.receive
            and self._may_take_over(feed, state, receiver, sequence)
        ):
            if receiver is not None:
                receiver.ask(feed, False)
            self.ask(feed, True)
        elif not known or (0 <= sequence < ours and not state.send):
            self._note(feed, state, known and state.receive)
        elif sequence < 0 and receiver is self:
            state.receive = False
            self._shared.released(feed, self)
        self._track(feed, state)
        self._enqueue(feed, state)
        if sequence > ours:
            self._overdue.announced(feed, self._shared.now)

    def _may_take_over(self, feed: FeedRef, state: _Feed, receiver: EbtConnection | None, sequence: int) -> bool:
        """Whether this peer, which says it is ahead, should be asked instead of ``receiver``.

        One that stalled before must wait for the timer: otherwise a liar with a large number would win every time.
        """
        return receiver is None or (receiver.claims(feed) < sequence and not state.stalled)

    def _feed(self, feed: FeedRef) -> _Feed:
        state = self._feeds.get(feed)
        if state is None:
            state = self._feeds[feed] = _Feed()
        return state

    def _shares(self, feed: FeedRef) -> bool:
        return self._shared.shares(feed) and feed not in self._withheld and feed not in self._refused

    def _wants(self, feed: FeedRef) -> bool:
        return feed in self._shared.wanted and self._shares(feed)

    def _note(self, feed: FeedRef, state: _Feed, receive: bool) -> None:
        """Tell the peer our sequence; only what the store has counts, so that nothing is acknowledged too early."""
        ours = self._shared.sequence(feed)
        self._notes[feed] = encode_note(ours, receive)
        state.receive, state.received, state.denied = receive, ours, False
        self._shared.asked(feed, self, receive)
        self._track(feed, state)
        if self.claims(feed) > ours:
            self._overdue.announced(feed, self._shared.now)

    def _deny(self, feed: FeedRef, state: _Feed) -> None:
        self._notes[feed] = encode_note(-1, False)
        state.receive, state.denied = False, True
        self.awaiting.discard(feed)
        self._shared.released(feed, self)

    def _track(self, feed: FeedRef, state: _Feed) -> None:
        if state.receive and self.claims(feed) > max(self._shared.sequence(feed), state.received):
            if not self.awaiting:
                self.last_activity = max(self.last_activity, self._shared.now)  # its three seconds begin
            self.awaiting.add(feed)
        else:
            self.awaiting.discard(feed)

    def _sendable(self, feed: FeedRef, state: _Feed, ours: int) -> bool:
        return state.send and state.sent is not None and 0 <= state.sent < ours and self._shares(feed)

    def _enqueue(self, feed: FeedRef, state: _Feed) -> None:
        if feed not in self._queued and self._sendable(feed, state, self._shared.sequence(feed)):
            self._queued.add(feed)
            self._queue.append(feed)
