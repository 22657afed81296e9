"""A feed that is not classic, through a whole home: taken in, stored, listed, checked, and left out where it has no name yet."""

from __future__ import annotations

import io
import json
import random
import sqlite3
from pathlib import Path

import pytest

from sneaker.caps import MAIN_CAPS
from sneaker.clock import VectorClock
from sneaker.errors import UsageError
from sneaker.ingest.ingest import Ingest
from sneaker.ingest.rebuild_store import rebuild
from sneaker.refs import FeedRef
from sneaker.store.check import check
from sneaker.store.store import Store
from sneaker.transfer.verify import verify
from sneaker.wire.ebt.notes import format_notes
from tests.command_line import sneaker
from tests.feed.bendy import FEED, META, SUB, log_line, make, metafeed
from tests.homes import NOW_MS, home, log_lines, pack, take
from tests.sticks import Machine
from tests.store.worlds import feed, run

MESSAGES = metafeed(20)
LOG = b"".join(map(log_line, MESSAGES))


def test_from_a_log_to_a_log(tmp_path: Path) -> None:
    with home(tmp_path / "a") as ada:
        report = take(ada, "-", data=LOG)
        assert (report.ingested.accepted, report.ingested.refused) == (20, 0)
        assert report.ingested.feeds_new == {FEED}
        assert ada.store.clock() == VectorClock({FEED: 20})
        assert list(ada.store.messages(FEED)) == MESSAGES
        assert take(ada, "-", data=LOG).ingested.known == 20
        assert check(ada.store).clean
        # The same key as a classic feed is another feed.
        assert ada.store.head(META.public) is None
    printed = sneaker("log", "--json", at=tmp_path / "a").out
    assert [json.loads(line)["key"] for line in printed.splitlines()] == [str(message.key) for message in MESSAGES]
    assert json.loads(sneaker("clock", "--json", at=tmp_path / "a").out) == {str(FEED): 20}
    assert json.loads(sneaker("status", "--json", at=tmp_path / "a").out)["messages"] == 20
    assert "metafeed/add/existing" in sneaker("log", "--feed", str(FEED), at=tmp_path / "a").out
    with home(tmp_path / "b") as ben:
        assert take(ben, "-", data=printed.encode()).ingested.accepted == 20
        assert [text for _, text in log_lines(ben)] == [message.text for message in MESSAGES]


def test_what_ssb_db2_prints_is_enough(tmp_path: Path) -> None:
    lines = b""
    for message in MESSAGES:
        value = json.loads(log_line(message))["value"]
        lines += json.dumps({"key": str(message.key), "value": value, "timestamp": 5.5}).encode() + b"\n"
        lines += json.dumps(value).encode() + b"\n"
    with home(tmp_path / "a") as ada:
        report = take(ada, "-", data=lines)
        assert (report.ingested.accepted, report.ingested.known, report.ingested.refused) == (20, 20, 0)


def test_any_order_among_classic_ones(tmp_path: Path) -> None:
    classic = [b'{"key":"%b","value":%b,"timestamp":1}\n' % (str(m.key).encode(), m.text) for m in feed(1, 20)]
    lines = [*map(log_line, MESSAGES), *classic]
    random.Random(5).shuffle(lines)
    with home(tmp_path / "a") as ada:
        first = take(ada, "-", data=b"".join(lines[:20]))
        assert first.ingested.waiting
        second = take(ada, "-", data=b"".join(lines[20:]))
        assert first.ingested.accepted + second.ingested.accepted == 40
        assert ada.store.clock() == VectorClock({FEED: 20, feed(1, 20)[0].author: 20})
        assert list(ada.store.messages(FEED)) == MESSAGES
        assert not ada.store.waiting()
        assert check(ada.store).clean


@pytest.mark.parametrize("pair", [SUB, META], ids=["by the author", "of the content"])
def test_signatures_are_checked(tmp_path: Path, pair: object) -> None:
    """Message 3 is signed wrongly; what is behind it has nothing to follow."""
    from tests.feed.bendy import BENDYBUTT

    if pair is META:
        bad = BENDYBUTT.parse(make(MESSAGES[1], signer=META))
    else:
        raw = bytearray(MESSAGES[2].text)
        raw[-10] ^= 1
        bad = BENDYBUTT.parse(bytes(raw))
    lines = [log_line(item) for item in (*MESSAGES[:2], bad, *MESSAGES[3:])]
    with home(tmp_path / "a") as ada:
        report = take(ada, "-", data=b"".join(lines))
        assert report.ingested.accepted == 2
        assert {(item.feed, item.sequence, item.code) for item in report.ingested.refusals} >= {
            (FEED, 3, "signature-invalid")
        }
        assert ada.store.clock() == VectorClock({FEED: 2})
    found = verify(io.BytesIO(b"".join(lines)), "log", MAIN_CAPS, progress=lambda done: None)
    assert (found.valid, found.invalid) == (19, 1)


