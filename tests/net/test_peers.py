"""Two and more sneakers: syncing, live messages, clocks, our own feed, and the commands around it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest

from sneaker.errors import HandshakeError
from tests.json_messages import add_json
from tests.known_clocks import has
from tests.net import quick
from tests.net.machines import Machine, clock_of, keys_of, small_log, wait_for
from tests.ports import free_port

pytestmark = pytest.mark.timeout(100)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_log(tmp_path_factory.mktemp("log") / "log.ndjson", without=())


def test_everything_even_the_oddest_messages_both_ways(log: Path, tmp_path: Path) -> None:
    one, two = Machine(tmp_path / "one"), Machine(tmp_path / "two")
    clock = clock_of(log)
    one.take(log)
    two.follow_all(clock)
    two.follow(one.id)
    one.follow(two.id)
    with one.peer() as peer:
        report = two.connect(peer.address)
        assert report["level"], report
        assert report["messages"] == {
            "accepted": sum(clock.values()) + 1,
            "known": 0,
            "refused": 0,
            "sent": len(clock) + 1,
        }
        again = two.connect(peer.address)
        assert again["level"]
        assert again["messages"] == {"accepted": 0, "known": 0, "refused": 0, "sent": 0}
    assert two.keys() == one.keys() >= keys_of(log)
    for feed in clock:
        assert two.messages(feed) == one.messages(feed)
    assert two.run("check").returncode == 0


def test_what_came_is_passed_on_at_once(tmp_path: Path) -> None:
    """A hub between two who do not see each other."""
    hub, left, right = (Machine(tmp_path / name) for name in ("hub", "left", "right"))
    for machine in (left, right):
        machine.follow(hub.id)
        hub.follow(machine.id)
    with hub.peer() as peer, ExitStack() as stack:
        for machine in (left, right):
            stack.enter_context(machine.peer("--no-discovery", "--connect", peer.address))
        wanted = {hub.id: 2, left.id: 1, right.id: 1}
        wait_for(lambda: left.clock() == right.clock() == wanted, 15)
        for count in range(2, 6):
            left.publish({"type": "post", "text": f"{count}"})
            started = time.monotonic()
            wait_for(lambda count=count: right.clock()[left.id] == count, 5)
            assert time.monotonic() - started < 1.5
        # Somebody who is followed from now on.
        late = Machine(tmp_path / "late")
        late.follow(hub.id)
        stack.enter_context(late.peer("--no-discovery", "--connect", peer.address))
        wait_for(lambda: len(json.loads(hub.run("call", peer.address, "status").stdout)["peers"]) == 3)
        right.follow(late.id)
        wait_for(lambda: right.clock().get(late.id) == 1 or hub.clock().get(late.id) == 1, 10)


def test_a_peer_that_dials_and_is_dialled_has_one_connection(tmp_path: Path) -> None:
    one, two = Machine(tmp_path / "one"), Machine(tmp_path / "two")
    one.follow(two.id)
    two.follow(one.id)
    with one.peer() as first:
        with two.peer("--no-discovery", "--connect", first.address, listen=f"127.0.0.1:{free_port()}") as second:
            wait_for(lambda: one.clock() == two.clock() == {one.id: 1, two.id: 1}, 10)
            report = one.connect(second.address)
            assert report["level"] or report["detail"]
            wait_for(lambda: len(json.loads(one.run("call", first.address, "status").stdout)["peers"]) == 1, 15)
        one.publish({"type": "post", "text": "x"})


def test_a_long_transfer_leaves_room_for_publishing(log: Path, tmp_path: Path) -> None:
    one, two = Machine(tmp_path / "one"), Machine(tmp_path / "two")
    clock = clock_of(log)
    one.take(log)
    two.follow_all(clock)
    with one.peer() as peer, two.peer("--no-discovery", "--connect", peer.address):
        for number in range(5):
            done = two.run("publish", f"while it comes {number}")
            assert done.returncode == 0, done.stderr
        wait_for(lambda: two.clock().items() >= clock.items(), 20)


# ---------------------------------------------------------------------------------------------------- our own feed


def test_an_old_backup_gets_its_own_messages_back(tmp_path: Path) -> None:
    one, two = Machine(tmp_path / "one"), Machine(tmp_path / "two")
    one.follow(two.id)
    two.follow(one.id)
    shutil.copytree(one.path, tmp_path / "backup")
    for number in range(5):
        one.publish({"type": "post", "text": f"{number}"})
    with two.peer() as peer:
        assert one.connect(peer.address)["level"]
        newest = one.messages(one.id)
        shutil.rmtree(one.path)
        shutil.move(tmp_path / "backup", one.path)
        assert one.clock()[one.id] == 1
        assert one.connect(peer.address)["level"]
    assert one.messages(one.id) == newest
    one.publish({"type": "post", "text": "goes on"})
    assert one.clock()[one.id] == 7


def test_a_peer_that_only_claims_more_of_ours_stops_publishing(tmp_path: Path) -> None:
    """What is claimed and does not come is remembered: publishing would fork the feed."""
    import asyncio

    from sneaker.wire.muxrpc.calls import CallKind
    from tests.net.attackers import Collector, guest

    one, friend = Machine(tmp_path / "one"), Machine(tmp_path / "friend")
    one.follow(friend.id)

    async def claim(address: str) -> None:
        async with guest(address, friend.keypair) as connection:
            listener = Collector(connection)
            listener.call = connection.open_stream(["ebt", "replicate"], CallKind.DUPLEX, [{"version": 3}], listener)
            notes = json.loads((await listener.wait(1))[0])
            assert notes[one.id] == 2, "we ask for our own feed like for any other"
            connection.send_item(listener.call, json.dumps({one.id: 18}).encode())
            await asyncio.sleep(0.7)
            assert not [item for item in listener.items if f'"{one.id}":-1'.encode() in item]

    with one.peer() as peer:
        asyncio.run(claim(peer.address))
    done = one.run("publish", "x")
    assert done.returncode == 23, done.stderr
    assert "fork" in done.stderr
    assert one.clock()[one.id] == 1


def test_own_messages_that_are_shown_are_parked(tmp_path: Path) -> None:
    """The peer shows messages of ours beyond a gap: they are proof."""
    one, two = Machine(tmp_path / "one"), Machine(tmp_path / "two")
    one.follow(two.id)
    two.follow(one.id)
    for number in range(6):
        one.publish({"type": "post", "text": f"{number}"})
    texts = [message.text for message in one.messages(one.id)]
    copy = Machine(tmp_path / "copy", keypair=one.keypair)
    with copy.home() as home:
        from sneaker.ingest.ingest import Ingest
        from tests.net.machines import now_ms

        with Ingest(home.store, caps=copy.caps, now_ms=now_ms, workers=1) as ingest:
            add_json(ingest, texts[6])
        assert home.store.own_sequence_seen(one.keypair.public).proven == 7
    assert copy.run("publish", "x").returncode == 23
    with two.peer() as peer:
        one.connect(peer.address)
        copy.connect(peer.address)
    assert copy.clock()[one.id] == 7
    assert copy.run("publish", "x").returncode == 0


# ---------------------------------------------------------------------------------------------------- clocks


def test_what_peers_said_is_in_the_clock_store(tmp_path: Path) -> None:
    one, two = Machine(tmp_path / "one"), Machine(tmp_path / "two")
    one.follow(two.id)
    two.follow(one.id)
    with one.peer() as peer:
        two.connect(peer.address)
        two.connect(peer.address)
    with two.home() as home:
        known = has(home.store, one.keypair.public).as_json()
    assert known == {one.id: 1, two.id: 1}
    with one.home() as home:
        known = has(home.store, two.keypair.public).as_json()
        assert home.store.known_clocks.known_peers()[0].ref == two.keypair.public
    assert known == {one.id: 1, two.id: 1}
    # The next stick for them need not carry it.
    done = one.run("export", str(tmp_path / "stick"), "--for", two.id, "--json", "--dry-run")
    assert json.loads(done.stdout)["messages"] == 0, done.stdout + done.stderr


def test_what_a_card_said_need_not_be_asked_on_the_lan(log: Path, tmp_path: Path) -> None:
    """The first notes leave out the feeds in which both sides are level, whoever told us so."""
    import asyncio

    from sneaker.wire.muxrpc.calls import CallKind
    from tests.net.attackers import Collector, guest

    one, two = Machine(tmp_path / "one"), Machine(tmp_path / "two")
    clock = clock_of(log)
    for machine in (one, two):
        machine.take(log)
        machine.follow_all(clock)

    async def first_notes(address: str) -> set[str]:
        async with guest(address, two.keypair) as connection:
            stream = Collector(connection)
            stream.call = connection.open_stream(["ebt", "replicate"], CallKind.DUPLEX, [{"version": 3}], stream)
            return set(json.loads((await stream.wait(1))[0]))

    with one.peer() as peer:
        assert asyncio.run(first_notes(peer.address)) == {*clock, one.id}
        assert two.run("clock", "--card", str(tmp_path / "two.card")).returncode == 0
        assert one.run("import", str(tmp_path / "two.card")).returncode == 0
        assert asyncio.run(first_notes(peer.address)) == {one.id}


def test_over_ipv6(tmp_path: Path) -> None:
    one, two = Machine(tmp_path / "one"), Machine(tmp_path / "two")
    one.follow(two.id)
    two.follow(one.id)
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with one.peer(listen="[::1]:0") as peer:
        assert peer.address.startswith("net:::1:")
        assert two.connect(peer.address)["level"]
        legacy = f"::1:{peer.address.split('~')[0].rpartition(':')[2]}:{one.id}"
        assert two.connect(legacy)["level"]
    assert one.clock() == two.clock() == {one.id: 1, two.id: 1}


def test_what_was_committed_is_acknowledged(log: Path, tmp_path: Path) -> None:
    """After one sync each knows that the other has everything, so that no stick need carry it."""
    one, two = Machine(tmp_path / "one"), Machine(tmp_path / "two")
    clock = clock_of(log)
    one.take(log)
    one.follow(two.id)
    two.follow_all([*clock, one.id])
    with one.peer() as peer:
        assert two.connect(peer.address, prepare=None)["level"]
    for here, there in ((one, two), (two, one)):
        done = here.run("export", str(tmp_path / "stick"), "--for", there.id, "--json", "--dry-run")
        assert json.loads(done.stdout)["messages"] == 0, done.stdout + done.stderr


def test_a_peer_that_lost_everything_gets_it_again(log: Path, tmp_path: Path) -> None:
    one, two = Machine(tmp_path / "one"), Machine(tmp_path / "two")
    clock = clock_of(log)
    one.take(log)
    one.follow(two.id)
    two.follow_all(clock)
    two.follow(one.id)
    with one.peer() as peer:
        assert two.connect(peer.address)["level"]
        assert two.connect(peer.address)["level"]
        for name in ("store.sqlite", "store.sqlite-wal", "store.sqlite-shm"):
            (two.path / name).unlink(missing_ok=True)
        # It asks for its own feed, learns from it whom it follows, and gets everything.
        assert two.connect(peer.address)["level"]
        assert two.clock().items() >= clock.items()
        assert two.clock()[two.id] == len(clock) + 1


# ---------------------------------------------------------------------------------------------------- commands


def test_a_blob_that_waited_for_its_message_is_not_fetched(tmp_path: Path) -> None:
    one, two = Machine(tmp_path / "one"), Machine(tmp_path / "two")
    one.follow(two.id)
    two.follow(one.id)
    data = b"came on a stick before its message"
    with one.home() as opened:
        blob, _ = opened.blobs.add_blob(data)
    with two.home() as opened:
        assert opened.blobs.keep_early(blob, data)
    one.publish({"type": "post", "text": f"[look]({blob})", "mentions": [{"link": str(blob)}]})
    with one.home() as opened:
        opened.blobs.path_of(blob).unlink()
    with one.peer() as peer:
        assert two.connect(peer.address)["level"]
    with two.home() as opened:
        assert opened.blobs.read(blob) == data
        assert opened.blobs.early() == []


def test_call(log: Path, tmp_path: Path) -> None:
    one, two = Machine(tmp_path / "one"), Machine(tmp_path / "two")
    one.publish({"type": "post", "text": "first"})
    one.publish({"type": "post", "text": "second"})
    blob = one.add_blob(b"some bytes\n")
    with one.peer() as peer:
        done = two.run("call", peer.address, "whoami")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"id": one.id}
        done = two.run("call", peer.address, "createHistoryStream", json.dumps({"id": one.id}))
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert [line["value"]["content"]["text"] for line in lines] == ["first", "second"]
        assert lines[0]["key"] == str(one.messages(one.id)[0].key)
        legacy = f"127.0.0.1:{peer.address.split(':')[2].split('~')[0]}:{one.id}"
        done = two.run("call", legacy, "blobs.has", blob)
        assert done.stdout == "true\n"
        assert two.run("call", legacy, "blobs.get", blob).stdout == "some bytes\n"
        assert json.loads(two.run("call", legacy, "manifest").stdout)["createHistoryStream"] == "source"
        done = two.run("call", "--limit", "1", legacy, "createHistoryStream", json.dumps({"id": one.id, "live": True}))
        assert len(done.stdout.splitlines()) == 1
        refused = two.run("call", legacy, "publish", "{}")
        assert refused.returncode == 56
        assert "publish is not in list of allowed methods" in refused.stderr
        # With our own key, from this machine, more is allowed.
        assert json.loads(one.run("call", legacy, "status").stdout)["id"] == one.id
        assert two.run("call", legacy, "status").returncode == 56


@pytest.mark.parametrize("command", ["connect", pytest.param("call", marks=pytest.mark.slow)])
def test_what_cannot_be_reached_is_said_in_a_line(command: str, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    more = ["whoami"] if command == "call" else []
    key = "A" * 43 + "="
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        silent = machine.run(command, f"net:127.0.0.1:{port}~shs:{machine.id[1:45]}", *more, prepare=quick.handshakes)
    for address, code in (
        (f"net:127.0.0.1:{port}~shs:{machine.id[1:45]}", 53),
        (f"net:no.such.host.invalid:8008~shs:{machine.id[1:45]}", 53),
        (f"net:127.0.0.1:{port}~shs:{key}", 55),
        ("nonsense", 55),
        (f"ws://127.0.0.1:{port}~shs:{machine.id[1:45]}", 55),
        ("net:127.0.0.1:8008", 55),
    ):
        done = machine.run(command, address, *more)
        assert done.returncode == code, (address, done.stderr)
        assert done.stderr.startswith("sneaker: error: ")
        assert "Traceback" not in done.stderr
        assert code != 53 or done.stderr.strip().endswith(("connection refused", "not known", "in name resolution"))
    assert silent.returncode == 53, silent.stderr


def test_peer_says_when_its_port_is_taken(tmp_path: Path) -> None:
    one, two = Machine(tmp_path / "one"), Machine(tmp_path / "two")
    with one.peer() as peer:
        port = peer.address.split(":")[2].split("~")[0]
        done = two.run("peer", "--listen", f"127.0.0.1:{port}", "--no-discovery")
    assert done.returncode == 53
    assert f"cannot listen on 127.0.0.1:{port}: address already in use" in done.stderr
    assert "--listen" in done.stderr


def test_connect_live_goes_on_until_it_is_stopped(tmp_path: Path) -> None:
    one, two = Machine(tmp_path / "one"), Machine(tmp_path / "two")
    one.follow(two.id)
    two.follow(one.id)
    with one.peer() as peer:
        process = subprocess.Popen(
            two.command("connect", "--live", peer.address), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            wait_for(lambda: one.clock() == two.clock() == {one.id: 1, two.id: 1}, 10)
            one.publish({"type": "post", "text": "live"})
            wait_for(lambda: two.clock()[one.id] == 2, 5)
            assert process.poll() is None
        finally:
            process.terminate()
            output = process.communicate(timeout=10)
        assert process.returncode == 130
        assert b"Traceback" not in output[1], output[1]


@pytest.mark.root
def test_a_full_disk_ends_the_peer_with_a_sentence(log: Path, tmp_path: Path) -> None:
    one = Machine(tmp_path / "one")
    clock = clock_of(log)
    one.take(log)
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1100k", "tmpfs", str(small)], check=True)
    try:
        two = Machine(small / "home")
        two.follow_all(clock)
        with one.peer() as peer:
            done = two.run("connect", peer.address)
        assert done.returncode == 44, done.stderr
        assert "full" in done.stderr
        assert "Traceback" not in done.stderr
        held = two.clock()
        for feed in clock:
            assert two.messages(feed) == one.messages(feed)[: held.get(feed, 0)]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_strangers_leave_room_for_friends(tmp_path: Path) -> None:
    import asyncio

    from tests.net.attackers import guest

    hub, friend = Machine(tmp_path / "hub"), Machine(tmp_path / "friend")
    hub.follow(friend.id)
    friend.follow(hub.id)

    async def crowd(address: str) -> None:
        async with AsyncExitStack() as stack:
            inside = 0
            for _ in range(45):
                try:
                    await stack.enter_async_context(guest(address))
                    inside += 1
                except HandshakeError:
                    pass
            assert inside == 30
            report = await asyncio.to_thread(friend.connect, address)
            assert report["level"]

    with hub.peer() as peer:
        asyncio.run(crowd(peer.address))
    assert friend.clock() == {hub.id: 1, friend.id: 1}
