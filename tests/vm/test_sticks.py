"""A real USB stick in real machines: carried, yanked out, and there when the power goes.

There is a stick with vfat and one with exFAT, and for each two virtual machines.  ``hub`` has no desktop: the udev rule
starts sneaker, which has udisks2 mount and unmount.  ``desk`` is somebody's machine: that person ran 'sneaker setup', and
somebody mounts.  What happens to the two sticks happens at the same time, so that both cores of a small machine have
something to do.  Printed is a transcript; ``scripts/vm-test`` shows it.

No moment here depends on how fast the machine is: the stick is yanked, and the power cut, at a random one of the write
requests of a visit.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.vm.image import CACHE, PERSON, base, build_wheels, install, overlay
from tests.vm.machine import Machine
from tests.vm.sticks import Stick, make_stick

pytestmark = [pytest.mark.qemu, pytest.mark.disk, pytest.mark.slow, pytest.mark.timeout(3600)]

# How often a stick is yanked and the power cut, half of them on each file system; the seed chooses the moments.
TIMES = int(os.environ.get("SNEAKER_VM_TIMES") or 10)
SEED = int(os.environ.get("SNEAKER_VM_SEED") or 20)

_HOME = f"/home/{PERSON}/.local/share/sneaker"
# Writes down what a hook is told, and how the stick is mounted then.
_HOOK = f"""\
#!/bin/sh
echo "$@" "$(grep -m 1 -o 'STICK [^ ]*' /proc/self/mountinfo)" >> {_HOME}/told
"""


def hub_settings(kind: str) -> str:
    """Return the settings of a hub; one of them also switches sticks off."""
    power_off = str(kind == "exfat").lower()
    return f'[drives]\nmount = true\npower_off = {power_off}\n[notify]\nhook = ["{_HOME}/hook"]\n'


_SAYS = r"sneaker\[\d+\]: \S*STICK\S*: "

_STARTED = time.monotonic()


def say(text: str) -> None:
    print(f"{time.monotonic() - _STARTED:6.1f} s  {text}", flush=True)


@dataclass
class World:
    """A stick, and the two machines between which it is carried."""

    stick: Stick
    hub: Machine
    desk: Machine
    #: What the hub wrote on the stick in a visit with a large attachment, in requests.
    writes: int = 0
    published: int = 0
    rng: random.Random = field(default_factory=random.Random)

    @property
    def kind(self) -> str:
        return self.stick.kind

    def say(self, text: str) -> None:
        say(f"{self.kind + ':':<7}{text}")


def together(worlds: Sequence[World], act: Callable[[World], None]) -> None:
    """Do something in all worlds at once; if that fails in one, the others end as well."""
    with ThreadPoolExecutor(len(worlds)) as pool:
        try:
            for done in as_completed([pool.submit(act, world) for world in worlds]):
                done.result()
        except BaseException:
            for world in worlds:
                world.hub.cut_power()
                world.desk.cut_power()
            raise


def start(world: World) -> None:
    """Start both machines for the first time, and make their homes."""
    for machine in (world.hub, world.desk):
        machine.start()
    for machine in (world.hub, world.desk):
        machine.wait_until_up()
        machine.sneaker("init")
    script = (
        f"cat > {_HOME}/config.toml <<'END'\n{hub_settings(world.kind)}END\ncat > {_HOME}/hook <<'END'\n{_HOOK}END\n"
    )
    world.hub.run(["sh", "-c", f"{script}chmod +x {_HOME}/hook"], user=PERSON)
    world.desk.sneaker("setup")
    world.desk.wait_for(r"sneaker\[\d+\]: waiting for enrolled sticks")
    world.say("hub and desk are up; at the desk 'sneaker setup' has installed and started the service")


@pytest.fixture(scope="module")
def worlds() -> Iterator[list[World]]:
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=CACHE))
    made: list[World] = []
    try:
        say("building: Debian bookworm with systemd, udev and udisks2; sneaker as a wheel, with what it needs")
        with ThreadPoolExecutor(1) as pool:
            wheels = pool.submit(build_wheels, folder / "wheels")
            built_of = base()
            install(built_of, folder / "start.img", wheels.result())
        say("built; starting the machines")
        for kind in ("vfat", "exfat"):
            machines = []
            for name in (f"hub-{kind}", f"desk-{kind}"):
                overlay(folder / f"{name}.img", folder / "start.img")
                machines.append(Machine(name, built_of, folder / f"{name}.img", folder))
            rng = random.Random(f"{SEED} {kind}")
            made.append(World(make_stick(folder / f"{kind}.img", kind), *machines, rng=rng))
        together(made, start)
        yield made
    finally:
        for world in made:
            for machine in (world.hub, world.desk):
                machine.shut_down()
                if machine.log_path.exists():
                    shutil.copy(machine.log_path, CACHE / machine.log_path.name)
        shutil.rmtree(folder)


def mount(machine: Machine, stick: Stick) -> str:
    """Mount the stick as a desktop does for its person; return where."""
    machine.run(["sh", "-c", f"until test -b {stick.node}; do sleep 0.2; done; udevadm settle"])
    machine.run(["udisksctl", "mount", "--no-user-interaction", "-b", stick.node], user=PERSON)
    return machine.run(["findmnt", "-n", "-o", "TARGET", stick.node]).stdout.strip()


def unmount(machine: Machine, stick: Stick) -> None:
    machine.run(["udisksctl", "unmount", "--no-user-interaction", "-b", stick.node], user=PERSON)


def wait_for_hub(world: World, since: int) -> str:
    """Wait until the hub says that the stick may go; return what it said."""
    found = world.hub.wait_for(_SAYS + r"(.*unmounted, pull it out.*)", since)
    world.say(f"hub: {found[1]}")
    return found[1]


def visit_at_hub(world: World) -> str:
    """Plug the stick into the hub, wait until it says that it may go, pull it out; return what it said."""
    at = world.hub.log_size()
    world.hub.plug_in(world.stick.image)
    said = wait_for_hub(world, at)
    # One hub switches sticks off: that is as if they had been pulled out.
    there = world.hub.run(["test", "-e", "/dev/disk/by-label/STICK"], check=False).returncode == 0
    assert there == (world.kind == "vfat")
    world.hub.pull_out()
    return said


def visit_at_desk(world: World) -> str:
    """Plug the stick into the desk, where somebody mounts it; wait until it may go, unmount and pull it out."""
    desk = world.desk
    at = desk.log_size()
    desk.plug_in(world.stick.image)
    mount(desk, world.stick)
    found = desk.wait_for(_SAYS + r"(.*safe to remove.*)", at)
    unmount(desk, world.stick)
    desk.pull_out()
    world.say(f"desk: {found[1]}")
    return found[1]


def clock(machine: Machine) -> dict[str, int]:
    found: dict[str, int] = json.loads(machine.sneaker("clock", "--json"))
    return found


def publish(machine: Machine, *, attach: bool = False) -> None:
    """Publish a message, if asked for with an attachment that makes the next visit a long one."""
    script = "head -c 2000000 /dev/urandom > /tmp/attachment; sneaker -q publish hello --attach /tmp/attachment"
    machine.run(["sh", "-c", script if attach else "sneaker -q publish hello"], user=PERSON)


def carry(world: World) -> None:
    hub, desk, stick = world.hub, world.desk, world.stick
    hub.plug_in(stick.image)
    where = mount(hub, stick)
    hub.sneaker("drive", "init", where)
    unmount(hub, stick)
    hub.pull_out()
    for machine in (hub, desk):
        publish(machine)
    world.say("enrolled at the hub; both have published something")
    visit_at_hub(world)
    ok, said = stick.check()
    assert ok, said
    wait = f"until grep -s done {_HOME}/told; do sleep 0.2; done >/dev/null; cat {_HOME}/told"
    told = hub.run(["sh", "-c", wait]).stdout.splitlines()
    world.say(f"the hub's hook was told: {' | '.join(told)}")
    # The options are those at the mount point, in the service's own view.
    assert re.fullmatch(r"syncing 0 0 0 STICK \S*rw,nosuid,nodev,noexec\S*", told[0])
    assert told[1].startswith("done 0 0 1 ")

    at = desk.log_size()
    desk.plug_in(stick.image)
    where = mount(desk, stick)
    desk.wait_for(_SAYS + "a sneaker stick that is not known here", at)
    world.say("desk: not known here, left alone; now somebody says 'sneaker drive trust'")
    desk.sneaker("drive", "trust", where)
    desk.run(["systemctl", "--user", "reload", "sneaker.service"], user=PERSON)
    found = desk.wait_for(_SAYS + r"(.*safe to remove.*)", at)
    world.say(f"desk: {found[1]}")
    assert "1 new message from 1 person" in found[1]
    unmount(desk, stick)
    desk.pull_out()

    assert "1 new message from 1 person" in visit_at_hub(world)
    assert clock(hub) == clock(desk)
    assert sorted(clock(hub).values()) == [1, 1]
    world.published = 3
    publish(hub, attach=True)
    at = hub.log_size()
    hub.plug_in(stick.image)
    wait_for_hub(world, at)
    world.writes = hub.written()
    hub.pull_out()
    ok, said = stick.check()
    assert ok, said
    if world.kind == "vfat":
        at = hub.log_size()
        hub.plug_in(stick.image, protected=True)
        assert "the stick is write-protected" in wait_for_hub(world, at)
        hub.pull_out()
    world.say(
        f"back at the hub, all is level and fsck finds nothing; the last visit made {world.writes} write requests"
    )


def test_carried_to_and_fro(worlds: list[World]) -> None:
    """Enrolled, visited at the hub, unknown and then trusted at the desk, and back."""
    say("---- a stick is carried to another machine and back")
    together(worlds, carry)


def test_the_service_is_ready_and_watched(worlds: list[World]) -> None:
    """systemd has been told that the service is ready, what it does, and that it is alive."""
    desk = worlds[0].desk
    names = "ActiveState,Type,StatusText,WatchdogTimestampMonotonic,NoNewPrivileges"
    shown = desk.run(["systemctl", "--user", "show", "sneaker.service", "-p", names], user=PERSON).stdout
    values = dict(line.split("=", 1) for line in shown.splitlines())
    assert (values["ActiveState"], values["Type"], values["NoNewPrivileges"]) == ("active", "notify", "yes")
    assert "STICK" in values["StatusText"]
    assert int(values["WatchdogTimestampMonotonic"]) > 0
    say(f"---- the service at the desk, by systemd: {values}")


# What fsck says of every file system that was not unmounted, and what it says it would do.
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


def disturb(world: World, blow: Callable[[World, int], None], heal: Callable[[World, int], str]) -> None:
    """Strike at random moments of visits; after each, the next insert has to end well, with nothing lost."""
    hub = world.hub
    times = max(1, TIMES // 2)
    struck = during = 0
    while during < times:
        # Moments are spread over the visit. One that comes when the visit is over counts for nothing.
        moment = int((during + world.rng.random()) / times * world.writes)
        struck += 1
        world.published += 1
        assert struck <= 4 * times, "nearly all visits are over before anything can happen to them"
        publish(hub, attach=True)
        at = hub.log_size()
        hub.plug_in(world.stick.image)
        hub.wait_for(_SAYS + "syncing, do not pull it out", at)
        while hub.written() < moment and "unmounted, pull it out" not in hub.log(at):
            time.sleep(0.002)
        made = hub.written()
        blow(world, at)
        was_over = "unmounted, pull it out" in hub.log(at)
        during += not was_over
        when = "when the visit was over, which does not count" if was_over else f"after {made} write requests"
        world.say(f"{during}: {when}; fsck: {verdict(world.stick)}")
        said = heal(world, struck)
        if re.search("refused|damaged", said):
            # FAT has no journal: a file that was being removed may be there again, with something else in it. That is
            # said, once.
            world.say(f"said once: {said}")
            said = visit_at_hub(world)
        assert not re.search("refused|damaged|failed", said), said
    world.say(f"{during} times, and each time the next visit ended well")


def yank(world: World, since: int) -> None:
    """Pull the stick out, and wait until the hub has noticed."""
    world.hub.pull_out()
    found = world.hub.wait_for(_SAYS + r"(pulled out too early.*|.*unmounted, pull it out.*|removed)", since)
    world.say(f"hub: {found[1]}")


def test_yanked_out(worlds: list[World]) -> None:
    """The stick is pulled out at random moments of the visit."""
    say("---- yanked out during the visit")
    together(worlds, lambda world: disturb(world, yank, lambda world, number: visit_at_hub(world)))


def cut(world: World, since: int) -> None:
    world.hub.cut_power()


def boot(world: World, number: int) -> str:
    """The power comes back; every other time the stick has been left where it was."""
    hub = world.hub
    at = hub.log_size()
    hub.start()
    if number % 2:
        hub.plug_in(world.stick.image)
        said = wait_for_hub(world, at)
        hub.pull_out()
    hub.wait_until_up()
    return said if number % 2 else visit_at_hub(world)


def test_power_cut(worlds: list[World]) -> None:
    """The hub loses its power at random moments of the visit, and boots again."""
    say("---- the power is cut during the visit")
    together(worlds, lambda world: disturb(world, cut, boot))


def agree(world: World) -> None:
    visit_at_desk(world)
    for machine in (world.hub, world.desk):
        assert sum(clock(machine).values()) == world.published
        assert "clean" in machine.sneaker("check")
    world.say(f"both machines have all {world.published} messages, and 'sneaker check' finds nothing")


def test_nothing_was_lost(worlds: list[World]) -> None:
    """After all that, what was ever published is at the other machine too, and both stores are in order."""
    say("---- carried to the desk once more")
    together(worlds, agree)


def test_uninstall(worlds: list[World]) -> None:
    """'sneaker setup --uninstall' stops the service and leaves nothing behind."""
    desk = worlds[0].desk
    unit = f"/home/{PERSON}/.config/systemd/user/sneaker.service"
    desk.run(["test", "-f", unit])
    desk.sneaker("setup", "--uninstall")
    assert desk.run(["systemctl", "--user", "is-active", "sneaker.service"], user=PERSON, check=False).returncode != 0
    assert desk.run(["find", f"/home/{PERSON}/.config/systemd", "-name", "*sneaker*"]).stdout == ""
    say("---- 'sneaker setup --uninstall' has stopped the service and left nothing behind")
