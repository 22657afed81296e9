"""Private contact messages of the own feed count like public ones; nobody else's do."""

from __future__ import annotations

import os
from pathlib import Path

from sneaker.feed.message import Message
from sneaker.home.home import Home
from sneaker.ingest.rebuild_store import rebuild
from sneaker.keys import Keypair
from sneaker.own_feed.publish import contact_content, publish
from sneaker.refs import BlobRef, FeedRef
from sneaker.social import EdgeState
from sneaker.store.check import check
from tests.homes import NOW_MS, home, log_lines, pack, take

SEED = bytes(range(32))
ENEMY, FRIEND = (Keypair.from_seed(bytes([number]) * 32).public for number in (1, 2))
BLOB = BlobRef.of(b"a photo")


def say_in_private(opened: Home, content: dict[str, object], *to: FeedRef) -> Message:
    return publish(
        opened.store,
        opened.keypair,
        opened.caps,
        content,
        private_to=list(to),
        now_ms=lambda: NOW_MS,
        random_bytes=os.urandom,
    )


def say_all(opened: Home) -> None:
    me = opened.keypair.public
    say_in_private(opened, contact_content(ENEMY, following=False, blocking=True), me)
    say_in_private(opened, contact_content(FRIEND, following=True, blocking=False), me)
    say_in_private(opened, {"type": "post", "text": f"![]({BLOB})"}, me, FRIEND)


def edges(opened: Home) -> dict[FeedRef, EdgeState]:
    return {edge.contact: edge.state for edge in opened.store.edges(opened.keypair.public)}


def test_own_private_contacts_count_wherever_the_messages_come_from(tmp_path: Path) -> None:
    with home(tmp_path / "a", SEED) as a:
        say_all(a)
        assert edges(a) == {ENEMY: EdgeState.BLOCK, FRIEND: EdgeState.FOLLOW}
        assert a.store.hops(a.keypair.public, 2)[ENEMY] < 0
        assert [link.blob for link in a.store.blob_links()] == [BLOB]
        assert check(a.store).clean
        pack(a, tmp_path / "all.sneaker")
        lines = log_lines(a)
    with home(tmp_path / "recovered", SEED) as b:
        take(b, tmp_path / "all.sneaker")
        assert edges(b) == {ENEMY: EdgeState.BLOCK, FRIEND: EdgeState.FOLLOW}
        rebuild(b.store, caps=b.caps, now_ms=lambda: NOW_MS)
        assert edges(b) == {ENEMY: EdgeState.BLOCK, FRIEND: EdgeState.FOLLOW}
        assert check(b.store).clean
    with home(tmp_path / "waiting", SEED) as c:
        for _, text in (lines[2], lines[1], lines[0]):
            take(c, "-", data=text.replace(b"\n", b" ") + b"\n")
        assert edges(c) == {ENEMY: EdgeState.BLOCK, FRIEND: EdgeState.FOLLOW}
        assert check(c.store).clean


def test_other_peoples_private_contacts_say_nothing(tmp_path: Path) -> None:
    with home(tmp_path / "a", SEED) as a, home(tmp_path / "b") as b:
        say_in_private(a, contact_content(ENEMY, following=True, blocking=False), b.keypair.public)
        pack(a, tmp_path / "all.sneaker")
        take(b, tmp_path / "all.sneaker")
        assert list(b.store.edges()) == []
        assert check(b.store).clean
