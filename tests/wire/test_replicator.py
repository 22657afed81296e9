"""Several EBT connections of one peer, and whole networks of peers in memory."""

from __future__ import annotations

import random
from collections import deque

import pytest

from sneaker.errors import LocalProtocolError
from sneaker.refs import FeedRef
from sneaker.wire.ebt.connection import EbtConnection
from sneaker.wire.ebt.notes import encode_note, format_notes
from sneaker.wire.ebt.replicator import SWITCH_AFTER_S, Replicator
from tests.wire.ebt_nodes import Node, described, message

ME, FEED, OTHER, FIRST, SECOND, THIRD = (FeedRef.classic(bytes([number]) * 32) for number in range(1, 7))


def say(connection: EbtConnection, sequence: int, receive: bool = True, now: float = 0, feed: FeedRef = FEED) -> None:
    for raw in format_notes({feed: encode_note(sequence, receive)}):
        connection.receive(raw, now)


def told(connection: EbtConnection) -> dict[FeedRef, int]:
    merged: dict[FeedRef, int] = {}
    for raw in connection.notes_to_send():
        found = described(raw)
        assert isinstance(found, dict)
        merged.update(found)
    return merged


def several(*peers: FeedRef) -> tuple[Replicator, list[EbtConnection]]:
    replicator = Replicator({}, [FEED])
    return replicator, [replicator.connect(peer, client=False, now=0) for peer in peers]


def test_a_feed_is_asked_for_from_one_peer() -> None:
    _, (first, second) = several(FIRST, SECOND)
    assert (told(first), told(second)) == ({FEED: 0}, {FEED: 1})


def test_one_that_is_further_takes_over_at_once() -> None:
    replicator, (first, second) = several(FIRST, SECOND)
    say(first, 5)
    say(second, 4)
    told(first), told(second)
    say(second, 5)
    assert (told(first), told(second)) == ({}, {})
    say(second, 9)
    assert (told(first), told(second)) == ({FEED: 1}, {FEED: 0})
    assert replicator.receiver(FEED) is second


def test_one_that_sends_nothing_is_given_up_after_three_seconds() -> None:
    replicator, (first, second, third) = several(FIRST, SECOND, THIRD)
    assert replicator.get_timer() is None
    say(first, 1000, now=10)
    say(second, 8, now=10)
    say(third, 9, now=10)
    for connection in (first, second, third):
        told(connection)
    assert replicator.get_timer() == 10 + SWITCH_AFTER_S
    replicator.handle_timer(12.9)
    assert told(first) == {}
    replicator.handle_timer(13)
    assert (told(first), told(second)) == ({FEED: 1}, {FEED: 0})
    # A liar does not get it back by shouting.
    say(first, 2000, now=14)
    assert told(second) == {}
    second.receive(message(FEED, 1), 15)
    replicator.handle_timer(17.9)
    assert told(second) == {}
    replicator.handle_timer(18)
    assert (told(second), told(third), told(first)) == ({FEED: 1}, {FEED: 0}, {})
    # All have stalled now: they take turns.
    replicator.handle_timer(21)
    assert told(third) == {FEED: 1}
    assert {FEED: 0} in (told(first), told(second))


def test_nobody_is_given_up_while_everything_promised_came() -> None:
    replicator, (first, second) = several(FIRST, SECOND)
    say(first, 2)
    say(second, 2)
    told(first), told(second)
    for sequence in (1, 2):
        first.receive(message(FEED, sequence), 1)
    assert replicator.get_timer() is None  # though the store has not committed them yet
    replicator.handle_timer(100)
    assert (told(first), told(second)) == ({}, {})


def test_feeds_of_a_peer_that_goes_are_asked_from_the_furthest() -> None:
    replicator, (first, second, third) = several(FIRST, SECOND, THIRD)
    say(first, 9)
    say(second, 3)
    say(third, 7)
    for connection in (first, second, third):
        told(connection)
    replicator.disconnect(first)
    replicator.disconnect(first)
    assert (told(second), told(third)) == ({}, {FEED: 0})
    say(third, -1)  # does not replicate it any more
    assert told(second) == {FEED: 0}
    replicator.disconnect(second)
    assert replicator.receiver(FEED) is None
    assert told(third) == {}


def test_one_stream_for_each_peer() -> None:
    replicator, (first,) = several(FIRST)
    with pytest.raises(LocalProtocolError):
        replicator.connect(FIRST, client=True, now=0)
    replicator.disconnect(first)
    replicator.connect(FIRST, client=True, now=0)
    replicator.disconnect(first)  # the old one: nothing happens
    assert list(replicator.connections) == [FIRST]


