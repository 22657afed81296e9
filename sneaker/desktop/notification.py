"""What is told: the happening, in words and numbers of sneaker's own; nothing from a stick gets in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Happening", "Notification"]


class Happening(StrEnum):
    """What happened. A hook gets this word as its first argument, so the words never change."""

    SYNCING = "syncing"  # a stick is being written: do not pull it out
    DONE = "done"  # safe to pull
    PROBLEM = "problem"  # something was refused or failed; may be pulled
    UNKNOWN = "unknown"  # a stick that nobody enrolled here
    REMOVED_EARLY = "removed-early"  # pulled out during the visit
    INBOX = "inbox"  # something was taken in from an inbox


@dataclass(frozen=True, slots=True)
class Notification:
    """What to tell.  ``topic`` names what it is about: a later one of the same topic takes its place on the screen."""

    happening: Happening
    summary: str
    body: str = ""
    topic: str = ""
    urgent: bool = False
    messages_in: int = 0
    people: int = 0
    messages_out: int = 0
