"""Commands that wait less than people's programs and peers may need: what ``tests.command_line`` calls ``prepare``."""

from __future__ import annotations

import functools

from sneaker.devices import inbox
from sneaker.net import sync_with_peer

__all__ = ["quick"]


def quick() -> None:
    """Let files in inboxes rest, and peers of our own kind think, for parts of a second."""
    settings = inbox.InboxSettings(after_close_s=0.05, quiet_s=0.3)
    inbox.Inbox = functools.partial(inbox.Inbox, settings=settings)  # type: ignore[misc, assignment]
    sync_with_peer._QUIET_S = 0.5
    sync_with_peer._NOTHING_S = 0.3
