from __future__ import annotations

import base64
import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sneaker.errors import CallRefused, LocalProtocolError, RemoteProtocolError, SneakerError
from sneaker.wire.blobs import parse_has_arguments
from sneaker.wire.muxrpc.calls import (
    AnswerReceived,
    CallKind,
    EndReceived,
    ItemReceived,
    PeerError,
    RequestReceived,
    SessionEnded,
)
from sneaker.wire.muxrpc.packets import GOODBYE_PACKET, BodyKind, PacketReader, encode_packet
from sneaker.wire.muxrpc.session import CLOSED_TEXT, Session
from sneaker.wire.stream_reader import NEED_DATA
from tests.readers import Failed, check_reader, read_all
from tests.tries import amount, tries
from tests.wire.pairs import Link
from tests.wire.vectors import transcript

pytestmark = pytest.mark.timeout(300)


def pair(**limits: Any) -> tuple[Session, Session, Link]:
    left, right = Session(), Session(**limits)
    return left, right, Link(left, right)


def open_calls(session: Session) -> list[int]:
    return list(session._calls)


def feed(session: Session, *packets: bytes) -> list[Any]:
    return read_all(session, packets, end=False)


def sent(session: Session) -> list[Any]:
    return read_all(PacketReader(), [session.data_to_send()], end=False)


def test_async() -> None:
    left, right, link = pair()
    call = left.request(["blobs", "has"], CallKind.ASYNC, ["&x", {"y": 1.5}])
    (request,) = link.take(1)
    assert request[:4] == (-call, ("blobs", "has"), CallKind.ASYNC, ["&x", {"y": 1.5}])
    right.answer(request.call, b"true")
    assert link.take(0) == [AnswerReceived(call, BodyKind.JSON, b"true")]
    assert open_calls(left) == open_calls(right) == []
    second = left.request(["whoami"], CallKind.ASYNC)
    right.end(link.take(1)[0].call, "no")
    assert link.take(0) == [EndReceived(second, PeerError("no", "Error"))]
    with pytest.raises(LocalProtocolError):
        right.answer(-second, b"1")


def test_answers_of_all_kinds() -> None:
    assert AnswerReceived(1, BodyKind.JSON, b'{"a":1}\n').value() == {"a": 1}
    assert AnswerReceived(1, BodyKind.TEXT, b"hello").value() == "hello"
    assert AnswerReceived(1, BodyKind.BINARY, b"\0").value() == b"\0"


def test_source_ended_by_the_server() -> None:
    left, right, link = pair()
    call = left.request(["createHistoryStream"], CallKind.SOURCE, [{"id": "@"}])
    (request,) = link.take(1)
    right.send(request.call, b'{"n":1}')
    right.send(request.call, b"\x01", BodyKind.BINARY)
    right.end(request.call)
    assert link.take(0) == [
        ItemReceived(call, BodyKind.JSON, b'{"n":1}'),
        ItemReceived(call, BodyKind.BINARY, b"\x01"),
        EndReceived(call, None),
    ]
    assert link.take(1) == [EndReceived(request.call, None)]  # the echo
    assert open_calls(left) == open_calls(right) == []


def test_source_cancelled_by_the_caller() -> None:
    left, right, link = pair()
    call = left.request(["createHistoryStream"], CallKind.SOURCE)
    (request,) = link.take(1)
    left.end(call)
    right.send(request.call, b"1")  # on its way while the cancel is
    assert link.take(1) == [EndReceived(request.call, None)]
    assert link.take(0) == [EndReceived(call, None)]
    with pytest.raises(LocalProtocolError):
        right.send(request.call, b"2")
    assert open_calls(left) == open_calls(right) == []


def test_sink_ends_are_acknowledged_by_hand() -> None:
    left, right, link = pair()
    call = left.request(["add"], CallKind.SINK)
    left.send(call, b"1")
    left.end(call)
    request, item, end = link.take(1)
    assert item == ItemReceived(request.call, BodyKind.JSON, b"1")
    assert end == EndReceived(request.call, None, open=True)
    assert link.take(0) == []
    right.end(request.call)
    assert link.take(0) == [EndReceived(call, None)]
    with pytest.raises(LocalProtocolError):
        left.send(call, b"2")


