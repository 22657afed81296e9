"""Larger simulations than the tests run, and what they measure; see ``tests/simulation/world.py``."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sneaker.planning.send_order import Order
from tests.folders import memory_folder
from tests.simulation.world import World

# A machine in four talks a lot.
_TALKERS = 4
_BURST = 300
_QUIET = (1, 2, 3, 5)
_MOST_DRAINING_VISITS = 4000


def hunt(seeds: Sequence[int], steps: int) -> int:
    """Run worlds with every kind of accident; return how many broke a promise."""
    broken = 0
    for seed in seeds:
        started = time.monotonic()
        with memory_folder() as folder:
            order = Order.BREADTH if seed % 2 else Order.DEPTH
            budget = 64 * 1024 if seed % 5 == 4 else None
            size = 90 if budget is None else 1500  # so large that a visit cannot carry what a burst leaves
            world = World(folder, seed, 3 + seed % 4, 1 + seed % 3, order=order, max_bytes=budget, message_bytes=size)
            try:
                for _ in range(steps):
                    world.step()
                rounds = world.settle()
            except BaseException as error:
                broken += 1
                print(f"seed {seed}: BROKEN at step {len(world.log)}: {type(error).__name__}: {error}")
                print("  ...", *world.log[-12:], sep="\n  ")
                if not isinstance(error, Exception):
                    raise
                continue
        messages = sum(map(len, world.feeds.values()))
        print(
            f"seed {seed}: {len(world.machines)} machines, {len(world.sticks)} sticks, {messages} messages,"
            f" {world.visits} visits; level after {rounds} rounds; {time.monotonic() - started:.1f} s"
        )
    print(f"{len(seeds) - broken} of {len(seeds)} worlds kept every promise")
    return broken


@dataclass
class Result:
    """What one order achieved under one budget, over all seeds; delays in visits."""

    order: Order
    budget: int | None
    talkers: list[int] = field(default_factory=list)
    quiet: list[int] = field(default_factory=list)
    late: int = 0
    draining_visits: int = 0
    ideal_bytes: int = 0
    written_bytes: int = 0
    read_bytes: int = 0

    @property
    def delays(self) -> list[int]:
        return self.talkers + self.quiet

    @property
    def name(self) -> str:
        return f"{self.order}, {'no limit' if self.budget is None else f'{self.budget // 1024} KiB'}"


def measure(result: Result, seed: int, machines: int, sticks: int, steps: int) -> None:
    """Let a world live without accidents, then let it drain, and add up how its messages fared."""
    with memory_folder() as folder:
        world = World(folder, seed, machines, sticks, order=result.order, max_bytes=result.budget, message_bytes=400)
        chance = world.chance
        for _ in range(steps):
            if chance.random() < 0.25:
                number = chance.randrange(machines)
                world.publish(number, _BURST if number % _TALKERS == 0 else chance.choice(_QUIET))
            world.visit(chance.randrange(machines), chance.randrange(sticks))
        result.late += world.undelivered()
        drained = 0
        while world.undelivered() and drained < _MOST_DRAINING_VISITS:
            world.visit(chance.randrange(machines), chance.randrange(sticks))
            drained += 1
        result.draining_visits += drained
        for number, machine in enumerate(world.machines):
            target = result.talkers if number % _TALKERS == 0 else result.quiet
            target.extend(world.delivery.delays.get(machine.me, []))
        result.ideal_bytes += world.delivery.ideal_bytes
        result.written_bytes += world.delivery.written_bytes
        result.read_bytes += world.delivery.read_bytes


def compare(seeds: Sequence[int], machines: int, sticks: int, steps: int, plot: Path | None) -> None:
    """Print the table, and draw the plot."""
    results = [Result(order, budget) for budget in (64 * 1024, 192 * 1024, None) for order in Order]
    for result in results:
        for seed in seeds:
            measure(result, seed, machines, sticks, steps)
        print(f"{result.name}: done", file=sys.stderr)
    print(
        f"{machines} machines, {sticks} sticks, {steps} visits while people publish, seeds {seeds[0]} to {seeds[-1]}."
        " Delay: visits by anybody from publishing to having, for each message and machine.\n"
        "late: message x machine not delivered when publishing ended; ideal: each message carried once to each machine.\n"
    )
    print(
        "| order, budget per visit | median | p90 | max | quiet people: median | p90 | max | late | visits to drain"
        " | written / ideal | read / ideal |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for result in results:
        cells = [*_quantiles(result.delays), *_quantiles(result.quiet), result.late, result.draining_visits]
        ideal = max(1, result.ideal_bytes)
        shares = [result.written_bytes / ideal, result.read_bytes / ideal]
        print(f"| {result.name} | {' | '.join(map(str, cells))} | {' | '.join(f'{share:.2f}' for share in shares)} |")
    if plot is not None:
        draw(results, plot)
        print(f"\n{plot} shows the delays", file=sys.stderr)


def _quantiles(delays: list[int]) -> list[int]:
    if len(delays) < 2:
        return [0, 0, 0]
    return [int(statistics.median(delays)), int(statistics.quantiles(delays, n=10)[8]), max(delays)]


def draw(results: Sequence[Result], path: Path) -> None:
    """Draw which share of messages was there after how many visits: of all people, and of those who say little."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(12, 4.5), sharey=True)
    colours = {budget: f"C{number}" for number, budget in enumerate(dict.fromkeys(item.budget for item in results))}
    for result in results:
        for axis, delays in zip(axes, (result.delays, result.quiet), strict=True):
            ordered = sorted(delays)
            shares = [(number + 1) / len(ordered) for number in range(len(ordered))]
            line = "-" if result.order is Order.DEPTH else "--"
            axis.plot(ordered, shares, line, color=colours[result.budget], label=result.name, linewidth=1.4)
    for axis, title in zip(axes, ("all messages", "messages of people who say little"), strict=True):
        axis.set_title(title)
        axis.set_xlabel("visits by anybody since it was published")
        axis.set_xscale("symlog", linthresh=10)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("share that has arrived")
    axes[1].legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    hunting = commands.add_parser("hunt", help="look for broken promises")
    hunting.add_argument("--seeds", type=int, default=30)
    hunting.add_argument("--first", type=int, default=0, help="the first seed")
    hunting.add_argument("--steps", type=int, default=300)
    comparing = commands.add_parser("compare", help="measure delivery in depth and breadth order")
    comparing.add_argument("--seeds", type=int, default=3)
    comparing.add_argument("--machines", type=int, default=8)
    comparing.add_argument("--sticks", type=int, default=3)
    comparing.add_argument("--steps", type=int, default=300)
    comparing.add_argument("--plot", type=Path, help="write a PNG")
    given = parser.parse_args()
    if given.command == "hunt":
        return 1 if hunt(range(given.first, given.first + given.seeds), given.steps) else 0
    compare(range(given.seeds), given.machines, given.sticks, given.steps, given.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
