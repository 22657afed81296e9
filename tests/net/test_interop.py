"""Real JavaScript peers, each as client and as server: everything both ways, with the same ids on both sides."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import js_oracle
from tests.net.machines import Machine, clock_of, keys_of, small_log, wait_for

pytestmark = [pytest.mark.node, pytest.mark.timeout(120)]

PROGRAMS = ["server.cjs", "db2.cjs"]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_log(tmp_path_factory.mktemp("log") / "log.ndjson")


@contextmanager
def running(program: str, path: Path, **config: object) -> Iterator[js_oracle.Peer]:
    if reason := js_oracle.available(js_oracle.PEERS):
        pytest.skip(reason)
    path.mkdir(exist_ok=True)
    with (path / "log").open("ab") as errors, js_oracle.Peer(program, log=errors, path=str(path), **config) as peer:
        yield peer


def js_keys(peer: js_oracle.Peer, feeds: list[str], folder: Path) -> set[str]:
    keys = set()
    for number, feed in enumerate(feeds):
        file = folder / f"feed-{number}.ndjson"
        peer.ask("messages", feed=feed, file=str(file))
        keys |= {json.loads(line)["key"] for line in file.read_bytes().splitlines()}
    return keys


def has_all(peer: js_oracle.Peer, clock: dict[str, int]) -> bool:
    theirs = peer.ask("clock")
    return all(theirs.get(feed, 0) >= sequence for feed, sequence in clock.items())


@pytest.mark.parametrize("we_dial", [True, False], ids=["we-dial", "they-dial"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_everything_comes_from_them(program: str, we_dial: bool, log: Path, tmp_path: Path) -> None:
    clock = clock_of(log)
    machine = Machine(tmp_path / "ours")
    machine.follow(*clock)
    with running(program, tmp_path / "theirs") as peer:
        assert not peer.ask("import", file=str(log))["refused"]
        for feed in clock:  # what they do not want themselves they do not give either
            peer.ask("request", feed=feed)
        if we_dial:
            report = machine.connect(peer.address)
            assert report["level"]
            assert report["messages"] == {"accepted": sum(clock.values()), "known": 0, "refused": 0, "sent": 0}
        else:
            with machine.peer() as ours:
                peer.ask("connect", address=ours.address)
                wait_for(lambda: machine.clock().items() >= clock.items(), 40)
    assert machine.keys() >= keys_of(log)


@pytest.mark.parametrize("we_dial", [True, False], ids=["we-dial", "they-dial"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_everything_goes_to_them(program: str, we_dial: bool, log: Path, tmp_path: Path) -> None:
    clock = clock_of(log)
    machine = Machine(tmp_path / "ours")
    machine.take(log)
    with running(program, tmp_path / "theirs") as peer:
        for feed in clock:
            peer.ask("request", feed=feed)
        if we_dial:
            report = machine.connect(peer.address)
            assert report["level"]
            assert report["messages"] == {"accepted": 0, "known": 0, "refused": 0, "sent": sum(clock.values())}
        else:
            with machine.peer() as ours:
                peer.ask("connect", address=ours.address)
                wait_for(lambda: has_all(peer, clock), 40)
        wait_for(lambda: has_all(peer, clock), 20)
        assert js_keys(peer, list(clock), tmp_path) == keys_of(log)
