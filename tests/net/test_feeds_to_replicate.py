"""Whose feeds are asked for, who is welcome, and from whom what is withheld."""

from __future__ import annotations

from pathlib import Path

from sneaker.ingest.ingest import Ingest
from sneaker.net.feeds_to_replicate import read_replication_policy
from tests.net.machines import Machine, now_ms


def test_policy(tmp_path: Path) -> None:
    me, friend, far, farther, enemy = (Machine(tmp_path / name) for name in ("me", "friend", "far", "farther", "enemy"))
    me.follow(friend.id)
    me.block(enemy.id)
    friend.follow(far.id, enemy.id)
    friend.block(farther.id)
    far.follow(farther.id)
    with me.home() as home:
        for other in (friend, far):
            with Ingest(home.store, caps=me.caps, now_ms=now_ms, workers=1) as ingest:
                for message in other.messages(other.id):
                    ingest.add_message(message)
        policy = read_replication_policy(home.store, me.keypair.public, 2)
        assert policy.wanted == {machine.keypair.public for machine in (me, friend, far)}
        assert policy.blocked == {enemy.keypair.public}
        assert not policy.is_welcome(enemy.keypair.public)
        assert policy.is_welcome(farther.keypair.public)
        assert policy.withheld(farther.keypair.public) == {friend.keypair.public}
        assert read_replication_policy(home.store, me.keypair.public, 0).wanted == {
            me.keypair.public,
            friend.keypair.public,
        }
        assert farther.keypair.public not in read_replication_policy(home.store, me.keypair.public, 3).wanted
