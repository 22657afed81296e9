"""Notifications on the desktop.

One goes over D-Bus if jeepney is installed and a session bus there, else through ``notify-send``, else only
the log has it.  The texts are sneaker's own words and numbers: nothing from a stick goes into a notification, which
some desktops parse as markup.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import Any

from sneaker.desktop.notification import Notification
from sneaker.desktop.run_command import run_command

__all__ = ["Notifier"]

log = logging.getLogger(__name__)

_NOTIFY_SEND_TIMEOUT_S = 5
_BUS_TIMEOUT_S = 3


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
        return run_command([*command, "--", notification.summary, notification.body], _NOTIFY_SEND_TIMEOUT_S)
