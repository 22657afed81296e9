"""The one door in: what gets in, what waits, what is refused, in any order."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from sneaker.caps import MAIN_CAPS, Caps
from sneaker.errors import StoreFull, StoreLocked
from sneaker.feed.classic.compact import compact
from sneaker.feed.classic.message import create_message
from sneaker.feed.message import Compact, Message
from sneaker.ingest import batches as proving
from sneaker.ingest import ingest as ingest_module
from sneaker.ingest import running_report, under_way
from sneaker.ingest.ingest import Ingest, IngestReport, Run
from sneaker.refs import FeedRef, MessageRef
from sneaker.store.check import check
from sneaker.store.store import Store
from tests.json_messages import add_json
from tests.store.worlds import NOW_MS, compacts, contents, feed, keypair, run
from tests.tries import tries

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store.sqlite") as opened:
        yield opened
        report = check(opened)
        assert report.clean, report.problems


def taking(store: Store, *items: Run | Message, **options: Any) -> IngestReport:
    with Ingest(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS, workers=2, **options) as ingest:
        for item in items:
            give(ingest, item)
        report = ingest.close()
    # Every message is accounted for, once.
    assert report.read == sum(len(item.compacts) if isinstance(item, Run) else 1 for item in items)
    assert sum(totals(report)) + report.left_out == report.read + report.waited
    return report


def give(ingest: Ingest, item: Run | Message) -> None:
    if isinstance(item, Run):
        ingest.add_run(item)
    else:
        add_json(ingest, item.text)


def damaged(source: Run, place: int) -> Run:
    """Return a run with one content changed."""
    items = list(source.compacts)
    old = items[place]
    items[place] = Compact(old.form, old.timestamp, old.signature, b'{"type":"post","text":"forged"}')
    return source._replace(compacts=items)


def totals(report: IngestReport) -> tuple[int, int, int, int]:
    return report.accepted, report.known, report.refused, report.waiting


# ---- plain things


def test_runs_and_json(store: Store) -> None:
    ours, theirs = feed(0, 200), feed(1, 10)
    report = taking(store, run(ours), *theirs)
    assert totals(report) == (210, 0, 0, 0)
    assert report.feeds_new == report.feeds_advanced == {ours[0].author, theirs[0].author}
    assert list(store.messages(ours[0].author)) == list(ours)
    assert list(store.messages(theirs[0].author)) == list(theirs)
    again = taking(store, run(ours), *theirs, run(ours[50:60]))
    assert totals(again) == (0, 220, 0, 0)
    assert not again.feeds_advanced


def test_a_feed_grows_over_several_runs(store: Store) -> None:
    messages = feed(0, 300)
    taking(store, run(messages[:100]))
    report = taking(store, run(messages[100:150]), run(messages[120:200]), *messages[195:210], run(messages[:300]))
    assert report.accepted == 200
    assert report.refused == 0
    assert report.feeds_new == set()
    assert report.feeds_advanced == {messages[0].author}
    assert list(store.messages(messages[0].author)) == list(messages)


def test_a_run_need_not_say_what_it_follows(store: Store) -> None:
    messages = feed(0, 20)
    taking(store, run(messages[:5]))
    report = taking(store, run(messages[5:10])._replace(previous=None))
    assert totals(report) == (5, 0, 0, 0)
    report = taking(store, run(messages[15:])._replace(previous=None))
    assert totals(report) == (0, 0, 5, 0)
    assert report.refusals[0].code == "previous-invalid"


def test_publishing(store: Store) -> None:
    pair = keypair(7)
    with Ingest(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS, workers=1) as ingest:
        first = create_message(pair, None, NOW_MS, {"type": "post", "text": "hello"})
        ingest.add_message(first)
        ingest.flush()
        assert ingest.counts().accepted == 1
        assert store.head(pair.public).key == first.key
        second = create_message(pair, store.head(pair.public), NOW_MS + 1, {"type": "post", "text": "more"})
        ingest.add_message(second)
        assert ingest.close().accepted == 2
    assert list(store.messages(pair.public)) == [first, second]


def test_verdicts_are_taken_in_without_an_end(store: Store) -> None:
    """What the LAN peer does: more may come while something is being checked, and what is judged can be committed."""
    messages = feed(0, 100)
    with Ingest(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS, workers=2) as ingest:
        assert not ingest.poll(0)
        ingest.add_run(run(messages[:70]))
        while ingest.poll(1):
            pass
        ingest.commit()
        assert ingest.counts().accepted == 70
        ingest.add_run(run(messages[70:]))
        ingest.poll(0)
        assert ingest.close().accepted == 100


def test_networks_with_an_hmac_key(store: Store) -> None:
    pair, key = keypair(8), b"h" * 32
    message = create_message(pair, None, NOW_MS, {"type": "post", "text": "hello"}, key)
    assert taking(store, message).refused == 1
    with Ingest(store, caps=Caps(hmac_key=key), now_ms=lambda: NOW_MS) as ingest:
        ingest.add_run(run([message]))
        assert ingest.close().accepted == 1
    assert check(store, caps=Caps(hmac_key=key)).clean
    check(store, repair=True)  # by the main network's rules it has to go


def test_raw_messages_are_stored_as_all_others(store: Store) -> None:
    messages = feed(0, 6)
    raw = [Compact(14, 0, b"", message.text) for message in messages]
    report = taking(store, Run(messages[0].author, 1, None, raw))
    assert report.accepted == 6
    assert [row.compact for row in store.rows(messages[0].author)] == compacts(messages)
    report = taking(store, Run(messages[0].author, 1, None, raw), run(messages))
    assert totals(report) == (0, 12, 0, 0)


# ---- refusals


def test_bad_feeds_do_not_stop_the_others(store: Store) -> None:
    good, bad = feed(0, 100), feed(1, 100)
    report = taking(store, damaged(run(bad), 30), run(good), Run(keypair(2).public, 1, None, [Compact(0, 0, b"", b"")]))
    assert report.accepted == 130
    assert report.refused == 71
    assert store.clock() == {good[0].author: 100, bad[0].author: 30}
    of_bad = [(item.sequence, item.code) for item in report.refusals if item.feed == bad[0].author]
    assert of_bad[:2] == [(31, "signature-invalid"), (32, "chain-broken")]
    assert {code for _, code in of_bad[1:]} == {"chain-broken"}
    # The whole copy puts it right.
    assert taking(store, run(bad)).accepted == 70


@pytest.mark.parametrize("place", [0, 1, 63, 64, 99])
def test_a_good_copy_behind_a_bad_one(store: Store, place: int) -> None:
    """The bad copy is still being checked when the good one comes; that must not look as if it were known."""
    messages = feed(0, 100)
    report = taking(store, damaged(run(messages), place), run(messages), *messages[:3])
    assert report.accepted == 100
    assert report.refused == 100 - place
    assert list(store.messages(messages[0].author)) == list(messages)


def test_a_bad_signature_in_json(store: Store) -> None:
    messages = feed(0, 10)
    value = json.loads(messages[4].text)
    value["content"]["text"] = "forged"
    with Ingest(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS) as ingest:
        for message in messages:
            add_json(ingest, json.dumps(value) if message.sequence == 5 else message.text)
        report = ingest.close()
    # What follows it says by itself what it follows, and waits.
    assert totals(report) == (4, 0, 1, 5)
    assert report.refusals[0][:3] == (messages[0].author, 5, "signature-invalid")
    assert totals(taking(store, messages[4])) == (6, 0, 0, 0)


def test_json_that_is_no_message(store: Store) -> None:
    messages = feed(0, 2)
    with Ingest(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS) as ingest:
        add_json(ingest, b"{")
        add_json(ingest, b"{}")
        add_json(ingest, messages[0].text.replace(b'"sha256"', b'"md5"'))
        ingest.note_refusal(None, None, "json-invalid", "line 3")
        report = ingest.close()
    codes = [refusal.code for refusal in report.refusals]
    assert codes == ["json-invalid", "author-invalid", "hash-invalid", "json-invalid"]
    # What names its place is named by it, whatever is wrong with it.
    assert report.refusals[2][:2] == (messages[0].author, 1)
    assert (report.refused, report.read) == (4, 4)
    assert store.clock() == {}


def test_feeds_that_are_not_wanted(store: Store) -> None:
    ours, blocked = feed(0, 5), feed(1, 5)
    report = taking(store, run(ours), run(blocked), *blocked, wanted=lambda ref: ref == ours[0].author)
    assert totals(report) == (5, 0, 0, 0)
    assert (report.left_out, report.refusals) == (10, ())
    assert store.clock() == {ours[0].author: 5}


def test_the_list_of_refusals_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_report, "_MAX_REFUSALS", 3)
    report = taking(store, *[Run(feed(0, 1)[0].author, 0, None, compacts(feed(0, 1)))] * 10)
    assert report.refused == 10
    assert len(report.refusals) == 3


@pytest.mark.parametrize("first", [0, -1, 2**31 - 2, 2**40])
def test_impossible_sequences(store: Store, first: int) -> None:
    messages = feed(0, 5)
    report = taking(store, Run(messages[0].author, first, messages[0].key, compacts(messages)))
    assert report.refused == 5
    assert report.accepted == 0


def test_what_waited_since_an_earlier_import_is_told_apart(store: Store) -> None:
    messages = feed(0, 20)
    assert totals(taking(store, run(messages[10:15]))) == (0, 0, 0, 5)
    report = taking(store, run(messages[:10]), run(messages[17:]))
    assert totals(report) == (15, 0, 0, 3 - 5 + 2)
    assert (report.waited, report.read) == (2, 13)


# ---- forks


BRANCHES = {"ours": feed(0, 90), "theirs": feed(0, 90, shared=40, branch="b")}


@pytest.mark.parametrize("seed", range(12))
def test_every_message_is_accounted_for(store: Store, seed: int) -> None:
    """Pieces of both branches of a forked feed and of another one, damaged or not, in any order, over several imports."""
    random = Random(seed)
    for _ in range(4):
        items: list[Run | Message] = []
        for _ in range(random.randrange(1, 5)):
            messages = random.choice([BRANCHES["ours"], BRANCHES["ours"], BRANCHES["theirs"], feed(1, 60)])
            first = random.randrange(len(messages))
            piece = messages[first : first + random.randrange(1, 30)]
            if random.random() < 0.3:
                items += random.sample(piece, len(piece))
            elif random.random() < 0.2:
                items.append(damaged(run(piece), random.randrange(len(piece))))
            else:
                items.append(run(piece))
        taking(store, *items)


@pytest.mark.parametrize(
    "other",
    [
        run(BRANCHES["theirs"]),
        run(BRANCHES["theirs"][:50]),
        run(BRANCHES["theirs"][30:80]),
        run(BRANCHES["theirs"][40:41]),
        run(BRANCHES["theirs"][60:]),
        BRANCHES["theirs"][40],
        BRANCHES["theirs"][70],
    ],
)
@pytest.mark.parametrize("held", [45, 85])
@pytest.mark.parametrize("at_once", [False, True])
def test_a_fork_is_kept_as_evidence(store: Store, other: Run | Message, held: int, at_once: bool) -> None:
    ours = BRANCHES["ours"]
    items = [run(ours[:held]), other, run(feed(1, 5)), run(ours)]
    if at_once:
        report = taking(store, *items)
        forked = report.feeds_forked
    else:
        reports = [taking(store, item) for item in items]
        forked = frozenset().union(*(report.feeds_forked for report in reports))
        last = other.last if isinstance(other, Run) else other.sequence
        if last <= held or other.first <= held + 1 if isinstance(other, Run) else last <= held + 1:
            assert reports[1].feeds_forked == {ours[0].author}
            assert "forked" in {refusal.code for refusal in reports[1].refusals}
    assert forked == {ours[0].author}
    assert store.forked() == {ours[0].author}
    assert list(store.forks())
    theirs = {message.key: message for message in BRANCHES["theirs"]}
    for fork in store.forks():
        assert fork.key in theirs or fork.key in {message.key for message in ours}
    held_now = list(store.messages(ours[0].author))
    assert held_now == list(ours[: len(held_now)])
    assert store.clock()[keypair(1).public] == 5
    # It accepts nothing more, and says so; what is known is known.
    again = taking(store, run(ours))
    assert (again.accepted, again.known, again.refused) == (0, len(held_now), 90 - len(held_now))


def test_damage_is_not_a_fork(store: Store) -> None:
    ours = BRANCHES["ours"]
    taking(store, run(ours[:60]))
    for item in (
        damaged(run(ours), 59),
        damaged(run(ours[:60]), 20),
        damaged(run(ours[59:60]), 0),
        run(ours[60:])._replace(previous=MessageRef(b"x" * 32)),
        damaged(run(ours[60:])._replace(previous=MessageRef(b"x" * 32)), 0),
    ):
        taking(store, item)
        assert not store.forked()
    assert not list(store.forks())
    assert taking(store, run(ours)).refused == 0
    assert list(store.messages(ours[0].author)) == list(ours)


# ---- waiting


def test_a_gap_is_waited_for(store: Store) -> None:
    messages = feed(0, 100)
    report = taking(store, run(messages[50:]))
    assert totals(report) == (0, 0, 0, 50)
    assert not report.feeds_new
    assert store.waiting() == {messages[0].author: [(51, 100)]}
    assert totals(taking(store, run(messages[70:]))) == (0, 30, 0, 0)
    report = taking(store, damaged(run(messages[20:40]), 10))
    assert totals(report) == (0, 0, 10, 10)
    report = taking(store, run(messages[:50]))
    assert totals(report) == (100, 10, 0, 0)
    assert report.waited == 60
    assert report.feeds_new == {messages[0].author}
    assert store.waiting() == {}
    assert list(store.messages(messages[0].author)) == list(messages)


def test_backwards(store: Store) -> None:
    messages = feed(0, 150)
    report = taking(store, *reversed(messages))
    assert totals(report) == (150, 0, 0, 0)
    assert list(store.messages(messages[0].author)) == list(messages)


def test_a_made_up_message_does_not_wait(store: Store) -> None:
    messages = feed(0, 20)
    report = taking(store, damaged(run(messages[10:]), 0))
    assert totals(report) == (0, 0, 10, 0)
    assert store.waiting() == {}


# ---- batches, bounds, failures


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny bounds, so that little data crosses all of them."""
    for name, value in {"_CHUNK": 4, "_CHUNKS_AHEAD": 3}.items():
        monkeypatch.setattr(under_way, name, value)
    monkeypatch.setattr(ingest_module, "_MAX_DEFERRED_BYTES", 5000)
    for name, value in {"_MIN_BATCH": 10, "_MAX_BATCH": 25, "_MAX_FEEDS": 2}.items():
        monkeypatch.setattr(proving, name, value)


