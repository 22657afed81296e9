"""A running peer: puts together what all connections share, runs the connections, and keeps up with the store."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from sneaker.errors import NetworkError, SneakerError
from sneaker.home.home import Home, reopen_store
from sneaker.net.admission import find_place
from sneaker.net.background import BackgroundWork
from sneaker.net.connected_peer import ConnectedPeer, ServiceFactory
from sneaker.net.context import NetContext
from sneaker.net.duplicate_connections import older_one_stays
from sneaker.net.feeds_to_replicate import DEFAULT_HOPS, ReplicationPolicy, read_replication_policy
from sneaker.net.message_intake import MessageIntake, Offer, Outcome, Source
from sneaker.net.own_key_elsewhere import OwnKeyWatch
from sneaker.net.peer_session import PeerSession
from sneaker.net.policy_refresh import PolicyRefresh
from sneaker.net.services.admin import AdminService
from sneaker.net.services.blob_fetching import BlobFetching
from sneaker.net.services.blobs import BlobService
from sneaker.net.services.ebt import EbtService
from sneaker.net.services.history import HistoryService
from sneaker.net.what_peers_said import PeerClocks
from sneaker.refs import FeedRef
from sneaker.wire.ebt.replicator import Replicator

__all__ = ["Node"]

# How often the store is looked at for what other processes wrote; a look costs microseconds.
_WATCH_S = 0.2
# The same for feeds other than our own while messages pour in from peers.
_BUSY_WATCH_S = 2.0
# How often is looked what is due by time.
_TICK_S = 1.0
# How often what peers said is written down during long connections.
_SAVE_S = 60.0


class Node:
    """Made and used in one event loop: ``start``, ``run_session`` for any number of peers, ``stop``."""

    def __init__(
        self,
        home: Home,
        *,
        hops: int = DEFAULT_HOPS,
        remark: Callable[[str], None] = lambda text: None,
        warn: Callable[[str], None] | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """``remark`` is told, in a line each, what a person may want to know; ``warn`` what a person has to know."""
        self._loop = asyncio.get_running_loop()
        me = home.keypair.public
        policy = read_replication_policy(home.store, me, hops)
        # A connection of SQLite's shows all its users the moment at which the first of them began to read. So every thread
        # has one of its own: what the intake has committed it must see at once.
        background = BackgroundWork(reopen_store(home), remark)
        self._intake_store = reopen_store(home)
        self.context = NetContext(
            home=home,
            me=me,
            store=home.store,
            blob_store=home.blobs,
            policy=policy,
            replicator=Replicator(
                home.store.clock().classic(), policy.wanted, me=me, carry=True, closed=policy.blocked
            ),
            intake=MessageIntake(
                self._intake_store,
                home.caps,
                wanted=lambda feed: self.context.policy.wants(feed),
                now_ms=now_ms,
                on_outcome=self._outcome_from_thread,
                on_bug=self._bug_from_thread,
                on_failure=self._fail_from_thread,
            ),
            peer_clocks=PeerClocks(me, home.store, background, now_ms),
            background=background,
            now=self._loop.time,
            now_ms=now_ms,
            remark=remark,
            warn=warn or remark,
            wake_peers=self.wake_peers,
            replicator_timer_changed=self._set_replicator_timer,
        )
        self.blob_fetching = BlobFetching(self.context)
        self._policy_refresh = PolicyRefresh(self.context, hops, self._set_policy)
        self.own_key = OwnKeyWatch(self.context, self.run_session)
        #: What every peer that connects finds here.
        self.services: tuple[ServiceFactory, ...] = (
            partial(AdminService, status=self.status),
            HistoryService,
            partial(BlobService, fetching=self.blob_fetching),
            EbtService,
        )
        #: The connected peers; those with our own key are apart.
        self.peers: dict[FeedRef, ConnectedPeer] = {}
        self.own_key_peers: set[ConnectedPeer] = set()
        #: Set to the reason if the store can no longer be written.
        self.failed: asyncio.Future[SneakerError] = self._loop.create_future()
        #: Called when peers have come or gone, or more is in the store.
        self.listeners: list[Callable[[], None]] = []
        self._for_ever: list[asyncio.Task[None]] = []
        self._stopping = False
        self._timer: asyncio.TimerHandle | None = None
        self._seen_version = home.store.data_version()

    # ------------------------------------------------------------------------------------------ life

    async def start(self) -> None:
        """Begin; must be called before anything else."""
        self.context.intake.start()
        repeat = self.context.background.repeat_for_ever
        self._for_ever = [asyncio.create_task(repeat(work)) for work in (self._watch_store, self._tick)]
        self.blob_fetching.want_missing()

    async def stop(self) -> None:
        """Say goodbye to everybody, write down what they said, and commit what came."""
        self._stopping = True
        self._policy_refresh.stop()
        for task in self._for_ever:
            task.cancel()
        await asyncio.gather(*(peer.session.hang_up() for peer in self._all_peers()))
        if self._timer is not None:
            self._timer.cancel()
        await self.context.background.wait_for_tasks(5)
        await asyncio.to_thread(self.context.intake.stop)
        await asyncio.sleep(0)  # what the thread reported last
        self._intake_store.close()
        self.context.background.stop_thread()

    @property
    def me(self) -> FeedRef:
        """Our own key."""
        return self.context.me

    def _all_peers(self) -> list[ConnectedPeer]:
        return [*self.peers.values(), *self.own_key_peers]

    def _with_each_peer(self, action: Callable[[ConnectedPeer], None]) -> None:
        """Do something with every connected peer; what goes wrong with one is the end of that connection."""
        for peer in self._all_peers():
            try:
                action(peer)
            except Exception as error:
                peer.session.fail_with(error)

    # ------------------------------------------------------------------------------------------ peers

    def is_welcome(self, peer: FeedRef, host: str) -> bool:
        """Say whether a peer that has proven its key may stay; ``host`` is the IP address that it comes from."""
        policy = self.context.policy
        if not policy.is_welcome(peer):
            return False
        if peer in self.peers:
            return True
        leaving = find_place(self.peers.values(), policy.is_near(peer), host, self.context.now())
        if isinstance(leaving, bool):
            return leaving
        self._part_with(leaving, "others need the place")
        del self.peers[leaving.key]
        return True

    def _part_with(self, peer: ConnectedPeer, reason: str) -> None:
        peer.stop_services()
        self.context.background.spawn(peer.session.hang_up(reason))

    async def run_session(
        self, session: PeerSession, *, on_start: Callable[[ConnectedPeer], None] | None = None
    ) -> ConnectedPeer | None:
        """Do everything with a connected peer until it goes.

        None if another connection with it is the better one, or if the node is stopping: a dial may take longer than that.
        """
        key = session.peer
        if self._stopping:
            await _discard(session)
            return None
        known = self.peers.get(key)
        if known is not None and older_one_stays(self.me, known.session, session, self.context.now()):
            await _discard(session)
            return None
        if known is not None:
            self._part_with(known, "the peer has connected again")
        peer = ConnectedPeer(self.context, session, self.services)
        if peer.has_our_key:
            self.own_key_peers.add(peer)
            self.own_key.session_begun(session)
        else:
            self.peers[key] = peer
        if on_start is not None:
            on_start(peer)
        self._tell_listeners()
        try:
            await peer.run()
        finally:
            self.own_key_peers.discard(peer)
            self.own_key.session_over(session)
            if self.peers.get(key) is peer:
                del self.peers[key]
            error = session.error
            if error is not None and not isinstance(error, NetworkError | OSError):
                self.context.background.report_error(error, f"{key} at {session.remote}")
            await self._save_notes(peer)
            self._tell_listeners()
        return peer

    async def _save_notes(self, peer: ConnectedPeer) -> None:
        """Write down what a peer said since the last time, if it is somebody to remember."""
        if peer.has_our_key or not (peer.is_near or peer.session.dialled):
            return
        try:
            await self.context.peer_clocks.save_notes(peer.service(EbtService).take_unsaved_notes())
        except SneakerError as error:
            self.context.remark(error.message)

    def wake_peers(self) -> None:
        """Something is due to some peers, perhaps."""
        self._with_each_peer(ConnectedPeer.wake)
        self._set_replicator_timer()

    def _tell_listeners(self) -> None:
        for listener in self.listeners:
            listener()

    def status(self) -> dict[str, object]:
        """Return what goes on, for programs of our own."""
        return {
            "id": str(self.me),
            "peers": [
                {"id": str(key), "address": peer.session.remote, "dialled": peer.session.dialled}
                for key, peer in self.peers.items()
            ],
        }

    # ------------------------------------------------------------------------------------------ the store

    def _outcome_from_thread(self, outcome: Outcome) -> None:
        self._loop.call_soon_threadsafe(self._settle_offers, outcome)

    def _bug_from_thread(self, offers: list[Offer], error: Exception) -> None:
        def drop() -> None:
            self.context.intake.outcome_dealt_with(Outcome(offers, {}, {}))
            session = offers[0].source.session
            self.context.background.report_error(
                error, f"{session.peer} at {session.remote}"
            )  # it may have gone meanwhile
            session.fail_with(error)
            self._with_each_peer(lambda peer: peer.session.resume_reading())

        self._loop.call_soon_threadsafe(drop)

    def _fail_from_thread(self, error: SneakerError) -> None:
        def fail() -> None:
            if not self.failed.done():
                self.failed.set_result(error)

        self._loop.call_soon_threadsafe(fail)

    def _settle_offers(self, outcome: Outcome) -> None:
        """Tell everybody what is committed now."""
        self.context.intake.outcome_dealt_with(outcome)
        self._feeds_appended(outcome.heads)
        contacts = bool(outcome.forked)
        sources: dict[Source, list[Offer]] = {}
        for offer in outcome.offers:
            sources.setdefault(offer.source, []).append(offer)
            contacts = contacts or b'"contact"' in offer.raw
        for source, offers in sources.items():
            try:
                source.offers_settled(offers, outcome)
            except Exception as error:
                source.session.fail_with(error)
        for feed in outcome.forked:
            self.context.remark(f"the feed {feed} is forked: its author signed two different messages for one place")
        if contacts:
            self._policy_refresh.request()
        self.wake_peers()
        self._with_each_peer(lambda peer: peer.session.resume_reading())
        self._tell_listeners()

    def _feeds_appended(self, heads: Mapping[FeedRef, int]) -> list[FeedRef]:
        """Take in how far feeds are; returns those that are further than we knew."""
        replicator = self.context.replicator
        grown = [
            (feed, replicator.sequence(feed), head) for feed, head in heads.items() if head > replicator.sequence(feed)
        ]
        for feed, _, head in grown:
            replicator.appended(feed, head)
        self._with_each_peer(lambda peer: peer.feeds_grown(grown))
        self._loop.call_soon(self.blob_fetching.want_linked, grown)  # whatever goes wrong there, the messages are here
        return [feed for feed, _, _ in grown]

    async def _watch_store(self) -> None:
        """Notice what other processes write: our own publishing, imports, a stick."""
        context = self.context
        next_look = busy_look = 0.0
        while True:
            await asyncio.sleep(_WATCH_S)
            current = context.store.data_version()
            if current == self._seen_version or context.now() < next_look:
                continue
            head = context.store.head(self.me)
            if head is not None and head.sequence > context.replicator.sequence(self.me):
                self._drop_blocked()
                self._feeds_appended({self.me: head.sequence})
                self.wake_peers()
                self._policy_refresh.request()
            if not context.intake.is_idle and context.now() < busy_look:
                continue  # what changes is most likely what we commit ourselves
            self._seen_version = current
            started = context.now()
            clock = await context.background.with_store(lambda store: store.clock().classic())
            if self._feeds_appended(clock):
                self.wake_peers()
                self._policy_refresh.request()
            # A large store is not read again and again while an import goes on.
            next_look = context.now() + 20 * (context.now() - started)
            busy_look = context.now() + _BUSY_WATCH_S

    # ------------------------------------------------------------------------------------------ the follow graph

    def _drop_blocked(self) -> None:
        """Part with peers that we have just blocked, before they get the message that says so."""
        context = self.context
        blocked = frozenset(context.store.blocked(self.me))
        # The rest of the follow graph takes longer; until then nobody of these may come back.
        context.policy = replace(context.policy, blocked=blocked)
        context.replicator.closed.update(blocked)
        for feed in blocked:
            context.replicator.unfollow(feed)
        for peer in blocked.intersection(self.peers):
            self._part_with(self.peers[peer], "the peer is blocked")

    @property
    def is_settled(self) -> bool:
        """Whether all that came is committed, and the follow graph is up to date."""
        return self.context.intake.is_idle and self._policy_refresh.is_idle and not self.blob_fetching.is_busy

    def _set_policy(self, policy: ReplicationPolicy) -> None:
        newly_near = policy.hops.keys() - self.context.policy.hops.keys()
        self.context.policy = policy
        replicator = self.context.replicator
        replicator.closed.clear()
        replicator.closed.update(policy.blocked)
        wanted = policy.wanted
        for feed in [feed for feed in replicator.wanted if feed not in wanted]:
            replicator.unfollow(feed)
        for feed in wanted.difference(replicator.wanted):
            replicator.follow(feed)
        for peer in [peer for key, peer in self.peers.items() if not policy.is_welcome(key)]:
            self._part_with(peer, "the peer is blocked")
        self._with_each_peer(ConnectedPeer.policy_changed)
        if newly_near:
            self.blob_fetching.want_missing()
        self.wake_peers()
        self._tell_listeners()

    # ------------------------------------------------------------------------------------------ time

    def _set_replicator_timer(self) -> None:
        """See to it that the replicator is called when it wants to be."""
        when = self.context.replicator.get_timer()
        if when is not None and self._timer is None:
            self._timer = self._loop.call_at(max(when, self.context.now() + 0.05), self._replicator_due)

    def _replicator_due(self) -> None:
        self._timer = None
        self.context.replicator.handle_timer(self.context.now())
        self.wake_peers()

    async def _tick(self) -> None:
        saved_at = self.context.now()
        while True:
            await asyncio.sleep(_TICK_S)
            self._with_each_peer(ConnectedPeer.tick)
            if self.context.now() - saved_at > _SAVE_S:
                saved_at = self.context.now()
                for peer in list(self.peers.values()):
                    await self._save_notes(peer)
                self.blob_fetching.want_missing()


async def _discard(session: PeerSession) -> None:
    """Close a connection that nobody has begun to use."""
    running = asyncio.create_task(session.run())
    await session.hang_up()
    with contextlib.suppress(asyncio.CancelledError):
        await running
