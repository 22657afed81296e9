"""Peers on a network of their own: namespaces joined by a bridge, where they find each other by broadcast."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests import js_oracle
from tests.net.machines import Machine, wait_for

pytestmark = [pytest.mark.netns, pytest.mark.root, pytest.mark.timeout(120)]


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


@contextmanager
def village(count: int) -> Iterator[list[str]]:
    """Namespaces with an interface en0 each, 10.77.0.1 and so on, all on one bridge in a namespace of its own."""
    tag = f"snk{os.getpid() % 10000}"
    switch = f"{tag}sw"
    names = [f"{tag}n{number}" for number in range(1, count + 1)]
    made: list[str] = []
    try:
        for name in (switch, *names):
            ip("netns", "add", name)
            made.append(name)
        ip("-n", switch, "link", "add", "br0", "type", "bridge")
        ip("-n", switch, "link", "set", "br0", "up")
        for number, name in enumerate(names, 1):
            ip("-n", name, "link", "add", "en0", "type", "veth", "peer", "name", f"p{number}", "netns", switch)
            ip("-n", switch, "link", "set", f"p{number}", "master", "br0", "up")
            ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "broadcast", "10.77.0.255", "dev", "en0")
            ip("-n", name, "link", "set", "en0", "up")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "route", "add", "default", "dev", "en0")
        yield names
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def make_friends(machines: list[Machine]) -> None:
    for machine in machines:
        machine.follow(*(other.id for other in machines if other is not machine))


@pytest.mark.parametrize("count", [2, 3])
def test_peers_find_each_other_and_converge(count: int, tmp_path: Path) -> None:
    machines = [Machine(tmp_path / f"machine-{number}") for number in range(count)]
    make_friends(machines)
    with village(count) as names, ExitStack() as stack:
        peers = [
            stack.enter_context(
                machine.peer("--discovery", listen="0.0.0.0:8008", prefix=["ip", "netns", "exec", name])
            )
            for machine, name in zip(machines, names, strict=True)
        ]
        assert peers[0].address.startswith("net:10.77.0.1:8008~shs:")
        wanted = {machine.id: count - 1 for machine in machines}
        wait_for(lambda: all(machine.clock() == wanted for machine in machines), 30, "convergence")
        machines[0].publish({"type": "post", "text": "news"})
        wanted[machines[0].id] += 1
        wait_for(lambda: all(machine.clock() == wanted for machine in machines), 5, "the news")
        # One goes away and comes back with something new.
        peers[-1].process.terminate()
        peers[-1].process.wait(15)
        machines[-1].publish({"type": "post", "text": "written offline"})
        machines[0].publish({"type": "post", "text": "missed"})
        wanted[machines[-1].id] += 1
        wanted[machines[0].id] += 1
        stack.enter_context(
            machines[-1].peer("--discovery", listen="0.0.0.0:8008", prefix=["ip", "netns", "exec", names[-1]])
        )
        wait_for(lambda: all(machine.clock() == wanted for machine in machines), 30, "the reunion")


def test_a_line_of_friends(tmp_path: Path) -> None:
    """The first and the last do not follow each other, but both follow the one between: hops carry everything."""
    machines = [Machine(tmp_path / f"machine-{number}") for number in range(3)]
    first, middle, last = machines
    first.follow(middle.id)
    last.follow(middle.id)
    middle.follow(first.id, last.id)
    with village(3) as names, ExitStack() as stack:
        for machine, name in zip(machines, names, strict=True):
            stack.enter_context(
                machine.peer("--discovery", listen="0.0.0.0:8008", prefix=["ip", "netns", "exec", name])
            )
        wanted = {first.id: 1, middle.id: 2, last.id: 1}
        wait_for(lambda: all(machine.clock() == wanted for machine in machines), 30, "convergence")


def test_once_meets_everybody_and_ends(tmp_path: Path) -> None:
    machines = [Machine(tmp_path / f"machine-{number}") for number in range(3)]
    make_friends(machines)
    with village(3) as names, ExitStack() as stack:
        for machine, name in zip(machines[1:], names[1:], strict=True):
            stack.enter_context(
                machine.peer("--discovery", listen="0.0.0.0:8008", prefix=["ip", "netns", "exec", name])
            )
        done = subprocess.run(
            ["ip", "netns", "exec", names[0], *machines[0].command("once", "--json", "--timeout", "40")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert machines[0].clock() == {machine.id: 2 for machine in machines}


@pytest.mark.node
@pytest.mark.parametrize("program", ["server.cjs", "db2.cjs"])
def test_javascript_peers_are_found(program: str, tmp_path: Path) -> None:
    if reason := js_oracle.available(js_oracle.PEERS):
        pytest.skip(reason)
    machine = Machine(tmp_path / "ours")
    with village(2) as names, ExitStack() as stack:
        peer = InNamespace(names[1], program, path=str(tmp_path / "theirs"), host="10.77.0.2", port=8008, lan=True)
        stack.enter_context(peer)
        machine.follow(peer.id)
        peer.ask("follow", feed=machine.id)
        stack.enter_context(
            machine.peer("--discovery", listen="0.0.0.0:8008", prefix=["ip", "netns", "exec", names[0]])
        )
        wait_for(
            lambda: machine.clock().get(peer.id) == 1 and peer.ask("clock").get(machine.id) == 1, 40, "the meeting"
        )


class InNamespace(js_oracle.Peer):
    """A JavaScript peer in a network namespace."""

    def __init__(self, namespace: str, program: str, **config: object) -> None:
        super().__init__(program, **config)
        self._command = ["ip", "netns", "exec", namespace, *self._command]