@pytest.mark.usefixtures("small")
def test_many_feeds_interleaved(store: Store) -> None:
    feeds = [feed(number, 60) for number in range(5)]
    mixed = [message for group in zip(*feeds, strict=True) for message in group]
    done: list[int] = []
    report = taking(store, *mixed, *mixed[::-1], progress=done.append)
    assert totals(report) == (300, 300, 0, 0)
    assert sum(done) == 300
    assert len(done) > 5
    for messages in feeds:
        assert list(store.messages(messages[0].author)) == list(messages)


@pytest.mark.usefixtures("small")
def test_copies_of_what_is_being_checked(store: Store) -> None:
    messages = feed(0, 100)
    items: list[Run | Message] = []
    for start in range(0, 100, 10):
        items += [run(messages[start : start + 10]), run(messages[: start + 10]), *messages[start : start + 10]]
    report = taking(store, *items)
    assert report.accepted == 100
    assert report.refused == 0
    assert list(store.messages(messages[0].author)) == list(messages)


def test_a_dry_run(store: Store) -> None:
    messages = feed(0, 100)
    taking(store, run(messages[:10]), run(messages[30:40]))
    before = contents(store)
    report = taking(store, run(messages[:30]), run(feed(1, 5)), run(feed(2, 9)[3:]), dry_run=True)
    assert totals(report) == (35, 10, 0, 6)
    assert report.feeds_new == {keypair(1).public}
    assert contents(store) == before
    assert taking(store, run(messages[:30])).accepted == 30


