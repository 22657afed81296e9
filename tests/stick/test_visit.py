"""What a visit takes in, leaves and cleans up."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import BinaryIO

import pytest

from sneaker.bundle.indexed_file import IndexedBundle, open_indexed
from sneaker.clock import VectorClock
from sneaker.errors import ConfigError
from sneaker.home.config import load_config
from sneaker.planning.coverage import Coverage, index_coverage, reach
from sneaker.planning.send_order import Range
from sneaker.refs import BlobRef, FeedRef
from sneaker.stick import merge_bundles as compaction
from tests.command_line import sneaker
from tests.homes import NOW_MS, home, log_lines
from tests.sticks import Machine, bundles, cards, machines, names, snapshot

DAY_MS = 24 * 60 * 60 * 1000


def texts(count: int, size: int = 40) -> list[str]:
    return [os.urandom(size // 2).hex() for _ in range(count)]


def carried(stick: Path) -> dict[str, Coverage]:
    """Return what each bundle on a stick holds."""
    found = {}
    for path in bundles(stick).glob("*.sneaker"):
        with path.open("rb") as file:
            indexed = open_indexed(file)
            assert indexed is not None
            found[path.name] = index_coverage(indexed.index)
    return found


# ------------------------------------------------------------------------------------------------ receiving and sending


def test_the_round(tmp_path: Path) -> None:
    """Three machines, one stick: everybody gets everything, everything is written once, and in the end nothing lies there."""
    stick = tmp_path / "stick"
    all_machines = machines(tmp_path, stick, "ABC")
    written = 0
    for round_number in range(4):
        for machine in all_machines:
            report = machine.sync(stick)
            assert report.complete
            assert report.safe_to_remove
            written += report.exported.messages if report.exported is not None else 0
        if round_number < 1:
            for machine in all_machines:
                machine.publish("more")
    with all_machines[0].opened() as first, all_machines[1].opened() as second, all_machines[2].opened() as third:
        assert log_lines(first) == log_lines(second) == log_lines(third)
        assert len(log_lines(first)) == 6
    assert written == 6
    assert names(bundles(stick)) == set()
    assert len(names(cards(stick))) == 3
    before = snapshot(stick)
    for machine in all_machines:
        assert machine.sync(stick).exported is None
    assert snapshot(stick) == before


def test_nothing_is_written_twice(tmp_path: Path) -> None:
    """What A left for C lies there already; B, who has it too by now, writes only its own."""
    stick = tmp_path / "stick"
    (first, second, third) = machines(tmp_path, stick, "ABC")
    third.sync(stick)
    first.sync(stick)
    report = second.sync(stick)
    assert report.exported is not None
    assert [item.feed for item in report.exported.sent] == [second.me]


def test_a_newcomer_gets_everything(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    (first, second) = machines(tmp_path, stick, "AB")
    for machine in (first, second, first, second, first):
        machine.sync(stick)
    assert names(bundles(stick)) == set()
    late = Machine(tmp_path, "L")
    late.trust(stick)
    assert late.sync(stick).imported.ingested.accepted == 0
    first.sync(stick)
    assert late.sync(stick).imported.ingested.accepted == 2


def test_dry_run_and_no_export_change_nothing(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    (first, second) = machines(tmp_path, stick, "AB")
    first.sync(stick)
    second.publish(*texts(5))
    before = snapshot(stick)
    report = second.sync(stick, dry_run=True)
    assert report.imported.ingested.accepted == 1
    assert report.exported is not None
    assert report.exported.messages == 6
    assert snapshot(stick) == before
    assert second.clock() == {second.me: 6}
    report = second.sync(stick, export=False)
    assert report.imported.ingested.accepted == 1
    assert snapshot(stick) == before
    assert second.clock() == {first.me: 1, second.me: 6}


def test_budget_by_importance(tmp_path: Path) -> None:
    """Own messages and those of friends go first, without gaps; the report says what stayed behind; the rest comes later."""
    stick = tmp_path / "stick"
    (first, friend, stranger) = machines(tmp_path, stick, "AFS")
    from sneaker.own_feed.publish import contact_content, publish

    with first.opened() as opened:
        publish(
            opened.store,
            first.keypair,
            opened.caps,
            contact_content(friend.me, following=True),
            now_ms=lambda: NOW_MS,
            random_bytes=os.urandom,
        )
    friend.publish(*texts(30, 4000))
    stranger.publish(*texts(60, 4000))
    for machine in (stranger, friend, first):
        machine.sync(stick)
    for path in (*bundles(stick).iterdir(), *cards(stick).iterdir()):
        path.unlink()
    reader = Machine(tmp_path, "R")
    reader.trust(stick)
    reader.sync(stick)
    report = first.sync(stick, max_bytes=100_000)
    packed = report.exported
    assert packed is not None
    assert [item.feed for item in packed.sent][:2] == [first.me, friend.me]
    left = {item.feed: item for item in packed.left}
    assert left[stranger.me].messages > 40
    assert sum(path.stat().st_size for path in bundles(stick).iterdir()) <= 100_000
    done = sneaker("sync", stick, "--max-size", "64Ki", "--json", "--dry-run", at=first.path).json
    assert done["export"]["left_behind"]["messages"] > 0
    for _ in range(6):
        reader.sync(stick)
        first.sync(stick, max_bytes=100_000)
    assert reader.sync(stick).complete
    assert {feed: last for feed, last in reader.clock().items() if feed != reader.me} == first.clock()


def test_blobs_that_are_wanted(tmp_path: Path) -> None:
    """A blob goes along with the message that mentions it; one that somebody still lacks is brought when it is asked for."""
    stick = tmp_path / "stick"
    (first, second) = machines(tmp_path, stick, "AB")
    with first.opened() as opened:
        blob, _ = opened.blobs.add_blob(b"a picture" * 1000)
        late = BlobRef.of(b"a late picture")
        from sneaker.own_feed.publish import publish

        for ref in (blob, late):
            publish(
                opened.store,
                first.keypair,
                opened.caps,
                {"type": "post", "text": "look", "mentions": [{"link": str(ref)}]},
                now_ms=lambda: NOW_MS,
                random_bytes=os.urandom,
            )
    first.sync(stick)
    report = second.sync(stick)
    assert report.imported.blobs.accepted == 1
    with second.opened() as opened:
        assert opened.blobs.has(blob)
        assert not opened.blobs.has(late)
    with first.opened() as opened:
        opened.blobs.add_blob(b"a late picture")
    report = first.sync(stick)
    assert report.exported is not None
    assert (report.exported.messages, report.exported.blobs) == (0, 1)
    second.sync(stick)
    with second.opened() as opened:
        assert opened.blobs.has(late)
    first.sync(stick)
    assert names(bundles(stick)) == set(), "nobody wants it any more"


def test_taken_again_after_a_restore(tmp_path: Path) -> None:
    """The store forgot what it had (a repair, a restored copy), but remembers the stick: what it lacks is read again."""
    import sqlite3

    stick = tmp_path / "stick"
    (first, second, third) = machines(tmp_path, stick, "ABC")
    third.sync(stick)
    first.publish(*texts(20))
    first.sync(stick)
    second.sync(stick)
    assert second.clock()[first.me] == 21
    with sqlite3.connect(second.path / "store.sqlite") as connection:
        (feed,) = connection.execute("SELECT id FROM feed WHERE ref = ?", (first.me,)).fetchone()
        (key,) = connection.execute("SELECT key FROM message WHERE id = ?", (feed << 32 | 5,)).fetchone()
        connection.execute("DELETE FROM message WHERE id > ? AND id < ?", (feed << 32 | 5, (feed + 1) << 32))
        connection.execute("UPDATE feed SET sequence = 5, key = ? WHERE id = ?", (key, feed))
    connection.close()
    assert second.clock()[first.me] == 5
    second.sync(stick)
    assert second.clock()[first.me] == 21


# ------------------------------------------------------------------------------------------------ cleaning


def test_only_own_bundles_and_only_when_all_have_them(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    (first, second, third) = machines(tmp_path, stick, "ABC")
    for machine in (first, second, third):
        machine.sync(stick)
    of_first = {name for name, item in carried(stick).items() if item.ranges[0].feed == first.me}
    odd = {"notes.txt": b"hello", f"{'a' * 26}.sneaker": b"junk", "x.part": b"half"}
    for name, data in odd.items():
        (bundles(stick) / name).write_bytes(data)
    first.publish("news")
    assert first.sync(stick).removed == [f"bundles/{name}" for name in of_first]
    second.sync(stick)
    assert first.sync(stick).removed == [], "C has not got the news yet"
    third.sync(stick)
    assert len(first.sync(stick).removed) == 1
    for machine in (second, third, second, third):
        machine.sync(stick)
    assert {name: (bundles(stick) / name).read_bytes() for name in names(bundles(stick))} == odd


def test_machines_that_are_gone_for_long(tmp_path: Path) -> None:
    """A card that has not changed for the days that are set keeps nothing; when its machine comes back, it counts again."""
    stick = tmp_path / "stick"
    (first, second, gone) = machines(tmp_path, stick, "ABG")
    for machine in (gone, first, second, gone, first, second, first):
        machine.sync(stick)
    first.publish("news")
    first.sync(stick)
    second.now_ms = first.now_ms = NOW_MS + 30 * DAY_MS
    second.sync(stick)
    first.sync(stick)
    assert len(names(bundles(stick))) == 1, "kept for G"
    first.sync(stick, stale_days=20)
    assert names(bundles(stick)) == set(), "B has it, and G has not been seen for 20 days"
    assert first.sync(stick, stale_days=20).exported is None
    gone.now_ms = NOW_MS + 60 * DAY_MS
    gone.sync(stick)
    first.sync(stick, stale_days=20)
    assert gone.sync(stick).imported.ingested.accepted == 1


def test_settings(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    (first, _) = machines(tmp_path, stick, "AB")
    config = first.path / "config.toml"
    config.write_text('[sticks]\nstale_days = 7\nmin_free = "1G"\nmax_size = 70000\n')
    settings = load_config(first.path).sticks
    assert (settings.stale_days, settings.min_free_bytes, settings.max_bytes) == (7, 10**9, 70000)
    first.publish(*texts(30, 7000))
    done = sneaker("sync", stick, "--json", at=first.path).json
    assert done["export"]["bytes"] <= 70000
    assert done["export"]["left_behind"]["messages"] > 0
    config.write_text('[sticks]\nmin_free = "900T"\n')
    done = sneaker("sync", stick, "--json", at=first.path, ok=False)
    assert done.code == 3
    assert done.json["problems"][0].startswith("the stick is full")
    assert done.json["export"]["left_behind"]["messages"] > 0
    assert done.json["safe_to_remove"]
    for wrong in ("stale_days = 0", "stale_days = true", 'min_free = "much"', "max_size = -1", "days = 3"):
        config.write_text(f"[sticks]\n{wrong}\n")
        with pytest.raises(ConfigError, match="sticks"):
            load_config(first.path)


def test_many_small_bundles_become_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "_SMALL_COUNT", 4)
    stick = tmp_path / "stick"
    (first, second, absent) = machines(tmp_path, stick, "ABC")
    absent.sync(stick)
    most = 0
    for number in range(12):
        first.publish(f"news {number}")
        first.sync(stick)
        most = max(most, len(carried(stick)))
        covered = [item for coverage in carried(stick).values() for item in coverage.ranges if item.feed == first.me]
        assert reach(VectorClock({first.me: 0}), carried(stick).values())[first.me] == number + 2
        assert sum(item.messages for item in covered) == number + 2
    assert most == 5, "C's own and four of ours"
    second.sync(stick)
    absent.sync(stick)
    assert absent.clock()[first.me] == second.clock()[first.me] == 13


def test_gc(tmp_path: Path) -> None:
    """Own bundles become one that holds what is still lacked; a damaged one is noticed and replaced."""
    stick = tmp_path / "stick"
    (first, second, absent) = machines(tmp_path, stick, "ABC")
    absent.sync(stick)
    for _ in range(5):
        first.publish(*texts(3))
        first.sync(stick)
        second.sync(stick)
    assert len(carried(stick)) > 5
    report = first.sync(stick, collect=True)
    assert report.complete
    assert len(report.removed) == 5
    of_first = [name for name, coverage in carried(stick).items() if coverage.ranges[0].feed == first.me]
    assert len(of_first) == 1
    before = snapshot(bundles(stick))
    assert first.sync(stick, collect=True).removed == []
    assert snapshot(bundles(stick)) == before, "as it should be already"
    path = bundles(stick) / of_first[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x10
    path.write_bytes(data)
    os.utime(path, ns=(0, first_mtime(first, path)))
    report = first.sync(stick, collect=True)
    assert report.removed == [f"bundles/{path.name}"]
    assert absent.sync(stick).complete
    assert absent.clock()[first.me] == 16
    done = sneaker("drive", "gc", stick, "--json", at=first.path).json
    assert done["safe_to_remove"]
    assert len(done["removed"]) == 1


def first_mtime(machine: Machine, path: Path) -> int:
    """Return the time of modification that a machine remembers of a file: bits rot without changing it."""
    with machine.opened() as home:
        [drive] = home.store.sticks.sticks()
        return home.store.sticks.files(drive.id)[path.name].mtime_ns


def test_many_sticks_in_any_order(tmp_path: Path) -> None:
    """Three machines, three sticks, visits at random: in the end everybody has everything, and nothing lies about."""
    chance = random.Random(7)
    sticks = [tmp_path / f"stick{number}" for number in range(3)]
    all_machines = [Machine(tmp_path, name) for name in "ABC"]
    for stick in sticks:
        stick.mkdir()
        for machine in all_machines:
            machine.init(stick)
    for _ in range(25):
        machine = chance.choice(all_machines)
        if chance.random() < 0.4:
            machine.publish(*texts(chance.randint(1, 5)))
        assert machine.sync(chance.choice(sticks)).complete
    for _ in range(3):
        for stick in sticks:
            for machine in all_machines:
                assert machine.sync(stick).complete
    clocks = [machine.clock() for machine in all_machines]
    assert clocks[0] == clocks[1] == clocks[2]
    assert all(names(bundles(stick)) == set() for stick in sticks)


# ------------------------------------------------------------------------------------------------ coverage


def test_coverage_encoding() -> None:
    feed = FeedRef.classic(b"\1" * 32)
    for coverage in (Coverage(), Coverage((Range(feed, 1, 2**31 - 1),), frozenset({BlobRef(b"\2" * 32)}))):
        data = coverage.encode()
        assert Coverage.decode(data) == coverage
        for cut in range(len(data)):
            assert Coverage.decode(data[:cut]) is None
        assert Coverage.decode(data + b"x") is None
        assert Coverage.decode(b"\7" + data[1:]) is None


def test_reach() -> None:
    one, two = FeedRef.classic(b"\1" * 32), FeedRef.classic(b"\2" * 32)
    coverages = [
        Coverage((Range(one, 5, 9), Range(two, 3, 4))),
        Coverage((Range(one, 10, 12), Range(one, 14, 20))),
    ]
    assert reach(VectorClock({one: 4, two: 0}), coverages) == {one: 12, two: 0}
    assert reach(VectorClock({one: 3}), coverages) == {one: 3}
    assert reach(VectorClock({one: 13}), coverages) == {one: 20}
    assert reach(VectorClock({one: 6, two: 2}), reversed(coverages)) == {one: 12, two: 4}


def test_home_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's disk is full: said so, and taken in when there is room again."""
    from sneaker.files import nameless_file

    stick = tmp_path / "stick"
    (first, second) = machines(tmp_path, stick, "AB")
    first.sync(stick)
    monkeypatch.setattr(nameless_file, "MIN_FREE_HOME_BYTES", 1 << 60)
    report = second.sync(stick)
    assert not report.complete
    assert "no room on this machine" in report.imported.sources[0].detail
    assert report.safe_to_remove
    monkeypatch.undo()
    assert second.sync(stick).imported.ingested.accepted == 1


