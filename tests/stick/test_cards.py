"""Cards: counters that only grow, cards carried on, and cards that lie."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from sneaker.bundle import records
from sneaker.bundle.card import _CONTEXT, _HEAD, CARD_MAGIC, MAX_CARD_BYTES, decode_card
from sneaker.bundle.frames import encode_varint
from sneaker.caps import MAIN_CAPS, Caps
from sneaker.limits import MAX_CLOCK_FEEDS, MAX_SEQUENCE
from sneaker.refs import BlobRef, FeedRef
from sneaker.stick.layout import base32
from tests.command_line import sneaker
from tests.homes import NOW_MS
from tests.sticks import Machine, bundles, cards, machines, names, snapshot
from tests.tries import amount

DAY_MS = 24 * 60 * 60 * 1000


def counters(stick: Path, machine: Machine) -> list[int]:
    return sorted(
        int(name.split("-")[1].split(".")[0]) for name in names(cards(stick)) if base32(machine.me.key) in name
    )


def level(stick: Path, *all_machines: Machine) -> None:
    """Let machines visit until nobody has anything to write."""
    for _ in range(3):
        for machine in all_machines:
            assert machine.sync(stick).complete
    before = snapshot(stick)
    for machine in all_machines:
        machine.sync(stick)
    assert snapshot(stick) == before, "when nobody lacks anything, nothing is written"


# ------------------------------------------------------------------------------------------------ the own card


def test_counter_survives_clocks_that_jump_back(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    (first, second) = machines(tmp_path, stick, "AB")
    level(stick, first, second)
    [before] = counters(stick, first)
    for year in (2010, 1970):
        first.now_ms = (year - 1970) * 365 * DAY_MS
        first.publish(f"it is {year} here")
        first.sync(stick)
        [after] = counters(stick, first)
        assert after == before + 1
        before = after
        assert second.sync(stick).imported.ingested.accepted == 1


def test_counter_is_the_same_for_sticks_and_card_files(tmp_path: Path) -> None:
    """'clock --card' counts with the sticks: of two cards of ours the later one is newer, wherever they are."""
    stick = tmp_path / "stick"
    (machine,) = machines(tmp_path, stick, "A")
    machine.now_ms = NOW_MS * 2  # this clock was far ahead
    machine.sync(stick)
    [left] = counters(stick, machine)
    sneaker("clock", "--card", tmp_path / "same.card", at=machine.path)
    same = decode_card((tmp_path / "same.card").read_bytes())
    assert same.counter in (left, left + 1)
    machine.publish("more")
    sneaker("clock", "--card", tmp_path / "newer.card", at=machine.path)
    newer = decode_card((tmp_path / "newer.card").read_bytes())
    assert newer.counter > same.counter
    machine.sync(stick)
    [after] = counters(stick, machine)
    assert after >= newer.counter, "the card on the stick is that same one, or a later one"


def test_restored_home_goes_on_from_what_it_finds(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    (first, second) = machines(tmp_path, stick, "AB")
    first.sync(stick)
    shutil.copytree(first.path, tmp_path / "backup")
    for number in range(5):
        first.publish(str(number))
        first.sync(stick)
    second.sync(stick)
    [newest] = counters(stick, first)
    shutil.rmtree(first.path)
    shutil.copytree(tmp_path / "backup", first.path)
    first.now_ms = NOW_MS
    first.sync(stick)
    assert counters(stick, first) == [newest + 1]
    assert first.clock()[first.me] == 6, "and the own messages came back with it"


def test_a_quiet_machine_gives_signs_of_life(tmp_path: Path) -> None:
    """Nothing new for months: the card is refreshed now and then, or others would take the machine for gone."""
    stick = tmp_path / "stick"
    (first, second) = machines(tmp_path, stick, "AB")
    level(stick, first, second)
    [before] = counters(stick, second)
    second.now_ms += 3 * DAY_MS
    second.sync(stick)
    assert counters(stick, second) == [before]
    second.now_ms += 30 * DAY_MS
    second.sync(stick)
    [after] = counters(stick, second)
    assert after > before
    first.now_ms += 100 * DAY_MS
    first.sync(stick)
    first.publish("still there?")
    first.sync(stick)
    first.sync(stick)
    assert len(names(bundles(stick))) == 1, "the bundle waits for the second machine"


def test_something_else_has_our_name(tmp_path: Path) -> None:
    """A file that is called like our newest card but is not: it stays, and ours gets another name."""
    stick = tmp_path / "stick"
    (machine, second) = machines(tmp_path, stick, "AB")
    machine.sync(stick)
    [counter] = counters(stick, machine)
    path = cards(stick) / f"{base32(machine.me.key)}-{counter}.card"
    path.write_bytes(b"not a card")
    report = machine.sync(stick)
    assert path.read_bytes() == b"not a card"
    [_, newer] = counters(stick, machine)
    assert newer > counter
    assert report.foreign == 1
    second.sync(stick)
    assert second.sync(stick).machines == 2


# ------------------------------------------------------------------------------------------------ other machines' cards


def test_newer_cards_are_carried_on(tmp_path: Path) -> None:
    """A is on both sticks' rounds: what B said on the second one is told on the first, and spares a bundle there."""
    one, two = tmp_path / "one", tmp_path / "two"
    (first, second, third) = machines(tmp_path, one, "ABC")
    two.mkdir()
    first.init(two)
    second.trust(two)
    level(one, first, second, third)
    first.publish("news")
    first.sync(two)
    second.sync(two)
    [newer] = counters(two, second)
    first.sync(two)
    [old] = counters(one, second)
    assert newer > old
    first.sync(one)
    assert counters(one, second) == [newer]
    assert counters(two, third) == [], "only cards of machines that this stick meets"
    third.sync(one)
    first.sync(one)
    assert names(bundles(one)) == set(), "B has it already, from the other stick"


