"""The machine that decides next, known, gap or fork, and what the door makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sneaker.feed.chain import UNKNOWN_END, Chain, is_chained, place_in_chain
from sneaker.feed.classic.message import create_message
from sneaker.feed.message import Head
from tests.feed.forge import seeded
from tests.feed.vectors import judge

A, B, C = b"a" * 32, b"b" * 32, b"c" * 32


@pytest.mark.parametrize(
    ("end", "sequence", "previous", "key", "held", "expected"),
    [
        # nothing is held
        ((0, b""), 1, None, A, None, Chain.NEXT),
        ((0, b""), 2, A, B, None, Chain.GAP),
        # one message is held
        ((1, A), 2, A, B, None, Chain.NEXT),
        ((1, A), 2, B, C, None, Chain.FORK),
        ((1, A), 3, B, C, None, Chain.GAP),
        ((1, A), 1, None, A, A, Chain.KNOWN),
        ((1, A), 1, None, B, A, Chain.FORK),
        # in the middle of what is held, whatever it says it follows
        ((3, C), 2, A, B, B, Chain.KNOWN),
        ((3, C), 2, A, C, B, Chain.FORK),
        ((3, C), 2, A, B, None, Chain.FORK),
        # one that waits already
        ((1, A), 5, B, C, C, Chain.KNOWN),
        ((1, A), 5, B, A, C, Chain.FORK),
        # the carrier does not say what it follows
        ((1, A), 2, None, B, None, Chain.NEXT),
        ((1, A), 3, None, B, None, Chain.GAP),
        # nobody knows where the feed ends
        ((UNKNOWN_END, b""), 1, None, A, None, Chain.GAP),
        ((UNKNOWN_END, b""), 7, A, B, None, Chain.GAP),
        ((UNKNOWN_END, b""), 7, A, B, B, Chain.KNOWN),
        ((UNKNOWN_END, b""), 7, A, B, C, Chain.FORK),
    ],
)
def test_each_case(
    end: tuple[int, bytes], sequence: int, previous: bytes | None, key: bytes, held: bytes | None, expected: Chain
) -> None:
    assert place_in_chain(*end, sequence, previous, key, held) is expected


@given(st.lists(st.binary(min_size=4, max_size=4), unique=True, min_size=1, max_size=8), st.data())
def test_it_says_what_a_list_of_keys_says(keys: list[bytes], data: st.DataObject) -> None:
    """A feed is a list of keys here; place 0 is what stands before its first message."""
    count = data.draw(st.integers(0, len(keys)))
    chain = [b"", *keys]
    end_key = chain[count]
    sequence = data.draw(st.integers(1, len(keys)))
    is_other, follows_other = data.draw(st.booleans()), data.draw(st.booleans())
    key = b"other" if is_other else chain[sequence]
    previous = b"another" if follows_other else chain[sequence - 1]
    held = chain[sequence] if sequence <= count else None
    found = place_in_chain(count, end_key, sequence, previous, key, held)
    if sequence <= count:
        assert found is (Chain.FORK if is_other else Chain.KNOWN)
    elif sequence == count + 1:
        assert found is (Chain.FORK if follows_other else Chain.NEXT)
    else:
        assert found is Chain.GAP


def test_chained() -> None:
    assert is_chained([A], [None])
    assert is_chained([A, B, C], [None, A, B])
    assert not is_chained([A, B, C], [None, A, A])
    assert not is_chained([A, B, C], [None, C, B])


def test_only_signed_contradictions_are_forks() -> None:
    one = create_message(seeded(1), None, 1, {"type": "post", "text": "one"})
    two = create_message(seeded(1), Head(1, one.key), 2, {"type": "post", "text": "two"})
    other = create_message(seeded(1), Head(1, one.key), 2, {"type": "post", "text": "the other second message"})
    three = create_message(seeded(1), Head(2, two.key), 3, {"type": "post", "text": "three"})
    state = {"sequence": 2, "id": str(two.key)}
    assert judge(two.text, state, None) == "known"
    assert judge(three.text, state, None) == three
    assert judge(other.text, state, None) == "forked"
    assert judge(three.text, {"sequence": 2, "id": str(other.key)}, None) == "forked"
    forged = other.text.replace(b"the other", b"an other")
    assert judge(forged, state, None) == "signature-invalid"
    forged = three.text.replace(b'"three"', b'"THREE"')
    assert judge(forged, {"sequence": 2, "id": str(other.key)}, None) == "signature-invalid"
    assert judge(forged, state, None) == "signature-invalid"