def test_another_home_is_not_touched(tmp_path: Path) -> None:
    """A stick in a folder that also holds other things of the person: nothing but SNEAKER is looked at."""
    stick = tmp_path / "stick"
    stick.mkdir()
    for name in ("holiday.jpg", "cards", "bundles", "drive.json"):
        (stick / name).write_text(name)
    before = snapshot(stick)
    (first, second) = machines(tmp_path, stick, "AB")
    for machine in (first, second, first):
        machine.sync(stick)
    after = {name: data for name, data in snapshot(stick).items() if not name.startswith("SNEAKER")}
    assert after == before
    with home(tmp_path / "C") as other:
        assert other.store.clock() == {}


def test_each_bundle_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To read and check index and trailer of a large bundle takes a while, on a slow machine."""
    stick = tmp_path / "stick"
    first, second = machines(tmp_path, stick, "AB")
    first.sync(stick)
    opened: list[int] = []

    def counting(file: BinaryIO) -> IndexedBundle | None:
        opened.append(1)
        return open_indexed(file)

    for module in ("sneaker.stick.receive", "sneaker.transfer.import_bundle"):
        monkeypatch.setattr(f"{module}.open_indexed", counting)
    second.sync(stick)
    assert second.clock()[first.me]
    assert len(opened) == 1
