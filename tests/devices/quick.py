"""Commands that wait less than people's programs and sticks may need: what ``tests.command_line`` calls ``prepare``."""

from __future__ import annotations

import functools

from sneaker.devices import inbox, watch

__all__ = ["quick_devices"]


def quick_devices() -> None:
    """Let files in inboxes rest, and sticks settle, for parts of a second."""
    for_files = inbox.InboxSettings(after_close_s=0.05, quiet_s=0.3)
    inbox.Inbox = functools.partial(inbox.Inbox, settings=for_files)  # type: ignore[misc, assignment]
    for_sticks = watch.WatchSettings(settle_s=0.05, look_interval_s=0.05)
    watch.Watcher = functools.partial(watch.Watcher, settings=for_sticks)  # type: ignore[misc, assignment]
