"""Telling people: a notification on the desktop, and a command of their own for machines without a screen.

A notification goes over D-Bus if jeepney is installed and a session bus there, else through ``notify-send``, else only
the log has it.  The texts are sneaker's own words and numbers: nothing from a stick goes into a notification, which
some desktops parse as markup, nor into a command.
"""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

__all__ = ["Happening", "Hook", "Notification", "Notifier"]

log = logging.getLogger(__name__)

_NOTIFY_SEND_TIMEOUT_S = 5
_HOOK_TIMEOUT_S = 30
_BUS_TIMEOUT_S = 3


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


@dataclass(slots=True)
class Notifier:
    """Shows notifications; ``show`` never raises, and never blocks for longer than some seconds."""

    _shown: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def show(self, notification: Notification) -> str:
        """Show a notification; return how: ``"dbus"``, ``"notify-send"`` or ``"log"``."""
        with self._lock:
            if self._over_dbus(notification):
                return "dbus"
            if self._notify_send(notification):
                return "notify-send"
        log.debug("no desktop to tell: %s", notification.summary)
        return "log"

    def _over_dbus(self, notification: Notification) -> bool:
        try:
            from jeepney import DBusAddress, MessageType, new_method_call
            from jeepney.io.blocking import open_dbus_connection
        except ImportError:
            return False
        address = DBusAddress(
            "/org/freedesktop/Notifications",
            bus_name="org.freedesktop.Notifications",
            interface="org.freedesktop.Notifications",
        )
        hints: dict[str, tuple[str, Any]] = {
            "urgency": ("y", 2 if notification.urgent else 1),
            "desktop-entry": ("s", "sneaker"),
            "category": ("s", "device"),
        }
        arguments: tuple[Any, ...] = (
            "sneaker",
            self._shown.get(notification.topic, 0) if notification.topic else 0,
            "drive-removable-media",
            notification.summary,
            notification.body,
            [],
            hints,
            -1,
        )
        try:
            with open_dbus_connection("SESSION") as connection:
                reply = connection.send_and_get_reply(
                    new_method_call(address, "Notify", "susssasa{sv}i", arguments), timeout=_BUS_TIMEOUT_S
                )
        except Exception as error:
            # No bus, no permission, a bus that hangs up: jeepney, sockets and os.environ have error classes of their own.
            log.debug("no notification over D-Bus: %s", error)
            return False
        if reply.header.message_type is not MessageType.method_return:
            return False
        if notification.topic and reply.body and isinstance(reply.body[0], int):
            self._shown[notification.topic] = reply.body[0]
        return True

    def _notify_send(self, notification: Notification) -> bool:
        urgency = "critical" if notification.urgent else "normal"
        command = ["notify-send", "--app-name=sneaker", f"--urgency={urgency}", "--icon=drive-removable-media"]
        return _run([*command, "--", notification.summary, notification.body], _NOTIFY_SEND_TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class Hook:
    """A person's own command, run for every happening: lights, sounds, a display on a hub.

    ``command`` is a list of arguments and never goes through a shell.  Appended are the happening and three numbers:
    messages taken in, people they are from, messages written out.  No text from a stick gets there.
    """

    command: Sequence[str]

    def run(self, notification: Notification) -> bool:
        """Run the command and wait for it, within reason; return whether it ended well. Never raises."""
        numbers = (notification.messages_in, notification.people, notification.messages_out)
        return _run([*self.command, str(notification.happening), *map(str, numbers)], _HOOK_TIMEOUT_S)


def _run(command: Sequence[str], timeout_s: float) -> bool:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        log.debug("%s did not run: %s", command[0], error)
        return False
    return done.returncode == 0
