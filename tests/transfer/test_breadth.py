"""Breadth order through real bundles: under a budget all feeds get on, without a gap, and the next bundle goes on there."""

from __future__ import annotations

import os
import random
from base64 import b64encode
from pathlib import Path

from sneaker.bundle.frames import RecordType
from sneaker.bundle.indexed_file import open_indexed
from sneaker.feed.classic.message import create_message
from sneaker.feed.message import Head
from sneaker.ingest.ingest import Ingest
from sneaker.keys import Keypair
from sneaker.planning.send_order import BREADTH_CHUNK, Order
from sneaker.store.check import check
from tests.homes import NOW_MS, home, pack, take

CHANCE = random.Random(7)
AUTHORS = [Keypair.from_seed(bytes([number]) * 32) for number in range(6)]
BUDGET = 64 * 1024


def fill(path: Path) -> None:
    """Put 60 messages of each author, which do not compress, into a store."""
    with home(path, os.urandom(32)) as opened, Ingest(opened.store, caps=opened.caps, now_ms=lambda: NOW_MS) as ingest:
        for keypair in AUTHORS:
            head = None
            for number in range(60):
                content = {"type": "post", "text": b64encode(CHANCE.randbytes(400)).decode()}
                message = create_message(keypair, head, NOW_MS + number, content)
                ingest.add_message(message)
                head = Head(message.sequence, message.key)


def test_all_feeds_get_on(tmp_path: Path) -> None:
    fill(tmp_path / "here")
    with home(tmp_path / "here") as here, home(tmp_path / "there") as there:
        card = tmp_path / "there.json"
        for turn in range(9):
            clock = there.store.clock()
            card.write_text("{" + ", ".join(f'"{feed}": {held}' for feed, held in clock.items()) + "}")
            bundle = tmp_path / f"{turn}.sneaker"
            report = pack(here, bundle, readers=[str(card)], order=Order.BREADTH, max_bytes=BUDGET)
            assert bundle.stat().st_size <= BUDGET
            with bundle.open("rb") as file:
                indexed = open_indexed(file)
                assert indexed is not None
                asked = indexed.clock(RecordType.PREREQUISITES)
            # Only what goes before the first message of each feed is asked for.
            assert asked == {feed: held for feed, held in clock.items() if 0 < held < 60}
            # A feed is named once, however many pieces it went in.
            assert len({item.feed for item in report.packed.sent}) == len(report.packed.sent)
            assert len({item.feed for item in report.packed.left}) == len(report.packed.left)
            taken = take(there, bundle)
            assert taken.complete
            assert not taken.ingested.waiting
            held = [there.store.clock().get(keypair.public, 0) for keypair in AUTHORS]
            assert max(held) - min(held) <= 2 * BREADTH_CHUNK
            for item in report.packed.left:
                assert item.first == there.store.clock()[item.feed] + 1
                assert item.last == 60
            if not report.packed.left:
                break
        assert held == [60] * 6
        assert 2 <= turn <= 5
        assert check(there.store, caps=there.caps).clean


def test_depth_drains_one_feed_after_the_other(tmp_path: Path) -> None:
    fill(tmp_path / "here")
    with home(tmp_path / "here") as here:
        report = pack(here, tmp_path / "one.sneaker", order=Order.DEPTH, max_bytes=BUDGET)
    whole = [item for item in report.packed.sent if item.messages == 60]
    assert len(report.packed.sent) - len(whole) <= 1
    assert 1 <= len(whole) <= 4
