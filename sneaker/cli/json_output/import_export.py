"""The JSON of import, export, inspect and verify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, TypedDict

from sneaker.cli.json_output.encoder import Base64, FeedId, Milliseconds, OneOf
from sneaker.refs import FeedRef, encode_base64
from sneaker.transfer.source_kinds import SOURCE_KIND_NAMES

if TYPE_CHECKING:
    from sneaker.clock import VectorClock
    from sneaker.ingest.reports import ImportReport
    from sneaker.transfer.inspect import InspectReport
    from sneaker.transfer.pack import Packed
    from sneaker.transfer.verify import VerifyReport

__all__ = [
    "BlobsTaken",
    "ExportJson",
    "FeedsTaken",
    "FileWritten",
    "ForkedAt",
    "ImportJson",
    "InspectJson",
    "InspectedFeed",
    "LeftBehind",
    "LeftRange",
    "MessagesTaken",
    "RefusedMessage",
    "SourceRead",
    "VerifiedBlobs",
    "VerifiedMessages",
    "VerifyJson",
    "export_json",
    "import_json",
    "inspect_json",
    "verify_json",
]


class SourceRead(TypedDict):
    """One file, folder or pipe that was read."""

    path: Annotated[str, "as it was given, or where it was found"]
    kind: Annotated[
        str,
        OneOf((*SOURCE_KIND_NAMES, "folder", "")),
        "what it is; empty if that was not found out",
    ]
    exporter: Annotated[FeedId | None, "who packed it"]
    bundle_id: Annotated[Base64 | None, "the bundle's id"]
    status: Annotated[
        str, OneOf(("ok", "known", "truncated", "damaged", "refused")), "`known`: whole, with nothing new in it"
    ]
    detail: Annotated[str, "more about it, for people"]


class MessagesTaken(TypedDict):
    """What became of messages."""

    accepted: Annotated[int, "new, and stored in their feeds"]
    known: Annotated[int, "here before"]
    refused: Annotated[int, "not valid, or not what their feed goes on with"]
    waiting: Annotated[int, "stored until those before them come"]
    left_out: Annotated[int, "of feeds that are blocked or too far away"]


class FeedsTaken(TypedDict):
    """What became of feeds."""

    advanced: Annotated[int, "feeds that got longer"]
    new: Annotated[int, "those of them that were not here before"]
    forked: Annotated[int, "feeds that turned out to be forked"]


class BlobsTaken(TypedDict):
    """What became of blobs."""

    accepted: Annotated[int, "new, and stored"]
    known: Annotated[int, "here before"]
    refused: Annotated[int, "damaged, or without room to wait"]
    waiting: Annotated[int, "kept until a message mentions them"]


class RefusedMessage(TypedDict):
    """A message that was refused."""

    feed: Annotated[FeedId | None, "its feed, if that was found out"]
    sequence: Annotated[int | None, "its place in the feed, if that was found out"]
    code: Annotated[str, "why, for programs"]
    detail: Annotated[str, "why, for people"]


class ImportJson(TypedDict):
    """What an import took in."""

    sources: Annotated[list[SourceRead], "what was read, in that order"]
    messages: Annotated[MessagesTaken, "how many messages"]
    read: Annotated[int, "messages read now"]
    waited: Annotated[int, "messages counted above that an earlier import had stored to wait"]
    feeds: Annotated[FeedsTaken, "how many feeds"]
    blobs: Annotated[BlobsTaken, "how many blobs"]
    refused: Annotated[list[RefusedMessage], "the first refused messages"]


class FileWritten(TypedDict):
    """A file that was written."""

    path: Annotated[str, "where it is"]
    bytes: Annotated[int, "its size"]


class LeftRange(TypedDict):
    """Messages of one feed that did not fit."""

    feed: Annotated[FeedId, "the feed"]
    first: Annotated[int, "the first sequence that did not fit"]
    last: Annotated[int, "the last one"]


class LeftBehind(TypedDict):
    """What did not fit into the size that was allowed."""

    messages: Annotated[int, "how many messages"]
    feeds: Annotated[list[LeftRange], "which ones"]
    blobs: Annotated[int, "how many blobs"]


class ExportJson(TypedDict):
    """What an export wrote, or with `--dry-run` would write. An export to `-` prints no JSON: there the bundle goes."""

    bundle_id: Annotated[Base64 | None, "the id of the bundle, of its first volume if there are several"]
    files: Annotated[list[FileWritten], "the files"]
    feeds: Annotated[int, "how many feeds have messages in it"]
    messages: Annotated[int, "how many messages are in it"]
    blobs: Annotated[int, "how many blobs are in it"]
    bytes: Annotated[int, "the size of all files"]
    left_behind: Annotated[LeftBehind, "what did not fit"]
    reader_clock: Annotated[dict[FeedId, int], "what the reader has once it has taken this in: feed to last sequence"]


class InspectedFeed(TypedDict):
    """What a bundle holds of one feed."""

    feed: Annotated[FeedId, "the feed"]
    name: Annotated[str | None, "the name by which it is known here"]
    first: Annotated[int, "the lowest sequence"]
    last: Annotated[int, "the highest sequence"]
    messages: Annotated[int, "how many messages"]
    new: Annotated[int, "how many of them go beyond what is here"]


class InspectJson(TypedDict):
    """What a file says to hold. No author's signature has been checked; `verify` does that."""

    kind: Annotated[str, OneOf(SOURCE_KIND_NAMES), "what it is"]
    status: Annotated[str, OneOf(("ok", "truncated", "damaged", "refused")), "whether it is whole"]
    detail: Annotated[str, "more about it, for people"]
    encrypted: Annotated[bool, "whether it is an encrypted bundle"]
    signature: Annotated[bool, "whether the bundle's own signature is there and right"]
    exporter: Annotated[FeedId | None, "who packed the bundle, or whose card it is"]
    bundle_id: Annotated[Base64 | None, "the bundle's id"]
    created: Annotated[Milliseconds | None, "when it was made, by the clock of the machine that made it"]
    volume: Annotated[int | None, "which volume of a set this is"]
    volumes: Annotated[int | None, "how many volumes the set has, if this one says so"]
    messages: Annotated[int, "how many messages"]
    new: Annotated[int, "how many of them go beyond what is here"]
    blobs: Annotated[int, "how many blobs"]
    blob_bytes: Annotated[int | None, "their size, if the bundle has an index"]
    bytes: Annotated[int, "the size of the file"]
    feeds: Annotated[list[InspectedFeed], "what is there of each feed"]


