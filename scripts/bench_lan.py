"""What scripts/bench lan runs; see there.

One peer holds a log, the other asks for every feed in it; the time runs from the call of ``connect`` until the last message is
in the store of the one that lacked it, as its own clock says.  All peers are processes of their own on this machine.  The
seconds of CPU that each side took meanwhile, its own processes included, say more than the rate if the machine is not idle.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from sneaker.caps import Caps
from sneaker.cli import tune_interpreter
from sneaker.home.home import open_home
from sneaker.net.dial_schedule import DialSchedule
from sneaker.net.listener import Listener
from sneaker.net.run_peer import running_node
from sneaker.wire.address import net_address, parse_address
from tests import js_oracle
from tests.net.machines import Machine, clock_of


class Side:
    """A peer of either kind: knows its address and its process, connects, and says how many messages it holds."""

    def __init__(self, address: str, pid: int, connect: Callable[[str], None], count: Callable[[], int]) -> None:
        self.address, self.pid, self.connect, self.count = address, pid, connect, count

    def cpu_seconds(self) -> float:
        """What the process and its children have used, the dead ones included."""
        ticks = 0
        children = [path.read_text().split() for path in Path(f"/proc/{self.pid}/task").glob("*/children")]
        for pid in (self.pid, *chain.from_iterable(children)):
            with suppress(OSError):  # it has just ended
                ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def sneaker(folder: Path, log: Path | None, clock: dict[str, int]) -> Iterator[Side]:
    machine = Machine(folder)
    if log is not None:
        machine.take(log)
    else:
        machine.follow_all(clock)
    control = machine.open_clock()
    command = [sys.executable, str(Path(__file__)), "--peer", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        orders = process.stdin

        def connect(address: str) -> None:
            orders.write(address + "\n")
            orders.flush()

        try:
            address = process.stdout.readline().strip()
            yield Side(address, process.pid, connect, lambda: sum(n for feed, n in control().items() if feed in clock))
        finally:
            orders.close()
            process.wait(30)


async def run_peer(path: Path) -> None:
    """Run a sneaker peer that dials the addresses it reads from standard input, as a peer that heard a beacon does."""
    home = open_home(path, Caps())
    tune_interpreter()
    async with running_node(home, 2, lambda text: print(text, file=sys.stderr)) as node:
        listener = Listener(node, "127.0.0.1", 0)
        await listener.start_listening()
        schedule = DialSchedule(node)
        schedule.start()
        print(net_address("127.0.0.1", listener.port, node.me), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            schedule.keep_connected(parse_address(line.strip()))
        await schedule.stop()
        listener.stop_listening()


@contextmanager
def db2(folder: Path, log: Path | None, clock: dict[str, int]) -> Iterator[Side]:
    folder.mkdir()
    with js_oracle.Peer("db2.cjs", path=str(folder)) as peer:
        if log is not None:
            refused = peer.ask("import", file=str(log), timeout_s=600)["refused"]
            assert not refused, refused[:3]
        for feed in clock:
            peer.ask("request", feed=feed)

        def count() -> int:
            theirs: dict[str, int] = peer.ask("clock", timeout_s=600)
            return sum(n for feed, n in theirs.items() if feed in clock)

        yield Side(peer.address, peer.pid, lambda address: peer.ask("connect", address=address), count)


KINDS: dict[str, Any] = {"sneaker": sneaker, "ssb-db2": db2}


class Run(NamedTuple):
    """One transfer: messages per second, and seconds of CPU that source and sink took for it."""

    rate: float
    source_cpu: float
    sink_cpu: float


def measure(source: str, sink: str, log: Path, clock: dict[str, int]) -> Run:
    """Transfer everything from ``source`` to ``sink``; the sink dials."""
    total = sum(clock.values())
    with tempfile.TemporaryDirectory(prefix="sneaker-bench-") as name:  # noqa: SIM117
        with (
            KINDS[source](Path(name) / "source", log, clock) as one,
            KINDS[sink](Path(name) / "sink", None, clock) as two,
        ):
            assert one.count() == total, (one.count(), total)
            before = one.cpu_seconds(), two.cpu_seconds()
            started = time.perf_counter()
            two.connect(one.address)
            while two.count() < total:
                if time.perf_counter() - started > 600:
                    raise SystemExit(f"{source} -> {sink}: only {two.count()} of {total} arrived")
                time.sleep(0.02)
            rate = total / (time.perf_counter() - started)
            return Run(rate, one.cpu_seconds() - before[0], two.cpu_seconds() - before[1])


def memory_of_many(log: Path, clock: dict[str, int], clients: int) -> tuple[float, float, float]:
    """Return resident MB of a sneaker peer before and at most while it serves so many clients, and messages per second."""
    with tempfile.TemporaryDirectory(prefix="sneaker-bench-") as name, ExitStack() as stack:
        machine = Machine(Path(name) / "hub")
        machine.take(log)
        others = [Machine(Path(name) / f"client-{number}") for number in range(clients)]
        for other in others:
            other.follow_all(clock)
        running = stack.enter_context(machine.peer(prefix=["env"]))
        before = highest = running.memory()
        started = time.perf_counter()
        processes = [
            subprocess.Popen(other.command("connect", "--json", running.address), stdout=subprocess.PIPE)
            for other in others
        ]
        while any(process.poll() is None for process in processes):
            highest = max(highest, running.memory())
            time.sleep(0.1)
        seconds = time.perf_counter() - started
        reports = [json.loads(process.communicate()[0]) for process in processes]
        assert all(report["level"] for report in reports), [report["detail"] for report in reports]
        assert all(other.clock().items() >= clock.items() for other in others)
        return before / 1e6, highest / 1e6, clients * sum(clock.values()) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure syncing over a network.")
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--pair", nargs=2, choices=KINDS, help="measure only this: source and sink")
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--log", type=Path, help="an NDJSON log to use instead of making one")
    parser.add_argument("--clients", type=int, default=20, help="for the memory of a hub; 0 leaves that out")
    parser.add_argument("--repeat", type=int, default=2, help="runs of each pair; the best counts")
    options = parser.parse_args()
    if options.peer is not None:
        if os.environ.get("BENCH_PROFILE"):
            import cProfile

            profile = cProfile.Profile()
            profile.runcall(asyncio.run, run_peer(options.peer))
            profile.dump_stats(f"{os.environ['BENCH_PROFILE']}-{options.peer.name}")
        else:
            asyncio.run(run_peer(options.peer))
        return
    with tempfile.TemporaryDirectory(prefix="sneaker-bench-") as name:
        log = options.log
        if log is None:
            log = Path(name) / "log.ndjson"
            authors = str(max(1, options.messages // 100))
            make = [str(ROOT / "scripts/fixtures"), "--messages", str(options.messages), "--authors", authors]
            subprocess.run([*make, "--seed", "bench", "--out", str(log)], check=True, stdout=sys.stderr)
        js_oracle.install(js_oracle.PEERS)
        clock = clock_of(log)
        pairs = [("ssb-db2", "ssb-db2"), ("ssb-db2", "sneaker"), ("sneaker", "ssb-db2"), ("sneaker", "sneaker")]
        if options.pair:
            pairs = [tuple(options.pair)]
        runs: dict[tuple[str, str], list[Run]] = {pair: [] for pair in pairs}
        for _ in range(options.repeat):
            for pair in pairs:
                runs[pair].append(measure(*pair, log, clock))
        base = max(runs[pairs[0]]).rate
        print(
            f"{sum(clock.values())} messages of {len(clock)} feeds, {os.cpu_count()} cores; the one on the right dials"
        )
        for (source, sink), taken in runs.items():
            rate, source_cpu, sink_cpu = max(taken)
            print(
                f"{source:>8} -> {sink:<8} {rate:8.0f} messages/s  {rate / base:5.2f} x {' -> '.join(pairs[0])};"
                f"  CPU: {source_cpu:.2f} s -> {sink_cpu:.2f} s"
            )
        if options.clients:
            before, highest, rate = memory_of_many(log, clock, options.clients)
            print(
                f"a hub with {options.clients} clients at once: {before:.0f} MB before, {highest:.0f} MB at most, {rate:.0f} messages/s"
            )


if __name__ == "__main__":
    main()
