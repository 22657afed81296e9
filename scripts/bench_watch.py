"""What scripts/bench watch runs; see there."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.devices.loop import LoopStick, make_image, udev_daemon

SNEAKER = [sys.executable, "-m", "sneaker"]


def sneaker(home: Path, *arguments: str | Path) -> None:
    subprocess.run([*SNEAKER, "--home", home, "-q", *arguments], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)


def start(home: Path, command: str) -> subprocess.Popen[str]:
    """Start 'watch' or 'run' and wait until it is ready."""
    process = subprocess.Popen(
        [*SNEAKER, "--home", home, command, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    while "waiting for enrolled sticks" not in (line := process.stderr.readline()):
        if not line:
            raise SystemExit(f"'{command}' ended")
    return process


def stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.communicate(timeout=60)


def inserts(homes: tuple[Path, Path], stick: LoopStick, times: int) -> None:
    """Measure visits that take in one message: the other machine has left one, each time."""
    here, other = homes
    stick.plug_in()
    stick.mount()
    sneaker(here, "drive", "init", stick.mount_point)
    sneaker(other, "drive", "trust", stick.mount_point)
    process = start(here, "watch")
    assert process.stdout is not None
    steps: dict[str, list[float]] = {"syncing": [], "visited": []}
    try:
        for number in range(times + 1):
            sneaker(other, "publish", f"message {number}")
            sneaker(other, "sync", stick.mount_point)
            stick.unmount()
            stick.pull_out()
            began = stick.plug_in()  # the kernel says that something is there
            stick.mount()  # as a desktop does, which takes longer
            while True:
                event = json.loads(process.stdout.readline())
                if event.get("mount_point") != str(stick.mount_point):
                    continue
                if number and event["event"] in steps:  # the first time is not counted: it was mounted before
                    steps[event["event"]].append(time.monotonic() - began)
                if event["event"] == "visited" and event["messages_in"]:
                    break
    finally:
        stop(process)
    for name, text in (("syncing", "the visit begins"), ("visited", "the visit is over")):
        print(
            f"from the kernel's event until {text}: median {statistics.median(steps[name]):.2f} s,"
            f" {min(steps[name]):.2f} to {max(steps[name]):.2f} s, {len(steps[name])} times, one new message each"
        )


def used(process: subprocess.Popen[str]) -> tuple[float, float]:
    """Return the processor time that a process has used, in seconds, and what it holds in memory, in MB."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    status = Path(f"/proc/{process.pid}/status").read_text().split()
    return seconds, int(status[status.index("VmRSS:") + 1]) / 1000


def idle(homes: tuple[Path, Path], seconds: float) -> None:
    """Measure 'watch' and 'run' at the same time, while nothing is plugged in."""
    processes = {"watch": start(homes[0], "watch"), "run": start(homes[1], "run")}
    try:
        before = {name: used(process) for name, process in processes.items()}
        time.sleep(seconds)
        for name, process in processes.items():
            spent, memory = used(process)
            spent -= before[name][0]
            print(
                f"'{name}' idle for {seconds:.0f} s: {spent:.2f} s of processor time ({100 * spent / seconds:.3f} %),"
                f" {memory:.0f} MB resident ({before[name][1]:.0f} MB at first)"
            )
    finally:
        for process in processes.values():
            stop(process)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench watch", description=__doc__)
    parser.add_argument("--inserts", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=300, help="how long it is watched doing nothing")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sneaker-bench-") as work, udev_daemon():
        folder = Path(work)
        homes = folder / "here", folder / "other"
        for home in homes:
            sneaker(home, "init")
            (home / "config.toml").write_text("[notify]\ndesktop = false\n")
        stick = LoopStick(make_image(folder / "stick.img"), folder / "stick")
        try:
            inserts(homes, stick, given.inserts)
        finally:
            stick.clean_up()
        idle(homes, given.seconds)


if __name__ == "__main__":
    main()
