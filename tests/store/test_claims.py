"""What near machines claimed to have of the own feed is not forgotten, whatever they say later; what strangers claim stops nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sneaker.feed.classic.message import create_message
from sneaker.feed.message import Head, Message
from sneaker.refs import FeedRef, MessageRef
from sneaker.store.own_feed_claims import MAX_CLAIMS
from sneaker.store.rows import OwnSeen
from sneaker.store.store import Store
from tests.known_clocks import tell
from tests.store.worlds import batch, feed, keypair
from tests.tries import amount

ME, BOB, CAROL, EVE = (keypair(number).public for number in (0, 1, 2, 3))


def stranger(number: int) -> FeedRef:
    return FeedRef.classic(number.to_bytes(32, "big"))


def write(store: Store, *feeds: list[Message] | tuple[Message, ...]) -> None:
    with store.writer() as writer:
        states = [writer.feed_state(messages[0].author) for messages in feeds]
        known = [state.id for state in states if state.id]
        writer.commit(batch([(s.id or writer.next_feed_id(), m) for s, m in zip(states, feeds, strict=True)], known))


def hold(store: Store, count: int) -> list[MessageRef]:
    """Let the store hold so many messages of ours; return the ids of all of them, and of some that it lacks."""
    messages = feed(0, count + 5)
    write(store, messages[:count])
    return [message.key for message in messages]


def contacts(author: int, after: Head | None, *states: tuple[FeedRef, bool, bool]) -> list[Message]:
    """Return messages of an author who follows or blocks others."""
    made: list[Message] = []
    for contact, following, blocking in states:
        content = {"type": "contact", "contact": str(contact), "following": following, "blocking": blocking}
        made.append(create_message(keypair(author), after, 1_600_000_000_000, content))
        after = Head(made[-1].sequence, made[-1].key)
    return made


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Store]:
    """A store of ours; we follow Bob and Carol."""
    with Store(tmp_path / "ours.sqlite", ME) as store:
        write(store, contacts(0, None, (BOB, True, False), (CAROL, True, False)))
        yield store


def test_a_claim_stays_when_the_peer_says_less(ours: Store) -> None:
    tell(ours, BOB, {ME: 11})
    tell(ours, BOB, {ME: 3})
    tell(ours, BOB, {}, declined=[ME])
    assert ours.own_sequence_seen(ME) == OwnSeen(2, 2, 11)
    (claim,) = ours.claims.claims_about(ME)
    assert (claim.source, claim.sequence, claim.key, claim.dismissed) == (BOB, 11, None, False)


def test_nobody_elses_feed_is_noted(ours: Store) -> None:
    tell(ours, BOB, {CAROL: 11})
    assert ours.claims.claims_about(ME) == ours.claims.claims_about(CAROL) == []


def test_dismissed_claims_do_not_count_until_more_is_claimed(ours: Store) -> None:
    tell(ours, BOB, {ME: 11})
    tell(ours, CAROL, {ME: 12})
    tell(ours, EVE, {ME: 13})
    assert [claim.sequence for claim in ours.claims.claims_about(ME)] == [13, 12, 11]
    assert ours.claims.dismiss_claims(ME) == 2, "a stranger's claim stopped nothing"
    assert ours.own_sequence_seen(ME).claimed == 0
    assert ours.claims.dismiss_claims(ME) == 0
    tell(ours, BOB, {ME: 11})
    assert ours.own_sequence_seen(ME).claimed == 0
    tell(ours, BOB, {ME: 14})
    assert ours.own_sequence_seen(ME).claimed == 14
    assert [claim.dismissed for claim in ours.claims.claims_about(ME)] == [False, True, True]


def test_our_own_word_is_never_dismissed(ours: Store) -> None:
    key = feed(3, 1)[0].key
    ours.claims.note_claim(ME, ME, 11)
    ours.claims.note_claim(ME, ME, 12, key)
    ours.claims.note_claim(ME, ME, 1, key)  # another message than ours
    ours.claims.note_claim(ME, None, 13)
    assert ours.claims.dismiss_claims(ME) == 1
    assert ours.own_sequence_seen(ME).claimed == 12
    assert [claim.sequence for claim in ours.claims.claims_about(ME) if claim.dismissed] == [13]


def test_a_claim_by_key(store: Store) -> None:
    keys = hold(store, 3)
    store.claims.note_claim(ME, ME, 3, keys[2])  # what we hold
    store.claims.note_claim(ME, None, 2)
    store.claims.note_claim(ME, ME, 0)
    assert store.claims.claims_about(ME) == []
    store.claims.note_claim(ME, ME, 2, keys[0])  # another message than ours
    store.claims.note_claim(ME, ME, 4, keys[3])
    store.claims.note_claim(ME, None, 2**40)
    assert [(claim.source, claim.key) for claim in store.claims.claims_about(ME)][1:] == [(ME, keys[3]), (ME, keys[0])]
    assert store.own_sequence_seen(ME).held == 3


@pytest.mark.parametrize("say", ["clock", "claim"])
def test_whose_word_counts(ours: Store, say: str) -> None:
    """Our own, that of friends and their friends, and what the person gave us; not that of those whom we block or do not know."""

    def claimed_by(source: FeedRef | None, sequence: int) -> int:
        if say == "clock" and source is not None:
            tell(ours, source, {ME: sequence})
        else:
            ours.claims.note_claim(ME, source, sequence)
        return ours.own_sequence_seen(ME).claimed

    friend_of_bob, blocked = stranger(1), stranger(2)
    head = ours.head(ME)
    write(ours, contacts(1, None, (friend_of_bob, True, False), (blocked, True, False)))
    write(ours, contacts(0, head, (blocked, False, True)))
    assert claimed_by(EVE, 2**31 - 1) == 0
    assert claimed_by(blocked, 50) == 0
    assert claimed_by(BOB, 11) == 11
    assert claimed_by(friend_of_bob, 12) == 12
    assert claimed_by(None, 13) == 13
    assert claimed_by(ME, 14) == 14


def test_a_stranger_who_becomes_near_is_believed(ours: Store) -> None:
    ours.claims.note_claim(ME, EVE, 20)
    assert ours.own_sequence_seen(ME).claimed == 0
    write(ours, contacts(0, ours.head(ME), (EVE, True, False)))
    assert ours.own_sequence_seen(ME).claimed == 20


def test_any_number_of_strangers_takes_bounded_room_and_displaces_nobody(ours: Store) -> None:
    keys = [message.key for message in feed(3, 2)]
    ours.claims.note_claim(ME, ME, 1, keys[0])  # with our signature, and another message than the one held
    ours.claims.note_claim(ME, BOB, 7)
    ours.claims.note_claim(ME, None, 6)
    for number in range(amount(quick=2, thorough=5) * MAX_CLAIMS):
        ours.claims.note_claim(ME, stranger(number), 1000 + number)
        assert len(ours.claims.claims_about(ME)) <= MAX_CLAIMS
    assert {(claim.source, claim.sequence) for claim in ours.claims.claims_about(ME) if claim.counts} == {
        (ME, 1),
        (BOB, 7),
        (None, 6),
    }
    assert ours.own_sequence_seen(ME).claimed == 7


def test_any_number_of_friends_takes_bounded_room_and_the_farthest_stays(ours: Store) -> None:
    friends = [stranger(number) for number in range(3 * MAX_CLAIMS)]
    write(ours, contacts(1, None, *((friend, True, False) for friend in friends)))
    ours.claims.note_claim(ME, friends[0], 5000)
    for number, friend in enumerate(friends):
        ours.claims.note_claim(ME, friend, 3 + number)
    assert len(ours.claims.claims_about(ME)) <= MAX_CLAIMS
    assert ours.own_sequence_seen(ME).claimed == 5000