class VerifiedMessages(TypedDict):
    """Messages that were checked."""

    valid: Annotated[int, "different messages that are as their authors signed them"]
    invalid: Annotated[int, "messages that are not"]


class VerifiedBlobs(TypedDict):
    """Blobs that were checked."""

    valid: Annotated[int, "blobs that match their ids"]
    invalid: Annotated[int, "blobs that do not"]


class ForkedAt(TypedDict):
    """A feed of which the file holds two signed messages for one place."""

    feed: Annotated[FeedId, "the feed"]
    sequence: Annotated[int, "the first such place"]


class VerifyJson(TypedDict):
    """Whether a file holds what the authors of its messages signed."""

    status: Annotated[
        str,
        OneOf(("ok", "truncated", "damaged", "refused", "forked")),
        "`damaged` also if a message is invalid; `forked` if that is all that is wrong",
    ]
    messages: Annotated[VerifiedMessages, "how many messages"]
    repeated: Annotated[int, "how often a message was there once more"]
    blobs: Annotated[VerifiedBlobs, "how many blobs"]
    forked: Annotated[list[ForkedAt], "the first thousand forked feeds"]
    exporter: Annotated[FeedId | None, "who packed the bundle"]
    signature: Annotated[bool, "whether the bundle's own signature is there and right"]
    detail: Annotated[str, "what is wrong, for people"]


