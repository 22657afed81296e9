"""'sneaker watch' as a person runs it: a process of its own, real sticks on loop devices, a real home."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import command_line
from tests.command_line import Done
from tests.devices.loop import LoopStick, make_image, udev_daemon
from tests.devices.quick import quick_devices
from tests.homes import identity, make_home
from tests.ports import free_port

pytestmark = [pytest.mark.timeout(120)]


def run_sneaker(home: Path, *arguments: str | Path) -> Done:
    return command_line.sneaker("-q", *arguments, at=home, ok=False)


def sneaker(home: Path, *arguments: str | Path) -> str:
    return command_line.sneaker("-q", *arguments, at=home).out.strip()


class Watching:
    """A running 'sneaker watch --json', or 'run'."""

    def __init__(self, home: Path, *arguments: str | Path, command: str = "watch", **environment: str) -> None:
        self.events: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.buffer = b""
        self.process = command_line.start(
            ["--home", str(home), command, "--json", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
            prepare=quick_devices,
        )
        assert self.process.stderr is not None
        self.first = self.process.stderr.readline().decode()

    def wait(self, kind: str, mount_point: Path | None = None, count: int = 1, timeout_s: float = 30) -> dict[str, Any]:
        """Wait until ``count`` events of a kind, about this drive if given, were printed; return the last of them."""
        end = time.monotonic() + timeout_s
        assert self.process.stdout is not None
        while True:
            found = [
                event
                for event in self.events
                if event["event"] == kind and (mount_point is None or event.get("mount_point") == str(mount_point))
            ]
            if len(found) >= count:
                return found[count - 1]
            left = end - time.monotonic()
            assert left > 0, f"waited in vain for {kind}; there was {self.events}"
            if select.select([self.process.stdout], [], [], left)[0]:
                data = os.read(self.process.stdout.fileno(), 65536)
                assert data, f"it ended: {self.process.stderr.read() if self.process.stderr else ''!r}"
                *lines, self.buffer = (self.buffer + data).split(b"\n")
                self.events += [json.loads(line) for line in lines]
                self.times += [time.monotonic()] * len(lines)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        finally:
            self.close()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def homes(tmp_path: Path) -> tuple[Path, Path]:
    made = tmp_path / "anna", tmp_path / "bela"
    for home in made:
        make_home(home)
        sneaker(home, "publish", f"hello from {home.name}")
        (home / "config.toml").write_text("[notify]\ndesktop = false\n")
    return made


@pytest.fixture
def stick(tmp_path: Path) -> Iterator[LoopStick]:
    with udev_daemon():
        made = LoopStick(make_image(tmp_path / "stick.img"), tmp_path / "stick")
        try:
            yield made
        finally:
            made.clean_up()


@pytest.mark.udev
def test_a_stick_goes_between_two_machines(homes: tuple[Path, Path], stick: LoopStick) -> None:
    """Both machines watch; the stick is enrolled on one, trusted on the other, and carried to and fro."""
    anna, bela = homes
    stick.plug_in()
    stick.mount()
    sneaker(anna, "drive", "init", stick.mount_point)
    sneaker(bela, "drive", "trust", stick.mount_point)
    stick.unmount()
    stick.pull_out()
    brought: dict[str, int] = {"anna": 0, "bela": 0}
    times = []
    for home in (anna, bela, anna, bela):
        watching = Watching(home)
        try:
            assert "waiting for enrolled sticks" in watching.first
            started = stick.plug_in()
            stick.mount()
            done = watching.wait("visited", stick.mount_point)
            times.append(watching.times[-1] - started)
            assert done["safe_to_remove"]
            assert done["complete"]
            brought[home.name] += done["messages_in"]
            stick.unmount()
            stick.pull_out()
            watching.wait("removed", stick.mount_point)
            assert watching.stop() == 0
        finally:
            watching.close()
    assert brought == {"anna": 1, "bela": 1}
    assert sneaker(anna, "clock", "--json") == sneaker(bela, "clock", "--json")
    print("from the kernel's event to the finished visit:", ", ".join(f"{seconds:.2f} s" for seconds in times))
    assert min(times) < 5


@pytest.mark.udev
def test_an_unknown_stick_and_then_a_trusted_one(homes: tuple[Path, Path], stick: LoopStick) -> None:
    anna, bela = homes
    stick.plug_in()
    stick.mount()
    sneaker(anna, "drive", "init", stick.mount_point)
    sneaker(anna, "sync", stick.mount_point)
    before = sorted(stick.mount_point.rglob("*"))
    watching = Watching(bela)
    try:
        watching.wait("unknown", stick.mount_point)
        assert sorted(stick.mount_point.rglob("*")) == before
        sneaker(bela, "drive", "trust", stick.mount_point)
        watching.process.send_signal(signal.SIGHUP)
        assert watching.wait("visited", stick.mount_point)["messages_in"] == 1
        assert watching.stop() == 0
    finally:
        watching.close()


@pytest.mark.udev
def test_a_write_protected_stick_is_only_read(homes: tuple[Path, Path], stick: LoopStick) -> None:
    anna, bela = homes
    stick.plug_in()
    stick.mount()
    sneaker(anna, "drive", "init", stick.mount_point)
    sneaker(anna, "sync", stick.mount_point)
    sneaker(bela, "drive", "trust", stick.mount_point)
    stick.unmount()
    watching = Watching(bela)
    try:
        stick.mount("-o", "ro")
        done = watching.wait("visited", stick.mount_point)
        assert (done["messages_in"], done["messages_out"], done["safe_to_remove"]) == (1, 0, True)
        assert "write-protected" in done["words"]
        assert watching.stop() == 0
    finally:
        watching.close()


@pytest.mark.udev
def test_once(homes: tuple[Path, Path], stick: LoopStick, tmp_path: Path) -> None:
    anna, bela = homes
    stick.plug_in()
    stick.mount()
    sneaker(anna, "drive", "init", stick.mount_point)
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    sneaker(bela, "export", inbox / "from-bela.sneaker")
    done = sneaker(anna, "watch", "--once", "--json", "--inbox", inbox)
    events = [json.loads(line) for line in done.splitlines()]
    mine = [event for event in events if event.get("mount_point") in (str(stick.mount_point), None)]
    assert [event["event"] for event in mine] == ["syncing", "visited", "inbox"]
    assert len(list((stick.mount_point / "SNEAKER/bundles").iterdir())) == 1


def test_an_inbox_takes_bundles_and_nothing_else(homes: tuple[Path, Path], tmp_path: Path) -> None:
    """Bundles under any name; no JSON that happens to lie there; the damaged ones go to quarantine."""
    anna, bela = homes
    inbox = tmp_path / "downloads"
    inbox.mkdir()
    watching = Watching(bela, "--inbox", inbox)
    try:
        (inbox / "settings.json").write_text('{"theme": "dark"}\n')
        (inbox / "photo.jpg").write_bytes(b"\xff\xd8\xff" + bytes(1000))
        sneaker(anna, "export", tmp_path / "whole.sneaker")
        data = (tmp_path / "whole.sneaker").read_bytes()
        (inbox / "attachment (1).bin").write_bytes(data)
        done = watching.wait("inbox")
        assert (done["messages_in"], done["people"], done["complete"]) == (1, 1, True)
        (inbox / "cut.sneaker").write_bytes(data[:-20])
        done = watching.wait("inbox", count=2)
        assert not done["complete"]
        assert watching.stop() == 0
    finally:
        watching.close()
    assert sorted(str(path.relative_to(inbox)) for path in inbox.rglob("*") if path.is_file()) == [
        "done/attachment (1).bin",
        "photo.jpg",
        "quarantine/cut.sneaker",
        "settings.json",
    ]


@pytest.mark.udev
def test_other_file_systems_than_allowed_are_left_alone(homes: tuple[Path, Path], stick: LoopStick) -> None:
    anna, _ = homes
    stick.plug_in()
    stick.mount()
    sneaker(anna, "drive", "init", stick.mount_point)
    for allowed, visited in (('["vfat", "exfat"]', False), ('["ext4"]', True)):
        (anna / "config.toml").write_text(f"[notify]\ndesktop = false\n[drives]\nfilesystems = {allowed}\n")
        events = [json.loads(line) for line in run_sneaker(anna, "watch", "--once", "--json").out.splitlines()]
        assert (str(stick.mount_point) in [event.get("mount_point") for event in events]) == visited


def test_the_service_manager_hears_that_it_is_ready_alive_and_stopping(
    homes: tuple[Path, Path], tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        watching = Watching(homes[0], NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000")
        try:
            heard: list[bytes] = []
            while b"READY=1" not in heard or heard.count(b"WATCHDOG=1") < 4:
                heard.append(manager.recv(1000))
            assert b"STATUS=waiting for enrolled sticks" in heard
            watching.process.terminate()
            while heard[-1] != b"STOPPING=1":
                heard.append(manager.recv(1000))
            assert watching.process.wait(30) == 0  # a second SIGTERM could find the handlers gone
        finally:
            watching.close()


def test_settings_are_checked_before_anything_starts(homes: tuple[Path, Path]) -> None:
    anna, _ = homes
    for text in (
        "[drives]\nmount = 1\n",
        "[inbox]\nfolders = 'x'\n",
        "[notify]\nhook = [1]\n",
        "[drives]\nmuont = true\n",
    ):
        (anna / "config.toml").write_text(text)
        assert run_sneaker(anna, "watch", "--once").code == 14
    assert run_sneaker(anna / "no", "run").code == 15


@pytest.mark.udev
def test_run_is_watch_and_peer_in_one(homes: tuple[Path, Path], stick: LoopStick) -> None:
    """A stick is visited and a peer synced by the same process; a message from the stick goes on to the peer."""
    anna, bela = homes
    carol = anna.parent / "carol"
    make_home(carol)
    sneaker(carol, "publish", "hello from carol")
    port = free_port()
    (anna / "config.toml").write_text(
        f'[notify]\ndesktop = false\n[peer]\nlisten = "127.0.0.1:{port}"\ndiscovery = false\n'
    )
    for home, other in ((anna, carol), (anna, bela), (bela, anna), (bela, carol)):
        sneaker(home, "follow", identity(other))
    stick.plug_in()
    stick.mount()
    sneaker(carol, "drive", "init", stick.mount_point)
    sneaker(carol, "sync", stick.mount_point)
    sneaker(anna, "drive", "trust", stick.mount_point)
    watching = Watching(anna, command="run")
    try:
        assert watching.wait("visited", stick.mount_point)["messages_in"] == 1
        key = identity(anna).removeprefix("@").removesuffix(".ed25519")
        for attempt in range(20):
            done = run_sneaker(bela, "connect", f"net:127.0.0.1:{port}~shs:{key}")
            if done.code == 0:
                break
            time.sleep(0.2 * attempt)
        assert done.code == 0, done.err
        assert watching.stop() == 0
    finally:
        watching.close()
    assert sneaker(bela, "clock", "--json") == sneaker(anna, "clock", "--json")


@pytest.mark.udev
def test_once_syncs_sticks_too(homes: tuple[Path, Path], stick: LoopStick) -> None:
    anna, _ = homes
    (anna / "config.toml").write_text(
        f'[notify]\ndesktop = false\n[peer]\nlisten = "127.0.0.1:{free_port()}"\ndiscovery = false\n'
    )
    stick.plug_in()
    stick.mount()
    sneaker(anna, "drive", "init", stick.mount_point)
    done = json.loads(run_sneaker(anna, "once", "--json", "--timeout", "5").out)
    mine = [event for event in done["drives"] if event.get("mount_point") == str(stick.mount_point)]
    assert [event["event"] for event in mine] == ["syncing", "visited"]
    assert "peers" in done
