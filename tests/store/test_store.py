"""What the store keeps and gives back."""

from __future__ import annotations

from typing import Any

import pytest

from sneaker.errors import StoreLocked
from sneaker.feed.classic.compact import compact
from sneaker.feed.message import Message
from sneaker.refs import BlobRef
from sneaker.social import EdgeState
from sneaker.store.rows import SEQUENCE_BITS, Batch, ForkRow, OwnSeen, WaitingRow
from sneaker.store.store import Store
from tests.store.worlds import NOW_MS, batch, feed, keypair


def waiting(feed_id: int, messages: tuple[Message, ...]) -> list[WaitingRow]:
    return [
        (feed_id << SEQUENCE_BITS | item.sequence, item.key, item.previous or b"", *compact(item)) for item in messages
    ]


def test_an_empty_store(store: Store) -> None:
    me = keypair(0).public
    assert store.clock() == {}
    assert store.head(me) is None
    assert list(store.heads()) == []
    assert list(store.rows(me)) == []
    assert store.message(me, 1) is None
    assert store.key_at(me, 0) is None
    assert list(store.log()) == []
    assert store.hops(me, 2) == {me: 0}
    assert store.own_sequence_seen(me) == OwnSeen(0, 0, 0)
    assert store.known_clocks.known_peers() == []
    assert store.counts().messages == 0


def test_what_is_written_is_read(store: Store) -> None:
    ours, theirs = feed(0, 700), feed(1, 3)
    with store.writer() as writer:
        assert writer.feed_state(keypair(0).public).id == 0
        first, second = writer.next_feed_id(), writer.next_feed_id()
        assert first != second
        writer.commit(batch([(first, ours), (second, theirs)]))
        state = writer.feed_state(keypair(0).public)
        assert (state.id, state.sequence, state.key, state.forked) == (first, 700, ours[-1].key, False)
        assert writer.row(first << SEQUENCE_BITS | 5)[1] == ours[4].key
        assert writer.row(first << SEQUENCE_BITS | 701) is None
    me = keypair(0).public
    assert store.clock() == {me: 700, keypair(1).public: 3}
    assert store.head(me).key == ours[-1].key
    assert [ref for ref, _ in store.heads()] == sorted([me, keypair(1).public])
    assert list(store.messages(me)) == list(ours)
    assert list(store.messages(me, 600, 610)) == list(ours[599:610])
    assert [row.sequence for row in store.rows(me, 690)] == list(range(690, 701))
    assert [row.key for row in store.rows(me, 1, 2)] == [ours[0].key, ours[1].key]
    assert list(store.rows(me, 5, 4)) == []
    assert list(store.rows(me, 701)) == []
    assert store.message(me, 256) == ours[255]
    assert store.message(me, 701) is None
    assert store.message(me, 0) is None
    assert store.key_at(me, 700) == ours[-1].key
    assert store.counts().messages == 703
    assert store.counts().feeds == 2


def test_feeds_grow(store: Store) -> None:
    messages = feed(0, 30)
    with store.writer() as writer:
        feed_id = writer.next_feed_id()
        writer.commit(batch([(feed_id, messages[:10])]))
        writer.commit(batch([(feed_id, messages[10:])], known=[feed_id]))
    assert list(store.messages(keypair(0).public)) == list(messages)


def test_the_log(store: Store) -> None:
    feeds = [feed(number, 40) for number in range(4)]
    with store.writer() as writer:
        writer.commit(batch((writer.next_feed_id(), messages) for messages in feeds))
    log = list(store.log())
    assert len(log) == 160
    for messages in feeds:
        assert [item for item in log if item.author == messages[0].author] == list(messages)
    # At each step comes the feed whose next message claims the earliest time.
    ends = [0] * 4
    for item in log:
        number = next(number for number in range(4) if keypair(number).public == item.author)
        heads = [feeds[each][end].timestamp for each, end in enumerate(ends) if end < 40]
        assert item.timestamp == min(heads)
        ends[number] += 1
    backwards = list(store.log(reverse=True))
    for messages in feeds:
        assert [item for item in backwards if item.author == messages[0].author] == list(reversed(messages))
    assert list(store.log(limit=7)) == log[:7]
    assert list(store.log(limit=0)) == []
    assert list(store.log(reverse=True, limit=3)) == backwards[:3]
    only = [keypair(2).public]
    assert list(store.log(feeds=only)) == list(feeds[2])
    assert list(store.log(feeds=only, first=38)) == list(feeds[2][37:])
    assert list(store.log(feeds=only, first=38, reverse=True)) == list(reversed(feeds[2][37:]))
    assert list(store.log(kind="about")) == [item for item in log if item.content["type"] == "about"]
    assert list(store.log(kind="about", limit=2)) == [item for item in log if item.content["type"] == "about"][:2]


