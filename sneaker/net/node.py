"""What all connections of a running peer share: the follow graph, the clocks, the way into the store, blobs."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from sneaker.bugs import Reporter
from sneaker.errors import NetworkError, SneakerError
from sneaker.home.home import Home, reopen_store
from sneaker.net.admission import find_place, keeps_old
from sneaker.net.blobs import Blobs
from sneaker.net.connection import Connection
from sneaker.net.intake import Intake, Offer, Outcome, Source
from sneaker.net.meeting import Meeting
from sneaker.net.ownkey import OwnKeyWatch
from sneaker.net.peerclocks import PeerClocks
from sneaker.net.policy import DEFAULT_HOPS, Policy, read_policy
from sneaker.refs import FeedRef
from sneaker.store.store import Store
from sneaker.wire.ebt.replicator import Replicator

__all__ = ["Node"]

# How often the store is looked at for what other processes wrote; a look costs microseconds.
_WATCH_S = 0.2
# The same for feeds other than our own while messages pour in from peers.
_BUSY_WATCH_S = 2.0
# The follow graph is read again so long after it changed, so that a burst of follows counts as one change; and in a long
# burst not so often that it takes more than a tenth of the time.
_POLICY_DELAY_S = 0.25
_POLICY_SHARE = 10
# How often what peers said is written down during long connections.
_SAVE_S = 60.0
# Work that goes on for ever begins again so long after something went wrong in it.
_AGAIN_S = 1.0
# A pause in which peers are told what is committed of what they sent.
_ACKNOWLEDGE_S = 1.0
# Two threads that do much in Python beside calls into libsodium: with the usual 5 ms, every call that lets go of the
# interpreter would wait so long to get it back.
_SWITCH_INTERVAL_S = 0.0005


Result = TypeVar("Result")


class Node:
    """Made and used in one event loop: ``start``, ``meet`` any number of peers, ``stop``."""

    def __init__(
        self,
        home: Home,
        *,
        hops: int = DEFAULT_HOPS,
        say: Callable[[str], None] = lambda text: None,
        warn: Callable[[str], None] | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """``say`` is told, in a line each, what a person may want to know; ``warn`` what a person has to know."""
        self.home = home
        self.me = home.keypair.public
        self.store = home.store
        self.say = say
        self.warn = warn or say
        self.now_ms = now_ms
        self.hops = hops
        self.policy: Policy = read_policy(home.store, self.me, hops)
        self.replicator = Replicator(
            home.store.clock(), self.policy.wanted, me=self.me, carry=True, closed=self.policy.blocked
        )
        # A connection of SQLite's shows all its users the moment at which the first of them began to read. So every thread
        # has one of its own: what the intake has committed it must see at once.
        self._intake_store = reopen_store(home)
        self._background_store = reopen_store(home)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="background")
        self.intake = Intake(
            self._intake_store,
            home.caps,
            wanted=lambda feed: self.policy.wants(feed),
            now_ms=now_ms,
            on_outcome=self._outcome_from_thread,
            on_bug=self._bug_from_thread,
            on_failure=self._fail_from_thread,
        )
        self.blobs = Blobs(self, home.blobs)
        self.clocks = PeerClocks(self)
        self.own_key = OwnKeyWatch(self)
        self.meetings: dict[FeedRef, Meeting] = {}
        self._own_meetings: set[Meeting] = set()
        #: Set to the reason if the store can no longer be written.
        self.failed: asyncio.Future[SneakerError]
        self.listeners: list[Callable[[], None]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._policy_due: asyncio.TimerHandle | None = None
        self._policy_not_before = 0.0
        self._reading_policy = False
        self._stopping = False
        self._seen_version = home.store.data_version()
        #: Says what went wrong in a piece of work that has ended with it.
        self.report = Reporter(lambda text: self.say(text), time.monotonic)

    # ------------------------------------------------------------------------------------------ life

    async def start(self) -> None:
        """Begin; must be called before anything else."""
        self._loop = asyncio.get_running_loop()
        self.failed = self._loop.create_future()
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        self.intake.start()
        self._background = [asyncio.create_task(self.go_on(work)) for work in (self._watch, self._tick)]
        self.keep(asyncio.create_task(self.blobs.want_missing()))

    async def stop(self) -> None:
        """Say goodbye to everybody, write down what they said, and commit what came."""
        self._stopping = True
        for task in self._background:
            task.cancel()
        meetings = [*self.meetings.values(), *self._own_meetings]
        await asyncio.gather(*(meeting.connection.close() for meeting in meetings))
        for handle in (self._timer, self._policy_due):
            if handle is not None:
                handle.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)
        await asyncio.to_thread(self.intake.stop)
        await asyncio.sleep(0)  # what the thread reported last
        self._executor.shutdown()
        self._intake_store.close()
        self._background_store.close()

    async def in_background(self, work: Callable[[Store], Result]) -> Result:
        """Do something with the store that takes a while, without holding up anybody."""
        return await self._loop.run_in_executor(self._executor, work, self._background_store)

    def now(self) -> float:
        """Return the time of the event loop."""
        return self._loop.time()

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Hold on to a task until it is done: the loop alone would not."""
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.report(error)

    async def go_on(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do work that never ends, from the start again if something goes wrong in it."""
        while True:
            try:
                await work()
            except Exception as error:
                self.report(error)
            await asyncio.sleep(_AGAIN_S)

    def _each(self, action: Callable[[Meeting], None]) -> None:
        """Do something with every connected peer; what goes wrong with one is the end of that connection."""
        for meeting in [*self.meetings.values(), *self._own_meetings]:
            try:
                action(meeting)
            except Exception as error:
                meeting.connection.fail(error)

    # ------------------------------------------------------------------------------------------ peers

    def is_welcome(self, peer: FeedRef, host: str) -> bool:
        """Say whether a peer that has proven its key may stay; ``host`` is the IP address that it comes from."""
        if not self.policy.is_welcome(peer):
            return False
        if peer in self.meetings:
            return True
        leaving = find_place(self.meetings.values(), self.policy.is_near(peer), host, self.now())
        if isinstance(leaving, bool):
            return leaving
        leaving.detach()
        self.keep(asyncio.create_task(leaving.connection.close("others need the place")))
        del self.meetings[leaving.peer]
        return True

    async def meet(
        self, connection: Connection, *, on_start: Callable[[Meeting], None] | None = None
    ) -> Meeting | None:
        """Do everything with a connected peer until it goes; None if another connection with it is the better one."""
        peer = connection.peer
        known = self.meetings.get(peer)
        if known is not None and keeps_old(self.me, known.connection, connection, self.now()):
            await _discard(connection)
            return None
        if known is not None:
            known.detach()
            self.keep(asyncio.create_task(known.connection.close("the peer has connected again")))
        meeting = Meeting(self, connection)
        if peer == self.me:
            self._own_meetings.add(meeting)
            self.own_key.met(connection)
        else:
            self.meetings[peer] = meeting
        if on_start is not None:
            on_start(meeting)
        self._changed()
        try:
            await meeting.run()
        finally:
            self._own_meetings.discard(meeting)
            self.own_key.left(connection)
            if self.meetings.get(peer) is meeting:
                del self.meetings[peer]
            error = connection.error
            if error is not None and not isinstance(error, NetworkError | OSError):
                self.report(error, f"{peer} at {connection.remote}")
            await self.clocks.save_of(meeting)
            self._changed()
        return meeting

    def wake_all(self) -> None:
        """Something is due to some peers, perhaps."""
        self._each(Meeting.wake)
        self.replicator_changed()

    def _changed(self) -> None:
        for listener in self.listeners:
            listener()

    def status(self) -> dict[str, object]:
        """Return what goes on, for programs of our own."""
        return {
            "id": str(self.me),
            "peers": [
                {"id": str(peer), "address": meeting.connection.remote, "dialled": meeting.connection.dialled}
                for peer, meeting in self.meetings.items()
            ],
        }

    # ------------------------------------------------------------------------------------------ the store

    def _outcome_from_thread(self, outcome: Outcome) -> None:
        self._loop.call_soon_threadsafe(self._settle, outcome)

    def _bug_from_thread(self, offers: list[Offer], error: Exception) -> None:
        def drop() -> None:
            self.intake.reported(Outcome(offers, {}, {}))
            connection = offers[0].source.connection
            self.report(error, f"{connection.peer} at {connection.remote}")  # it may have gone meanwhile
            connection.fail(error)
            self._each(lambda meeting: meeting.connection.resume())

        self._loop.call_soon_threadsafe(drop)

    def _fail_from_thread(self, error: SneakerError) -> None:
        def fail() -> None:
            if not self.failed.done():
                self.failed.set_result(error)

        self._loop.call_soon_threadsafe(fail)

    def _settle(self, outcome: Outcome) -> None:
        """Tell everybody what is committed now."""
        self.intake.reported(outcome)
        self._appended(outcome.heads)
        contacts = bool(outcome.forked)
        sources: dict[Source, list[Offer]] = {}
        for offer in outcome.offers:
            sources.setdefault(offer.source, []).append(offer)
            contacts = contacts or b'"contact"' in offer.raw
        for source, offers in sources.items():
            try:
                source.settled(offers, outcome)
            except Exception as error:
                source.connection.fail(error)
        for feed in outcome.forked:
            self.say(f"the feed {feed} is forked: its author signed two different messages for one place")
        if contacts:
            self.refresh_policy()
        self.wake_all()
        self._each(lambda meeting: meeting.connection.resume())
        self._changed()

    def _appended(self, heads: Mapping[FeedRef, int]) -> list[FeedRef]:
        """Take in how far feeds are; returns those that are further than we knew."""
        replicator = self.replicator
        grown = [
            (feed, replicator.sequence(feed), head) for feed, head in heads.items() if head > replicator.sequence(feed)
        ]
        for feed, _, head in grown:
            replicator.appended(feed, head)
        self._each(lambda meeting: meeting.feeds_grown(grown))
        self._loop.call_soon(self.blobs.want_linked, grown)  # whatever goes wrong there, the messages are here
        return [feed for feed, _, _ in grown]

    async def _watch(self) -> None:
        """Notice what other processes write: our own publishing, imports, a stick."""
        next_look = busy_look = 0.0
        while True:
            await asyncio.sleep(_WATCH_S)
            current = self.store.data_version()
            if current == self._seen_version or self.now() < next_look:
                continue
            head = self.store.head(self.me)
            if head is not None and head.sequence > self.replicator.sequence(self.me):
                self._drop_blocked()
                self._appended({self.me: head.sequence})
                self.wake_all()
                self.refresh_policy()
            if not self.intake.is_idle and self.now() < busy_look:
                continue  # what changes is most likely what we commit ourselves
            self._seen_version = current
            started = self.now()
            clock = await self.in_background(lambda store: store.clock())
            if self._appended(clock):
                self.wake_all()
                self.refresh_policy()
            # A large store is not read again and again while an import goes on.
            next_look = self.now() + 20 * (self.now() - started)
            busy_look = self.now() + _BUSY_WATCH_S

    def _drop_blocked(self) -> None:
        """Part with peers that we have just blocked, before they get the message that says so."""
        blocked = frozenset(self.store.blocked(self.me))
        # The rest of the follow graph takes longer; until then nobody of these may come back.
        self.policy = replace(self.policy, blocked=blocked)
        self.replicator.closed.update(blocked)
        for feed in blocked:
            self.replicator.unfollow(feed)
        for peer in blocked.intersection(self.meetings):
            self._part(self.meetings[peer])

    def _part(self, meeting: Meeting) -> None:
        meeting.detach()
        self.keep(asyncio.create_task(meeting.connection.close("the peer is blocked")))

    @property
    def is_settled(self) -> bool:
        """Whether all that came is committed, and the follow graph is up to date."""
        return (
            self.intake.is_idle and self._policy_due is None and not self._reading_policy and not self.blobs.is_fetching
        )

    def refresh_policy(self) -> None:
        """Read the follow graph again, soon."""
        if self._policy_due is None and not self._stopping:
            when = max(self.now() + _POLICY_DELAY_S, self._policy_not_before)
            self._policy_due = self._loop.call_at(when, self._start_policy)

    def _start_policy(self) -> None:
        self._policy_due = None
        if self._reading_policy:
            self.refresh_policy()
            return
        self._reading_policy = True
        self.keep(self._loop.create_task(self._read_policy()))

    async def _read_policy(self) -> None:
        started = self.now()
        try:
            self._set_policy(await self.in_background(lambda store: read_policy(store, self.me, self.hops)))
        finally:
            self._reading_policy = False
            self._policy_not_before = self.now() + _POLICY_SHARE * (self.now() - started)

    def _set_policy(self, policy: Policy) -> None:
        newly_near = policy.hops.keys() - self.policy.hops.keys()
        self.policy = policy
        replicator = self.replicator
        replicator.closed.clear()
        replicator.closed.update(policy.blocked)
        wanted = policy.wanted
        for feed in [feed for feed in replicator.wanted if feed not in wanted]:
            replicator.unfollow(feed)
        for feed in wanted.difference(replicator.wanted):
            replicator.follow(feed)
        for meeting in [meeting for peer, meeting in self.meetings.items() if not policy.is_welcome(peer)]:
            self._part(meeting)
        self._each(Meeting.policy_changed)
        if newly_near:
            self.keep(asyncio.create_task(self.blobs.want_missing()))
        self.wake_all()
        self._changed()

    # ------------------------------------------------------------------------------------------ time

    def replicator_changed(self) -> None:
        """See to it that the replicator is called when it wants to be."""
        when = self.replicator.get_timer()
        if when is not None and self._timer is None:
            self._timer = self._loop.call_at(max(when, self.now() + 0.05), self._replicator_due)

    def _replicator_due(self) -> None:
        self._timer = None
        self.replicator.handle_timer(self.now())
        self.wake_all()

    async def _tick(self) -> None:
        saved_at = self.now()
        while True:
            await asyncio.sleep(1)
            self._each(lambda meeting: meeting.tick(_ACKNOWLEDGE_S))
            if self.now() - saved_at > _SAVE_S:
                saved_at = self.now()
                for meeting in list(self.meetings.values()):
                    await self.clocks.save_of(meeting)
                await self.blobs.want_missing()


async def _discard(connection: Connection) -> None:
    """Close a connection that nobody has begun to use."""
    running = asyncio.create_task(connection.run())
    await connection.close()
    with contextlib.suppress(asyncio.CancelledError):
        await running
