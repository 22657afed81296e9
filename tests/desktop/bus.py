"""A message bus of the test's own, and services on it that answer as the test says."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["Answer", "BusError", "Service", "message_bus"]

#: Called with path, interface, method and arguments; returns a signature and a body, or raises BusError.
Answer = Callable[[str, str, str, tuple[Any, ...]], tuple[str, tuple[Any, ...]]]


class BusError(Exception):
    """What a service answers instead, by the error's name."""


@contextlib.contextmanager
def message_bus(folder: Path) -> Iterator[str]:
    """Run a bus while the block does; yields its address."""
    config = folder / "bus.conf"
    config.write_text(
        "<busconfig><type>session</type>"
        f"<listen>unix:path={folder}/bus</listen><auth>EXTERNAL</auth>"
        '<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>'
        '<allow own="*"/></policy></busconfig>'
    )
    with subprocess.Popen(
        ["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as daemon:
        assert daemon.stdout is not None
        try:
            yield daemon.stdout.readline().strip()
        finally:
            daemon.terminate()


class Service:
    """Something with a name on the bus."""

    def __init__(self, address: str, name: str, answer: Answer) -> None:
        from jeepney import message_bus as bus
        from jeepney.io.blocking import Proxy, open_dbus_connection

        self.answer = answer
        self.connection = open_dbus_connection(address)
        assert Proxy(bus, self.connection).RequestName(name) == (1,)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Leave the bus."""
        self.connection.sock.shutdown(socket.SHUT_RDWR)
        self.thread.join(5)
        self.connection.close()

    def _serve(self) -> None:
        from jeepney import HeaderFields, MessageType, new_error, new_method_return

        while True:
            try:
                message = self.connection.receive()
            except Exception:
                return
            if message.header.message_type is not MessageType.method_call:
                continue
            fields = message.header.fields
            try:
                signature, body = self.answer(
                    fields[HeaderFields.path], fields[HeaderFields.interface], fields[HeaderFields.member], message.body
                )
            except BusError as error:
                self.connection.send(new_error(message, str(error), "s", ("words with a \x1b[31mlabel in them",)))
            else:
                self.connection.send(new_method_return(message, signature, body))
