"""The JSON of connect and once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypedDict

from sneaker.cli.json_output.encoder import FeedId
from sneaker.cli.json_output.events import Event

if TYPE_CHECKING:
    from sneaker.net.sync_with_peer import SyncReport

__all__ = ["BlobsExchanged", "MessagesExchanged", "OnceJson", "PeerSyncJson", "RefusedFromPeer", "peer_sync_json"]


class MessagesExchanged(TypedDict):
    """Messages that went over a connection."""

    accepted: Annotated[int, "received, and new here"]
    known: Annotated[int, "received, and here before"]
    refused: Annotated[int, "received, and not valid"]
    sent: Annotated[int, "sent"]


class BlobsExchanged(TypedDict):
    """Blobs that went over a connection."""

    accepted: Annotated[int, "received"]
    sent: Annotated[int, "sent"]


class RefusedFromPeer(TypedDict):
    """A message that was refused."""

    feed: Annotated[FeedId, "its feed"]
    sequence: Annotated[int, "its place in the feed"]
    detail: Annotated[str, "why, for people"]


class PeerSyncJson(TypedDict):
    """What came of one peer."""

    peer: Annotated[FeedId, "its identity"]
    address: Annotated[str, "where it was met"]
    level: Annotated[bool, "whether each side has all that the other one has"]
    detail: Annotated[str, "why not, for people"]
    messages: Annotated[MessagesExchanged, "how many messages"]
    blobs: Annotated[BlobsExchanged, "how many blobs"]
    refused: Annotated[list[RefusedFromPeer], "the first refused messages"]
    seconds: Annotated[float, "how long it took"]


class OnceJson(TypedDict):
    """What came of all that was in reach."""

    drives: Annotated[list[Event], "what happened with sticks and inboxes, as `watch --json` prints it"]
    peers: Annotated[list[PeerSyncJson], "what came of each peer"]


def peer_sync_json(report: SyncReport) -> PeerSyncJson:
    """Return what ``connect --json`` prints, and ``once --json`` for each peer."""
    counts = report.counts
    return {
        "peer": str(report.peer),
        "address": report.address,
        "level": report.level,
        "detail": report.detail,
        "messages": {
            "accepted": counts.received,
            "known": counts.known,
            "refused": counts.refused,
            "sent": counts.sent,
        },
        "blobs": {"accepted": counts.blobs_received, "sent": counts.blobs_sent},
        "refused": [
            {"feed": str(feed), "sequence": sequence, "detail": reason} for feed, sequence, reason in counts.refusals
        ],
        "seconds": round(report.seconds, 2),
    }