def test_an_error_inside_leaves_what_was_reported(store: Store) -> None:
    messages = feed(0, 100)

    def fail() -> None:
        with Ingest(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS) as ingest:
            ingest.add_run(run(messages[:40]))
            ingest.flush()
            assert ingest.counts().accepted == 40
            ingest.add_run(run(messages[40:]))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert store.clock() == {messages[0].author: 40}
    assert taking(store, run(messages)).accepted == 60


def test_one_at_a_time(store: Store) -> None:
    with Ingest(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS, holds=True) as ingest:
        with pytest.raises(StoreLocked), Ingest(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS, lock_timeout_s=0.05):
            pass
        ingest.add_run(run(feed(0, 5)))
    assert store.clock() == {keypair(0).public: 5}


def test_others_write_while_messages_are_under_way(store: Store) -> None:
    """What one ingest has taken and not written finds its place beside what another one has written meanwhile."""
    ours, theirs, third = feed(0, 20), feed(1, 20), feed(2, 20)
    with Ingest(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS, workers=1) as ingest:
        ingest.add_run(run(ours[:12]))
        ingest.add_run(run(theirs[:5]))
        ingest.add_run(run(third[10:]))
        # The ids that these feeds were to have go to others; one feed gets further, one fills a gap.
        report = taking(store, run(third[:10]), run(theirs[:9]), run(feed(3, 3)))
        assert totals(report) == (22, 0, 0, 0)
        ingest.add_run(run(theirs[5:15]))
        report = ingest.close()
    assert totals(report) == (12 + 6 + 10, 9, 0, 0)
    assert store.clock() == {
        messages[0].author: count for messages, count in ((ours, 12), (theirs, 15), (third, 20), (feed(3, 3), 3))
    }
    for messages in (ours[:12], theirs[:15], third, feed(3, 3)):
        assert list(store.messages(messages[0].author)) == list(messages)


