from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sneaker import clock as clock_module
from sneaker.clock import VectorClock
from sneaker.errors import ClockError
from sneaker.limits import MAX_SEQUENCE
from sneaker.refs import FeedRef
from tests.tries import tries

A, B, C = (FeedRef.classic(bytes([number]) * 32) for number in (1, 2, 3))
CLOCKS = st.dictionaries(
    st.binary(min_size=32, max_size=32).map(FeedRef.classic) | st.sampled_from([A, B, C]),
    st.integers(0, MAX_SEQUENCE),
    max_size=6,
).map(VectorClock)


def test_merged_takes_the_higher_of_each() -> None:
    assert VectorClock({A: 1, B: 5}).merged(VectorClock({A: 3, C: 0})) == {A: 3, B: 5, C: 0}
    assert VectorClock({A: 1}).merged(VectorClock()) == {A: 1}


def test_lacking_is_what_somebody_is_behind_in() -> None:
    assert VectorClock({A: 3, B: 2}).lacking(VectorClock({A: 5, B: 2, C: 1})) == {A: 5, C: 1}
    assert VectorClock().lacking(VectorClock({A: 0})) == {}
    assert VectorClock({A: 5}).lacking(VectorClock()) == {}


def test_covers() -> None:
    assert VectorClock({A: 5}).covers(VectorClock({A: 5, B: 0}))
    assert not VectorClock({A: 5}).covers(VectorClock({A: 6}))
    assert not VectorClock().covers(VectorClock({B: 1}))


@tries(300)
@given(CLOCKS, CLOCKS)
def test_laws(one: VectorClock, two: VectorClock) -> None:
    before = dict(one), dict(two)
    both = one.merged(two)
    assert both == two.merged(one) == both.merged(one)
    assert both.covers(one)
    assert both.covers(two)
    assert one.covers(two) == (not one.lacking(two))
    caught_up = two.merged(two.lacking(one))
    assert caught_up.covers(one)
    assert all(one[feed] == last > two.get(feed, 0) for feed, last in two.lacking(one).items())
    assert (one, two) == before, "a clock is a value"


@tries(300)
@given(CLOCKS)
def test_round_trip(clock: VectorClock) -> None:
    text = json.dumps(clock.as_json())
    assert VectorClock.parse(text) == clock
    assert VectorClock.parse(json.dumps(json.loads(text), indent=2).encode()) == clock


def test_as_json_is_in_order() -> None:
    assert list(VectorClock({B: 2, A: 1}).as_json().items()) == [(str(A), 1), (str(B), 2)]


def test_tolerated_spellings() -> None:
    text = json.dumps({A.uri: 3, str(A): 5, str(B): 2.0, "ssb:feed/bendybutt-v1/x": 9, "ssb://feed/buttwoo-v1/a/b": -1})
    assert VectorClock.parse(text) == {A: 5, B: 2}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "5",
        "{",
        b"\xff",
        '{"bob":1}',
        '{"ssb:message/classic/x":1}',
        '{"ssb:feed/classic/x":1}',
        f'{{"{A}":"1"}}',
        f'{{"{A}":null}}',
        f'{{"{A}":true}}',
        f'{{"{A}":1.5}}',
        f'{{"{A}":1e300}}',
        f'{{"{A}":2147483648}}',
        f'{{"{A}":[1]}}',
        f'{{"{A}":{{"sequence":1}}}}',
    ],
)
def test_what_is_no_clock(text: str | bytes) -> None:
    with pytest.raises(ClockError):
        VectorClock.parse(text)


@pytest.mark.parametrize("number", ["-1", "-2", "-1.0"])
def test_ebt_notes_are_told_from_clocks(number: str) -> None:
    with pytest.raises(ClockError) as caught:
        VectorClock.parse(f'{{"{A}":{number}}}')
    assert caught.value.hint is not None
    assert "EBT" in caught.value.hint


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_module, "MAX_CLOCK_FEEDS", 2)
    with pytest.raises(ClockError, match="more than 2 feeds"):
        VectorClock.parse(json.dumps({str(A): 1, str(B): 2, str(C): 3}))
    monkeypatch.setattr(clock_module, "_MAX_CLOCK_BYTES", 10)
    with pytest.raises(ClockError, match="more than 10 bytes"):
        VectorClock.parse(" " * 11)


@tries(500)
@given(st.one_of(st.binary(max_size=80), st.text(max_size=80)))
def test_anything_gives_a_clock_or_our_error(text: bytes | str) -> None:
    try:
        assert isinstance(VectorClock.parse(text), VectorClock)
    except ClockError as error:
        assert str(error).isprintable()  # noqa: PT017
