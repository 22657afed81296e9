"""The planner: what some reader lacks and cannot get from what lies there; what was given otherwise goes last."""

from __future__ import annotations

from sneaker.clock import VectorClock
from sneaker.planning.coverage import Coverage
from sneaker.planning.send_order import Order, Range
from sneaker.planning.what_to_send import make_plan
from sneaker.refs import FeedRef

A, B, C = (FeedRef.classic(bytes([number]) * 32) for number in (1, 2, 3))
OURS = VectorClock({A: 10, B: 20, C: 30})


def test_without_readers_everything_is_sent() -> None:
    plan = make_plan(OURS, [])
    assert plan.ranges == [Range(C, 1, 30), Range(B, 1, 20), Range(A, 1, 10)]
    assert plan.lowest == {A: 0, B: 0, C: 0}


def test_what_serves_the_slowest_serves_all() -> None:
    plan = make_plan(OURS, [VectorClock({A: 10, B: 5, C: 30}), VectorClock({A: 7, B: 20, C: 30})])
    assert plan.ranges == [Range(B, 6, 20), Range(A, 8, 10)]
    assert plan.lowest == {A: 7, B: 5, C: 30}
    assert plan.reached == {A: 7, B: 5}


def test_what_lies_there_is_not_sent_again() -> None:
    there = [Coverage((Range(B, 4, 12), Range(A, 9, 10)))]
    plan = make_plan(OURS, [VectorClock({A: 7, B: 5, C: 30})], lying_there=there)
    assert plan.ranges == [Range(B, 13, 20), Range(A, 8, 10)], "the end of A comes after a gap"
    assert plan.reached == {A: 7, B: 12}


def test_what_was_given_otherwise_goes_last_and_goes_all_the_same() -> None:
    readers = [VectorClock({A: 10})]
    for order in Order:
        plan = make_plan(OURS, readers, given=[VectorClock({A: 10, C: 30})], order=order)
        feeds = [item.feed for item in plan.ranges]
        assert feeds.index(B) == 0, order
        assert sum(item.messages for item in plan.ranges if item.feed == C) == 30
    near = make_plan(OURS, readers, given=[VectorClock({C: 30})], hops=lambda messages: {C: 0, B: 2})
    assert [item.feed for item in near.ranges] == [C, B], "nearer feeds go first"


def test_distances_are_asked_for_only_if_something_is_to_be_sent() -> None:
    asked: list[int] = []

    def hops(messages: int) -> None:
        asked.append(messages)

    assert make_plan(OURS, [OURS], hops=hops).ranges == []
    assert asked == []
    make_plan(OURS, [VectorClock({A: 4, B: 20, C: 30})], hops=hops)
    assert asked == [6]