def test_duplex_both_ways_and_half_closed() -> None:
    left, right, link = pair()
    call = left.request(["ebt", "replicate"], CallKind.DUPLEX, [{"version": 3}])
    request = link.take(1)[0]
    left.send(call, b"1")
    right.send(request.call, b"2")
    left.end(call)
    assert link.take(1) == [
        ItemReceived(request.call, BodyKind.JSON, b"1"),
        EndReceived(request.call, None, open=True),
    ]
    right.send(request.call, b"3")
    right.end(request.call)
    assert link.take(0) == [
        ItemReceived(call, BodyKind.JSON, b"2"),
        ItemReceived(call, BodyKind.JSON, b"3"),
        EndReceived(call, None),
    ]
    assert open_calls(left) == open_calls(right) == []


def test_an_error_ends_both_directions_and_late_items_are_dropped() -> None:
    left, right, link = pair()
    call = left.request(["ebt", "replicate"], CallKind.DUPLEX)
    left.send(call, b'{"@name":1}')
    request = link.take(1)[0]
    right.end(request.call, "method:ebt,replicate is not in list of allowed methods")
    left.send(call, b'{"late":1}')
    left.send(call, b'{"late":1,"name":"x"}')
    assert open_calls(right) == []
    assert link.take(0)[0] == EndReceived(
        call, PeerError("method:ebt,replicate is not in list of allowed methods", "Error")
    )
    assert open_calls(left) == []
    assert link.take(1) == []


def test_many_calls_at_once_both_ways_with_random_cuts() -> None:
    chooser = random.Random(7)
    left, right = Session(), Session()
    link = Link(left, right, seed=7)
    wanted: dict[int, dict[int, list[bytes]]] = {0: {}, 1: {}}
    seen: dict[int, dict[int, list[bytes]]] = {0: {}, 1: {}}
    for number in range(60):
        index = number % 2
        call = link.sides[index].request(["s", str(number)], CallKind.SOURCE)
        wanted[index][call] = [b'{"n":%d}' % part for part in range(chooser.randrange(9))]
    todo: list[tuple[int, int, list[bytes]]] = []
    ended = 0
    while ended < 60:
        moved = link.step()
        for index in (0, 1):
            for event in link.events[index]:
                if isinstance(event, RequestReceived):
                    todo.append((index, event.call, list(wanted[1 - index][-event.call])))
                elif isinstance(event, ItemReceived):
                    seen[index].setdefault(event.call, []).append(event.body)
                elif isinstance(event, EndReceived) and event.call > 0:
                    ended += 1
            link.events[index].clear()
        if todo:
            position = chooser.randrange(len(todo))
            index, call, items = todo[position]
            if items:
                link.sides[index].send(call, items.pop(0))
            else:
                link.sides[index].end(call)
                todo.pop(position)
        assert moved or todo or ended == 60
    assert {index: {call: items for call, items in calls.items() if items} for index, calls in wanted.items()} == seen
    link.flush()
    assert open_calls(left) == open_calls(right) == []


# ---------------------------------------------------------------------------------------------------- what others send


@pytest.mark.parametrize(
    ("body", "name", "arguments"),
    [
        (b'{"name":["whoami"],"args":[]}', ("whoami",), []),  # JavaScript: no type
        (b'{"name":["whoami"],"args":[],"type":"async"}\n', ("whoami",), []),  # Go: a line end
        (b'{"name":"manifest","args":[]}', ("manifest",), []),
        (b'{"name":"blobs.has","args":["&"]}', ("blobs", "has"), ["&"]),
        (b'{"name":["whoami"],"type":"sync"}', ("whoami",), []),
        (b'{"name":["whoami"],"args":null}', ("whoami",), []),
        (b'{"name":["a\\u003cb"],"args":["\\ud800"]}', ("a<b",), ["\ud800"]),
    ],
)
def test_tolerant_requests(body: bytes, name: tuple[str, ...], arguments: list[object]) -> None:
    (event,) = feed(Session(), encode_packet(5, body))
    assert event == RequestReceived(-5, name, CallKind.ASYNC, arguments)


