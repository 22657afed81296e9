from __future__ import annotations

import hashlib
import random
from typing import Any

import pytest

from sneaker.refs import FeedRef
from sneaker.social import EdgeState, FollowGraph, find_hops, replicated
from tests.feed.vectors import load

CASES = load("hops.json")["cases"]


def feed(name: str) -> FeedRef:
    return FeedRef.classic(hashlib.sha256(name.encode()).digest())


def build(edges: list[tuple[str, str, int]]) -> FollowGraph:
    graph = FollowGraph()
    for sequence, (author, contact, state) in enumerate(edges, 1):
        graph.set_edge(feed(author), feed(contact), state, sequence)
    return graph


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_hops_vectors(case: dict[str, Any]) -> None:
    expected = {feed(name): distance for name, distance in case["hops"].items()}
    assert build(case["edges"]).hops(feed("me"), case["max"]) == expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_order_of_arrival_does_not_matter(case: dict[str, Any]) -> None:
    numbered = list(enumerate(case["edges"], 1))
    random.Random(case["name"]).shuffle(numbered)
    graph = FollowGraph()
    for sequence, (author, contact, state) in numbered:
        graph.set_edge(feed(author), feed(contact), state, sequence)
    expected = {feed(name): distance for name, distance in case["hops"].items()}
    assert graph.hops(feed("me"), case["max"]) == expected


def test_newest_edge_counts() -> None:
    graph = FollowGraph()
    me, bob = feed("me"), feed("bob")
    assert graph.state(me, bob) is None
    assert graph.set_edge(me, bob, EdgeState.BLOCK, 7)
    assert not graph.set_edge(me, bob, EdgeState.FOLLOW, 3)
    assert graph.state(me, bob) is EdgeState.BLOCK
    assert graph.set_edge(me, bob, EdgeState.NEITHER, 9)
    assert list(graph.edges()) == [(me, bob, EdgeState.NEITHER, 9)]


def test_replicated() -> None:
    hops = build([("me", "a", 1), ("a", "b", 1), ("b", "c", 1), ("me", "x", -1), ("a", "y", -1), ("me", "z", -2)]).hops(
        feed("me"), 3
    )
    assert replicated(hops, 2) == {feed("me"), feed("a"), feed("b")}
    assert replicated(hops, 0) == {feed("me")}
    assert hops[feed("x")] == -1
    assert hops[feed("y")] == hops[feed("z")] == -2


def test_nothing_is_reached_in_no_steps_or_from_nobody() -> None:
    graph = build([("me", "a", 1)])
    assert graph.hops(feed("me"), 0) == {feed("me"): 0}
    assert graph.hops(feed("stranger"), 3) == {feed("stranger"): 0}
    assert find_hops({}, feed("me"), 5) == {feed("me"): 0}


def test_long_chains_and_circles_end() -> None:
    names = [f"n{number}" for number in range(3000)]
    edges = [(one, two, 1) for one, two in zip(names, names[1:] + names[:1], strict=True)]
    hops = build(edges).hops(feed("n0"), 10_000)
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
        assert build(edges).hops(feed("p0"), limit) == expected
