"""What others claimed to have of the own feed is not forgotten, whatever they say later."""

from __future__ import annotations

from sneaker.refs import MessageRef
from sneaker.store.base import Note, OwnSeen, Store
from tests.store.worlds import batch, feed, keypair

ME, BOB, CAROL = (keypair(number).public for number in (0, 1, 2))


def hold(store: Store, count: int) -> list[MessageRef]:
    """Let the store hold so many messages of ours; return the ids of all of them, and of some that it lacks."""
    messages = feed(0, count + 5)
    with store.writer() as writer:
        writer.commit(batch([(writer.next_feed_id(), messages[:count])]))
    return [message.key for message in messages]


def test_a_claim_stays_when_the_peer_says_less(store: Store) -> None:
    store.own = ME
    store.update_peer_clock(BOB, {ME: Note(11)})
    store.update_peer_clock(BOB, {ME: Note(3)})
    store.update_peer_clock(BOB, {ME: Note(-1, replicate=False)})
    store.replace_peer_clock(BOB, {})
    store.forget_peer_clock()
    assert store.own_sequence_seen(ME) == OwnSeen(0, 0, 11)
    (claim,) = store.claims(ME)
    assert (claim.source, claim.sequence, claim.key, claim.dismissed) == (BOB, 11, None, False)


def test_nobody_elses_feed_is_noted(store: Store) -> None:
    store.own = ME
    store.update_peer_clock(BOB, {CAROL: Note(11)})
    assert store.claims(ME) == store.claims(CAROL) == []


def test_dismissed_claims_do_not_count_until_more_is_claimed(store: Store) -> None:
    store.own = ME
    store.update_peer_clock(BOB, {ME: Note(11)})
    store.replace_peer_clock(CAROL, {ME: Note(12)})
    assert [claim.sequence for claim in store.claims(ME)] == [12, 11]
    assert store.dismiss_claims(ME) == 2
    assert store.own_sequence_seen(ME).claimed == 0
    assert store.dismiss_claims(ME) == 0
    store.update_peer_clock(BOB, {ME: Note(11)})
    assert store.own_sequence_seen(ME).claimed == 0
    store.update_peer_clock(BOB, {ME: Note(13)})
    assert store.own_sequence_seen(ME).claimed == 13
    assert [claim.dismissed for claim in store.claims(ME)] == [False, True]


def test_a_claim_by_key(store: Store) -> None:
    keys = hold(store, 3)
    store.note_claim(ME, ME, 3, keys[2])  # what we hold
    store.note_claim(ME, None, 2)
    store.note_claim(ME, ME, 0)
    assert store.claims(ME) == []
    store.note_claim(ME, ME, 2, keys[0])  # another message than ours
    store.note_claim(ME, ME, 4, keys[3])
    store.note_claim(ME, None, 2**40)
    assert [(claim.source, claim.key) for claim in store.claims(ME)][1:] == [(ME, keys[3]), (ME, keys[0])]
    assert store.own_sequence_seen(ME).held == 3