HOSTILE = sorted((Path(__file__).parent.parent / "data/wire/hostile").glob("*.muxrpc"))


@pytest.mark.parametrize("packet", [path.read_bytes() for path in HOSTILE], ids=[path.stem for path in HOSTILE])
def test_what_once_ended_a_service_is_one_request(packet: bytes) -> None:
    """What stands where a name or an id should, nested deeply or infinite, is never printed."""
    session = Session()
    for event in feed(session, packet):
        with pytest.raises(CallRefused, match=r"^invalid id:an object$"):
            parse_has_arguments(event.arguments)
        session.end(event.call, "no")
    (refused,) = sent(session)
    assert refused.end
    assert len(refused.body) < 200
    assert feed(session, encode_packet(2, b'{"name":["whoami"]}')) == [
        RequestReceived(-2, ("whoami",), CallKind.ASYNC, [])
    ]


@pytest.mark.parametrize(
    ("packet", "text"),
    [
        (encode_packet(1, b"{}"), "invalid request, name should be an array of strings"),
        (encode_packet(1, b"[1"), "invalid request, not JSON"),
        (encode_packet(1, b"[1]"), "invalid request"),
        (encode_packet(1, b"\0", BodyKind.BINARY), "invalid request"),
        (encode_packet(1, b'{"name":[1],"args":[]}'), "invalid request, name should be an array of strings"),
        (encode_packet(1, b'{"name":["x"],"args":{}}'), "invalid request, args should be array"),
        (encode_packet(1, b'{"name":["x"],"args":[]}', stream=True), "unsupported stream type: undefined"),
        (
            encode_packet(1, b'{"name":["x"],"args":[],"type":"async"}', stream=True),
            "unsupported stream type: async",
        ),
        (encode_packet(1, b'{"name":' + b"[" * 50_000), "invalid request, not JSON"),
        (encode_packet(1, b'{"name":"' + b"x" * 5000 + b'"}'), "invalid request, name should be an array of strings"),
    ],
)
def test_bad_requests_get_an_error_and_the_connection_goes_on(packet: bytes, text: str) -> None:
    session = Session()
    (event,) = feed(session, packet, encode_packet(2, b'{"name":["whoami"],"args":[]}'))
    assert event.name == ("whoami",)
    (answer,) = sent(session)
    assert (answer.number, answer.end) == (-1, True)
    assert json.loads(answer.body)["message"] == text


@pytest.mark.parametrize(
    ("packet", "error"),
    [
        (encode_packet(-1, b'{"message":"m","name":"N","stack":"s"}\n', end=True), PeerError("m", "N")),
        (encode_packet(-1, b"went wrong", BodyKind.TEXT, end=True), PeerError("went wrong")),
        (encode_packet(-1, b'"text"', end=True), PeerError("text")),
        (encode_packet(-1, b"true", end=True), PeerError("the call ended without an answer")),
        (encode_packet(-1, b"{", end=True), PeerError("an error that is not JSON")),
        (encode_packet(-1, b'{"message":1}', end=True), PeerError("unknown error")),
        (encode_packet(-1, b"m" * 5000, BodyKind.TEXT, end=True), PeerError("m" * 1000)),
    ],
)
def test_errors_of_all_spellings(packet: bytes, error: PeerError) -> None:
    session = Session()
    call = session.request(["x"], CallKind.ASYNC)
    assert feed(session, packet) == [EndReceived(call, error)]


