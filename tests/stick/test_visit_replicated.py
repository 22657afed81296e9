"""Any folder is a stick: real rsync between copies of one, and several machines in one folder at the same moment."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from sneaker.store.check import check
from tests import command_line
from tests.homes import log_lines
from tests.sticks import Machine, bundles, cards, machines, names, snapshot
from tests.tries import amount


class Site:
    """A machine and its copy of the shared folder."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine = machine
        self.folder = folder
        #: Every file that ever had a whole name here, and its bytes.
        self.seen: dict[str, bytes] = {}

    def watch(self) -> None:
        """Notice if a file changes after it got its name."""
        for name, data in snapshot(self.folder).items():
            if not Path(name).name.startswith("."):
                assert self.seen.setdefault(name, data) == data, f"{name} was overwritten"


def rsync(source: Path, target: Path, *options: str) -> None:
    subprocess.run(["rsync", "-r", *options, f"{source}/", f"{target}/"], check=True, capture_output=True)


def replicate_some(source: Path, target: Path, chance: random.Random) -> None:
    """Do what an rsync does that is interrupted: some files arrive, in any order, one stays half under a temporary name."""
    missing = [
        path for path in source.rglob("*") if path.is_file() and not (target / path.relative_to(source)).exists()
    ]
    chance.shuffle(missing)
    count = chance.randint(0, len(missing))
    for path in missing[:count]:
        wanted = path.relative_to(source).as_posix()
        parts = [f"--include=/{'/'.join(wanted.split('/')[: depth + 1])}" for depth in range(wanted.count("/") + 1)]
        rsync(source, target, *parts, "--exclude=*")
        assert (target / wanted).read_bytes() == path.read_bytes()
    if count < len(missing):
        path = missing[count]
        half = target / path.relative_to(source).parent / f".{path.name}.{chance.randbytes(3).hex()}"
        half.parent.mkdir(parents=True, exist_ok=True)
        half.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.fixture
def sites(tmp_path: Path, request: pytest.FixtureRequest) -> list[Site]:
    """Two or three machines, each with a copy of a folder that the first one made a stick."""
    letters = "ABC"[: request.param]
    first = tmp_path / "folder A"
    all_machines = machines(tmp_path, first, letters[0])
    made = [Site(all_machines[0], first)]
    for letter in letters[1:]:
        folder = tmp_path / f"folder {letter}"
        folder.mkdir()
        rsync(first, folder)
        machine = Machine(tmp_path, letter)
        machine.publish(f"hello from {letter}")
        machine.trust(folder)
        made.append(Site(machine, folder))
    return made


def level(sites: list[Site]) -> None:
    """Replicate everything everywhere, and let everybody visit, until nothing changes."""
    for _ in range(6):
        before = [snapshot(site.folder) for site in sites]
        for site in sites:
            for other in sites:
                if site is not other:
                    rsync(site.folder, other.folder)
        for site in sites:
            report = site.machine.sync(site.folder)
            assert report.complete, report.problems
            site.watch()
        if [snapshot(site.folder) for site in sites] == before:
            break


def check_same(sites: list[Site], messages: int) -> None:
    logs = []
    for site in sites:
        with site.machine.opened() as opened:
            logs.append(log_lines(opened))
            assert check(opened.store).clean
    assert all(log == logs[0] for log in logs)
    assert len(logs[0]) == messages


@pytest.mark.rsync
@pytest.mark.parametrize("sites", [2, 3], indirect=True)
def test_rsync_with_a_lag(sites: list[Site]) -> None:
    """Each way every few visits, complete or interrupted: all converge, and no file changes once it has its name."""
    chance = random.Random(len(sites))
    published = len(sites)
    for _ in range(12):
        site = chance.choice(sites)
        if chance.random() < 0.6:
            count = chance.randint(1, 4)
            site.machine.publish(*(os.urandom(200).hex() for _ in range(count)))
            published += count
        report = site.machine.sync(site.folder)
        assert report.safe_to_remove
        assert not report.problems
        site.watch()
        source, target = chance.sample(sites, 2)
        if chance.random() < 0.5:
            replicate_some(source.folder, target.folder, chance)
        elif chance.random() < 0.5:
            rsync(source.folder, target.folder, "-t")
        target.watch()
    level(sites)
    check_same(sites, published)


