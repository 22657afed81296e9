"""What is in a file does not depend on the order in which it stands there, nor on how often."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from sneaker.bundle.message_records import encode_messages
from sneaker.bundle.writer import BundleWriter
from sneaker.caps import MAIN_CAPS
from sneaker.errors import StoreFull
from sneaker.feed.classic.message import create_message
from sneaker.feed.message import Head, Message
from sneaker.refs import FeedRef
from sneaker.transfer import message_places as places
from sneaker.transfer.inspect import InspectReport, inspect
from sneaker.transfer.message_places import Ranges, SignedMessages
from sneaker.transfer.verify import VerifyReport, verify
from tests.bundle.bundles import EXPORTER, make_header, run_of
from tests.command_line import sneaker
from tests.homes import NOW_MS, home, take
from tests.transfer.test_read_log import AUTHOR, line, own_messages


def as_log(messages: Sequence[Message]) -> bytes:
    return b"\n".join(map(line, messages)) + b"\n"


def as_bundle(messages: Sequence[Message], *, is_whole: bool = False) -> bytes:
    """Write each message into a record of its own; only a bundle that has them in order can be ``is_whole``."""
    writer = BundleWriter(make_header(), EXPORTER)
    data = writer.start()
    for message in messages:
        runs = [run_of([message])]
        data += writer.add_messages(runs, encode_messages(runs))
    return data + (writer.finish() if is_whole else b"")


FORMS = {"log": as_log, "bundle": as_bundle, "whole bundle": partial(as_bundle, is_whole=True)}


def verified(data: bytes) -> VerifyReport:
    return verify(io.BytesIO(data), "x", MAIN_CAPS, progress=lambda done: None, workers=1)


def inspected(data: bytes, have: int = 0, *, seekable: bool = True) -> InspectReport:
    clock = {AUTHOR.public: have}
    return inspect(io.BytesIO(data), "x", MAIN_CAPS, clock, progress=lambda done: None, seekable=seekable)


FIRST, SECOND, THIRD, FOURTH = own_messages(4)
OTHER_THIRD = create_message(AUTHOR, Head(2, SECOND.key), NOW_MS, {"type": "post", "text": "other"})
OTHER_FOURTH = create_message(AUTHOR, Head(3, OTHER_THIRD.key), NOW_MS, {"type": "post", "text": "other"})
SETS = {
    "whole": ([FIRST, SECOND, THIRD, FOURTH], None),
    "a gap": ([FIRST, SECOND, FOURTH], None),
    "another before it": ([FIRST, SECOND, THIRD, OTHER_FOURTH], 4),
    "another beside it": ([FIRST, SECOND, THIRD, OTHER_THIRD], 3),
    "the other way round": ([FIRST, SECOND, OTHER_THIRD, FOURTH], 4),
    "two branches": ([FIRST, THIRD, OTHER_THIRD, OTHER_FOURTH], 3),
}


@pytest.mark.parametrize("form", ["log", "bundle"])
@pytest.mark.parametrize("name", SETS)
def test_the_order_does_not_matter(name: str, form: str, tmp_path: Path) -> None:
    """In every order, the verdict is that of import."""
    messages, place = SETS[name]
    with home(tmp_path / "home") as opened:
        for order in itertools.permutations(messages):
            data = FORMS[form](order)
            report = verified(data)
            assert report.forked == ({AUTHOR.public: place} if place else {})
            assert report.forks == bool(place)
            assert ("is forked" in report.detail) == bool(place)
            assert report.valid + report.invalid == len(messages)
            ingested = take(opened, "-", data=data, dry_run=True).ingested
            assert ingested.feeds_forked == report.forked.keys()
            assert (ingested.refused > 0) == bool(place)
            if form == "log":
                assert report.status == ("forked" if place else "ok")


@pytest.mark.parametrize("form", FORMS)
def test_a_message_counts_once(form: str, tmp_path: Path) -> None:
    data = FORMS[form]([FIRST, SECOND, FIRST, *[SECOND] * 40, FOURTH])
    report = verified(data)
    assert (report.valid, report.invalid, report.repeated) == (3, 0, 41)
    for seekable in (True, False):
        found = inspected(data, 1, seekable=seekable)
        assert (found.messages, found.new) == (3, 2)
        contents = found.feeds[AUTHOR.public]
        assert (contents.first, contents.last, contents.messages, contents.new) == (1, 4, 3, 2)
    with home(tmp_path / "home") as opened:
        taken = take(opened, "-", data=data).ingested
    assert (taken.accepted + taken.waiting, taken.known) == (report.valid, report.repeated)


def test_repetitions_in_words(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(as_log([FIRST] * 500))
    assert "1 message of 1 feed, 1 new" in sneaker("inspect", path).out
    assert "499 more are repetitions" in sneaker("verify", path).out
    found = sneaker("verify", "--json", path).json
    assert (found["messages"], found["repeated"]) == ({"valid": 1, "invalid": 0}, 499)


def test_many_feeds_that_fork_are_counted() -> None:
    """A file may have more of them than anybody wants to read."""
    with SignedMessages() as signed:
        for number in range(3000):
            for key in (FIRST.key, SECOND.key, FIRST.key):
                signed.add_message(FIRST._replace(author=FeedRef.classic(number.to_bytes(32)), key=key))
        assert signed.count() == 6000
        assert [found.feed[-2:] for found in signed.contradictions()] == [number.to_bytes(2) for number in range(3000)]


def test_ranges_that_overlap_and_touch() -> None:
    a, b = FeedRef.classic(b"a" * 32), FeedRef.classic(b"b" * 32)
    with Ranges() as ranges:
        for feed, first, last in ((b, 1, 1), (a, 5, 9), (a, 1, 2), (a, 3, 3), (a, 6, 7), (a, 11, 11), (a, 8, 9)):
            ranges.add_range(feed, first, last)
        assert list(ranges.merged()) == [(a, 1, 3), (a, 5, 9), (a, 11, 11), (b, 1, 1)]


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_BUFFERED_ROWS", 1)
    with SignedMessages() as signed:
        signed._database.execute("PRAGMA max_page_count = 3")
        with pytest.raises(StoreFull, match="no room on this machine"):
            fill(signed)


def fill(signed: SignedMessages) -> None:
    for number in range(3000):
        signed.add_message(FIRST._replace(sequence=number))
