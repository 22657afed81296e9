"""Real JavaScript peers, each as client and as server: everything both ways, with the same ids on both sides."""

from __future__ import annotations

import fcntl
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import js_oracle
from tests.net import quick
from tests.net.machines import ROOT, Machine, RunningPeer, clock_of, keys_of, odd_log, small_log, wait_for
from tests.tries import amount

pytestmark = [pytest.mark.node, pytest.mark.timeout(120)]

PROGRAMS = ["server.cjs", "db2.cjs"]


def pairs(server: bool, db2: bool, ids: tuple[str, str]) -> list[Any]:
    """Return each program with True and with False; what is not named for it is slow.

    ``ids`` are the names of True and False.  CI runs all four; two of them meet both programs and both cases.
    """
    return [
        pytest.param(
            program, case, id=f"{program}-{ids[not case]}", marks=() if case is quick_case else pytest.mark.slow
        )
        for program, quick_case in zip(PROGRAMS, (server, db2), strict=True)
        for case in (True, False)
    ]


DIALS = ("we-dial", "they-dial")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_log(tmp_path_factory.mktemp("log") / "log.ndjson")


@contextmanager
def running(program: str, path: Path, **config: object) -> Iterator[js_oracle.Peer]:
    if reason := js_oracle.available(js_oracle.PEERS):
        pytest.skip(reason)
    path.mkdir(exist_ok=True)
    with (path / "log").open("ab") as errors, js_oracle.Peer(program, log=errors, path=str(path), **config) as peer:
        yield peer


def js_keys(peer: js_oracle.Peer, feeds: list[str], folder: Path) -> set[str]:
    keys = set()
    for number, feed in enumerate(feeds):
        file = folder / f"feed-{number}.ndjson"
        peer.ask("messages", feed=feed, file=str(file))
        keys |= {json.loads(line)["key"] for line in file.read_bytes().splitlines()}
    return keys


def has_all(peer: js_oracle.Peer, clock: dict[str, int]) -> bool:
    theirs = peer.ask("clock")
    return all(theirs.get(feed, 0) >= sequence for feed, sequence in clock.items())