def test_a_contradiction_written_meanwhile_is_a_fork(store: Store) -> None:
    ours, theirs = feed(0, 20), feed(0, 20, shared=10, branch="b")
    with Ingest(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS, workers=1) as ingest:
        ingest.add_run(run(ours))
        taking(store, run(theirs[:15]))
        report = ingest.close()
    assert report.feeds_forked == store.forked() == {ours[0].author}
    assert list(store.messages(ours[0].author)) == list(theirs[:15])
    assert [fork.key for fork in store.forks()] == [ours[10].key]


def test_new_own_messages_keep_others_out_until_they_are_written(store: Store) -> None:
    """Else 'publish' could write a message beside those that were taken in."""
    messages = feed(0, 20)
    store.own = messages[0].author
    with Ingest(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS, workers=1) as ingest:
        ingest.add_run(run(feed(1, 5)))
        store.writer(0.05).close()
        for own in (messages[:10], messages[15:]):  # some of them wait for others
            ingest.add_run(run(own))
            with pytest.raises(StoreLocked):
                store.writer(0.05)
            ingest.give_way()
            store.writer(0.05).close()
            ingest.add_run(run(own))  # nothing new
            store.writer(0.05).close()
        assert store.clock()[messages[0].author] == 10


@pytest.mark.parametrize("first", [10, 11])
def test_forged_own_messages_keep_nobody_out(store: Store, first: int) -> None:
    """And a genuine one for the same place, behind them, does."""
    messages = feed(0, 20)
    store.own = messages[0].author
    taking(store, run(messages[:10]))
    forged = damaged(run(messages[first : first + 1]), 0)
    with Ingest(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS, workers=1) as ingest:
        ingest.add_run(forged)
        store.writer(0.05).close()
        ingest.add_run(run(messages[10:12]))
        ingest.add_run(forged)
        with pytest.raises(StoreLocked):
            store.writer(0.05)
        report = ingest.close()
    assert report.accepted == 2
    assert store.clock() == {messages[0].author: 12}


