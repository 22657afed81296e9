"""The JSON of drive and sync."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypedDict

from sneaker.cli.json_output.encoder import Base32, FeedId, Milliseconds, OneOf
from sneaker.cli.json_output.import_export import ExportJson, ImportJson, export_json, import_json

if TYPE_CHECKING:
    from sneaker.stick.info import StickInfo
    from sneaker.stick.report import VisitReport
    from sneaker.store.sticks import StickRecord

__all__ = [
    "BundleOnStick",
    "CardOnStick",
    "StickInfoJson",
    "StickJson",
    "StickListJson",
    "VisitJson",
    "VisitedStick",
    "stick_info_json",
    "stick_json",
    "visit_json",
]


class StickJson(TypedDict):
    """A stick that is enrolled here, or was until now."""

    id: Annotated[Base32, "the stick's id"]
    label: Annotated[str, "what the person calls it"]
    enrolled: Annotated[Milliseconds, "when it was enrolled here"]
    last_visit: Annotated[Milliseconds | None, "when it was last visited"]


class StickListJson(TypedDict):
    """The sticks that are enrolled here."""

    drives: Annotated[list[StickJson], "the sticks, each as `drive init --json` prints it"]


class BundleOnStick(TypedDict):
    """A bundle on a stick."""

    name: Annotated[str, "its file name"]
    bytes: Annotated[int, "its size"]
    state: Annotated[
        str,
        OneOf(("new", "own", "taken", "partly", "damaged", "foreign")),
        "what this machine knows of it; `new` is nothing",
    ]


class CardOnStick(TypedDict):
    """The newest card of a machine on a stick."""

    machine: Annotated[FeedId, "whose card"]
    counter: Annotated[int, "how many cards the machine has written before it, or more"]
    time: Annotated[Milliseconds, "when it was written, by the clock of that machine"]
    feeds: Annotated[int, "how many feeds the machine has"]
    behind: Annotated[int, "how many messages of what is here it lacks"]
    wants: Annotated[int, "how many blobs it asks for"]


class StickInfoJson(TypedDict):
    """What is on a stick."""

    drive: Annotated[Base32, "the stick's id"]
    enrolled: Annotated[bool, "whether it is enrolled here"]
    network_matches: Annotated[bool, "whether it is for the SSB network of this home"]
    bundles: Annotated[list[BundleOnStick], "its bundles"]
    cards: Annotated[list[CardOnStick], "its cards"]
    foreign: Annotated[int, "how many other things are in its folders"]
    free_bytes: Annotated[int, "the room that is left"]


class VisitedStick(StickJson):
    """The stick after a visit."""

    machines: Annotated[int, "how many other machines have a card on it"]
    foreign: Annotated[int, "how many other things are in its folders"]
    damaged: Annotated[int, "how many bundles cannot be read to the end"]
    free_bytes: Annotated[int, "the room that is left"]


VisitJson = TypedDict(
    "VisitJson",
    {
        "import": Annotated[ImportJson, "what was taken in, as `import --json` prints it"],
        "export": Annotated[ExportJson, "what was left for others, as `export --json` prints it"],
        "removed": Annotated[list[str], "bundles that nobody lacks and that were removed"],
        "drive": Annotated[VisitedStick, "the stick"],
        "own_elsewhere": Annotated[
            int | None, "how far the own feed is known to go, if that is farther than what is here"
        ],
        "problems": Annotated[list[str], "what did not go as it should, for people"],
        "safe_to_remove": Annotated[bool, "whether the stick may be pulled out"],
    },
)
VisitJson.__doc__ = "What a visit to a stick did."


def stick_json(stick: StickRecord) -> StickJson:
    """Return what ``drive init``, ``trust``, ``forget`` and ``list`` print of a stick."""
    from sneaker.stick.layout import base32

    return {
        "id": base32(stick.id),
        "label": stick.label,
        "enrolled": stick.enrolled_at_ms,
        "last_visit": stick.visited_at_ms or None,
    }


def stick_info_json(info: StickInfo) -> StickInfoJson:
    """Return what ``drive info --json`` prints."""
    from sneaker.stick.layout import base32

    return {
        "drive": base32(info.id),
        "enrolled": info.enrolled,
        "network_matches": info.network_matches,
        "bundles": [
            {"name": bundle.name, "bytes": bundle.bytes, "state": str(bundle.state) if bundle.state else "new"}
            for bundle in info.bundles
        ],
        "cards": [
            {
                "machine": str(card.machine),
                "counter": card.counter,
                "time": card.time_ms,
                "feeds": card.feeds,
                "behind": card.behind,
                "wants": card.wants,
            }
            for card in info.cards
        ],
        "foreign": info.foreign,
        "free_bytes": info.free_bytes,
    }


def visit_json(report: VisitReport) -> VisitJson:
    """Return what ``sync --json`` and ``drive gc --json`` print."""
    return {
        "import": import_json(report.imported),
        "export": export_json(report.exported, report.files, report.reader_clock),
        "removed": report.removed,
        "drive": {
            **stick_json(report.stick),
            "machines": report.machines,
            "foreign": report.foreign,
            "damaged": report.damaged,
            "free_bytes": report.free_bytes,
        },
        "own_elsewhere": report.own_elsewhere,
        "problems": report.problems,
        "safe_to_remove": report.safe_to_remove,
    }