def test_what_one_peer_brings_goes_to_the_others() -> None:
    node = Node(ME, {}, [FEED])
    first = node.replicator.connect(FIRST, client=False, now=0)
    second = node.replicator.connect(SECOND, client=False, now=0)
    for connection in (first, second):
        node.outgoing(connection)
    say(first, 2)
    say(second, 0)
    for sequence in (1, 2):
        node.take(first, message(FEED, sequence), 0)
    assert [described(raw) for raw in node.outgoing(second)] == [(FEED, 1), (FEED, 2)]
    assert node.outgoing(first) == []


class Network:
    """Nodes and links between them; every link delivers in order, links in any order, some are cut."""

    def __init__(self, seed: int, size: int) -> None:
        self.chooser = random.Random(seed)
        names = [FeedRef.classic(bytes([10 + number]) * 32) for number in range(size)]
        self.nodes = {
            name: Node(name, {name: self.chooser.randrange(6)}, [name, *self.chooser.sample(names, size // 2)])
            for name in names
        }
        self.links: dict[tuple[FeedRef, FeedRef], tuple[EbtConnection, deque[bytes]]] = {}
        self.saved: dict[tuple[FeedRef, FeedRef], dict[FeedRef, int]] = {}
        self.now = 0.0
        self.items = 0

    def connect(self, left: FeedRef, right: FeedRef) -> None:
        if (left, right) in self.links:
            return
        for here, there, client in ((left, right, True), (right, left, False)):
            connection = self.nodes[here].replicator.connect(
                there, client=client, now=self.now, saved_clock=self.saved.get((here, there))
            )
            self.links[here, there] = (connection, deque())

    def cut(self, left: FeedRef, right: FeedRef) -> None:
        for here, there in ((left, right), (right, left)):
            connection, _ = self.links.pop((here, there))
            self.nodes[here].replicator.disconnect(connection)
            self.saved[here, there] = dict(connection.remote_clock)

    def step(self) -> bool:
        """Move one item; False if there is nothing to move."""
        for (here, there), (connection, _) in self.links.items():
            if connection.wants_to_send:
                self.links[there, here][1].extend(self.nodes[here].outgoing(connection, self.chooser.choice((1, 3))))
        ready = [key for key, (_, inbox) in self.links.items() if inbox]
        if not ready:
            return False
        here, there = self.chooser.choice(ready)
        connection, inbox = self.links[here, there]
        self.nodes[here].take(connection, inbox.popleft(), self.now)
        self.items += 1
        return True

    def settle(self) -> None:
        for _ in range(50_000):
            if not self.step():
                return
        raise AssertionError("the network does not come to rest")


@pytest.mark.parametrize("seed", range(12))
def test_networks_come_to_rest_with_everything_everywhere(seed: int) -> None:
    network = Network(seed, 6)
    chooser, names = network.chooser, list(network.nodes)
    for _ in range(300):
        network.now += 0.1
        action = chooser.random()
        left, right = chooser.sample(names, 2)
        node = network.nodes[left]
        if action < 0.05:
            network.connect(left, right)
        elif action < 0.08 and network.links:
            network.cut(*chooser.choice(list(network.links)))
        elif action < 0.15:
            node.append(left, node.clock.get(left, 0) + 1)
        elif action < 0.18:
            node.replicator.follow(right)
        elif action < 0.2:
            node.replicator.unfollow(right)
        elif action < 0.25:
            node.replicator.handle_timer(network.now)
        else:
            network.step()
    # In the end a star: the middle replicates everybody, so all that anybody follows can reach them.
    for key in list(network.links):
        if key in network.links:
            network.cut(*key)
    middle = names[0]
    for name in names:
        network.nodes[middle].replicator.follow(name)
    for name in names[1:]:
        network.connect(*((middle, name) if chooser.random() < 0.5 else (name, middle)))
    network.settle()
    for _ in range(6):
        network.now += 4
        for node in network.nodes.values():
            node.replicator.handle_timer(network.now)
        network.settle()
    for name in names:
        node = network.nodes[name]
        node.append(name, node.clock.get(name, 0) + 1)
    network.settle()
    for node in network.nodes.values():
        for feed in node.replicator.wanted:
            assert node.clock.get(feed, 0) == network.nodes[feed].clock.get(feed, 0)
    busy = network.items
    network.now += 10
    for node in network.nodes.values():
        node.replicator.handle_timer(network.now)
    network.settle()
    assert network.items == busy, "a network in rest was woken by nothing"