def test_what_is_derived(store: Store) -> None:
    with store.writer() as writer:
        ids = {number: writer.next_feed_id() for number in range(4)}
        for start in range(0, 40, 7):
            parts = [(ids[number], feed(number, 40)[start : start + 7]) for number in range(4)]
            writer.commit(batch(parts, known=ids.values() if start else ()))
    newest: dict[tuple[Any, str], tuple[int, Any]] = {}
    for number in range(4):
        for item in feed(number, 40):
            if item.content["type"] == "contact":
                newest[item.author, item.content["contact"]] = (item.sequence, item.content)
    edges = list(store.edges())
    assert len(edges) == len(newest)
    for author, contact, state, sequence in edges:
        expected, content = newest[author, str(contact)]
        assert sequence == expected
        follows = EdgeState.FOLLOW if content["following"] else EdgeState.NEITHER
        assert state == (EdgeState.BLOCK if content["blocking"] else follows)
    own = [edge for edge in edges if edge.author == keypair(1).public]
    assert sorted(store.edges(keypair(1).public)) == sorted(own)
    assert store.hops(keypair(1).public, 1)[keypair(1).public] == 0

    names = store.names(keypair(2).public)
    assert {name.author for name in names} == {
        item.author
        for number in range(4)
        for item in feed(number, 40)
        if item.content["type"] == "about" and item.content["about"] == str(keypair(2).public)
    }
    assert all(name.author != name.about for name in names[1:])

    links = list(store.blob_links(keypair(3).public, 1, 20))
    assert [link.sequence for link in links] == [4, 9, 14, 19]
    assert store.blob_is_linked(links[0].blob)
    assert not store.blob_is_linked(BlobRef.of(b"nobody links to this"))
    assert len(list(store.blob_links())) == 4 * 8


def test_messages_wait_until_the_gap_is_filled(store: Store) -> None:
    messages = feed(0, 20)
    with store.writer() as writer:
        feed_id = writer.next_feed_id()
        done = writer.commit(
            Batch(feeds=[(feed_id, messages[0].author)], waiting=waiting(feed_id, messages[10:12] + messages[5:8]))
        )
        assert (done.room, done.promoted) == ({feed_id: 5}, {})
        assert store.waiting() == {messages[0].author: [(6, 8), (11, 12)]}
        assert store.clock() == {}
        assert store.own_sequence_seen(messages[0].author) == OwnSeen(0, 12, 0)
        again = writer.commit(Batch(waiting=waiting(feed_id, messages[6:8])))
        assert (again.room, again.repeated) == ({}, 2)
        assert writer.waiting_row(feed_id << SEQUENCE_BITS | 7)[1] == messages[6].key

        done = writer.commit(batch([(feed_id, messages[:5])], known=[feed_id]))
        assert done.promoted == {feed_id: (8, messages[7].key, 3)}
        assert (done.room, done.repeated) == ({feed_id: -3}, 0)
        assert store.waiting() == {messages[0].author: [(11, 12)]}
        # This goes past some that wait; they are the same, and not needed any more.
        done = writer.commit(batch([(feed_id, messages[8:11])], known=[feed_id]))
        assert done.promoted == {feed_id: (12, messages[11].key, 1)}
        assert (done.room, done.repeated) == ({feed_id: -2}, 1)
    assert store.waiting() == {}
    assert store.counts().waiting_bytes == 0
    assert list(store.messages(messages[0].author)) == list(messages[:12])
    assert not store.forked()