def test_error_ends_are_echoed_and_peaceful_ends_of_sources_too() -> None:
    session = Session()
    session.request(["a"], CallKind.DUPLEX)
    session.request(["b"], CallKind.SOURCE)
    session.data_to_send()
    error = b'{"message":"m","name":"Error","stack":""}'
    feed(session, encode_packet(-1, error, stream=True, end=True), encode_packet(-2, b"true", stream=True, end=True))
    assert session.data_to_send() == encode_packet(1, error, stream=True, end=True) + encode_packet(
        2, b"true", stream=True, end=True
    )
    assert open_calls(session) == []


def test_strays_harm_nobody() -> None:
    session = Session()
    (request,) = feed(session, encode_packet(3, b'{"name":["x"],"args":[],"type":"source"}', stream=True))
    call = session.request(["y"], CallKind.SINK)
    session.data_to_send()
    assert (
        feed(
            session,
            encode_packet(-7, b"1"),
            encode_packet(-7, b"1", stream=True),
            encode_packet(3, b"1", stream=True),  # an item into a source
            encode_packet(-call, b"1", stream=True),  # an item out of a sink
            encode_packet(2, b"true", stream=True, end=True),  # the end of a call that never was
            encode_packet(2, b"1", stream=True),
            bytes.fromhex("0200000001000000003a")[:9] + b"1",  # number 0
            bytes.fromhex("020000000180000000") + b"1",  # the number that has no opposite
        )
        == []
    )
    assert session.data_to_send() == b""
    assert open_calls(session) == [request.call, call]


@pytest.mark.parametrize("stream", [False, True])
def test_a_number_used_twice_is_an_error(stream: bool) -> None:
    kind = b"source" if stream else b"async"
    request = encode_packet(1, b'{"name":["x"],"args":[],"type":"%s"}' % kind, stream=stream)
    again = encode_packet(1, b'{"name":["x"],"args":[]}')
    session = Session()
    assert feed(session, request + again + b"more")[1:] == [Failed()]
    session.receive_data(b"and more")
    assert session.trailing_data == b""


@pytest.mark.parametrize("kind", ["async", "source", "sink", "duplex"])
@pytest.mark.parametrize("body", [b"true", b'{"message":"context canceled","name":"Error"}'])
def test_an_end_without_the_stream_flag_ends_the_call_alone(kind: str, body: bytes) -> None:
    """go-ssb ends the streams that it called so, and takes calls back."""
    session = Session()
    request = encode_packet(1, b'{"name":["x"],"args":[],"type":"%s"}' % kind.encode(), stream=kind != "async")
    other = encode_packet(2, b'{"name":["y"],"args":[],"type":"async"}')
    received = feed(session, request + encode_packet(1, body, end=True) + other)
    assert [type(event) for event in received] == [RequestReceived, EndReceived, RequestReceived]
    error = PeerError("context canceled") if body != b"true" else None
    if kind == "async" and error is None:
        error = PeerError("the call ended without an answer")
    assert received[1] == EndReceived(-1, error, open=error is None and kind in ("sink", "duplex"))
    session.answer(-2, b"1")


# ---------------------------------------------------------------------------------------------------- the end


def test_goodbye_both_ways() -> None:
    left, right, link = pair()
    call = left.request(["x"], CallKind.DUPLEX)
    waiting = left.request(["y"], CallKind.ASYNC)
    requests = link.take(1)
    right.goodbye()
    right.goodbye()
    events = link.take(0)
    assert events == [
        EndReceived(call, PeerError(CLOSED_TEXT)),
        EndReceived(waiting, PeerError(CLOSED_TEXT)),
        SessionEnded(True, ()),
    ]
    assert link.take(1) == [SessionEnded(True, ())]
    for act in (
        lambda: left.request(["z"], CallKind.ASYNC),
        lambda: right.send(requests[0].call, b"1"),
        lambda: right.end(requests[0].call),
    ):
        with pytest.raises(LocalProtocolError):
            act()


def test_goodbye_names_the_calls_it_cuts_off() -> None:
    session = Session()
    calls = (session.request(["x"], CallKind.DUPLEX), session.request(["y"], CallKind.ASYNC))
    assert feed(session, GOODBYE_PACKET + b"rest") == [SessionEnded(True, calls)]
    assert session.trailing_data == b"rest"
    assert session.data_to_send().endswith(GOODBYE_PACKET)


