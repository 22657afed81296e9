"""A virtual machine with QEMU: sticks are plugged in and out, commands are run in it, and its plug is pulled."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.vm.image import PERSON, Base

__all__ = ["Machine", "Qmp"]

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


class Qmp:
    """QEMU's machine protocol: commands and their answers, one JSON object to a line."""

    def __init__(self, path: Path, timeout_s: float = 60) -> None:
        self._socket = _connect(path, timeout_s)
        self._socket.settimeout(timeout_s)
        self._data = b""
        #: Events that came meanwhile.
        self.events: list[dict[str, Any]] = []
        self._receive()  # the greeting
        self.command("qmp_capabilities")

    def _receive(self) -> dict[str, Any]:
        while b"\n" not in self._data:
            more = self._socket.recv(65536)
            if not more:
                raise ConnectionError("QEMU hung up")
            self._data += more
        line, self._data = self._data.split(b"\n", 1)
        value: dict[str, Any] = json.loads(line)
        return value

    def command(self, name: str, **arguments: Any) -> Any:
        """Run a command and return what it answers; raises RuntimeError if it fails."""
        request = {"execute": name, "arguments": {key.replace("_", "-"): value for key, value in arguments.items()}}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = self._receive()
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise RuntimeError(f"QEMU {name}: {answer['error']['desc']}")
            elif "return" in answer:
                return answer["return"]

    def wait_for(self, event: str, timeout_s: float = 20) -> dict[str, Any]:
        """Wait for an event and return it."""
        end = time.monotonic() + timeout_s
        while True:
            for found in self.events:
                if found["event"] == event:
                    self.events.remove(found)
                    return found
            if time.monotonic() > end:
                raise TimeoutError(f"QEMU never said {event}")
            answer = self._receive()
            if "event" in answer:
                self.events.append(answer)

    def close(self) -> None:
        self._socket.close()


def _connect(path: Path, timeout_s: float) -> socket.socket:
    end = time.monotonic() + timeout_s
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(path))
            return connection
        except OSError:
            connection.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