def test_stale_card_changes_nothing(tmp_path: Path) -> None:
    """An old card of a machine comes back: the newer one counts, and the old one is taken away."""
    stick = tmp_path / "stick"
    (first, second) = machines(tmp_path, stick, "AB")
    level(stick, first, second)
    [newest] = counters(stick, second)
    old = second.card(stick, {}, counter=newest - 500)
    report = first.sync(stick)
    assert report.exported is None
    assert not old.exists()
    assert counters(stick, second) == [newest]
    # The new one is gone, only an old one is there: what we know is brought back.
    (cards(stick) / f"{base32(second.me.key)}-{newest}.card").unlink()
    old = second.card(stick, {}, counter=newest - 500)
    report = first.sync(stick)
    assert report.exported is None
    assert counters(stick, second) == [newest]


@pytest.mark.parametrize(
    "damage", ["cut", "flipped", "empty", "forged", "name", "counter", "network", "too large", "absurd", "junk"]
)
def test_cards_that_are_none(tmp_path: Path, damage: str) -> None:
    """They change nothing, are counted as foreign, and stay where they are."""
    stick = tmp_path / "stick"
    (first, second) = machines(tmp_path, stick, "AB")
    level(stick, first, second)
    ours = first.clock()
    stranger = Machine(tmp_path, "X")
    path = stranger.card(stick, {FeedRef.classic(bytes(32)): 5})
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[:-40])
    elif damage == "flipped":
        path.write_bytes(data[:120] + bytes([data[120] ^ 1]) + data[121:])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "forged":  # the stranger's signature on a card in our own name
        path.unlink()
        path = cards(stick) / f"{base32(first.me.key)}-{NOW_MS * 3}.card"
        path.write_bytes(data)
    elif damage == "name":
        path = path.rename(cards(stick) / f"{base32(second.me.key)}-{NOW_MS * 3}.card")
    elif damage == "counter":
        path = path.rename(cards(stick) / f"{base32(stranger.me.key)}-{NOW_MS * 3}.card")
    elif damage == "network":
        path.unlink()
        from sneaker.bundle.card import Card, encode_card

        other = Card(stranger.me, Caps(bytes(32)).network_id, NOW_MS, NOW_MS, {})
        path.write_bytes(encode_card(other, stranger.keypair))
    elif damage == "too large":
        with path.open("r+b") as file:
            file.truncate(MAX_CARD_BYTES + 1)
    elif damage == "absurd":
        stranger.card(stick, {first.me: 2**53, second.me: 2**53})
    else:
        path.unlink()
        path = cards(stick) / "readme.card"
        path.write_bytes(os.urandom(1000))
    before = snapshot(stick)
    for machine in (first, second):
        report = machine.sync(stick)
        assert report.complete
        assert report.foreign == 1
        assert report.machines == 2
        assert report.exported is None
    assert snapshot(stick) == before
    assert first.clock() == ours
    first.publish("and nobody keeps us from it")


