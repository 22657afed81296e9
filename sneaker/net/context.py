"""What all parts of a running peer share.  It knows none of those who use it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sneaker.home.home import Home
from sneaker.net.background import BackgroundWork
from sneaker.net.feeds_to_replicate import ReplicationPolicy
from sneaker.net.message_intake import MessageIntake
from sneaker.net.what_peers_said import PeerClocks
from sneaker.refs import FeedRef
from sneaker.store.blobs import BlobStore
from sneaker.store.store import Store
from sneaker.wire.ebt.replicator import Replicator

__all__ = ["NetContext"]


@dataclass(slots=True, eq=False)
class NetContext:
    """Identity, store, the one way in for messages, and time: for one node, in one event loop."""

    home: Home
    #: Our own key.
    me: FeedRef
    #: To be read in the event loop, for short looks; ``background.with_store`` is for all else.
    store: Store
    blob_store: BlobStore
    #: What we replicate and for whom; a new one when the follow graph has changed.
    policy: ReplicationPolicy
    replicator: Replicator
    intake: MessageIntake
    peer_clocks: PeerClocks
    background: BackgroundWork
    #: Seconds of the event loop's clock.
    now: Callable[[], float]
    #: Wall clock, in milliseconds since 1970.
    now_ms: Callable[[], int]
    #: Told, in a line each, what a person may want to know, and what a person has to know.
    remark: Callable[[str], None]
    warn: Callable[[str], None]
    #: To be called when something may be due to other peers.
    wake_peers: Callable[[], None]
    #: To be called when ``replicator.get_timer()`` may have changed.
    replicator_timer_changed: Callable[[], None]
