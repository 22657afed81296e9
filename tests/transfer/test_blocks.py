"""A block holds on every way in and out, and what it keeps out is counted."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sneaker.caps import MAIN_CAPS
from sneaker.errors import UsageError
from sneaker.feed.classic.message import create_message
from sneaker.feed.message import Message
from sneaker.home.home import Home
from sneaker.ingest.ingest import Ingest
from sneaker.ingest.rebuild_store import rebuild
from sneaker.net.feeds_to_replicate import read_replication_policy
from sneaker.own_feed.publish import contact_content, publish
from sneaker.refs import FeedRef
from sneaker.stick.own_card import write_card
from sneaker.transfer.age_encryption import format_recipient
from sneaker.wire.ebt.replicator import Replicator
from tests.homes import NOW_MS, home, log_lines, pack, take
from tests.sticks import SMALL, Machine


def say(opened: Home, content: dict[str, object], *private_to: FeedRef) -> Message:
    return publish(
        opened.store,
        opened.keypair,
        opened.caps,
        content,
        private_to=private_to,
        now_ms=lambda: NOW_MS,
        random_bytes=os.urandom,
    )


def block(opened: Home, feed: FeedRef, *private_to: FeedRef) -> Message:
    return say(opened, contact_content(feed, following=False, blocking=True), *private_to)


@pytest.fixture
def enemy(tmp_path: Path) -> Iterator[Home]:
    """Somebody with five messages, which lie in ``enemy.sneaker``."""
    with home(tmp_path / "enemy", b"e" * 32) as opened:
        for number in range(5):
            say(opened, {"type": "post", "text": f"message {number}"})
        pack(opened, tmp_path / "enemy.sneaker")
        yield opened


@pytest.fixture
def me(tmp_path: Path) -> Iterator[Home]:
    with home(tmp_path / "me", b"m" * 32) as opened:
        yield opened


def spellings(enemy: Home) -> list[bytes]:
    """Return the messages as logs may spell them: the author is who it is, however it stands there."""
    messages = list(enemy.store.messages(enemy.keypair.public))
    author = str(enemy.keypair.public)
    escaped = author.replace("@", "\\u0040").replace("A", "\\u0041")
    texts = [message.text.decode() for message in messages]
    plain = json.loads(texts[0])
    return [
        json.dumps(plain).encode(),
        texts[1].replace("\n", " ").replace('"author":', '"author" : ').encode(),
        texts[2].replace("\n", " ").replace(author, escaped).encode(),
        texts[3].replace("\n", " ").replace('"author"', '"\\u0061uthor"').encode(),
        b'{"key":"%s","value":%s}' % (str(messages[4].key).encode(), texts[4].replace("\n", " ").encode()),
    ]


def test_logs_bundles_and_folders(tmp_path: Path, me: Home, enemy: Home) -> None:
    block(me, enemy.keypair.public)
    lines = spellings(enemy)
    (tmp_path / "log.ndjson").write_bytes(b"\n".join(lines))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/log.ndjson").write_bytes(b"\n".join(lines))
    (tmp_path / "folder/x.sneaker").write_bytes((tmp_path / "enemy.sneaker").read_bytes())
    pack(enemy, tmp_path / "secret.sneaker.age", recipients=[str(me.keypair.public)])
    for source in ("log.ndjson", "folder", "enemy.sneaker", "secret.sneaker.age"):
        report = take(me, tmp_path / source)
        assert report.complete
        assert (report.ingested.accepted, report.ingested.refused) == (0, 0)
        assert report.ingested.left_out == (10 if source == "folder" else 5)
    assert take(me, "-", data=b"\n".join(lines)).ingested.left_out == 5
    assert take(me, "-", data=(tmp_path / "enemy.sneaker").read_bytes()).ingested.left_out == 5
    assert set(me.store.clock()) == {me.keypair.public}
    # And each of these spellings is a message: without the block they are taken.
    with home(tmp_path / "other") as other:
        assert take(other, tmp_path / "log.ndjson").ingested.accepted == 5


def test_a_feed_that_is_too_far_away_is_left_out_however_its_log_is_spelled(
    tmp_path: Path, me: Home, enemy: Home
) -> None:
    report = take(me, "-", data=b"\n".join(spellings(enemy)), hops=2)
    assert (report.ingested.accepted, report.ingested.left_out) == (0, 5)


def test_what_waited_before_the_block_comes_in_no_more(me: Home, enemy: Home) -> None:
    lines = spellings(enemy)
    assert take(me, "-", data=b"\n".join(lines[2:])).ingested.waiting == 3
    block(me, enemy.keypair.public)
    assert take(me, "-", data=b"\n".join(lines[:2])).ingested.left_out == 2
    assert enemy.keypair.public not in me.store.clock()
    say(me, contact_content(enemy.keypair.public, blocking=False))
    assert take(me, "-", data=b"\n".join(lines[:2])).ingested.accepted == 5


@pytest.mark.parametrize("private", [False, True])
def test_a_block_that_comes_in_counts_for_what_comes_after_it(tmp_path: Path, enemy: Home, private: bool) -> None:
    with home(tmp_path / "first", b"m" * 32) as first:
        words = block(first, enemy.keypair.public, *([first.keypair.public] if private else []))
    with home(tmp_path / "again", b"m" * 32) as again:
        lines = [words.text.replace(b"\n", b" "), *spellings(enemy)]
        report = take(again, "-", data=b"\n".join(lines))
        assert (report.ingested.accepted, report.ingested.left_out) == (1, 5)


def test_the_door_itself_knows_whom_its_owner_blocks(me: Home, enemy: Home) -> None:
    """Peers' messages come this way, whatever place they were offered for."""
    block(me, enemy.keypair.public)
    messages = list(enemy.store.messages(enemy.keypair.public))
    with Ingest(me.store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS, workers=1) as ingest:
        for message in messages:
            ingest.add_message(message)
        assert not ingest.wants(enemy.keypair.public)
        assert ingest.close().left_out == 5
    assert enemy.keypair.public not in me.store.clock()