def test_a_fork_stops_its_feed(store: Store) -> None:
    ours = feed(0, 5)
    theirs = feed(0, 5, shared=3, branch="b")[3:]
    with store.writer() as writer:
        feed_id = writer.next_feed_id()
        writer.commit(batch([(feed_id, ours)]))
        row = waiting(feed_id, theirs)[0]
        writer.commit(Batch(forks=[ForkRow(row, ours[3].key, NOW_MS)]))
        assert writer.feed_state(ours[0].author).forked
    assert store.forked() == {ours[0].author}
    (fork,) = store.forks()
    assert (fork.feed, fork.sequence, fork.ours, fork.key) == (ours[0].author, 4, ours[3].key, theirs[0].key)
    assert fork.previous == ours[2].key
    assert fork.compact == compact(theirs[0])
    assert fork.seen_at_ms == NOW_MS
    assert store.counts().forks == 1
    assert list(store.messages(ours[0].author)) == list(ours)


@pytest.mark.parametrize("how", ["beyond", "passed", "both wait"])
def test_forks_are_found_in_the_waiting_room(store: Store, how: str) -> None:
    ours = feed(0, 8)
    theirs = feed(0, 6, shared=3, branch="b")[3:]  # other messages 4 to 6
    with store.writer() as writer:
        feed_id = writer.next_feed_id()
        made = Batch(feeds=[(feed_id, ours[0].author)], waiting=waiting(feed_id, theirs[1:]), now_ms=NOW_MS)
        assert writer.commit(made).forked == []
        if how == "beyond":  # message 5 waits and follows another 4 than ours
            done = writer.commit(batch([(feed_id, ours[:4])], known=[feed_id]))
        elif how == "passed":
            done = writer.commit(batch([(feed_id, ours)], known=[feed_id]))
        else:
            done = writer.commit(Batch(waiting=waiting(feed_id, ours[4:]), now_ms=NOW_MS))
        assert writer.feed_state(ours[0].author).forked
        # What waited, and in the last case what was brought, is all accounted for.
        brought = 4 if how == "both wait" else 0
        assert len(done.forked) == (2 if how == "both wait" else 1)
        assert len(done.forked) + len(done.stopped) + done.repeated == 2 + brought
        assert done.room == {feed_id: -2}
    assert store.forked() == {ours[0].author}
    assert store.waiting() == {}
    assert store.counts().waiting == store.counts().waiting_bytes == 0
    assert theirs[1].key in {fork.key for fork in store.forks()}
    assert store.own_sequence_seen(ours[0].author).proven >= 5


def test_the_waiting_room_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sneaker.store.writer.MAX_WAITING_BYTES", 8000)
    monkeypatch.setattr("sneaker.store.writer._SLACK_BYTES", 1000)
    messages = feed(0, 40)
    with store.writer() as writer:
        feed_id = writer.next_feed_id()
        done = writer.commit(
            Batch(feeds=[(feed_id, messages[0].author)], waiting=waiting(feed_id, messages[1:]), now_ms=NOW_MS)
        )
        assert done.crowded
        assert store.counts().waiting_bytes <= 8000
        assert done.room == {feed_id: 39 - len(done.crowded)}
        ((_, (kept,)),) = store.waiting().items()
        assert kept[0] == 2  # those next to the end of the feed stay
        assert {row_id & 0xFFFFFFFF for row_id in done.crowded} == set(range(kept[1] + 1, 41))
        # However full it is, what continues a feed gets in, and takes along what waited for it.
        done = writer.commit(batch([(feed_id, messages[:1])], known=[feed_id]))
        assert done.promoted[feed_id][0] == kept[1]
        assert store.counts().waiting == 0


def test_there_is_one_writer(store: Store) -> None:
    with store.writer():
        with pytest.raises(StoreLocked):
            store.writer(0.05)
        assert store.clock() == {}  # readers do not care
    store.writer().close()


def test_a_dry_run_leaves_nothing_behind(store: Store) -> None:
    messages = feed(0, 10)
    with store.writer(dry_run=True) as writer:
        feed_id = writer.next_feed_id()
        writer.commit(batch([(feed_id, messages[:5])]))
        writer.commit(Batch(waiting=waiting(feed_id, messages[6:8])))
        done = writer.commit(batch([(feed_id, messages[5:6])], known=[feed_id]))
        assert done.promoted[feed_id][0] == 8
        assert writer.feed_state(messages[0].author).sequence == 8
        assert store.clock() == {}
    assert store.clock() == {}
    assert store.counts().waiting == 0
    with store.writer() as writer:
        writer.commit(batch([(writer.next_feed_id(), messages)]))
    assert store.clock() == {messages[0].author: 10}