def test_own_messages_that_were_taken_in_and_lost_are_not_forgotten(store: Store) -> None:
    """Whatever ends a program before they are written: nobody publishes in their place."""
    messages = feed(0, 20)
    store.own = messages[0].author

    def fail() -> None:
        with Ingest(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS) as ingest:
            ingest.add_run(run(messages[:5]))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert store.clock() == {}
    (claim,) = store.claims.claims_about(messages[0].author)
    assert (claim.sequence, claim.key, claim.counts) == (5, messages[4].key, True)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "_MIN_BATCH", 50)
    messages = feed(0, 600)
    with Store(tmp_path / "store.sqlite") as store:
        taking(store, run(messages[:100]))
        accepted = 0

        def fill(limit: int) -> None:
            nonlocal accepted
            with Ingest(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS) as ingest:
                connection = ingest._proven.writer._connection  # type: ignore[attr-defined]
                connection.execute("VACUUM")  # migrations leave free pages
                pages = connection.execute("PRAGMA page_count").fetchone()[0]
                connection.execute(f"PRAGMA max_page_count = {pages + limit}")
                try:
                    ingest.add_run(run(messages))
                    ingest.flush()
                finally:
                    accepted = ingest.counts().accepted

        with pytest.raises(StoreFull) as caught:
            fill(5)
        assert caught.value.hint
        held = store.clock()[messages[0].author]
        assert held == 100 + accepted < 600
        assert check(store).clean
        assert taking(store, run(messages)).accepted == 600 - held


