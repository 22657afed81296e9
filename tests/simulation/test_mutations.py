"""Does the simulation notice when a promise is broken?  Each test breaks the program on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sneaker.planning import what_to_send
from sneaker.stick import send, visit
from sneaker.stick.cleaning import remove_bundles, remove_unneeded
from sneaker.stick.layout import BUNDLES
from sneaker.stick.safe_folder import Folder
from sneaker.stick.send import BundleSender
from sneaker.stick.visit_context import VisitContext
from sneaker.store.own_feed_claims import OwnClaims
from tests.folders import memory_folder
from tests.simulation.world import Violation, World
from tests.tries import amount

Live = Callable[[World], None]


def ordinarily(world: World) -> None:
    for _ in range(40):
        world.step(accidents=False)
    world.settle()


def forgetfully(world: World) -> None:
    """Machines lose their memory again and again, and what tells them so is scarce."""
    chance = world.chance
    actions = [world.publish, world.back_up, world.restore, world.visit, world.lose_all_but_a_card]
    for _ in range(120):
        number, stick = chance.randrange(len(world.machines)), chance.randrange(len(world.sticks))
        (action,) = chance.choices(actions, [4, 2, 2, 6, 3])
        if action == world.visit:
            world.visit(number, stick)
        else:
            action(stick if action == world.lose_all_but_a_card else number)


def violation(live: Live, seeds: int = 6) -> str | None:
    """Return what was noticed first, if anything."""
    for seed in range(seeds):
        with memory_folder() as folder:
            try:
                live(World(folder, seed, 3, 2))
            except Violation as error:
                return str(error)
    return None


@pytest.mark.parametrize("live", [ordinarily, forgetfully])
@pytest.mark.timeout(120)
def test_the_program_as_it_is(live: Live) -> None:
    assert violation(live, amount(quick=1, thorough=3)) is None


def test_claims_about_the_own_feed_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a machine's own cards say, and cards that newer ones replaced, is kept nowhere else."""
    monkeypatch.setattr(OwnClaims, "_write", lambda *arguments: None)
    assert "would fork" in (violation(forgetfully) or "")


def test_bundles_are_removed_that_somebody_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    def remove(context: VisitContext) -> None:
        if len(context.round.cards) > 1:  # the machine that was here last is taken for all of them
            cards, clocks = context.round.cards[-1:], context.round.clocks[-1:]
            context.round = replace(context.round, cards=cards, clocks=clocks, confirmed=clocks)
        remove_unneeded(context)

    monkeypatch.setattr(visit, "remove_unneeded", remove)
    assert "was removed, and some card asks for" in (violation(ordinarily) or "")


def test_bundles_of_others_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    def remove(context: VisitContext) -> None:
        remove_bundles(context, [bundle.name for bundle in context.bundles.useful()][:1])

    monkeypatch.setattr(visit, "remove_unneeded", remove)
    assert violation(ordinarily) is not None


@pytest.mark.timeout(120)
def test_a_plan_has_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    original = what_to_send.make_plan

    def make_plan(*arguments: Any, **options: Any) -> Any:
        plan = original(*arguments, **options)
        ranges = [item._replace(first=item.first + 1) for item in plan.ranges if item.messages > 1]
        return plan._replace(ranges=ranges)

    monkeypatch.setattr(send, "make_plan", make_plan)
    assert "still lack messages" in (violation(ordinarily, 2) or "")


def test_a_file_is_changed_after_it_got_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    original = BundleSender.send

    def change_too(self: BundleSender) -> None:
        original(self)
        for entry in list(self._context.bundles.present.values())[:1]:
            folder = self._context.stick.folder(BUNDLES)
            assert isinstance(folder, Folder)
            with open(f"/proc/self/fd/{folder._descriptor}/{entry.name}", "ab") as file:
                file.write(b"more")

    monkeypatch.setattr(BundleSender, "send", change_too)
    assert violation(ordinarily, 2) is not None