def import_json(report: ImportReport) -> ImportJson:
    """Return what ``import --json`` prints, which is also the import half of ``sync --json``."""
    ingested = report.ingested
    return {
        "sources": [
            {
                "path": source.path,
                "kind": str(source.kind),
                "exporter": source.exporter,
                "bundle_id": source.bundle_id,
                "status": str(source.status),
                "detail": source.detail,
            }
            for source in report.sources
        ],
        "messages": {
            "accepted": ingested.accepted,
            "known": ingested.known,
            "refused": ingested.refused,
            "waiting": ingested.waiting,
            "left_out": ingested.left_out,
        },
        "read": ingested.read,
        "waited": ingested.waited,
        "feeds": {
            "advanced": len(ingested.feeds_advanced),
            "new": len(ingested.feeds_new),
            "forked": len(ingested.feeds_forked),
        },
        "blobs": {
            "accepted": report.blobs.accepted,
            "known": report.blobs.known,
            "refused": report.blobs.refused,
            "waiting": report.blobs.waiting,
        },
        "refused": [
            {
                "feed": str(refusal.feed) if refusal.feed is not None else None,
                "sequence": refusal.sequence,
                "code": str(refusal.code),
                "detail": refusal.detail,
            }
            for refusal in ingested.refusals
        ],
    }


def export_json(packed: Packed | None, files: Sequence[tuple[str, int]], reader_clock: VectorClock) -> ExportJson:
    """Return what ``export --json`` prints, which is also the export half of ``sync --json``."""
    left = packed.left if packed is not None else []
    return {
        "bundle_id": encode_base64(packed.volumes[0].bundle_id) if packed is not None and packed.volumes else None,
        "files": [{"path": path, "bytes": size} for path, size in files],
        "feeds": packed.feeds if packed is not None else 0,
        "messages": packed.messages if packed is not None else 0,
        "blobs": packed.blobs if packed is not None else 0,
        "bytes": sum(size for _, size in files) if files else packed.bytes if packed is not None else 0,
        "left_behind": {
            "messages": sum(item.messages for item in left),
            "feeds": [{"feed": str(item.feed), "first": item.first, "last": item.last} for item in left],
            "blobs": packed.blobs_left if packed is not None else 0,
        },
        "reader_clock": reader_clock.as_json(),
    }


def inspect_json(report: InspectReport, names: Mapping[FeedRef, str]) -> InspectJson:
    """Return what ``inspect --json`` prints; ``names`` are those by which authors are known here."""
    header, card = report.header, report.card
    return {
        "kind": str(report.kind),
        "status": str(report.status),
        "detail": report.detail,
        "encrypted": report.encrypted,
        "signature": report.signed,
        "exporter": str(header.exporter) if header else str(card.machine) if card else None,
        "bundle_id": encode_base64(header.bundle_id) if header else None,
        "created": header.created_ms if header else card.time_ms if card else None,
        "volume": header.volume if header else None,
        "volumes": report.volumes or None,
        "messages": report.messages,
        "new": report.new,
        "blobs": report.blobs,
        "blob_bytes": report.blob_bytes,
        "bytes": report.bytes,
        "feeds": [
            {
                "feed": str(feed),
                "name": names.get(feed),
                "first": contents.first,
                "last": contents.last,
                "messages": contents.messages,
                "new": contents.new,
            }
            for feed, contents in sorted(report.feeds.items())
        ],
    }


def verify_json(report: VerifyReport) -> VerifyJson:
    """Return what ``verify --json`` prints."""
    return {
        "status": str(report.status),
        "messages": {"valid": report.valid, "invalid": report.invalid},
        "repeated": report.repeated,
        "blobs": {"valid": report.blobs_valid, "invalid": report.blobs_invalid},
        "forked": [{"feed": str(feed), "sequence": sequence} for feed, sequence in sorted(report.forked.items())],
        "exporter": report.exporter,
        "signature": report.signature,
        "detail": report.detail,
    }
