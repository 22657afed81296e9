"""The order of what is sent: gap-free, near feeds first, depth and breadth."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sneaker.clock import VectorClock
from sneaker.planning.send_order import BREADTH_CHUNK, Order, Range, joined, order_ranges, slowest
from sneaker.refs import FeedRef

A, B, C, D = (FeedRef.classic(bytes([number]) * 32) for number in range(1, 5))
feeds = st.sampled_from([FeedRef.classic(bytes([number]) * 32) for number in range(12)])
clocks = st.dictionaries(feeds, st.integers(0, 90)).map(VectorClock)


def test_what_they_have_is_not_sent() -> None:
    assert order_ranges(VectorClock({A: 5, B: 3}), VectorClock({A: 5, B: 9})) == []
    assert order_ranges(VectorClock({A: 5, B: 3}), VectorClock({A: 2})) == [Range(A, 3, 5), Range(B, 1, 3)]
    assert order_ranges(VectorClock({}), VectorClock({A: 2})) == []


def test_a_claim_of_anything_is_harmless() -> None:
    assert order_ranges(VectorClock({A: 5}), VectorClock({A: 2**31 - 1, B: 7})) == []


def test_depth_sends_the_largest_backlog_first_and_whole() -> None:
    assert order_ranges(VectorClock({A: 20, B: 90, C: 90}), VectorClock({C: 10})) == [
        Range(B, 1, 90),
        Range(C, 11, 90),
        Range(A, 1, 20),
    ]


def test_breadth_deals_in_rounds() -> None:
    assert BREADTH_CHUNK == 16
    dealt = order_ranges(VectorClock({A: 40, B: 5, C: 20}), VectorClock({A: 1}), order=Order.BREADTH)
    assert sorted(dealt[:3]) == [Range(A, 2, 17), Range(B, 1, 5), Range(C, 1, 16)]
    assert sorted(dealt[3:5]) == [Range(A, 18, 33), Range(C, 17, 20)]
    assert dealt[5:] == [Range(A, 34, 40)]


def test_no_feed_is_always_the_last_of_a_round() -> None:
    """With room for half a round in each bundle, all feeds get on all the same."""
    ours = VectorClock({FeedRef.classic(bytes([number]) * 32): 400 for number in range(20)})
    theirs = VectorClock()
    for _ in range(20):
        for item in order_ranges(ours, theirs, order=Order.BREADTH)[:10]:
            theirs[item.feed] = item.last
    assert min(theirs.get(feed, 0) for feed in ours) >= 5 * BREADTH_CHUNK
    assert max(theirs.values()) <= 17 * BREADTH_CHUNK


def test_near_feeds_come_first_in_either_order() -> None:
    hops = {A: 2, B: 0, C: 1, D: -1}
    ours = VectorClock({A: 90, B: 20, C: 40, D: 90})
    assert [item.feed for item in order_ranges(ours, VectorClock(), hops=hops)] == [B, C, A, D]
    dealt = order_ranges(ours, VectorClock(), hops=hops, order=Order.BREADTH)
    assert [item.feed for item in dealt] == [B] * 2 + [C] * 3 + [A] * 6 + [D] * 6


def test_unwanted_feeds_are_left_out() -> None:
    assert order_ranges(VectorClock({A: 1, B: 1}), VectorClock({}), wanted=lambda feed: feed == B) == [Range(B, 1, 1)]


@given(clocks, clocks, st.sampled_from(Order), st.none() | st.dictionaries(feeds, st.integers(-1, 4)))
def test_every_prefix_of_a_plan_is_gap_free_and_all_of_it_is_what_is_lacking(
    ours: VectorClock, theirs: VectorClock, order: Order, hops: dict[FeedRef, int] | None
) -> None:
    reader = dict(theirs)
    for item in order_ranges(ours, theirs, hops=hops, order=order):
        assert item.first == reader.get(item.feed, 0) + 1 <= item.last <= ours[item.feed]
        reader[item.feed] = item.last
    assert all(reader.get(feed, 0) >= last for feed, last in ours.items())


@given(clocks, st.integers(0, 600))
def test_breadth_is_fair_under_a_budget(ours: VectorClock, budget: int) -> None:
    """Of two feeds that got less than they need, neither is more than a round behind the other."""
    got = dict.fromkeys(ours, 0)
    for item in order_ranges(ours, VectorClock(), order=Order.BREADTH):
        taken = min(budget, item.messages)
        got[item.feed] += taken
        budget -= taken
    short = [count for feed, count in got.items() if count < ours[feed]]
    assert not short or max(got.values()) - min(short) <= BREADTH_CHUNK


@given(clocks, clocks, st.sampled_from(Order))
def test_joined_is_depth(ours: VectorClock, theirs: VectorClock, order: Order) -> None:
    assert sorted(joined(order_ranges(ours, theirs, order=order))) == sorted(order_ranges(ours, theirs))


def test_joined_keeps_gaps_and_order() -> None:
    pieces = [Range(A, 1, 2), Range(B, 1, 1), Range(A, 3, 4), Range(A, 6, 6), Range(B, 2, 9)]
    assert joined(pieces) == [Range(A, 1, 4), Range(B, 1, 9), Range(A, 6, 6)]


def test_slowest() -> None:
    assert slowest([VectorClock({A: 5, B: 2}), VectorClock({A: 3})], [A, B]) == {A: 3, B: 0}
    assert slowest([], [A]) == {A: 0}
