"""A real USB stick in real machines: carried, yanked out, and there when the power goes.

Two virtual machines boot once and stay up.  ``hub`` has no desktop: the udev rule starts sneaker, which has udisks2 mount
and unmount.  ``desk`` is somebody's machine: that person ran 'sneaker setup', and a desktop mounts.  Sticks are plugged into
one or the other.  Printed is a transcript; ``scripts/vm-test`` shows it.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.vm.image import CACHE, ROOT, base, build_wheels, make_machine
from tests.vm.machine import Machine
from tests.vm.sticks import Stick, make_stick

pytestmark = [pytest.mark.qemu, pytest.mark.slow, pytest.mark.timeout(900)]

# How often a stick is yanked and the power cut, half of them on each file system; the seed chooses the moments.
TIMES = int(os.environ.get("SNEAKER_VM_TIMES") or 10)
SEED = int(os.environ.get("SNEAKER_VM_SEED") or 20)
KEEP = bool(os.environ.get("SNEAKER_VM_KEEP"))

_STARTED = time.monotonic()


def say(text: str) -> None:
    print(f"{time.monotonic() - _STARTED:6.1f} s  {text}", flush=True)


@dataclass
class Machines:
    """The two machines, and the folder with their disks and logs."""

    hub: Machine
    desk: Machine
    folder: Path
    #: How long visits to a kind of stick take, once that was measured.
    visit_s: dict[str, float] = field(default_factory=dict)


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=CACHE))
    made: list[Machine] = []
    try:
        say("the base: Debian bookworm with systemd, udev and udisks2")
        built_of = base()
        say("sneaker: built as a wheel, installed with what it needs")
        wheels = build_wheels(folder / "wheels", ROOT)
        for name in ("hub", "desk"):
            image = folder / f"{name}.img"
            make_machine(built_of, image, wheels, name=name, mounts=name == "hub")
            made.append(Machine(name, built_of, image, folder))
        for machine in made:
            machine.start()
        for machine in made:
            machine.wait_until_up()
            say(f"{machine.name} is up")
        made[1].sneaker("setup")
        made[1].wait_for(r"sneaker\[\d+\]: waiting for enrolled sticks")
        say("desk: 'sneaker setup' has installed and started the service")
        yield Machines(made[0], made[1], folder)
    finally:
        for machine in made:
            machine.shut_down()
        for machine in made:
            shutil.copy(machine.log_path, CACHE / f"{machine.name}.log")
        if not KEEP:
            shutil.rmtree(folder)


@pytest.fixture(scope="module", params=["vfat", "exfat"])
def stick(request: pytest.FixtureRequest, machines: Machines) -> Stick:
    return make_stick(machines.folder / f"{request.param}.img", request.param)


def mount(machine: Machine, stick: Stick) -> str:
    """Mount the stick as a desktop does for its person; return where."""
    for _ in range(100):
        if machine.run(["test", "-b", stick.node], check=False).returncode == 0:
            break
        time.sleep(0.1)
    machine.run(["udevadm", "settle"])
    machine.run(["udisksctl", "mount", "--no-user-interaction", "-b", stick.node], user="anna")
    return machine.run(["findmnt", "-n", "-o", "TARGET", stick.node]).stdout.strip()


def unmount(machine: Machine, stick: Stick) -> None:
    machine.run(["udisksctl", "unmount", "--no-user-interaction", "-b", stick.node], user="anna")


def visit_at_hub(hub: Machine, stick: Stick) -> str:
    """Plug the stick into the hub, wait until it says that it may go, pull it out; return what it said."""
    at = len(hub.log())
    started = time.monotonic()
    hub.plug_in(stick.image)
    found = hub.wait_for(r"sneaker\[\d+\]: \S*STICK\S*: (.*unmounted, pull it out.*)", at)
    took = time.monotonic() - started
    hub.pull_out()
    say(f"hub: {found[1]}; from plug to word {took:.1f} s")
    return found[1]


def visit_at_desk(desk: Machine, stick: Stick) -> str:
    """Plug the stick into the desk, where somebody mounts it; wait until it may go, unmount and pull it out."""
    at = len(desk.log())
    desk.plug_in(stick.image)
    mount(desk, stick)
    found = desk.wait_for(r"sneaker\[\d+\]: \S*STICK\S*: (.*safe to remove.*)", at)
    unmount(desk, stick)
    desk.pull_out()
    say(f"desk: {found[1]}")
    return found[1]


def clock(machine: Machine) -> dict[str, int]:
    found: dict[str, int] = json.loads(machine.sneaker("clock", "--json"))
    return found


def publish(machine: Machine, megabytes: float = 0) -> None:
    """Publish a message, with an attachment of random bytes if asked for."""
    words = ["publish", f"from {machine.name} at {time.monotonic():.1f}"]
    if megabytes:
        count = str(int(megabytes * 1_000_000))
        machine.run(["sh", "-c", f"head -c {count} /dev/urandom > /tmp/attachment"], user="anna")
        words += ["--attach", "/tmp/attachment"]
    machine.sneaker(*words)


def test_carried_to_and_fro(machines: Machines, stick: Stick) -> None:
    hub, desk = machines.hub, machines.desk
    say(f"---- a {stick.kind} stick is enrolled at the hub")
    hub.plug_in(stick.image)
    where = mount(hub, stick)
    hub.sneaker("drive", "init", where)
    unmount(hub, stick)
    hub.pull_out()
    before = clock(hub)
    for machine in (hub, desk):
        publish(machine)
    visit_at_hub(hub, stick)
    assert stick.check()[0], stick.check()[1]

    say("---- at the desk it is not known, until somebody says so")
    at = len(desk.log())
    desk.plug_in(stick.image)
    where = mount(desk, stick)
    desk.wait_for(r"sneaker\[\d+\]: \S*STICK\S*: a sneaker stick that is not known here", at)
    desk.sneaker("drive", "trust", where)
    desk.run(["systemctl", "--user", "reload", "sneaker.service"], user="anna")
    found = desk.wait_for(r"sneaker\[\d+\]: \S*STICK\S*: (.*safe to remove.*)", at)
    say(f"desk: {found[1]}")
    assert "new message" in found[1]
    unmount(desk, stick)
    desk.pull_out()

    say("---- and back")
    assert "new message" in visit_at_hub(hub, stick)
    assert clock(hub) == clock(desk)
    assert sum(clock(hub).values()) == sum(before.values()) + 2
    assert "nothing new" in visit_at_hub(hub, stick)
    ok, said = stick.check()
    assert ok, said
    say(f"{stick.kind}: fsck finds nothing")


def measure(machines: Machines, stick: Stick) -> float:
    """Return how many seconds a visit with a large attachment takes, by its own account, when nothing is in its way."""
    hub = machines.hub
    if stick.kind in machines.visit_s:
        return machines.visit_s[stick.kind]
    times = []
    for _ in range(2):
        publish(hub, 2)
        found = re.search(r"\(([0-9.]+) s\)", visit_at_hub(hub, stick))
        times.append(float(found[1]) if found else 1.0)
    machines.visit_s[stick.kind] = min(times)
    return min(times)


# What fsck says of every vfat that was not unmounted, and what it says it would do.
_HARMLESS = re.compile(
    r"fsck\.|exfatprogs|There are differences between boot sector|This is mostly harmless|  \d+:\d\d/\d\d|"
    r"  Not automatically fixing|Dirty bit is set| Automatically removing dirty bit|Free cluster summary|"
    r"  Auto-correcting|Leaving filesystem unchanged|/.*: \d+ files|/.*: clean|volume is not unmounted|$"
)


def verdict(stick: Stick) -> str:
    """Return in a few words what fsck says of a stick that was treated badly."""
    ok, said = stick.check()
    found = [line.strip() for line in said.splitlines() if not _HARMLESS.match(line)]
    if found:
        return "; ".join(found[:3])[:200]
    return "clean" if ok else "not unmounted, otherwise clean"


def disturb(
    machines: Machines, stick: Stick, blow: Callable[[Machine, int], None], recover: Callable[[Machine], None]
) -> None:
    """Strike at random moments of visits; after each, the next insert has to end well, with nothing lost."""
    hub, desk = machines.hub, machines.desk
    longest = measure(machines, stick)
    total = sum(clock(hub).values())
    rng = random.Random(SEED)
    times = max(1, TIMES // 2)
    struck = during = 0
    # Moments are spread over the visit; on a machine with other work, some come when it is over, and count for nothing.
    while during < times and struck < 2 * times:
        moment = (during + rng.random()) / times * longest
        struck += 1
        publish(hub, 2)
        at = len(hub.log())
        hub.plug_in(stick.image)
        hub.wait_for(r"syncing, do not pull it out", at)
        time.sleep(moment)
        blow(hub, at)
        was_over = "unmounted, pull it out" in hub.log()[at:]
        during += not was_over
        say(f"{struck:2}: after {moment:.2f} s{' (the visit was over)' if was_over else ''}; fsck: {verdict(stick)}")
        recover(hub)
        said = visit_at_hub(hub, stick)
        assert not re.search("refused|damaged|failed", said), said
    assert during >= times // 2, "the visits were over too soon for this machine; run it again when there is less to do"
    assert sum(clock(hub).values()) == total + struck
    visit_at_desk(desk, stick)
    assert clock(desk) == clock(hub)
    for machine in (hub, desk):
        assert "clean" in machine.sneaker("check")
    say(
        f"{struck} times, {during} of them during the visit: both have all {total + struck} messages, and check finds nothing"
    )


def test_yanked_out(machines: Machines, stick: Stick) -> None:
    """The stick is pulled out at random moments of the visit."""
    say(f"---- {stick.kind}: yanked out during the visit")

    def yank(hub: Machine, since: int) -> None:
        hub.pull_out()
        hub.wait_for(r"pulled out too early|unmounted, pull it out", since)

    def nothing(hub: Machine) -> None:
        """The machine goes on as if nothing had happened."""

    disturb(machines, stick, yank, nothing)


def test_power_cut(machines: Machines, stick: Stick) -> None:
    """The hub loses its power at random moments of the visit, and boots again."""
    say(f"---- {stick.kind}: the power is cut during the visit")

    def cut(hub: Machine, since: int) -> None:
        hub.cut_power()

    def boot(hub: Machine) -> None:
        hub.start()
        hub.wait_until_up()

    disturb(machines, stick, cut, boot)


def test_uninstall(machines: Machines) -> None:
    """'sneaker setup --uninstall' stops the service and leaves nothing behind."""
    desk = machines.desk
    unit = "/home/anna/.config/systemd/user/sneaker.service"
    desk.run(["test", "-f", unit])
    desk.sneaker("setup", "--uninstall")
    assert desk.run(["systemctl", "--user", "is-active", "sneaker.service"], user="anna", check=False).returncode != 0
    assert desk.run(["find", "/home/anna/.config/systemd", "-name", "*sneaker*"]).stdout == ""
