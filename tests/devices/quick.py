"""Commands whose inboxes wait less than people's programs may need: what ``tests.command_line`` calls ``prepare``."""

from __future__ import annotations

import functools

from sneaker.devices import inbox

__all__ = ["quick_inboxes"]


def quick_inboxes() -> None:
    """Let files in inboxes rest for parts of a second."""
    settings = inbox.InboxSettings(after_close_s=0.05, quiet_s=0.3)
    inbox.Inbox = functools.partial(inbox.Inbox, settings=settings)  # type: ignore[misc, assignment]