# ---- any order


def pieces(authors: Sequence[int], length: int) -> st.SearchStrategy[list[Run | Message]]:
    """Runs and single messages that cover the feeds, with overlaps and repetitions, in any order."""

    def runs_of(author: int, cuts: list[tuple[int, int]]) -> list[Run | Message]:
        messages = feed(author, length)
        found: list[Run | Message] = [run(messages[min(pair) : max(pair) + 1]) for pair in cuts]
        return found

    place = st.integers(0, length - 1)
    cut = st.tuples(place, place)

    def assemble(parts: tuple[list[list[tuple[int, int]]], list[tuple[int, int]], list[int]]) -> list[Run | Message]:
        cuts, singles, ends = parts
        items: list[Run | Message] = []
        for author, pairs, end in zip(authors, cuts, ends, strict=True):
            items += runs_of(author, pairs)
            items.append(run(feed(author, length)[: end + 1]))
        items += [feed(authors[number % len(authors)], length)[at] for number, at in singles]
        return items

    return st.tuples(
        st.lists(st.lists(cut, max_size=5), min_size=len(authors), max_size=len(authors)),
        st.lists(st.tuples(st.integers(0, 10), place), max_size=12),
        st.lists(place, min_size=len(authors), max_size=len(authors)),
    ).map(assemble)


def split(items: list[Run | Message], ends: list[int]) -> Iterator[list[Run | Message]]:
    start = 0
    for end in sorted({*(end % (len(items) + 1) for end in ends), len(items)}):
        yield items[start:end]
        start = end