@pytest.fixture(scope="module", params=PROGRAMS)
def holder(
    request: pytest.FixtureRequest, log: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[js_oracle.Peer]:
    """A peer that has the log and gives it; nothing is written there afterwards."""
    with running(request.param, tmp_path_factory.mktemp("holder")) as peer:
        assert not peer.ask("import", file=str(log))["refused"]
        for feed in clock_of(log):  # what they do not want themselves they do not give either
            peer.ask("request", feed=feed)
        yield peer


@pytest.mark.parametrize(("holder", "we_dial"), pairs(server=True, db2=False, ids=DIALS), indirect=["holder"])
def test_everything_comes_from_them(holder: js_oracle.Peer, we_dial: bool, log: Path, tmp_path: Path) -> None:
    clock = clock_of(log)
    machine = Machine(tmp_path / "ours")
    machine.follow(*clock)
    if we_dial:
        report = machine.connect(holder.address, prepare=None)
        assert report["level"]
        assert report["messages"] == {"accepted": sum(clock.values()), "known": 0, "refused": 0, "sent": 0}
    else:
        with machine.peer() as ours:
            holder.ask("connect", address=ours.address)
            wait_for(lambda: machine.clock().items() >= clock.items(), 40)
    assert machine.keys() >= keys_of(log)


@pytest.mark.parametrize(("program", "we_dial"), pairs(server=False, db2=True, ids=DIALS))
def test_everything_goes_to_them(program: str, we_dial: bool, log: Path, tmp_path: Path) -> None:
    clock = clock_of(log)
    machine = Machine(tmp_path / "ours")
    machine.take(log)
    with running(program, tmp_path / "theirs") as peer:
        for feed in clock:
            peer.ask("request", feed=feed)
        if we_dial:
            report = machine.connect(peer.address, prepare=None)
            assert report["level"]
            assert report["messages"] == {"accepted": 0, "known": 0, "refused": 0, "sent": sum(clock.values())}
        else:
            with machine.peer() as ours:
                peer.ask("connect", address=ours.address)
                wait_for(lambda: has_all(peer, clock), 40)
        wait_for(lambda: has_all(peer, clock), 20)
        assert js_keys(peer, list(clock), tmp_path) == keys_of(log)


@pytest.mark.parametrize("we_dial", [True, pytest.param(False, marks=pytest.mark.slow)], ids=DIALS)
def test_a_server_without_ebt(we_dial: bool, log: Path, tmp_path: Path) -> None:
    clock = clock_of(log)
    machine = Machine(tmp_path / "ours")
    machine.follow(*clock)
    own = {machine.id: len(clock)}
    with running("server.cjs", tmp_path / "theirs", ebt=False) as peer:
        assert not peer.ask("import", file=str(log))["refused"]
        machine.follow(peer.id)
        own[machine.id] += 1
        peer.ask("follow", feed=machine.id)
        dial = ["--no-discovery", "--connect", peer.address] if we_dial else []
        with machine.peer(*dial, prepare=quick.peer) as ours:
            if not we_dial:
                peer.ask("connect", address=ours.address)
            wait_for(lambda: machine.clock().items() >= clock.items(), 40)
            wait_for(lambda: has_all(peer, own), 20)
            machine.publish({"type": "post", "text": "live from us"})
            wait_for(lambda: has_all(peer, {machine.id: own[machine.id] + 1}), 10)
            before = machine.clock()[peer.id]
            peer.ask("publish", content={"type": "post", "text": "live from them"})
            wait_for(lambda: machine.clock()[peer.id] == before + 1, 10)
    assert machine.keys() >= keys_of(log)


def test_a_db2_without_ebt_gives_feeds_in_no_order(log: Path, tmp_path: Path) -> None:
    """Its createHistoryStream sorts by timestamp, and those of a burst are equal."""
    clock = clock_of(log)
    machine = Machine(tmp_path / "ours")
    machine.follow(*clock)
    with running("db2.cjs", tmp_path / "theirs", ebt=False) as peer:
        assert not peer.ask("import", file=str(log))["refused"]
        with machine.peer("--no-discovery", "--connect", peer.address):
            wait_for(lambda: machine.clock().items() >= clock.items(), 40)
    assert machine.keys() >= keys_of(log)


# Lone surrogates survive ssb-server, but not ssb-db2, which keeps text as UTF-8.
ODD = [
    {"type": "odd", "numbers": [0.1, 1.5e300, -2.5e-7, 1e21, 123456789012345680, 5e-324, 1.0]},
    {"type": "odd", "10": "a", "2": "b", "x": {"7": [], "1": {"a": None}}},
    {"type": "odd", "text": "\N{PEDESTRIAN}\N{ZERO WIDTH JOINER}\N{FEMALE SIGN} \x7f\u2028 \u0141\x01 </script>"},
    {"type": "odd", "fill": 1, "text": "x"},
    {"type": "odd", "fill": True, "text": "\N{PEDESTRIAN}"},
]
LONE = [{"type": "odd", "text": "half a \ud83d character, \udeb6 the other half"}, {"type": "odd", "\ud800": "a key"}]


@pytest.mark.parametrize(("program", "from_them"), pairs(server=True, db2=False, ids=("from-them", "to-them")))
def test_odd_messages(program: str, from_them: bool, tmp_path: Path) -> None:
    log = odd_log(tmp_path / "log.ndjson", ODD + (LONE + ODD[:1] if program == "server.cjs" else []))
    clock = clock_of(log)
    (feed,) = clock
    machine = Machine(tmp_path / "ours")
    machine.follow(feed)
    if not from_them:
        assert machine.take(log) == clock[feed]
    with running(program, tmp_path / "theirs") as peer:
        peer.ask("request", feed=feed)
        if from_them:
            assert not peer.ask("import", file=str(log))["refused"]
        report = machine.connect(peer.address, prepare=None)
        assert report["level"]
        wait_for(lambda: has_all(peer, clock), 20)
        assert js_keys(peer, [feed], tmp_path) == keys_of(log)
    assert machine.keys() >= keys_of(log)


@contextmanager
def friends(
    program: str, tmp_path: Path, *, we_dial: bool, **config: object
) -> Iterator[tuple[Machine, js_oracle.Peer, RunningPeer]]:
    """Two peers that follow each other and are connected."""
    machine = Machine(tmp_path / "ours")
    with running(program, tmp_path / "theirs", **config) as peer:
        machine.follow(peer.id)
        peer.ask("follow", feed=machine.id)
        with machine.peer(*(["--no-discovery", "--connect", peer.address] if we_dial else [])) as ours:
            if not we_dial:
                peer.ask("connect", address=ours.address)
            wait_for(lambda: has_all(peer, {machine.id: 1}) and machine.clock().get(peer.id) == 1, 20)
            yield machine, peer, ours


@pytest.mark.parametrize(("program", "we_dial"), pairs(server=False, db2=True, ids=DIALS))
def test_live_updates(program: str, we_dial: bool, tmp_path: Path) -> None:
    with friends(program, tmp_path, we_dial=we_dial) as (machine, peer, _):
        for count in range(2, amount(quick=4, thorough=5)):
            # Published by another process than the peer: it notices.
            message = machine.publish({"type": "post", "text": f"number {count} \N{PEDESTRIAN}"})
            started = time.monotonic()
            wait_for(lambda count=count: has_all(peer, {machine.id: count}), 10)
            assert time.monotonic() - started < 3
            assert str(message.key) in js_keys(peer, [machine.id], tmp_path)
            answer = peer.ask("publish", content={"type": "post", "text": f"theirs {count}"})
            wait_for(lambda count=count: machine.clock()[peer.id] == count, 10)
            assert str(machine.messages(peer.id)[-1].key) == answer["key"]


@pytest.mark.parametrize(("program", "we_dial"), pairs(server=True, db2=False, ids=DIALS))
def test_blobs_both_ways(program: str, we_dial: bool, tmp_path: Path) -> None:
    big = bytes(range(256)) * 12_000  # 3 MB, many packets
    with friends(program, tmp_path, we_dial=we_dial) as (machine, peer, _):
        ours = machine.add_blob(big)
        peer.ask("want_blob", blob=ours, wait=True, timeout_s=30)
        assert peer.ask("get_blob", blob=ours, file=str(tmp_path / "got")) == len(big)
        assert (tmp_path / "got").read_bytes() == big

        (tmp_path / "blob").write_bytes(big[1:])
        theirs = peer.ask("add_blob", file=str(tmp_path / "blob"))
        # We want what is mentioned by those we replicate.
        content = {"type": "post", "text": "look", "mentions": [{"link": theirs, "name": "it"}]}
        peer.ask("publish", content=content)
        wait_for(lambda: machine.has_blob(theirs), 20)


@pytest.mark.parametrize("program", PROGRAMS)
def test_whom_we_block_is_refused(program: str, tmp_path: Path) -> None:
    with friends(program, tmp_path, we_dial=False) as (machine, peer, ours):
        assert machine.id in peer.ask("peers")
        machine.block(peer.id)
        wait_for(lambda: machine.id not in peer.ask("peers"), 10)
        with pytest.raises(js_oracle.PeerError):
            peer.ask("connect", address=ours.address)
        peer.ask("publish", content={"type": "post", "text": "not for you"})
        time.sleep(0.5)
        assert machine.clock()[peer.id] == 1
        assert not has_all(peer, {machine.id: 2})
    done = machine.run("connect", "--", peer.address)
    assert done.returncode != 1
    assert machine.clock()[peer.id] == 1


@pytest.mark.parametrize("program", PROGRAMS)
def test_who_blocks_us_says_nothing(program: str, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "ours")
    with running(program, tmp_path / "theirs", **({"firewall": False} if program == "db2.cjs" else {})) as peer:
        machine.follow(peer.id)
        peer.ask("block", feed=machine.id)
        time.sleep(1)
        done = machine.run("connect", "--json", "--", peer.address)
    assert done.returncode in (3, 54), done.stderr
    assert machine.clock() == {machine.id: 1}


@pytest.mark.parametrize("program", ["server.cjs", pytest.param("db2.cjs", marks=pytest.mark.slow)])
def test_a_lost_store_comes_back_from_a_friend(program: str, tmp_path: Path) -> None:
    """ssb-server remembers that we had everything, and sends nothing by EBT to one who comes back with less."""
    machine, other = Machine(tmp_path / "ours"), Machine(tmp_path / "other")
    for number in range(3):
        machine.publish({"type": "post", "text": f"ours {number}"})
        other.publish({"type": "post", "text": f"other {number}"})
    with running(program, tmp_path / "theirs") as peer:
        machine.follow(peer.id, other.id)
        for feed in (machine.id, other.id):
            peer.ask("follow", feed=feed)
        assert other.connect(peer.address, prepare=None)["level"]
        wait_for(lambda: has_all(peer, {other.id: 3}))
        assert machine.connect(peer.address, prepare=None)["level"]
        clock = machine.clock()
        assert clock == {machine.id: 5, other.id: 3, peer.id: 2}
        wait_for(lambda: has_all(peer, clock))
        # All that is left is the secret; then the own feed and a part of another, and they dial.
        lost = Machine(tmp_path / "lost", keypair=machine.keypair)
        assert lost.connect(peer.address, prepare=quick.fetch)["level"]
        assert lost.clock() == clock
        assert lost.messages(machine.id) == machine.messages(machine.id)
        half = Machine(tmp_path / "half", keypair=machine.keypair)
        for feed in (machine.id, other.id):
            log = tmp_path / "log.ndjson"
            log.write_text(machine.run("log", "--json", "--feed", feed).stdout)
            lines = log.read_bytes().splitlines(keepends=True)
            log.write_bytes(b"".join(lines[: len(lines) if feed == machine.id else 1]))
            half.take(log)
        with half.peer(prepare=quick.fetch) as ours:
            peer.ask("connect", address=ours.address)
            wait_for(lambda: half.clock() == clock, 40)
            # And EBT goes on from there.
            peer.ask("publish", content={"type": "post", "text": "news"})
            wait_for(lambda: half.clock()[peer.id] == 3, 40)
            half.publish({"type": "post", "text": "more of ours"})
            wait_for(lambda: has_all(peer, {machine.id: 6}), 40)


def test_a_kill_in_mid_transfer_costs_nothing(holder: js_oracle.Peer, log: Path, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "ours")
    machine.follow(*clock_of(log))
    for delay in (0.35, 0.45, 0.6, 0.8)[:: amount(quick=2, thorough=1)]:
        process = subprocess.Popen(
            machine.command("connect", "--", holder.address), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(delay)
        process.kill()
        process.wait()
    report = machine.connect(holder.address, prepare=None)
    assert report["level"]
    assert report["messages"]["refused"] == 0
    assert machine.keys() >= keys_of(log)
    assert machine.run("check").returncode == 0


# ---------------------------------------------------------------------------------------------------- ten thousand messages


@pytest.fixture(scope="session")
def big_log(pytestconfig: pytest.Config) -> Path:
    """10,000 messages of 100 feeds, made once and kept in pytest's cache."""
    if reason := js_oracle.available():
        pytest.skip(reason)
    path = pytestconfig.cache.mkdir("logs") / "log-10000-100.ndjson"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # workers that run at once would write the same file
        if not path.exists():
            make = [str(ROOT / "scripts/fixtures"), "--messages", "10000", "--authors", "100", "--seed", "bench"]
            subprocess.run([*make, "--out", str(path)], check=True, timeout=200)
    return path


def split_log(log: Path, folder: Path) -> tuple[Path, Path]:
    """Share the feeds of a log out to two files."""
    halves: tuple[list[bytes], list[bytes]] = ([], [])
    feeds = sorted(clock_of(log))
    side = {feed.encode(): number % 2 for number, feed in enumerate(feeds)}
    for line in log.read_bytes().splitlines(keepends=True):
        halves[side[line.split(b'"author":"', 1)[1].split(b'"', 1)[0]]].append(line)
    paths = folder / "left.ndjson", folder / "right.ndjson"
    for path, lines in zip(paths, halves, strict=True):
        path.write_bytes(b"".join(lines))
    return paths


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("we_dial", [True, False], ids=DIALS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_ten_thousand_messages_both_ways(program: str, we_dial: bool, big_log: Path, tmp_path: Path) -> None:
    """Each side has half of the feeds and wants all."""
    ours_log, theirs_log = split_log(big_log, tmp_path)
    clock = clock_of(big_log)
    machine = Machine(tmp_path / "ours")
    machine.take(ours_log)
    machine.follow_all(clock)
    with running(program, tmp_path / "theirs") as peer:
        assert not peer.ask("import", file=str(theirs_log), timeout_s=200)["refused"]
        for feed in clock:
            peer.ask("request", feed=feed)
        if we_dial:
            report = machine.connect(peer.address, prepare=None, timeout_s=200)
            assert report["level"]
            assert report["messages"]["accepted"] == sum(clock_of(theirs_log).values())
            assert report["messages"]["sent"] == sum(clock_of(ours_log).values())
        else:
            with machine.peer() as ours:
                peer.ask("connect", address=ours.address)
                wait_for(lambda: has_all(peer, clock) and machine.clock().items() >= clock.items(), 120)
        wait_for(lambda: has_all(peer, clock), 30)
        assert js_keys(peer, list(clock), tmp_path) == keys_of(big_log)
    assert machine.keys() >= keys_of(big_log)