def test_a_rebuilt_store_keeps_what_it_held_and_the_block(tmp_path: Path, me: Home, enemy: Home) -> None:
    take(me, "-", data=b"\n".join(spellings(enemy)[:3]))
    block(me, enemy.keypair.public, me.keypair.public)
    before = log_lines(me)
    rebuild(me.store, caps=me.caps, now_ms=lambda: NOW_MS)
    assert log_lines(me) == before
    assert take(me, tmp_path / "enemy.sneaker").ingested.accepted == 0


def test_nothing_of_a_blocked_feed_is_exported_and_nothing_for_it(tmp_path: Path, me: Home, enemy: Home) -> None:
    take(me, tmp_path / "enemy.sneaker")
    write_card(tmp_path / "enemy.card", enemy, now_ms=NOW_MS)
    block(me, enemy.keypair.public)
    pack(me, tmp_path / "mine.sneaker")
    with home(tmp_path / "other") as other:
        take(other, tmp_path / "mine.sneaker")
        assert set(other.store.clock()) == {me.keypair.public}
    for options in (
        {"feeds": {enemy.keypair.public}},
        {"readers": [str(tmp_path / "enemy.card")]},
        {"recipients": [str(me.keypair.public), str(enemy.keypair.public)]},
        {"recipients": [enemy.keypair.public.uri]},
        {"recipients": [format_recipient(enemy.keypair.public)]},
    ):
        with pytest.raises(UsageError, match="you block"):
            pack(me, tmp_path / "never.sneaker", **options)
    assert not (tmp_path / "never.sneaker").exists()
    pack(me, tmp_path / "own.sneaker.age", recipients=[str(me.keypair.public)])


def test_sticks(tmp_path: Path) -> None:
    """Neither taken from a stick nor put on it; and what a bundle of ours held before the block goes."""
    first, foe, third = (Machine(tmp_path, name) for name in ("first", "foe", "third"))
    stick = tmp_path / "stick"
    stick.mkdir()
    first.publish("hello")
    foe.publish("mine")
    first.init(stick)
    for machine in (foe, third, first):
        machine.trust(stick)
        machine.sync(stick, **SMALL)
    with first.opened() as opened:
        assert foe.me in opened.store.clock()
        block(opened, foe.me)
    foe.publish("more")
    foe.sync(stick, **SMALL)
    first.sync(stick, **SMALL)
    with first.opened() as opened:
        assert opened.store.clock()[foe.me] == 1
        # A stick of its own, for a newcomer: nothing of the blocked one is on it.
    other = tmp_path / "other"
    other.mkdir()
    first.init(other)
    first.sync(other, **SMALL)
    newcomer = Machine(tmp_path, "newcomer")
    newcomer.trust(other)
    newcomer.sync(other, **SMALL)
    with newcomer.opened() as opened:
        assert set(opened.store.clock()) == {first.me}


def test_own_bundles_that_carry_the_blocked_are_written_again(tmp_path: Path) -> None:
    first, third = Machine(tmp_path, "first"), Machine(tmp_path, "third")
    foe = Machine(tmp_path, "foe")
    foe.publish("mine")
    first.publish("hello")
    stick = tmp_path / "stick"
    stick.mkdir()
    with foe.opened() as opened:
        pack(opened, tmp_path / "foe.sneaker")
    with first.opened() as opened:
        take(opened, tmp_path / "foe.sneaker")
    first.init(stick)
    first.sync(stick, **SMALL)
    with first.opened() as opened:
        block(opened, foe.me)
    first.sync(stick, **SMALL)
    third.trust(stick)
    third.sync(stick, **SMALL)
    with third.opened() as opened:
        assert opened.store.clock() == {first.me: 2}


def test_peers_get_nothing_of_it_as_soon_as_the_block_is_known(tmp_path: Path, me: Home, enemy: Home) -> None:
    take(me, tmp_path / "enemy.sneaker")
    say(me, contact_content(enemy.keypair.public, following=True))
    policy = read_replication_policy(me.store, me.keypair.public)
    replicator = Replicator(me.store.clock(), policy.wanted, carry=True, closed=policy.blocked)
    assert replicator.shares(enemy.keypair.public)
    block(me, enemy.keypair.public)
    policy = read_replication_policy(me.store, me.keypair.public)
    assert policy.blocked == {enemy.keypair.public}
    assert enemy.keypair.public not in policy.wanted
    replicator.closed.update(policy.blocked)
    assert not replicator.shares(enemy.keypair.public)


def test_who_blocks_themselves_is_served_as_before(me: Home) -> None:
    """A contact message about oneself means nothing, over the network as well."""
    own = me.keypair.public
    with Ingest(me.store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS, workers=1) as ingest:
        content = {"type": "contact", "contact": str(own), "following": False, "blocking": True}
        ingest.add_message(create_message(me.keypair, None, NOW_MS, content))
    policy = read_replication_policy(me.store, own)
    assert policy.is_welcome(own)
    assert own not in policy.withheld(own)
    assert own in policy.wanted
