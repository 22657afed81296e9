"""The JSON of the commands about this machine: init, id, status, clock, check, doctor, setup, demo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypedDict

from sneaker.cli.json_output.encoder import Base32, BlobId, FeedId, MessageId, Milliseconds, OneOf
from sneaker.refs import FeedRef

if TYPE_CHECKING:
    from pathlib import Path

    from sneaker.doctor.finding import Finding
    from sneaker.doctor.own_feed import OwnFeed
    from sneaker.feed.message import Message
    from sneaker.store.check import CheckReport

__all__ = [
    "BlobCounts",
    "ChangedFilesJson",
    "CheckJson",
    "CheckProblem",
    "ClaimOfOwnFeed",
    "DemoJson",
    "DoctorFinding",
    "DoctorJson",
    "FilesJson",
    "ForkOfOwnFeed",
    "HomeJson",
    "IdJson",
    "InstalledFile",
    "KeyElsewhere",
    "KnownPeer",
    "KnownStick",
    "LastMessageJson",
    "MissingBlob",
    "OwnFeedState",
    "ProvingMessage",
    "StatusJson",
    "StatusWithMissingJson",
    "check_json",
    "finding_json",
    "home_json",
    "id_json",
    "own_feed_json",
]


class HomeJson(TypedDict):
    """The home that was made."""

    home: Annotated[str, "the folder"]
    id: Annotated[FeedId, "the identity"]


class IdJson(TypedDict):
    """The identity of this home."""

    id: Annotated[FeedId, "the identity"]


class BlobCounts(TypedDict):
    """The blobs of this home."""

    count: Annotated[int, "how many are here"]
    bytes: Annotated[int, "their size"]
    missing: Annotated[int, "how many are mentioned and not here"]
    waiting: Annotated[int, "how many wait for a message that mentions them"]


class KnownPeer(TypedDict):
    """Another machine of which it is known what it has."""

    id: Annotated[FeedId, "its identity"]
    kind: Annotated[str, OneOf(("ebt", "card", "bundle")), "how that was last learnt"]
    last: Annotated[Milliseconds | None, "when"]
    has: Annotated[int, "how many of the messages here it is taken to have"]


class KnownStick(TypedDict):
    """A stick that is enrolled here."""

    id: Annotated[Base32, "the stick's id"]
    label: Annotated[str, "what the person calls it"]
    last: Annotated[Milliseconds | None, "when it was last visited"]


class MissingBlob(TypedDict):
    """A blob that is mentioned and not here."""

    blob: Annotated[BlobId, "the blob"]
    feed: Annotated[FeedId, "the author of a message that mentions it"]
    sequence: Annotated[int, "which message"]


class StatusJson(TypedDict):
    """What is here, and what others are known to have."""

    home: Annotated[str, "the folder"]
    id: Annotated[FeedId, "the own identity"]
    sequence: Annotated[int, "the last own message, 0 if there is none"]
    feeds: Annotated[int, "how many feeds"]
    messages: Annotated[int, "how many messages are in their feeds"]
    waiting: Annotated[int, "how many wait for those before them"]
    forked: Annotated[list[FeedId], "feeds that are forked"]
    bytes: Annotated[int, "the size of the store on the disk"]
    blobs: Annotated[BlobCounts, "the blobs"]
    peers: Annotated[list[KnownPeer], "machines met, the last one first"]
    drives: Annotated[list[KnownStick], "sticks enrolled here"]


class StatusWithMissingJson(StatusJson):
    """All of that, and which blobs are missing."""

    missing: Annotated[list[MissingBlob], "blobs that are mentioned and not here"]


class CheckProblem(TypedDict):
    """One thing in the store that is not as it should be."""

    feed: Annotated[FeedId | None, "the feed it belongs to"]
    sequence: Annotated[int | None, "the message it belongs to"]
    code: Annotated[str, "what it is, for programs"]
    detail: Annotated[str, "what it is, for people"]


class CheckJson(TypedDict):
    """What a check of the store found."""

    clean: Annotated[bool, "whether nothing is wrong"]
    repaired: Annotated[bool, "whether what was found has been mended"]
    messages: Annotated[int, "messages checked"]
    feeds: Annotated[int, "feeds checked"]
    waiting: Annotated[int, "messages checked that wait for others"]
    blobs: Annotated[int, "blobs checked"]
    removed: Annotated[int, "messages that the repair took out of their feeds"]
    missing: Annotated[int, "messages that should be here and were not found"]
    found: Annotated[int, "how many problems there are"]
    problems: Annotated[list[CheckProblem], "the first thousand of them"]


class ProvingMessage(TypedDict):
    """A message that proves a fork."""

    key: Annotated[MessageId, "its id"]
    previous: Annotated[MessageId | None, "the id of the one before it"]
    text: Annotated[str, "the signed text"]


class ClaimOfOwnFeed(TypedDict):
    """Somebody's word that the own feed goes further than here, or otherwise."""

    source: Annotated[FeedId | None, "who said so; null for a list or log that was given by hand"]
    sequence: Annotated[int, "the message that is said to exist"]
    key: Annotated[MessageId | None, "its id, if that was said"]
    seen: Annotated[Milliseconds, "when it was heard"]
    dismissed: Annotated[bool, "whether the person has declared it wrong"]
    counts: Annotated[bool, "whether the word of this source counts"]