def test_the_end_of_input() -> None:
    session = Session()
    call = session.request(["x"], CallKind.ASYNC)
    assert read_all(session, []) == [SessionEnded(False, (call,))]
    assert read_all(Session(), [encode_packet(1, b'{"name":"x"}')[:-1]]) == [Failed()]
    with pytest.raises(RuntimeError):
        session.receive_data(b"more")


def test_reader_contract() -> None:
    packets = [
        encode_packet(1, b'{"name":["x"],"args":[],"type":"duplex"}', stream=True),
        encode_packet(1, b'{"a":1}', stream=True),
        encode_packet(1, b"true", stream=True, end=True),
        GOODBYE_PACKET,
    ]
    events = [
        RequestReceived(-1, ("x",), CallKind.DUPLEX, []),
        ItemReceived(-1, BodyKind.JSON, b'{"a":1}'),
        EndReceived(-1, None, open=True),
        SessionEnded(True, (-1,)),
    ]
    check_reader(Session, b"".join(packets), events)


# ---------------------------------------------------------------------------------------------------- bounds


def test_flow_control_counts() -> None:
    left, right, link = pair(pause_bytes=1000)
    slow = left.request(["slow"], CallKind.SINK)
    fast = left.request(["fast"], CallKind.SINK)
    for _ in range(6):
        left.send(slow, b"1" * 100)
        left.send(fast, b"1" * 100)
    link.flush()
    assert (right.unconsumed(-slow), right.unconsumed(-fast), right.wants_pause) == (600, 600, True)
    right.consumed(-fast, 600)
    assert not right.wants_pause
    right.consumed(-fast, 600)  # more than there is
    right.consumed(-99, 600)
    left.send(slow, b"1" * 400)
    link.flush()
    assert right.wants_pause
    right.end(-slow, "too slow")
    assert not right.wants_pause
    assert right.outgoing_bytes > 0
    right.data_to_send()
    assert right.outgoing_bytes == 0


def test_unsent_bytes_ask_for_a_pause_too() -> None:
    left, right, link = pair(pause_bytes=1000)
    call = left.request(["x"], CallKind.SOURCE)
    link.flush()
    right.send(-call, b"1" * 2000)
    assert right.wants_pause
    link.flush()
    assert not right.wants_pause


def test_a_million_requests_are_refused_in_bounded_memory() -> None:
    batches = amount(quick=12, thorough=100)
    session = Session(max_open_calls=100)
    tracemalloc.start()
    refused = opened = 0
    number = 0
    for _ in range(batches):
        batch = b"".join(
            encode_packet(number + step, b'{"name":["x"],"args":[],"type":"source"}', stream=True)
            for step in range(1, 1001)
        )
        number += 1000
        opened += len(feed(session, batch))
        refused += len(sent(session))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (opened, refused) == (100, number - 100)
    assert len(open_calls(session)) == 100
    assert peak < 1_000_000
    session.end(open_calls(session)[0], "enough")
    assert len(feed(session, encode_packet(number + 1, b'{"name":["x"],"args":[]}'))) == 1


def test_misuse_is_our_error() -> None:
    left, right, link = pair()
    source = left.request(["x"], CallKind.SOURCE)
    waiting = left.request(["y"], CallKind.ASYNC)
    link.flush()
    for act in (
        lambda: left.send(source, b"1"),
        lambda: left.send(77, b"1"),
        lambda: left.end(waiting),
        lambda: left.end(waiting, "error"),
        lambda: left.answer(waiting, b"1"),
        lambda: right.answer(-source, b"1"),
        lambda: right.end(-waiting),
        lambda: right.send(-source, b""),
    ):
        with pytest.raises(LocalProtocolError):
            act()
    right.end(-source)
    with pytest.raises(LocalProtocolError):
        right.end(-source)


# ---------------------------------------------------------------------------------------------------- real peers, fuzz