@pytest.mark.rsync
@pytest.mark.parametrize("sites", [2], indirect=True)
def test_rsync_beside_a_visit(sites: list[Site]) -> None:
    """Replication runs all the time, in both directions, while both machines visit: real processes, no pauses."""
    script = "while :; do rsync -r --delay-updates '{0}/' '{1}/'; rsync -r '{1}/' '{0}/'; done"
    runner = subprocess.Popen(
        ["bash", "-c", script.format(sites[0].folder, sites[1].folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for number in range(8):
            for site in sites:
                site.machine.publish(f"{number} of {site.machine.name}")
                report = site.machine.sync(site.folder)
                # A file that rsync has begun to copy may be gone the next moment; it is never taken for damage.
                assert report.safe_to_remove
                assert not report.problems
                assert report.imported.complete, report.imported.sources
                site.watch()
    finally:
        os.killpg(runner.pid, 9)
        runner.wait()
    level(sites)
    check_same(sites, 18)


@pytest.mark.rsync
@pytest.mark.parametrize("sites", [2], indirect=True)
def test_in_place_replicator(sites: list[Site]) -> None:
    """One that writes under the final name: half of a file is damaged for the moment, and whole later on."""
    (here, there) = sites
    here.machine.publish(*(os.urandom(400).hex() for _ in range(40)))
    here.machine.sync(here.folder)
    for path in here.folder.rglob("*"):
        if path.is_file():
            target = there.folder / path.relative_to(here.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                target.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert not there.machine.sync(there.folder).imported.complete
    rsync(here.folder, there.folder, "--inplace")
    assert there.machine.sync(there.folder).complete
    assert there.machine.clock()[here.machine.me] == 41


def start(machine: Machine, stick: Path, visits: int) -> command_line.Running:
    script = (
        "import sys; from pathlib import Path; from tests.sticks import Machine\n"
        f"machine = Machine(Path({str(machine.path.parent)!r}), {machine.name!r}); stick = Path({str(stick)!r})\n"
        f"for number in range({visits}):\n"
        "    machine.publish(f'{number} of {machine.name}'); report = machine.sync(stick)\n"
        "    assert report.safe_to_remove and not report.problems, report\n"
        "    assert report.imported.complete, report.imported\n"
    )
    return command_line.start([], program=script, stderr=subprocess.PIPE)


@pytest.mark.parametrize("count", [2, 3])
def test_machines_in_one_folder_at_the_same_moment(tmp_path: Path, count: int) -> None:
    """Each visits as often and as fast as it can: nobody is disturbed, and all have everything afterwards."""
    visits = amount(quick=4, thorough=10)
    stick = tmp_path / "stick"
    all_machines = machines(tmp_path, stick, "ABC"[:count])
    running = [start(machine, stick, visits) for machine in all_machines]
    for process in running:
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors.decode()
    for _ in range(3):
        for machine in all_machines:
            assert machine.sync(stick).complete
    check_same([Site(machine, stick) for machine in all_machines], (1 + visits) * count)
    assert names(bundles(stick)) == set()
    assert len(names(cards(stick))) == count


def test_one_home_twice_at_the_same_moment(tmp_path: Path) -> None:
    """A second visit of the same home waits for the first one."""
    stick = tmp_path / "stick"
    (machine, other) = machines(tmp_path, stick, "AB")
    machine.publish(*(os.urandom(2000).hex() for _ in range(300)))
    arguments = ["--home", str(machine.path), "sync", str(stick)]
    running = [command_line.start(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
    for process in running:
        out, errors = process.communicate(timeout=100)
        assert process.returncode == 0, out + errors
    assert len(names(bundles(stick))) == 1, "it was written once"
    other.sync(stick)
    assert other.clock()[machine.me] == 301


def test_copy_of_a_stick(tmp_path: Path) -> None:
    """A copy of a stick (dd, cp -r) has the same id; what each holds is looked at each time, and nothing is mixed up."""
    stick, copy = tmp_path / "stick", tmp_path / "copy"
    (first, second) = machines(tmp_path, stick, "AB")
    first.sync(stick)
    shutil.copytree(stick, copy)
    first.publish("only on the first one")
    first.sync(stick)
    second.sync(copy)
    assert second.clock()[first.me] == 1
    second.sync(stick)
    assert second.clock()[first.me] == 2
    for machine in (first, second, first, second):
        machine.sync(copy)
        machine.sync(stick)
    assert first.clock() == second.clock()
