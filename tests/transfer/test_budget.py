"""Budgets and volumes: exact about bytes, no gaps, the important first, and an honest report of what stayed behind."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sneaker.clock import VectorClock
from sneaker.home.home import Home
from sneaker.own_feed.attachments import Attachments, read_attachments
from sneaker.own_feed.publish import contact_content, publish
from sneaker.planning.send_order import Order, Range, order_ranges
from sneaker.refs import FeedRef
from sneaker.transfer.pack import MIN_VOLUME_BYTES
from tests.command_line import sneaker
from tests.homes import NOW_MS, fixture_log, home, log_lines, pack, take
from tests.tries import amount


def write(opened: Home, content: dict[str, object], attachments: Attachments | None = None) -> None:
    publish(
        opened.store,
        opened.keypair,
        opened.caps,
        content,
        attachments=attachments,
        now_ms=lambda: NOW_MS,
        random_bytes=bytes,
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("budget")
    with home(folder / "a") as a:
        take(a, "-", data=fixture_log())
        (folder / "file").write_bytes(random.Random(1).randbytes(30_000))
        write(a, {"type": "post", "text": "a file"}, read_attachments(a, [folder / "file"]))
    return folder / "a"


def check_budget(
    a: Home, folder: Path, options: dict[str, object], files_limit: int | None, volume: int | None
) -> None:
    target = folder / "out"
    target.mkdir(parents=True)
    report = pack(a, target, **options)
    sizes = [path.stat().st_size for path in target.iterdir()]
    if files_limit is not None:
        assert sum(sizes) <= files_limit
    if volume is not None:
        assert max(sizes) <= volume
    assert sorted(sizes) == sorted(size for _, size in report.files)
    sent = {(item.feed, sequence) for item in report.packed.sent for sequence in range(item.first, item.last + 1)}
    left = {(item.feed, sequence) for item in report.packed.left for sequence in range(item.first, item.last + 1)}
    everything = {(feed, number) for feed, last in a.store.clock().items() for number in range(1, last + 1)}
    assert sent | left == everything
    assert not sent & left
    with home(folder / "reader") as reader:
        taken = take(reader, target)
        assert taken.complete, taken.sources
        assert reader.store.clock() == dict(report.reader_clock)
        assert reader.store.counts().waiting == 0
        assert taken.blobs.accepted == report.packed.blobs


@pytest.mark.parametrize("part", range(2))
def test_random_budgets_are_never_exceeded(source: Path, tmp_path: Path, part: int) -> None:
    generator = random.Random(part)
    with home(source) as a:
        for number in range(amount(quick=2, thorough=8)):
            budget = generator.randrange(MIN_VOLUME_BYTES, 450_000)
            order = generator.choice(list(Order))
            volume = generator.choice([None, generator.randrange(MIN_VOLUME_BYTES, 200_000)])
            options = {"max_bytes": budget, "volume_bytes": volume, "order": order}
            check_budget(a, tmp_path / str(number), options, budget, volume)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_hundred_random_budgets(source: Path, tmp_path: Path) -> None:
    generator = random.Random(99)
    with home(source) as a:
        for number in range(200):
            budget = generator.randrange(MIN_VOLUME_BYTES, 500_000)
            check_budget(a, tmp_path / str(number), {"max_bytes": budget}, budget, None)


def test_a_budget_is_used(source: Path, tmp_path: Path) -> None:
    """What stays free is less than the largest message could need."""
    with home(source) as a:
        for budget in (70_000, 100_000, 200_000):
            report = pack(a, tmp_path / "x", max_bytes=budget, blobs=False)
            assert budget - report.bytes < 26_000
            assert report.packed.left


def test_encrypted_budgets(source: Path, tmp_path: Path) -> None:
    generator = random.Random(3)
    with home(source) as a:
        for pad in (False, True):
            for _ in range(amount(quick=2, thorough=5)):
                budget = generator.randrange(80_000, 400_000)
                report = pack(a, tmp_path / "x", max_bytes=budget, recipients=[str(a.keypair.public)], pad=pad)
                assert (tmp_path / "x").stat().st_size == report.bytes <= budget
                assert report.packed.messages > 0


def test_volumes_in_any_order_are_each_useful(source: Path, tmp_path: Path) -> None:
    with home(source) as a:
        report = pack(a, tmp_path / "set.sneaker", volume_bytes=70_000)
        paths = [Path(path) for path, _ in report.files]
        assert [path.name for path in paths[:3]] == ["set.sneaker", "set.2.sneaker", "set.3.sneaker"]
        assert all(path.stat().st_size <= 70_000 for path in paths)
        with home(tmp_path / "b") as b:
            for path in reversed(paths):
                before = b.store.counts()
                assert take(b, path).complete
                after = b.store.counts()
                assert (after.messages, after.waiting) != (before.messages, before.waiting)
            assert log_lines(b) == log_lines(a)


def test_the_report_names_what_stayed_behind(source: Path, tmp_path: Path) -> None:
    done = sneaker("export", tmp_path / "x.sneaker", "--max-size", "100k", at=source)
    assert "left behind for want of space" in done.out
    value = sneaker("export", tmp_path / "x.sneaker", "--max-size", "100k", "--json", at=source).json
    assert value["left_behind"]["messages"] == sum(
        item["last"] - item["first"] + 1 for item in value["left_behind"]["feeds"]
    )
    assert value["bytes"] <= 100_000
    assert value["reader_clock"]


def test_near_feeds_go_first(tmp_path: Path) -> None:
    with home(tmp_path / "a") as a:
        take(a, "-", data=fixture_log())
        clock = a.store.clock()
        friend = min(clock, key=lambda feed: (clock[feed] < 10, clock[feed]))
        write(a, contact_content(friend, following=True))
        report = pack(a, tmp_path / "x", max_bytes=MIN_VOLUME_BYTES)
        assert [item.feed for item in report.packed.sent[:2]] == [a.keypair.public, friend]


def feeds(count: int) -> list[FeedRef]:
    return [FeedRef.classic(bytes([number]) * 32) for number in range(1, count + 1)]


def test_depth_drains_the_largest_backlog_first() -> None:
    one, two, three = feeds(3)
    ours = VectorClock({one: 10, two: 30, three: 20})
    assert order_ranges(ours, VectorClock({two: 25})) == [Range(three, 1, 20), Range(one, 1, 10), Range(two, 26, 30)]


def test_a_claim_to_have_more_than_we_do_sends_nothing() -> None:
    (one,) = feeds(1)
    assert order_ranges(VectorClock({one: 10}), VectorClock({one: 2**31 - 1})) == []


def test_hops_come_before_backlogs() -> None:
    one, two, three = feeds(3)
    ours = VectorClock({one: 10, two: 30, three: 20})
    assert [item.feed for item in order_ranges(ours, VectorClock(), hops={one: 0, three: 1})] == [one, three, two]
    assert [item.feed for item in order_ranges(ours, VectorClock(), wanted={two}.__contains__)] == [two]
