"""The JSON of watch and run: one object for each thing that happens."""

from __future__ import annotations

from typing import Annotated, TypedDict

from sneaker.cli.json_output.encoder import OneOf

__all__ = [
    "Event",
    "IdentityEvent",
    "InboxEvent",
    "InboxFailedEvent",
    "RemovedEvent",
    "SyncingEvent",
    "TroubleEvent",
    "UnknownStickEvent",
    "VisitFailedEvent",
    "VisitedEvent",
    "WhichDevice",
]


class WhichDevice(TypedDict):
    """Where an event happened. Label and mount point are text from the stick."""

    mount_point: Annotated[str, "where the stick is mounted"]
    device: Annotated[str, "the device of the system"]
    label: Annotated[str | None, "the label of its file system"]


class SyncingEvent(WhichDevice):
    """A visit begins: the stick must not be pulled out now."""

    event: Annotated[str, OneOf(("syncing",))]
    attempt: Annotated[int, "how many times it was tried, with this one"]


class VisitedEvent(WhichDevice):
    """A visit is done."""

    event: Annotated[str, OneOf(("visited",))]
    messages_in: Annotated[int, "new messages taken in"]
    people: Annotated[int, "of how many feeds"]
    messages_out: Annotated[int, "messages left for others"]
    complete: Annotated[bool, "whether all went as it should"]
    safe_to_remove: Annotated[bool, "whether the stick may be pulled out"]
    unmounted: Annotated[bool, "whether it has been unmounted"]
    seconds: Annotated[float, "how long it took"]
    words: Annotated[str, "all of it in a sentence, for people"]


class VisitFailedEvent(WhichDevice):
    """A visit failed. What came until then is kept."""

    event: Annotated[str, OneOf(("failed",))]
    detail: Annotated[str, "why, for people"]
    retry_in: Annotated[float | None, "it is tried again in so many seconds; null: when the stick is plugged in again"]


class RemovedEvent(WhichDevice):
    """An enrolled stick was pulled out."""

    event: Annotated[str, OneOf(("removed",))]
    during_visit: Annotated[bool, "whether that was too early"]
    messages_in: Annotated[int, "new messages taken in until then, if it was too early"]


class UnknownStickEvent(WhichDevice):
    """A stick was plugged in that is not enrolled here. It is left alone."""

    event: Annotated[str, OneOf(("unknown",))]


class TroubleEvent(TypedDict):
    """Something else is wrong with a device."""

    event: Annotated[str, OneOf(("trouble",))]
    device: Annotated[str, "the device of the system; may be empty"]
    detail: Annotated[str, "what is wrong, for people"]


class InboxEvent(TypedDict):
    """A file in an inbox was taken in."""

    event: Annotated[str, OneOf(("inbox",))]
    path: Annotated[str, "the file"]
    messages_in: Annotated[int, "new messages taken in"]
    people: Annotated[int, "of how many feeds"]
    complete: Annotated[bool, "whether it was whole"]
    moved_to: Annotated[str, "where the file is now"]


class InboxFailedEvent(TypedDict):
    """A file, or the inbox itself, cannot be dealt with now."""

    event: Annotated[str, OneOf(("inbox-failed",))]
    path: Annotated[str, "the file or folder"]
    detail: Annotated[str, "why, for people"]


class IdentityEvent(TypedDict):
    """The own identity is in danger; `sneaker doctor` says more."""

    event: Annotated[str, OneOf(("identity",))]
    detail: Annotated[str, "why, for people"]


Event = (
    SyncingEvent
    | VisitedEvent
    | VisitFailedEvent
    | RemovedEvent
    | UnknownStickEvent
    | TroubleEvent
    | InboxEvent
    | InboxFailedEvent
    | IdentityEvent
)
