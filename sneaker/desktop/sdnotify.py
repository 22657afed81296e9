"""What systemd is told of a service (sd_notify(3)): that it is ready, what it does now, that it is still alive."""

from __future__ import annotations

import socket

__all__ = ["ServiceManager"]


class ServiceManager:
    """The service manager that started this process, if one did.

    ``address`` is the value of NOTIFY_SOCKET and ``watchdog_us`` that of WATCHDOG_USEC, both None or empty outside
    systemd; then nothing happens.  Nothing here raises: a service does not fail because nobody listens.
    """

    def __init__(self, address: str | None, watchdog_us: str | None = None) -> None:
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        interval = int(watchdog_us) / 1_000_000 if watchdog_us and watchdog_us.isdecimal() else 0.0
        #: Seconds between calls of ``alive``, half of what the service manager waits; None if it does not wait for any.
        self.alive_interval_s: float | None = interval / 2 if self._address and interval > 0 else None

    def _send(self, text: str) -> bool:
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.connect(self._address)
                out.send(text.encode("utf-8", "replace"))
        except (OSError, ValueError):
            return False
        return True

    def ready(self) -> bool:
        """Say that the service does its work from now on."""
        return self._send("READY=1")

    def stopping(self) -> bool:
        """Say that the service is ending."""
        return self._send("STOPPING=1")

    def alive(self) -> bool:
        """Say that the service has not hung."""
        return self._send("WATCHDOG=1")

    def status(self, text: str) -> bool:
        """Say in one line what the service is doing; ``systemctl status`` shows it."""
        return self._send("STATUS=" + " ".join(text.split())[:500])