class KeyElsewhere(TypedDict):
    """Another machine that proved to hold the own secret."""

    host: Annotated[str, "its address"]
    seen: Annotated[Milliseconds, "when it was last met"]


class ForkOfOwnFeed(TypedDict):
    """A place in the own feed for which there are two signed messages."""

    sequence: Annotated[int, "the place"]
    ours: Annotated[ProvingMessage | None, "the message here"]
    theirs: Annotated[ProvingMessage | None, "the other one"]
    seen: Annotated[Milliseconds, "when it was found"]


class OwnFeedState(TypedDict):
    """The answer to "am I forked?"."""

    state: Annotated[
        str,
        OneOf(("fine", "behind", "forked", "adopted", "exchanged", "moved", "shared", "restored")),
        "only with `fine` is anything published",
    ]
    held: Annotated[int, "the last own message here"]
    proven: Annotated[int, "the farthest one that carries the own signature"]
    claimed: Annotated[int, "the farthest one in the word of those who count"]
    claims: Annotated[list[ClaimOfOwnFeed], "who says that there is more, or something else"]
    elsewhere: Annotated[list[KeyElsewhere], "other machines that hold the own secret"]
    forks: Annotated[list[ForkOfOwnFeed], "where the own feed is forked"]


class DoctorFinding(TypedDict):
    """One thing that was found."""

    code: Annotated[str, "what it is, for programs"]
    level: Annotated[str, OneOf(("problem", "note")), "`problem`: somebody should do something"]
    message: Annotated[str, "what it is, for people"]
    hint: Annotated[str | None, "what to do about it"]


class DoctorJson(TypedDict):
    """What is wrong here."""

    home: Annotated[str, "the folder"]
    id: Annotated[FeedId | None, "the identity; null if the home does not open"]
    own_feed: Annotated[OwnFeedState | None, "how the own feed stands; null if the home does not open"]
    dismissed: Annotated[int, "how many claims `--dismiss` has declared wrong now"]
    findings: Annotated[list[DoctorFinding], "what was found"]
    attention: Annotated[bool, "whether a problem is among it; then the exit code is 3"]


class LastMessageJson(TypedDict):
    """The word of the person that an own message is the last one."""

    home: Annotated[str, "the folder"]
    id: Annotated[FeedId, "the identity"]
    last: Annotated[int, "the last own message; publishing goes on from it"]


class InstalledFile(TypedDict):
    """A file of the system's settings."""

    path: Annotated[str, "where it goes"]
    text: Annotated[str, "what is in it"]


class FilesJson(TypedDict):
    """What would be installed."""

    files: Annotated[list[InstalledFile], "the files"]


class ChangedFilesJson(TypedDict):
    """What was installed or removed."""

    changed: Annotated[list[str], "the paths of the files"]


class DemoJson(TypedDict):
    """How the demonstration went."""

    identical: Annotated[bool, "true: both machines ended with the same log"]
    messages: Annotated[int, "messages in it"]
    feeds: Annotated[int, "of how many feeds"]
    seconds: Annotated[float, "how long it took"]


def home_json(home: Path, identity: FeedRef) -> HomeJson:
    """Return what ``init --json`` prints."""
    return {"home": str(home), "id": str(identity)}


def id_json(identity: FeedRef) -> IdJson:
    """Return what ``id --json`` prints."""
    return {"id": str(identity)}


def check_json(report: CheckReport) -> CheckJson:
    """Return what ``check --json`` prints."""
    return {
        "clean": report.clean,
        "repaired": report.repaired,
        "messages": report.messages,
        "feeds": report.feeds,
        "waiting": report.waiting,
        "blobs": report.blobs,
        "removed": report.removed,
        "missing": report.missing,
        "found": report.found,
        "problems": [
            {
                "feed": str(problem.feed) if problem.feed is not None else None,
                "sequence": problem.sequence,
                "code": problem.code,
                "detail": problem.detail,
            }
            for problem in report.problems
        ],
    }


def finding_json(finding: Finding) -> DoctorFinding:
    """Return what ``doctor --json`` says of one finding."""
    return {"code": finding.code, "level": str(finding.level), "message": finding.message, "hint": finding.hint}


def own_feed_json(own: OwnFeed) -> OwnFeedState:
    """Return what ``doctor --json`` says of the own feed."""
    return {
        "state": str(own.state),
        "held": own.seen.held,
        "proven": own.seen.proven,
        "claimed": own.seen.claimed,
        "claims": [
            {
                "source": str(claim.source) if claim.source is not None else None,
                "sequence": claim.sequence,
                "key": str(claim.key) if claim.key is not None else None,
                "seen": claim.seen_at_ms,
                "dismissed": claim.dismissed,
                "counts": claim.counts,
            }
            for claim in own.claims
        ],
        "elsewhere": [{"host": seen.host, "seen": seen.seen_at_ms} for seen in own.elsewhere],
        "forks": [
            {
                "sequence": place.sequence,
                "ours": _proving_message(place.ours),
                "theirs": _proving_message(place.theirs),
                "seen": place.fork.seen_at_ms,
            }
            for place in own.forks
        ],
    }


def _proving_message(message: Message | None) -> ProvingMessage | None:
    if message is None:
        return None
    previous = str(message.previous) if message.previous is not None else None
    return {"key": str(message.key), "previous": previous, "text": message.text.decode("utf-8")}