@tries(60, HealthCheck.function_scoped_fixture)
@given(data=st.data())
@pytest.mark.usefixtures("small")
def test_any_order_gives_the_same_store(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    items = data.draw(pieces([0, 1, 2], 30))
    order = data.draw(st.permutations(items))
    again = data.draw(st.lists(st.sampled_from(items), max_size=5))
    sessions = list(split([*order, *again], data.draw(st.lists(st.integers(0, 50), max_size=3))))
    folder = tmp_path_factory.mktemp("any")
    with Store(folder / "in-order.sqlite") as expected:
        taking(expected, *items)
        wanted = contents(expected)
    with Store(folder / "store.sqlite") as store:
        for session in sessions:
            assert taking(store, *session).refused == 0
        assert contents(store) == wanted
        assert check(store).clean


@tries(60, HealthCheck.function_scoped_fixture)
@given(data=st.data())
@pytest.mark.usefixtures("small")
def test_ingests_that_take_turns_give_the_same_store(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    items = data.draw(pieces([0, 1, 2], 30))
    order = data.draw(st.permutations(items + items[:3]))
    turns = [data.draw(st.integers(0, 5)) for _ in order]
    folder = tmp_path_factory.mktemp("turns")
    with Store(folder / "in-order.sqlite") as expected:
        taking(expected, *items)
        wanted = contents(expected)
    with Store(folder / "store.sqlite") as store:
        with contextlib.ExitStack() as stack:
            ingests = [
                stack.enter_context(Ingest(store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS, workers=1)) for _ in range(3)
            ]
            for item, turn in zip(order, turns, strict=True):
                give(ingests[turn % 3], item)
                if turn > 2:
                    ingests[turn % 3].flush()
            reports = [ingest.close() for ingest in ingests]
        assert sum(report.refused for report in reports) == 0
        assert contents(store) == wanted
        accepted = sum(report.accepted for report in reports)
        assert accepted == store.counts().messages
        assert check(store).clean


@tries(60, HealthCheck.function_scoped_fixture)
@given(data=st.data())
@pytest.mark.usefixtures("small")
def test_any_order_with_damage_and_forks(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Damaged copies change nothing in the end, and a fork is found whichever branch comes first."""
    length = 24
    ours, theirs = feed(0, length), feed(0, length, shared=10, branch="b")
    branch = theirs if data.draw(st.booleans()) else ours
    items: list[Run | Message] = [run(ours), run(feed(1, length)), run(feed(2, length))]
    for _ in range(data.draw(st.integers(0, 4))):
        source = run(feed(data.draw(st.integers(0, 2)), length)[data.draw(st.integers(0, length - 1)) :])
        items.append(damaged(source, data.draw(st.integers(0, len(source.compacts) - 1))))
    start = data.draw(st.integers(0, length - 1))
    items.append(run(branch[start:]) if data.draw(st.booleans()) else branch[-1])
    order = data.draw(st.permutations(items))
    sessions = list(split([*order, run(ours)], data.draw(st.lists(st.integers(0, 50), max_size=3))))
    with Store(tmp_path_factory.mktemp("any") / "store.sqlite") as store:
        for session in sessions:
            taking(store, *session)
        forked = branch is theirs
        assert store.forked() == ({ours[0].author} if forked else set())
        held = store.clock()
        assert held[keypair(1).public] == held[keypair(2).public] == length
        mine = list(store.messages(FeedRef(ours[0].author)))
        assert mine in (list(ours[: len(mine)]), list(theirs[: len(mine)]))
        if not forked:
            assert mine == list(ours)
            assert store.counts().waiting == 0
        assert check(store).clean


def test_compact_is_what_the_store_keeps(store: Store) -> None:
    messages = feed(0, 12)
    taking(store, *messages)
    assert [row.compact for row in store.rows(messages[0].author)] == [compact(message) for message in messages]