class Machine:
    """A machine with its disk ``image`` (qcow2); ``folder`` gets its sockets and the log of its console.

    Not for several threads at once.
    """

    def __init__(self, name: str, base: Base, image: Path, folder: Path) -> None:
        self.name = name
        self.base = base
        self.image = image
        self.folder = folder
        self.log_path = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.boots = 0
        self._plugs = 0
        self._plugged: str | None = None
        self._requests = 0
        self._agent: socket.socket | None = None
        self._agent_data = b""
        self._qmp: Qmp | None = None

    # ------------------------------------------------------------------------------------------------ power

    def start(self) -> None:
        """Switch the machine on, without waiting for it; its console goes to the end of the log."""
        self.boots += 1
        for name in ("qmp", "agent"):
            self._path(name).unlink(missing_ok=True)
        options = {
            "-machine": "q35",
            "-accel": "tcg",
            "-cpu": "Nehalem",  # newer instructions are emulated more slowly than the older ones that do the same
            # Two would mostly wait for each other; there is more than one machine, to keep more than one core busy.
            "-smp": "1",
            "-m": "512",
            "-display": "none",
            "-kernel": str(self.base.kernel),
            "-initrd": str(self.base.initrd),
            "-append": "console=ttyS0 quiet mitigations=off panic=-1 root=/dev/vda rw",
            "-qmp": f"unix:{self._path('qmp')},server=on,wait=off",
            # The kernel's last words go to the serial port, the journal to another console, which costs the machine less.
            "-serial": f"file:{self.log_path}.kernel",
        }
        command = [
            "qemu-system-x86_64",
            "-no-reboot",
            "-nodefaults",
            *(word for pair in options.items() for word in pair),
        ]
        command += ["-drive", f"file={self.image},if=virtio,format=qcow2,cache=writeback"]
        command += ["-device", "qemu-xhci,id=xhci", "-device", "virtio-rng-pci", "-device", "virtio-serial"]
        command += ["-chardev", f"file,id=console,path={self.log_path},append=on"]
        command += ["-device", "virtconsole,chardev=console"]
        command += ["-chardev", f"socket,id=agent,path={self._path('agent')},server=on,wait=off"]
        command += ["-device", "virtserialport,chardev=agent,name=sneaker.agent"]
        with self.log_path.open("ab") as log:
            log.write(f"\n======== {self.name}: boot {self.boots}\n".encode())
        with (self.folder / f"{self.name}.qemu").open("ab") as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=errors)
        self._qmp = Qmp(self._path("qmp"))
        self._agent = _connect(self._path("agent"), 60)
        self._agent_data = b""

    def wait_until_up(self, timeout_s: float = 600) -> None:
        """Wait until the machine runs commands and its person's services are up."""
        self.run(["systemctl", "--user", "is-system-running", "--wait"], user=PERSON, timeout_s=timeout_s, check=False)

    def cut_power(self) -> None:
        """Pull the plug: nothing more is written from this moment on."""
        self._end(signal.SIGKILL)

    def shut_down(self) -> None:
        """Switch the machine off as one should; pull the plug if that takes too long."""
        if self.process is None:
            return
        with contextlib.suppress(Exception):
            self.run(["systemctl", "poweroff", "--no-block"])
            self.process.wait(120)
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(number)
            self.process.wait(30)
            self.process = None
        for connection in (self._qmp, self._agent):
            if connection is not None:
                connection.close()
        self._qmp = self._agent = None
        self._plugged = None

    @property
    def qmp(self) -> Qmp:
        """The machine protocol; raises if the machine is off."""
        if self._qmp is None:
            raise RuntimeError(f"{self.name} is off")
        return self._qmp

    def _path(self, name: str) -> Path:
        # A socket's path has at most 107 bytes.
        return self.folder / f"{self.name}.{name}"

    # ------------------------------------------------------------------------------------------------ sticks

    def plug_in(self, stick: Path, *, protected: bool = False) -> None:
        """Plug in a USB stick whose content is the image ``stick``; with ``protected``, its switch is set to read-only."""
        self._plugs += 1
        name = f"stick{self.boots}x{self._plugs}"
        self.qmp.command(
            "blockdev-add",
            node_name=name,
            driver="raw",
            read_only=protected,
            file={"driver": "file", "filename": str(stick), "locking": "off", "read-only": protected},
        )
        self.qmp.command("device_add", driver="usb-storage", drive=name, id=name, removable=True, bus="xhci.0")
        self._plugged = name

    def pull_out(self) -> None:
        """Pull the stick out, whatever the machine is doing with it."""
        name = self._plugged
        if name is None:
            raise RuntimeError(f"nothing is plugged into {self.name}")
        self.qmp.command("device_del", id=name)
        self._plugged = None
        # The block device is busy for as long as requests are under way.
        end = time.monotonic() + 60
        while True:
            try:
                self.qmp.command("blockdev-del", node_name=name)
                return
            except RuntimeError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)

    def written(self) -> int:
        """Return how many write requests there have been to the stick since it was plugged in."""
        devices = self.qmp.command("query-blockstats")
        return sum(found["stats"]["wr_operations"] for found in devices if found.get("node-name") == self._plugged)

    # ------------------------------------------------------------------------------------------------ talking

    def run(
        self, argv: list[str], *, user: str = "root", timeout_s: float = 240, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine and wait for it."""
        if self._agent is None:
            raise RuntimeError(f"{self.name} is off")
        self._requests += 1
        request = {"id": self._requests, "argv": argv, "user": user, "timeout": timeout_s}
        self._agent.settimeout(timeout_s + 30)
        self._agent.sendall(json.dumps(request).encode() + b"\n")
        while True:
            while b"\n" not in self._agent_data:
                more = self._agent.recv(65536)
                if not more:
                    raise ConnectionError(f"{self.name} hung up")
                self._agent_data += more
            line, self._agent_data = self._agent_data.split(b"\n", 1)
            answer = json.loads(line)
            if answer["id"] == self._requests:
                break
        done = subprocess.CompletedProcess(argv, answer["code"], answer["out"], answer["err"])
        if check and done.returncode != 0:
            raise RuntimeError(f"{self.name}: {' '.join(argv)} failed ({done.returncode}): {done.stdout}{done.stderr}")
        return done

    def sneaker(self, *arguments: str, check: bool = True, timeout_s: float = 240) -> str:
        """Run sneaker as the person does and return what it prints."""
        return self.run(["sneaker", "-q", *arguments], user=PERSON, check=check, timeout_s=timeout_s).stdout.strip()

    def log_size(self) -> int:
        """Return how many bytes the console has said so far."""
        return self.log_path.stat().st_size

    def log(self, since: int = 0) -> str:
        """Return what the console has said after its first ``since`` bytes."""
        with self.log_path.open("rb") as file:
            file.seek(since)
            return _ANSI.sub("", file.read().decode(errors="replace"))

    def wait_for(self, pattern: str, since: int = 0, timeout_s: float = 300) -> re.Match[str]:
        """Wait until the console says what matches ``pattern``, after its first ``since`` bytes."""
        end = time.monotonic() + timeout_s
        compiled = re.compile(pattern)
        while True:
            log = self.log(since)
            found = compiled.search(log)
            if found is not None:
                return found
            if self.process is not None and self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended while the test waited for {pattern!r}:\n{log[-3000:]}")
            if time.monotonic() > end:
                raise TimeoutError(f"{self.name} never said {pattern!r}; its last words:\n{log[-6000:]}")
            time.sleep(0.02)