def test_absurd_claims(tmp_path: Path) -> None:
    """Of a machine that claims to have everything for ever nothing is believed that costs others anything."""
    stick = tmp_path / "stick"
    (first, second, liar) = machines(tmp_path, stick, "ABX")
    first.sync(stick)
    feeds = {first.me: MAX_SEQUENCE, second.me: MAX_SEQUENCE, FeedRef.classic(b"\1" * 32): MAX_SEQUENCE}
    liar.card(stick, feeds, counter=2**63 - 1, wants=frozenset({BlobRef(b"\2" * 32)}))
    assert first.sync(stick).complete
    assert len(names(bundles(stick))) == 0, "the only other machine here says that it has it all"
    assert second.sync(stick).complete
    first.sync(stick)
    second.sync(stick)
    first.sync(stick)
    assert second.clock() == {first.me: 1, second.me: 1}
    assert first.clock() == {first.me: 1, second.me: 1}


@pytest.mark.timeout(120)
def test_a_card_of_very_many_feeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as a card may hold are taken as a hint; more are no card (and a million does not fit into the limit)."""
    stick = tmp_path / "stick"
    (first, second) = machines(tmp_path, stick, "AB")
    stranger = Machine(tmp_path, "X")
    most = amount(quick=MAX_CLOCK_FEEDS // 10, thorough=MAX_CLOCK_FEEDS)
    monkeypatch.setattr(records, "MAX_CLOCK_FEEDS", most)

    for count, machine_count in ((most, 2), (most * 3 // 2, 1)):
        body = b"".join([encode_varint(count), *(number.to_bytes(32, "big") + b"\1" for number in range(count))])
        head = _HEAD.pack(CARD_MAGIC, 1, 0, 0, stranger.me.key, MAIN_CAPS.network_id, count, NOW_MS, len(body))
        data = head + body + encode_varint(0)
        data += stranger.keypair.sign(_CONTEXT + data)
        path = cards(stick) / f"{base32(stranger.me.key)}-{count}.card"
        path.write_bytes(data)
        if machine_count == 1:
            (cards(stick) / f"{base32(stranger.me.key)}-{most}.card").unlink()
        first.sync(stick)
        assert first.sync(stick).machines == machine_count
    second.sync(stick)
    first.sync(stick)
    second.sync(stick)
    assert second.clock() == {first.me: 1, second.me: 1}


def test_very_many_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger can make any number of cards: those of known machines are looked at first, and the report says so."""
    from sneaker.stick import cards as stickcards

    monkeypatch.setattr(stickcards, "_MAX_MACHINES", 5)
    stick = tmp_path / "stick"
    (first, second) = machines(tmp_path, stick, "AB")
    level(stick, first, second)
    for number in range(20):
        path = cards(stick) / f"{base32(bytes([number]) * 32)}-{NOW_MS}.card"
        path.write_bytes(b"x")
    report = first.sync(stick)
    assert report.machines == 2
    assert report.problems == ["there are more cards on the stick than any round has machines; not all were looked at"]
    monkeypatch.setattr(stickcards, "_MAX_MACHINES", 1000)
    monkeypatch.setattr(stickcards, "_MAX_READ_BYTES", 10)
    report = first.sync(stick)
    assert report.problems == ["the cards on the stick are larger than those of any round; not all were looked at"]


def test_a_machine_that_blocks_somebody_does_not_keep_their_messages_here(tmp_path: Path) -> None:
    """B blocks C and will never take C's messages: A neither writes them for B nor keeps them."""
    stick = tmp_path / "stick"
    (first, second, third) = machines(tmp_path, stick, "ABC")
    level(stick, first, second, third)
    from sneaker.own_feed.publish import contact_content, publish
    from tests.homes import home

    with home(second.path) as opened:
        publish(
            opened.store,
            second.keypair,
            opened.caps,
            contact_content(third.me, blocking=True),
            now_ms=lambda: NOW_MS,
            random_bytes=os.urandom,
        )
    level(stick, first, second, third)
    third.publish("one", "two")
    level(stick, first, second, third)
    assert first.clock()[third.me] == 3
    assert second.clock()[third.me] == 1
    assert names(bundles(stick)) == set()