def test_forks(tmp_path: Path) -> None:
    other = metafeed(12, branch="b", shared=10)
    with home(tmp_path / "a") as ada:
        take(ada, "-", data=LOG)
        report = take(ada, "-", data=b"".join(map(log_line, other)))
        assert report.ingested.feeds_forked == {FEED}
        assert [(fork.feed, fork.sequence, fork.ours, fork.key) for fork in ada.store.forks()] == [
            (FEED, place, MESSAGES[place - 1].key, other[place - 1].key) for place in (11, 12)
        ]
        assert take(ada, "-", data=b"".join(map(log_line, metafeed(30)))).ingested.accepted == 0
        assert check(ada.store).clean
    found = verify(io.BytesIO(LOG + b"".join(map(log_line, other))), "log", MAIN_CAPS, progress=lambda done: None)
    assert found.forked == {FEED: 11}


def test_damage_is_found_and_mended(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        with Ingest(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS, workers=1) as ingest:
            for message in MESSAGES:
                ingest.add_message(message)
        connection = sqlite3.connect(path)
        (content,) = connection.execute("SELECT content FROM message WHERE id & 0xffffffff = 8").fetchone()
        connection.execute(
            "UPDATE message SET content = ? WHERE id & 0xffffffff = 8", (content.replace(b"main", b"MAIN"),)
        )
        connection.commit()
        connection.close()
        found = check(store)
        assert [(item.code, item.feed, item.sequence) for item in found.problems] == [("key-mismatch", FEED, 8)]
        assert check(store, repair=True).repaired
        assert store.clock() == VectorClock({FEED: 7})
        assert check(store).clean
        with Ingest(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS, workers=1) as ingest:
            ingest.add_message(MESSAGES[7])
        assert store.clock() == VectorClock({FEED: 20})
        assert list(store.messages(FEED)) == MESSAGES


def test_a_store_is_rebuilt(tmp_path: Path) -> None:
    with Store(tmp_path / "store.sqlite") as store:
        with Ingest(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS, workers=1) as ingest:
            for message in (*MESSAGES[:10], *MESSAGES[15:]):
                ingest.add_message(message)
            ingest.add_run(run(feed(1, 10)))
        done = rebuild(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS)
        assert (done.messages, done.waiting, done.aside) == (20, 5, 0)
        assert store.clock() == VectorClock({FEED: 10, feed(1, 10)[0].author: 10})
        assert check(store).clean


def test_bundles_leave_it_out(tmp_path: Path) -> None:
    with home(tmp_path / "a") as ada, home(tmp_path / "b") as ben:
        take(ada, "-", data=LOG + b"".join(b'{"value":%b}\n' % item.text for item in feed(1, 5)))
        pack(ada, tmp_path / "all.sneaker")
        take(ben, tmp_path / "all.sneaker")
        assert ben.store.clock() == VectorClock({feed(1, 5)[0].author: 5})
        assert META.public not in ben.store.clock()
        with pytest.raises(UsageError, match="cannot carry"):
            pack(ada, tmp_path / "one.sneaker", feeds={FEED})
        assert not (tmp_path / "one.sneaker").exists()


def test_sticks_leave_it_out_and_its_forks(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    ada, ben = Machine(tmp_path, "A"), Machine(tmp_path, "B")
    with ada.opened() as opened:
        take(opened, "-", data=LOG + b"".join(map(log_line, metafeed(12, branch="b", shared=10))))
        assert opened.store.forked() == {FEED}
    ada.publish("carried")
    from sneaker.stick.enrolment import enrol, trust

    with ada.opened() as opened:
        enrol(opened, stick, label="", now_ms=NOW_MS, random_bytes=lambda size: bytes(size))
    with ben.opened() as opened:
        trust(opened, stick, "", now_ms=NOW_MS)
    for machine in (ada, ben, ada, ben):
        assert machine.sync(stick).complete
    assert ben.clock() == VectorClock({ada.me: 1})
    assert ada.clock() == VectorClock({FEED: 20, ada.me: 1})


def test_peers_are_not_told_of_it() -> None:
    other = FeedRef.classic(bytes(32))
    assert list(format_notes({FEED: 40, other: 2})) == [b'{"%b":2}' % str(other).encode()]
    assert list(format_notes({FEED: 40})) == [b"{}"]
