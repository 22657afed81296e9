from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sneaker import clock as clock_module
from sneaker.clock import Clock, covers, format_clock, merge, missing, parse_clock
from sneaker.errors import ClockError
from sneaker.limits import MAX_SEQUENCE
from sneaker.refs import FeedRef

A, B, C = (FeedRef(bytes([number]) * 32) for number in (1, 2, 3))
CLOCKS = st.dictionaries(
    st.binary(min_size=32, max_size=32).map(FeedRef) | st.sampled_from([A, B, C]),
    st.integers(0, MAX_SEQUENCE),
    max_size=6,
)


def test_merge_takes_the_higher_of_each() -> None:
    assert merge({A: 1, B: 5}, {A: 3, C: 0}) == {A: 3, B: 5, C: 0}
    assert merge() == {}


def test_missing_is_what_the_other_lacks() -> None:
    assert missing({A: 5, B: 2, C: 1}, {A: 3, B: 2}) == {A: (4, 5), C: (1, 1)}
    assert missing({A: 0}, {}) == {}
    assert missing({}, {A: 5}) == {}


def test_covers() -> None:
    assert covers({A: 5}, {A: 5, B: 0})
    assert not covers({A: 5}, {A: 6})
    assert not covers({}, {B: 1})


@settings(max_examples=300)
@given(CLOCKS, CLOCKS)
def test_laws(one: Clock, two: Clock) -> None:
    both = merge(one, two)
    assert both == merge(two, one) == merge(both, one)
    assert covers(both, one)
    assert covers(both, two)
    assert covers(one, two) == (not missing(two, one))
    caught_up = merge(two, {feed: last for feed, (_, last) in missing(one, two).items()})
    assert covers(caught_up, one)
    for feed, (first, last) in missing(one, two).items():
        assert two.get(feed, 0) + 1 == first <= last == one[feed]


@settings(max_examples=300)
@given(CLOCKS)
def test_round_trip(clock: Clock) -> None:
    assert parse_clock(format_clock(clock)) == clock
    assert parse_clock(json.dumps(json.loads(format_clock(clock)), indent=2).encode()) == clock


def test_format() -> None:
    assert format_clock({B: 2, A: 1}) == f'{{"{A}":1,"{B}":2}}'


def test_tolerated_spellings() -> None:
    text = json.dumps({A.uri: 3, str(A): 5, str(B): 2.0, "ssb:feed/bendybutt-v1/x": 9, "ssb://feed/buttwoo-v1/a/b": -1})
    assert parse_clock(text) == {A: 5, B: 2}


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
        parse_clock(text)


@pytest.mark.parametrize("number", ["-1", "-2", "-1.0"])
def test_ebt_notes_are_told_from_clocks(number: str) -> None:
    with pytest.raises(ClockError) as caught:
        parse_clock(f'{{"{A}":{number}}}')
    assert caught.value.hint is not None
    assert "EBT" in caught.value.hint


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_module, "MAX_CLOCK_FEEDS", 2)
    with pytest.raises(ClockError, match="more than 2 feeds"):
        parse_clock(format_clock({A: 1, B: 2, C: 3}))
    monkeypatch.setattr(clock_module, "_MAX_CLOCK_BYTES", 10)
    with pytest.raises(ClockError, match="more than 10 bytes"):
        parse_clock(" " * 11)


@settings(max_examples=500)
@given(st.one_of(st.binary(max_size=80), st.text(max_size=80)))
def test_anything_gives_a_clock_or_our_error(text: bytes | str) -> None:
    try:
        assert isinstance(parse_clock(text), dict)
    except ClockError as error:
        assert str(error).isprintable()  # noqa: PT017
