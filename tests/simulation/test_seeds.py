"""The simulation with given seeds: every promise holds after every step, and everybody ends up with everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from sneaker.planning.send_order import Order
from tests.folders import memory_folder
from tests.simulation.world import World
from tests.tries import amount


def run(seed: int, steps: int, folder: Path) -> World:
    order = Order.BREADTH if seed % 2 else Order.DEPTH
    budget = 64 * 1024 if seed % 5 == 4 else None
    message_bytes = 90 if budget is None else 1500  # so large that a visit cannot carry what a burst leaves
    world = World(folder, seed, 3 + seed % 4, 1 + seed % 3, order=order, max_bytes=budget, message_bytes=message_bytes)
    try:
        for _ in range(steps):
            world.step()
        world.settle()
    except BaseException:
        print(f"seed {seed}:", *world.log[-40:], sep="\n  ")
        raise
    return world


@pytest.mark.parametrize("seed", range(5))
def test_a_short_life(seed: int) -> None:
    with memory_folder() as folder:
        steps = amount(quick=40, thorough=80)
        world = run(seed, steps, folder)
        assert world.visits > steps / 2
        assert world.delivery.delays


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(1000, 1008))
def test_a_long_life(seed: int) -> None:
    with memory_folder() as folder:
        run(seed, 300, folder)
