"""What a peer announces and does not send: when it is asked for in another way, and when not."""

from __future__ import annotations

from sneaker.refs import FeedRef
from sneaker.wire.ebt.connection import EbtConnection
from sneaker.wire.ebt.notes import encode_note, format_notes
from sneaker.wire.ebt.replicator import SWITCH_AFTER_S, Replicator
from tests.wire.ebt_nodes import described, message

ME, FEED, OTHER, FIRST, SECOND = (FeedRef.classic(bytes([number]) * 32) for number in range(1, 6))


def say(connection: EbtConnection, sequence: int, receive: bool = False, now: float = 0, feed: FeedRef = FEED) -> None:
    for raw in format_notes({feed: encode_note(sequence, receive)}):
        connection.receive(raw, now)


def told(connection: EbtConnection) -> dict[FeedRef, int]:
    merged: dict[FeedRef, int] = {}
    for raw in connection.notes_to_send():
        found = described(raw)
        assert isinstance(found, dict)
        merged.update(found)
    return merged


def fetches(connection: EbtConnection, now: float) -> list[FeedRef]:
    """All that are due now; they are begun by asking."""
    found = []
    while (feed := connection.next_fetch(now)) is not None:
        found.append(feed)
    return found


def first_fetch(connection: EbtConnection, until: int) -> int | None:
    """In which second something is due."""
    return next((now for now in range(until) if fetches(connection, now)), None)


def one(clock: dict[FeedRef, int] | None = None, *wanted: FeedRef) -> tuple[Replicator, EbtConnection]:
    replicator = Replicator(clock or {}, wanted or [FEED], me=ME)
    connection = replicator.connect(FIRST, client=False, now=0)
    told(connection)
    return replicator, connection


def test_a_peer_that_remembers_more_than_we_have_is_asked_in_another_way() -> None:
    """As ssb-server 16 answers after our store was lost: with a note that says "do not send"."""
    for held in (0, 3):
        replicator, connection = one({FEED: held})
        say(connection, 8, now=10)
        assert connection.is_behind
        assert fetches(connection, 13) == []
        assert fetches(connection, 14) == [FEED]
        assert fetches(connection, 20) == [], "asked twice at once"
        replicator.appended(FEED, 8)
        assert not connection.is_behind
        told(connection)
        connection.fetch_ended(FEED, 20)
        assert told(connection) == {FEED: 16}, "the peer would send it once more"
        assert fetches(connection, 1000) == []


def test_what_was_announced_in_an_earlier_session_counts() -> None:
    replicator = Replicator({}, [FEED])
    connection = replicator.connect(FIRST, client=False, now=0, saved_clock={FEED: 8})
    assert connection.is_behind
    assert first_fetch(connection, 10) == 4


def test_a_feed_that_is_wanted_later_counts() -> None:
    replicator, connection = one()
    say(connection, 8, feed=OTHER)
    assert not connection.is_behind
    replicator.now = 50
    replicator.follow(OTHER)
    assert connection.is_behind
    assert (fetches(connection, 53), fetches(connection, 54)) == ([], [OTHER])


def test_what_comes_by_ebt_is_not_fetched() -> None:
    replicator, connection = one()
    say(connection, 100)
    for second in range(1, 100):
        connection.receive(message(FEED, second), second)
        assert fetches(connection, second + 0.5) == []
        replicator.appended(FEED, second)
    # The store is slow: what has come and is not committed yet is not asked for again.
    connection.receive(message(FEED, 100), 100)
    assert connection.is_behind
    assert fetches(connection, 200) == []


def test_what_comes_from_somebody_else_is_not_fetched() -> None:
    replicator, connection = one()
    say(connection, 100)
    for second in range(1, 100):
        replicator.now = second
        replicator.appended(FEED, second)
        assert fetches(connection, second) == []
    assert fetches(connection, 104) == [FEED]


def test_a_peer_that_sends_other_feeds_gets_more_time_and_one_call() -> None:
    feeds = [FeedRef.classic(bytes([50 + number]) * 32) for number in range(20)]
    _, connection = one({}, OTHER, *feeds)
    for feed in feeds:
        say(connection, 5, feed=feed)
    say(connection, 1000, feed=OTHER)
    for second in range(1, 60):
        connection.receive(message(OTHER, second), second)
        assert len(fetches(connection, second)) == (second == 20), second
    assert len(fetches(connection, 80)) == 7  # it is silent now