@pytest.mark.parametrize(
    "name",
    [
        "db2-dials-server-without-ebt.jsonl",
        "db2-dials-ssb-server.seen-by-db2.jsonl",
        "db2-dials-ssb-server.seen-by-server.jsonl",
        "db2-through-room1.seen-by-dialler.jsonl",
        "ssb-server-dials-server-without-ebt.jsonl",
    ],
)
def test_what_real_peers_said_is_understood(name: str) -> None:
    """Both sides of each recorded connection, fed to a session each that made the same requests."""
    packets = transcript(name)
    for connection in {packet["conn"] for packet in packets}:
        for direction in ("in", "out"):
            session = Session()
            events: list[Any] = []
            expected = 0
            for packet in packets:
                if packet["conn"] != connection:
                    continue
                body = packet.get("body")
                if packet["dir"] != direction:
                    if packet.get("req", 0) > 0 and isinstance(body, dict) and "args" in body:
                        kind = CallKind(body.get("type", "async"))
                        assert session.request(body["name"], kind, body["args"]) == packet["req"]
                    continue
                if packet.get("goodbye"):
                    session.receive_data(GOODBYE_PACKET)
                else:
                    if isinstance(body, dict) and set(body) == {"base64"}:
                        kind_of_body, raw = BodyKind.BINARY, base64.b64decode(body["base64"])
                    else:
                        kind_of_body, raw = BodyKind.JSON, json.dumps(body).encode()
                    session.receive_data(
                        encode_packet(packet["req"], raw, kind_of_body, stream=packet["stream"], end=packet["end"])
                    )
                expected += 1
                before = len(events)
                while (event := session.next_event()) is not NEED_DATA:
                    events.append(event)
                # Every packet means something, but the echo of an end of a call we closed with an error.
                assert len(events) == before + 1 or packet.get("end")
            assert len(events) <= expected


@tries(200)
@given(st.lists(st.binary(max_size=60), max_size=6))
def test_any_bytes_give_events_or_our_error(pieces: list[bytes]) -> None:
    session = Session()
    session.request(["x"], CallKind.DUPLEX)
    read_all(session, pieces)


PACKETS = st.builds(
    lambda number, body, kind, stream, end: encode_packet(number, body, kind, stream=stream, end=end),
    st.sampled_from([1, 2, 3, -1, -2, -3, 2**31 - 1, -(2**31) + 1]),
    st.sampled_from(
        [
            b'{"name":["x"],"args":[],"type":"duplex"}',
            b'{"name":["x"],"args":[],"type":"source"}',
            b'{"name":["x"],"args":[],"type":"sink"}',
            b'{"name":["x"],"args":[]}',
            b"true",
            b'{"message":"m","name":"n","stack":"s"}',
            b"\xff",
            b"[",
        ]
    ),
    st.sampled_from(list(BodyKind)),
    st.booleans(),
    st.booleans(),
)


@tries(400)
@given(st.lists(PACKETS, max_size=12), st.integers(0, 2**32))
def test_any_packets_and_any_use_give_events_or_our_errors(packets: list[bytes], seed: int) -> None:
    chooser = random.Random(seed)
    session = Session()
    for packet in packets:
        try:
            session.receive_data(packet)
            while session.next_event() is not NEED_DATA:
                pass
        except RemoteProtocolError:
            pass
        call = chooser.choice([1, 2, -1, -2, -3])
        acts: list[Any] = [
            lambda: session.request(["r"], chooser.choice(list(CallKind))),
            lambda call=call: session.send(call, b"1"),
            lambda call=call: session.end(call),
            lambda call=call: session.end(call, "error"),
            lambda call=call: session.answer(call, b"1"),
            lambda call=call: session.consumed(call, 3),
        ]
        try:
            chooser.choice(acts)()
        except SneakerError:
            pass
    # Whatever happened, what we wrote can be read, and nothing is left over when everything is closed.
    session.goodbye()
    assert not isinstance(sent(session)[-1], Failed)
    assert open_calls(session) == []
    assert session.wants_pause is False
