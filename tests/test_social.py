from __future__ import annotations

import hashlib
import random
from typing import Any

import pytest

from sneaker.refs import FeedRef
from sneaker.social import Blocks, EdgeState, find_blockers, find_hops, replicated
from tests.feed.vectors import load

CASES = load("hops.json")["cases"]


def feed(name: str) -> FeedRef:
    return FeedRef.classic(hashlib.sha256(name.encode()).digest())


Edges = dict[FeedRef, dict[FeedRef, int]]


def build(edges: list[tuple[str, str, int]]) -> Edges:
    graph: Edges = {}
    for author, contact, state in edges:
        graph.setdefault(feed(author), {})[feed(contact)] = state
    return graph


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_hops_vectors(case: dict[str, Any]) -> None:
    expected = {feed(name): distance for name, distance in case["hops"].items()}
    assert find_hops(build(case["edges"]), feed("me"), case["max"]) == expected


def test_replicated() -> None:
    hops = find_hops(
        build([("me", "a", 1), ("a", "b", 1), ("b", "c", 1), ("me", "x", -1), ("a", "y", -1), ("me", "z", -2)]),
        feed("me"),
        3,
    )
    assert replicated(hops, 2) == {feed("me"), feed("a"), feed("b")}
    assert replicated(hops, 0) == {feed("me")}
    assert hops[feed("x")] == -1
    assert hops[feed("y")] == hops[feed("z")] == -2


def test_nothing_is_reached_in_no_steps_or_from_nobody() -> None:
    graph = build([("me", "a", 1)])
    assert find_hops(graph, feed("me"), 0) == {feed("me"): 0}
    assert find_hops(graph, feed("stranger"), 3) == {feed("stranger"): 0}
    assert find_hops({}, feed("me"), 5) == {feed("me"): 0}
    assert find_hops(graph, feed("me"), 10**18) == find_hops(graph, feed("me"), 100)  # not one step for each


def test_long_chains_and_circles_end() -> None:
    names = [f"n{number}" for number in range(3000)]
    edges = [(one, two, 1) for one, two in zip(names, names[1:] + names[:1], strict=True)]
    hops = find_hops(build(edges), feed("n0"), 10_000)
    assert hops[feed("n2999")] == 2999


def reference(edges: dict[str, dict[str, int]], start: str, limit: int) -> dict[str, int]:
    """Shortest paths by relaxing until nothing changes, with the priorities of layered-graph."""
    hops = {start: 0}
    for distance in range(limit):
        for author in sorted(name for name, at in hops.items() if at == distance):
            for contact, state in edges.get(author, {}).items():
                found = distance + 1 if state > 0 else -(distance - state)
                best = hops.get(contact)
                if best is None or abs(found) < abs(best) or (abs(found) == abs(best) and found > best):
                    hops[contact] = found
    return hops


def test_random_graphs() -> None:
    rng = random.Random(1)
    for _ in range(200):
        names = [f"p{number}" for number in range(rng.randrange(2, 12))]
        edges = [
            (rng.choice(names), rng.choice(names), rng.choice([1, 1, 1, -1, -2])) for _ in range(rng.randrange(40))
        ]
        latest: dict[str, dict[str, int]] = {}
        for author, contact, state in edges:
            latest.setdefault(author, {})[contact] = state
        limit = rng.randrange(5)
        expected = {feed(name): at for name, at in reference(latest, "p0", limit).items()}
        assert find_hops(build(edges), feed("p0"), limit) == expected


def test_whom_somebody_blocks() -> None:
    blocks = Blocks(
        feed("a"), [(feed("b"), EdgeState.BLOCK), (feed("c"), EdgeState.FOLLOW), (feed("a"), EdgeState.BLOCK)]
    )
    assert blocks == {feed("b")}, "nobody blocks themselves"
    blocks.learn_contact(feed("c"), EdgeState.BLOCK)
    blocks.learn_contact(feed("b"), EdgeState.NEITHER)
    blocks.learn_contact(feed("a"), EdgeState.BLOCK)
    assert blocks == {feed("c")}


def test_who_blocks_somebody() -> None:
    edges = build([("a", "b", -1), ("c", "b", -1), ("b", "b", -1), ("a", "c", 1)])
    assert find_blockers(edges) == {feed("b"): {feed("a"), feed("c")}}