def test_our_own_feed_is_fetched_first_and_few_at_once() -> None:
    feeds = [FeedRef.classic(bytes([50 + number]) * 32) for number in range(100)]
    replicator, connection = one({}, ME, *feeds)
    for feed in [*feeds, ME]:
        say(connection, 5, feed=feed)
    begun = fetches(connection, 5)
    assert len(begun) == 8
    assert begun[0] == ME
    seen = set(begun)
    while begun:
        feed = begun.pop()
        replicator.appended(feed, 5)
        connection.fetch_ended(feed, 6)
        more = fetches(connection, 6)
        seen |= set(more)
        begun += more
        if not begun:
            begun = fetches(connection, 7.5)  # what is due is looked for once a second
            seen |= set(begun)
    assert seen == {ME, *feeds}


def test_in_vain_it_is_asked_three_times_ever_more_rarely() -> None:
    _, connection = one()
    say(connection, 8)
    asked = []
    for second in range(1000):
        if fetches(connection, second):
            asked.append(second)
            connection.fetch_ended(FEED, second)
            say(connection, 8 + second, now=second)  # and promises still more
    assert asked == [4, 14, 44]
    assert connection.is_behind


def test_a_peer_that_gives_nothing_is_not_asked_for_ever() -> None:
    feeds = [FeedRef.classic(bytes([50 + number]) * 32) for number in range(100)]
    _, connection = one({}, *feeds)
    for feed in feeds:
        say(connection, 2**30 - 1, feed=feed)
    calls = 0
    for second in range(1000):
        for feed in fetches(connection, second):
            calls += 1
            connection.fetch_ended(feed, second)
    assert calls < 24


def test_a_peer_that_refuses_is_not_asked_again() -> None:
    _, connection = one({}, FEED, OTHER)
    say(connection, 8, feed=FEED)
    say(connection, 8, feed=OTHER, now=10)
    assert fetches(connection, 6) == [FEED]
    connection.fetch_ended(FEED, 6, error=True, refused=True)
    assert first_fetch(connection, 1000) is None


def test_after_an_error_that_feed_is_not_asked_for_again() -> None:
    _, connection = one({}, FEED, OTHER)
    say(connection, 8, feed=FEED)
    say(connection, 8, feed=OTHER, now=10)
    assert fetches(connection, 6) == [FEED]
    connection.fetch_ended(FEED, 6, error=True)
    assert fetches(connection, 15) == [OTHER]
    assert first_fetch(connection, 1000) is None


def test_another_peer_has_its_turn_first_and_two_are_never_asked_at_once() -> None:
    replicator = Replicator({}, [FEED])
    first, second = (replicator.connect(peer, client=False, now=0) for peer in (FIRST, SECOND))
    say(first, 8)
    say(second, 8)
    replicator.handle_timer(SWITCH_AFTER_S)
    assert told(second)[FEED] == 0
    assert fetches(first, SWITCH_AFTER_S) == fetches(second, SWITCH_AFTER_S) == []
    assert fetches(first, 5) == [FEED]
    assert fetches(second, 5) == []
    first.fetch_ended(FEED, 6)
    assert (fetches(first, 7), fetches(second, 7)) == ([], [FEED])
    assert first.is_behind, "it announced more, whoever is asked"
    assert second.is_behind


def test_a_fetch_may_outlive_its_stream() -> None:
    replicator, connection = one()
    say(connection, 8)
    assert fetches(connection, 5) == [FEED]
    replicator.disconnect(connection)
    again = replicator.connect(FIRST, client=False, now=6)
    told(again)
    say(again, 8, now=6)
    assert fetches(again, 11) == []
    replicator.appended(FEED, 4)
    connection.fetch_ended(FEED, 12)
    assert told(connection) == {}
    assert replicator.receiver(FEED) is again
    assert fetches(connection, 20) == []
    assert fetches(again, 20) == [FEED]


def test_what_is_not_wanted_any_more_is_not_missing() -> None:
    for change in (
        lambda replicator, connection: replicator.unfollow(FEED),
        lambda replicator, connection: connection.refuse_feed(FEED),
        lambda replicator, connection: connection.withhold(FEED),
        lambda replicator, connection: say(connection, -1, now=1),
        lambda replicator, connection: say(connection, 2, now=1),
    ):
        replicator, connection = one({FEED: 2})
        say(connection, 8)
        change(replicator, connection)
        assert not connection.is_behind
        assert first_fetch(connection, 100) is None
