"""Hypothesis chooses what happens in the valley, and shrinks what goes wrong to the fewest steps."""

from __future__ import annotations

from contextlib import ExitStack

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from sneaker.planning.send_order import Order
from tests.folders import memory_folder
from tests.simulation.world import World
from tests.tries import amount, tries

machine = st.integers(0, 2)
stick = st.integers(0, 1)


class Valley(RuleBasedStateMachine):
    """Three machines and two sticks; the rules are the actions of ``World``."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.world: World

    @initialize(seed=st.integers(0, 2**32), order=st.sampled_from(Order), tight=st.booleans())
    def begin(self, seed: int, order: Order, tight: bool) -> None:
        folder = self.stack.enter_context(memory_folder())
        self.world = World(folder, seed, 3, 2, order=order, max_bytes=65536 if tight else None, message_bytes=600)

    @rule(number=machine, count=st.sampled_from([1, 1, 2, 60]))
    def publish(self, number: int, count: int) -> None:
        self.world.publish(number, count)

    @rule(number=machine, place=stick)
    def visit(self, number: int, place: int) -> None:
        self.world.visit(number, place)

    @rule(number=machine, place=stick)
    def visit_without_export(self, number: int, place: int) -> None:
        self.world.visit(number, place, export=False)

    @rule(number=machine, place=stick, after=st.integers(0, 80))
    def crash(self, number: int, place: int, after: int) -> None:
        self.world.crash(number, place, after)

    @rule(number=machine)
    def back_up(self, number: int) -> None:
        self.world.back_up(number)

    @precondition(lambda self: any(machine.backup is not None for machine in self.world.machines))
    @rule(number=machine)
    def restore(self, number: int) -> None:
        self.world.restore(number)

    @rule(place=stick)
    def lose_file(self, place: int) -> None:
        self.world.lose_file(place)

    @rule(place=stick)
    def lose_all_but_a_card(self, place: int) -> None:
        self.world.lose_all_but_a_card(place)

    @rule(place=stick)
    def rot(self, place: int) -> None:
        self.world.rot(place)

    @rule(place=stick)
    def litter(self, place: int) -> None:
        self.world.litter(place)

    @rule(place=stick)
    def replicate(self, place: int) -> None:
        self.world.replicate(place, 1 - place)

    @rule(place=stick)
    def set_aside(self, place: int) -> None:
        self.world.set_aside(place)

    @rule(place=stick)
    def put_back(self, place: int) -> None:
        self.world.put_back(place)

    @rule(place=stick)
    def lose_stick(self, place: int) -> None:
        self.world.lose_stick(place)

    def teardown(self) -> None:
        with self.stack:
            if hasattr(self, "world"):
                self.world.settle()


@pytest.mark.timeout(300)
def test_whatever_happens() -> None:
    settings = tries(15, *hypothesis.HealthCheck, stateful_step_count=amount(quick=12, thorough=25))
    run_state_machine_as_test(Valley, settings=settings)  # type: ignore[no-untyped-call]
