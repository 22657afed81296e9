"""Targets: what peers send, from the handshake to the items of a stream."""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Callable, Iterable
from typing import Any

from nacl import bindings

from sneaker.caps import MAIN_NETWORK_KEY, auth
from sneaker.errors import AddressError, CallRefused, HandshakeError, InvalidMessage, RemoteProtocolError
from sneaker.feed.classic.validate import parse_message
from sneaker.feed.message import Message
from sneaker.limits import MAX_BOX_BYTES, MAX_LEGACY_BEACON_BYTES, MAX_SEQUENCE
from sneaker.refs import BlobRef, FeedRef
from sneaker.wire.address import format_addresses, parse_addresses
from sneaker.wire.beacon import Beacon, decode_legacy, decode_normal, encode_legacy, encode_normal
from sneaker.wire.blobs import BlobExchange, BlobReceiver, parse_get_arguments, parse_has_arguments
from sneaker.wire.boxstream import Boxer, Unboxer
from sneaker.wire.ebt.notes import MessageItem, NotesItem, parse_item, parse_replicate_arguments
from sneaker.wire.ebt.replicator import Replicator
from sneaker.wire.handshake import ClientAuthenticated, ClientHandshake, HandshakeDone, ServerHandshake
from sneaker.wire.history import ReorderBuffer, ReorderRoom, history_message, parse_history_arguments
from sneaker.wire.json_text import encode_json, members, parse_json, shown
from sneaker.wire.muxrpc.calls import CallKind, EndReceived, ItemReceived, RequestReceived, SessionEnded
from sneaker.wire.muxrpc.packets import Packet, PacketReader, encode_packet
from sneaker.wire.muxrpc.session import Session
from sneaker.wire.stream_reader import GOODBYE, NEED_DATA
from tests.fuzz.feeds import same, sample_messages
from tests.fuzz.rules import Failed, Taker, Target, check_stream, pieces_of, put_piece, raised, read_stream, said
from tests.wire.vectors import seeded

__all__ = ["TARGETS"]

CLIENT, SERVER, OTHER = seeded(1), seeded(2), seeded(3)
CLIENT_SEED, SERVER_SEED = bytes([4]) * 32, bytes([5]) * 32
NETWORK = MAIN_NETWORK_KEY


# ---------------------------------------------------------------------------------------------------- handshake


class Accepting(ServerHandshake):
    """A server that lets everybody in."""

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, ClientAuthenticated):
            self.accept_client()
        return event


def client() -> ClientHandshake:
    return ClientHandshake(NETWORK, CLIENT, SERVER.public, CLIENT_SEED)


def server() -> Accepting:
    return Accepting(NETWORK, SERVER, SERVER_SEED)


@functools.cache
def conversation() -> tuple[bytes, bytes, bytes, bytes]:
    """Return what both say when all is well, and the keys of the boxes in messages 3 and 4."""
    dials, listens = client(), server()
    first = dials.data_to_send()
    listens.receive_data(first)
    listens.next_event()
    second = listens.data_to_send()
    dials.receive_data(second)
    dials.next_event()
    key_3, key_4 = dials._key_3, dials._key_4
    third = dials.data_to_send()
    listens.receive_data(third)
    listens.next_event()
    return first + third, second + listens.data_to_send(), key_3, key_4


def spoken(data: bytes, *, by_client: bool) -> bytes:
    """Return what one side says: any bytes, the right ones with some changed, or right boxes with any inside."""
    taker = Taker(data)
    order = taker.byte() & 3
    honest = conversation()[0 if by_client else 1]
    if order == 0:
        return taker.rest()
    if order == 1:
        said = bytearray(honest + taker.piece())
        while taker.left:
            place = taker.byte() % (len(said) + 1)
            said[place : place + 1] = taker.take(1)
        return bytes(said)
    if order == 2:
        ephemeral = taker.take(32)
        return auth(ephemeral, NETWORK) + ephemeral + taker.rest()
    inside = taker.take(96 if by_client else 64).ljust(96 if by_client else 64, b"\0")
    key = conversation()[2 if by_client else 3]
    return honest[:64] + bindings.crypto_secretbox(inside, bytes(24), key) + taker.rest()


def check_server(data: bytes) -> None:
    """Nobody is let in who did not prove who they are."""
    events = check_stream(server, spoken(data, by_client=True), HandshakeError)
    for event in events:
        if isinstance(event, ClientAuthenticated | HandshakeDone):
            assert event.peer == CLIENT.public
    assert len(events) <= 2


def check_client(data: bytes) -> None:
    """The server is who it should be, or there is an error."""
    events = check_stream(client, spoken(data, by_client=False), HandshakeError)
    assert len(events) <= 1
    if events and isinstance(events[0], HandshakeDone):
        assert events[0].peer == SERVER.public


def handshake_seeds(*, by_client: bool) -> Iterable[bytes]:
    """Return the right words, and the ways to change them."""
    honest = conversation()[0 if by_client else 1]
    yield b"\x00" + honest + b"more"
    yield b"\x01\x00"
    yield b"\x01\x04rest\x10\xff"
    yield b"\x02" + honest[32:64] + honest[64:]
    yield b"\x02" + bytes(32) + honest[64:]
    key = conversation()[2 if by_client else 3]
    yield b"\x03" + bindings.crypto_secretbox_open(honest[64:], bytes(24), key) + b"rest"


# ---------------------------------------------------------------------------------------------------- box stream


BOX_KEY, BOX_NONCE = bytes(range(32)), b"\xff" * 23 + b"\xfd"


def check_boxes(data: bytes) -> None:
    """A stream of boxes: any bytes, an honest one with some changed, or right boxes of any length."""
    taker = Taker(data)
    order = taker.byte()
    if order & 3 == 0:
        check_stream(unboxer, taker.rest())
        return
    if order & 3 == 1:
        boxer = Boxer(BOX_KEY, BOX_NONCE)
        bodies = []
        while taker.left > 8:
            bodies.append(taker.piece() * (1 + order // 16))
        wire = b"".join(map(boxer.box, bodies)) + boxer.goodbye()
        events = check_stream(unboxer, wire + b"rest")
        assert events[-1] is GOODBYE
        assert b"".join(events[:-1]) == b"".join(bodies)
        hurt = bytearray(wire)
        place = taker.number(2) % len(hurt)
        hurt[place] ^= taker.byte()
        events = check_stream(unboxer, bytes(hurt))
        assert b"".join(bodies).startswith(b"".join(event for event in events if isinstance(event, bytes)))
        return
    counter, wire = int.from_bytes(BOX_NONCE, "big"), b""
    while taker.left:
        header = taker.piece()[:18]
        body = taker.piece()
        nonces = [((counter + step) % 2**192).to_bytes(24, "big") for step in (0, 1)]
        cipher = bindings.crypto_secretbox(body, nonces[1], BOX_KEY)
        if len(header) < 18:
            header = (len(body).to_bytes(2, "big") if len(header) < 2 else header[:2]) + cipher[:16]
        wire += bindings.crypto_secretbox(header, nonces[0], BOX_KEY) + cipher[16:]
        counter += 2
    check_stream(unboxer, wire)


def unboxer() -> Unboxer:
    return Unboxer(BOX_KEY, BOX_NONCE)


def boxes_seeds() -> Iterable[bytes]:
    """Return streams, and orders for some."""
    boxer = Boxer(BOX_KEY, BOX_NONCE)
    yield b"\x00" + boxer.box(b"hello") + boxer.box(b"x" * 300) + boxer.goodbye() + b"rest"
    yield b"\x01" + put_piece(b"hello") + put_piece(b"x" * 200) + bytes(8)
    yield b"\xf1" + put_piece(b"y" * (MAX_BOX_BYTES // 16 + 1)) + b"\x01\x00\x01"
    yield b"\x02" + put_piece(b"") + put_piece(b"hello") + put_piece(b"") + put_piece(b"") + put_piece(bytes(18))
    yield b"\x02" + put_piece(b"\x00\x09") + put_piece(b"hello")


# ---------------------------------------------------------------------------------------------------- muxrpc


def check_packets(data: bytes) -> None:
    """Packets come out whole, and go back into the same bytes."""
    events = check_stream(lambda: PacketReader(1024), data)
    wire = b""
    for event in events:
        if isinstance(event, Packet):
            if not event.body or event.number in (0, -(2**31)):
                return
            wire += encode_packet(event.number, event.body, event.kind, stream=event.stream, end=event.end)
    # The reader knows four more bits of flags than there are.
    assert len(wire) <= len(data)


PARSERS: dict[tuple[str, ...], Callable[[list[Any]], Any]] = {
    ("blobs", "get"): parse_get_arguments,
    ("blobs", "has"): parse_has_arguments,
    ("createHistoryStream",): parse_history_arguments,
    ("ebt", "replicate"): parse_replicate_arguments,
}


class Driver:
    """A session that answers whatever is asked, in a way that depends on the question alone."""

    def __init__(self) -> None:
        self.session = Session(max_body=1024, max_open_calls=4, pause_bytes=2048)
        self.sent = b""
        for kind in CallKind:
            self.session.request(["a", "b"], kind, [1, {}])

    @property
    def trailing_data(self) -> bytes:
        return self.session.trailing_data

    def receive_data(self, data: bytes) -> None:
        self.session.receive_data(data)

    def next_event(self) -> Any:
        session = self.session
        try:
            event = session.next_event()
        finally:
            self.sent += session.data_to_send()
        if event is NEED_DATA or isinstance(event, SessionEnded):
            return event
        choice = zlib.crc32(repr(event).encode("utf-8", "replace"))
        if isinstance(event, ItemReceived):
            if choice & 1:
                session.consumed(event.call, len(event.body))
        elif isinstance(event, EndReceived):
            if event.open:
                session.end(event.call)
        elif isinstance(event, RequestReceived):
            self.answer(event, choice)
        assert session.unconsumed(event.call) >= 0
        assert len(session._calls) <= 8
        self.sent += session.data_to_send()
        return event

    def answer(self, request: RequestReceived, choice: int) -> None:
        session = self.session
        parse = PARSERS.get(request.name)
        refused = raised(CallRefused, parse, request.arguments) if parse is not None else None
        if isinstance(refused, Failed):
            session.end(request.call, refused.message)
        elif request.kind is CallKind.ASYNC:
            if choice & 1:
                session.answer(request.call, b"{}")
            elif choice & 2:
                session.end(request.call, "no")
        elif choice & 12 == 12:
            session.goodbye()
        elif choice & 4:
            session.end(request.call, "no" if choice & 8 else None)
        elif request.kind is not CallKind.SINK:
            session.send(request.call, b"1")


def check_session(data: bytes) -> None:
    """A session sees the same and says the same, however what it hears is cut; one byte says whether packets are made."""
    wire = packets_wire(Taker(data[1:])) if data[:1] == b"\0" else data[1:]
    whole, cut = Driver(), Driver()
    events, left = read_stream(whole, [wire] if wire else [])
    assert read_stream(cut, pieces_of(wire)) == (events, left)
    assert whole.sent == cut.sent
    # An answer to each packet at most, and each of bounded length.
    assert len(whole.sent) <= 2000 + 5000 * (len(events) + len(wire) // 9)


def packets_wire(taker: Taker) -> bytes:
    """Return packets: flags, number, body."""
    wire = b""
    while taker.left:
        flags = taker.byte() & 0x0F
        number = taker.byte() - 128
        body = taker.piece()
        wire += bytes((flags,)) + len(body).to_bytes(4, "big") + number.to_bytes(4, "big", signed=True) + body
    return wire


def request_body(name: list[str], kind: str, arguments: list[Any]) -> bytes:
    return json.dumps({"name": name, "args": arguments, "type": kind}, separators=(",", ":")).encode()


def session_seeds() -> Iterable[bytes]:
    """Return calls and answers, and recorded ones."""

    def packet(flags: int, number: int, body: bytes) -> bytes:
        return bytes((flags, number + 128)) + put_piece(body)

    history = packet(10, 1, request_body(["createHistoryStream"], "source", [{"id": str(CLIENT.public), "seq": 1}]))
    has = packet(2, 2, request_body(["blobs", "has"], "async", ["&x"]))
    duplex = packet(10, 3, request_body(["ebt", "replicate"], "duplex", [{"version": 3, "format": "classic"}]))
    sink = packet(10, 4, request_body(["x"], "sink", []))
    yield b"\0" + history + has + duplex + packet(10, 3, b"{}") + packet(14, 3, b"true") + packet(14, 1, b"true")
    yield b"\0" + packet(2, -1, b'"answer"') + packet(10, -2, b"1") + packet(14, -2, b'{"message":"no","stack":""}')
    yield b"\0" + sink + packet(9, 4, b"text") + packet(8, 4, b"binary") + packet(14, 4, b'"error"')
    yield b"\0" + packet(2, 5, b'{"name":"a.b"}\n') + bytes((0, 128, 0))
    yield b"\1" + packets_wire(Taker(duplex + has)) + bytes(9) + b"rest"


def packets_seeds() -> Iterable[bytes]:
    """Return packets, and the goodbye."""
    for seed in session_seeds():
        yield seed[1:] if seed[:1] == b"\1" else packets_wire(Taker(seed[1:])) + bytes(9)


# ---------------------------------------------------------------------------------------------------- JSON in bodies


def check_jsontext(data: bytes) -> None:
    """Text is JSON or not; its parts are the very bytes of it, and mean what they meant inside."""
    value = raised(ValueError, parse_json, data)
    if isinstance(value, dict):
        parts = raised(ValueError, members, data)
        if not isinstance(parts, Failed):
            assert sum(map(len, parts.values())) <= len(data)
            assert all(text in data for text in parts.values())
            # A byte that is no UTF-8 stays what it is in a part, and is U+FFFD in a value.
            if not isinstance(raised(ValueError, data.decode), Failed):
                assert set(parts) == set(value)
                assert all(same(parse_json(text), value[key]) for key, text in parts.items())
    else:
        assert isinstance(raised(ValueError, members, data), Failed)
    if not isinstance(value, Failed):
        assert same(parse_json(encode_json(value)), value)
        assert len(shown(value)) <= 100


def jsontext_seeds() -> Iterable[bytes]:
    """Return bodies."""
    yield b'{"a":[1,2,{"b":null}],"a":"\\ud800","c":1e400}\n'
    yield b'[1, "two", {"three":3.50}, [], true]'
    yield b'"text \\ud83d\\ude00"'
    yield b'{"a":NaN,"\xff":123456789012345678901234567890}'
    yield request_body(["x"], "source", [1, {}])


def check_arguments(data: bytes) -> None:
    """The arguments of the calls that we serve are good, or the call is refused in words."""
    value = raised(ValueError, parse_json, data)
    arguments = value if isinstance(value, list) else [value]
    if isinstance(value, Failed):
        return
    for parse in PARSERS.values():
        answer = raised(CallRefused, parse, arguments)
        if isinstance(answer, Failed):
            assert len(encode_json({"message": answer.message})) <= 1000
        elif parse is parse_get_arguments:
            span = answer.check(1000) if answer.size in (None, 1000) and answer.max_size is None else range(0)
            assert 0 <= span.start <= span.stop <= 1000 or not span
        elif parse is parse_history_arguments and answer is not None:
            assert 1 <= answer.first <= MAX_SEQUENCE + 1  # behind the last message there is nothing


def arguments_seeds() -> Iterable[bytes]:
    """Return arguments of all calls."""
    blob, feed = str(BlobRef(bytes(32))), str(CLIENT.public)
    for arguments in (
        [blob],
        [{"key": blob, "start": 1, "end": 20.0, "size": 1000, "max": 5}],
        [[blob, blob]],
        [{"hash": blob}],
        [{"id": feed, "seq": 2, "limit": -1, "live": True, "old": False, "keys": 0, "values": "yes"}],
        [{"id": feed, "sequence": 3}],
        [feed, 2, True],
        [{"version": 3, "format": "classic"}],
        [{"version": 3, "format": "indexed"}],
        [],
    ):
        yield json.dumps(arguments).encode()


# ---------------------------------------------------------------------------------------------------- items


def check_item(data: bytes) -> None:
    """An item of EBT names the place of its message, if each field is there once; of history it is the message's text."""
    item = raised(RemoteProtocolError, parse_item, data)
    exact = raised(InvalidMessage, parse_message, data)
    if isinstance(item, MessageItem):
        assert 1 <= item.sequence <= MAX_SEQUENCE
        assert item.raw == data
    if isinstance(exact, Message):
        assert isinstance(item, MessageItem)
        names = [name for name, _ in json.loads(data.decode(), object_pairs_hook=list)]
        if len(set(names)) == len(names):  # else it is not what it was offered as, and refused where it is taken in
            assert (item.author, item.sequence) == (exact.author, exact.sequence)
    if isinstance(item, NotesItem):
        assert len(item.notes) * 50 <= len(data)
    text = raised(RemoteProtocolError, history_message, data)
    if isinstance(text, bytes):
        assert text in data
    if isinstance(exact, Message):
        assert text == data.strip()


def item_seeds() -> Iterable[bytes]:
    """Return messages, notes, and what history wraps around messages."""
    for message in sample_messages()[:6]:
        yield message.text
        compact = json.dumps(json.loads(message.text), separators=(",", ":")).encode()
        yield compact
        yield b'{"key":"%s","value":%s,"timestamp":1}' % (str(message.key).encode(), compact)
    yield json.dumps({str(CLIENT.public): 10, str(SERVER.public): -1, "junk": 1.5}).encode()
    yield json.dumps({"clock": {str(CLIENT.public): 11}, "sync": True}).encode()
    yield b'{"sync":true}'


def check_exchange(data: bytes) -> None:
    """Whatever two peers send and however our feeds grow, EBT and blobs stay sound and what is sent can be read."""
    feeds = (CLIENT.public, SERVER.public, OTHER.public)
    replicator = Replicator({feeds[0]: 5, feeds[1]: 2}, feeds[:2], carry=data[:1] > b"\x7f")
    peers = PEERS
    connections = [
        replicator.connect(peer, client=bool(number), now=0.0, max_unwanted=3) for number, peer in enumerate(peers)
    ]
    blobs = BlobExchange(max_wants=3)
    for peer in peers:
        blobs.connect(peer)
    blobs.want(BLOBS[0])
    taker = Taker(data[1:])
    now = 0.0
    while taker.left:
        order = taker.byte()
        side = order & 1
        feed = feeds[order >> 1 & 3] if order >> 1 & 3 < 3 else OTHER.public
        kind = order >> 3 & 15
        now += 0.5
        connection, peer = connections[side], peers[side]
        if kind <= 4:
            note = taker.number(2) - 100
            give_item(connection, json.dumps({str(feed): note}).encode(), now)
        elif kind <= 6:
            text = b'{"author":"%s","sequence":%d,"content":{"type":"test"}}' % (str(feed).encode(), taker.byte())
            give_item(connection, text, now)
        elif kind == 7:
            give_item(connection, taker.piece(), now)
        elif kind == 8:
            replicator.appended(feed, replicator.sequence(feed) + 1)
        elif kind == 9:
            replicator.unfollow(feed)
        elif kind == 10:
            replicator.follow(feed)
        elif kind == 11:
            now += 3
            replicator.handle_timer(now)
        elif kind == 12:
            connection.refuse_feed(feed)
        elif kind == 13:
            give_blobs(blobs, peer, json.dumps({str(BLOBS[order & 3]): taker.byte() - 128}).encode())
        elif kind == 14:
            give_blobs(blobs, peer, taker.piece())
        else:
            connection.acknowledge()
        check_sent(replicator, connection)
        items = [item for each in peers for item in blobs.items_to_send(each)]
        assert all(isinstance(parse_json(item), dict) for item in items)
        fetch = blobs.next_fetch()
        if fetch is not None:
            assert fetch.blob in blobs.wanted
            blobs.fetch_failed(fetch) if order & 1 else blobs.stored(fetch.blob, 1)
        assert len(blobs.wanted) <= 4
    for connection in connections:
        replicator.disconnect(connection)


PEERS = (seeded(7).public, seeded(8).public)
BLOBS = tuple(BlobRef(bytes([number]) * 32) for number in range(4))


def give_item(connection: Any, raw: bytes, now: float) -> None:
    try:
        connection.receive(raw, now)
    except RemoteProtocolError as error:
        failure = said(error)
        assert raised(RemoteProtocolError, connection.receive, b"{}", now) == failure


def give_blobs(blobs: BlobExchange, peer: FeedRef, raw: bytes) -> None:
    wants = raised(RemoteProtocolError, blobs.receive, peer, raw)
    if isinstance(wants, list):
        for want in wants:
            blobs.answer(want, None if want.distance & 1 else 5)


def check_sent(replicator: Replicator, connection: Any) -> None:
    """What we send can be read, and is of feeds that we hold."""
    for item in connection.notes_to_send():
        assert isinstance(parse_item(item), NotesItem)
    runs = 0
    while (run := connection.next_run(3)) is not None:
        assert 1 <= run.first <= run.last <= replicator.sequence(run.feed)
        assert replicator.shares(run.feed)
        runs += 1
        assert runs < 500
    assert len(connection.remote_clock) <= 3 + 3


def exchange_seeds() -> Iterable[bytes]:
    """Return orders for conversations."""
    yield b"\x00" + b"\x00\x64\x00\x02\x6e\x00" + b"\x28\x06\x2a\x03" + b"\x40\x42"
    yield b"\x80" + b"\x04\x64\x00" + b"\x01\x6e\x00\x00\x6a\x00" + b"\x58\x59\x78"
    yield b"\x00" + b"\x68\x7f\x69\x90\x6a\xff" + b"\x70" + put_piece(b'{"&":1}')
    yield b"\x00" + b"\x38" + put_piece(json.dumps({str(CLIENT.public): 30}).encode()) + b"\x60\x48\x50"


def check_reorder(data: bytes) -> None:
    """Two buffers with one room give each message once, in order, and hold no more than it; a blob is the right one or not."""
    taker = Taker(data)
    first = taker.byte() + 1
    room = ReorderRoom(max_messages=4, max_bytes=64)
    buffers = [ReorderBuffer(first, room), ReorderBuffer(1, room)]
    given: list[list[bytes]] = [[], []]
    while taker.left:
        order, sequence = taker.byte(), taker.byte()
        raw = bytes((sequence,)) + taker.take(order >> 3)
        ready = raised(RemoteProtocolError, buffers[order & 1].add_message, sequence, raw)
        if isinstance(ready, Failed):
            break
        given[order & 1] += ready
        assert sum(len(buffer.waiting) for buffer in buffers) <= 4
    for buffer, messages, start in zip(buffers, given, (first, 1), strict=True):
        assert [raw[0] for raw in messages] == list(range(start, start + len(messages)))
        assert buffer.next_sequence == start + len(messages)
    receiver = BlobReceiver(BlobRef.of(data), max_size=64)
    answers = [raised(RemoteProtocolError, receiver.add_chunk, piece) for piece in pieces_of(data)]
    assert any(answers) is (len(data) > 64)
    if not any(answers):
        assert raised(RemoteProtocolError, receiver.finish) is None


# ---------------------------------------------------------------------------------------------------- finding peers


def check_beacon(data: bytes) -> None:
    """A packet on the LAN is a beacon that can be sent again, or an error."""
    taker = Taker(data)
    order = taker.byte() & 3
    if order == 0:
        beacon = raised(RemoteProtocolError, decode_legacy, taker.rest())
    else:
        packet = taker.rest()
        if order > 1:
            text = encode_json({"address": packet.decode("utf-8", "replace")}) if order == 2 else packet
            packet = bindings.crypto_secretbox(text, NETWORK[:24], NETWORK) + bytes(64)
        beacon = raised(RemoteProtocolError, decode_normal, packet, NETWORK)
    if not isinstance(beacon, Beacon):
        return
    assert beacon.addresses
    for address in beacon.addresses:
        check_addresses([address])
    named = next(address for address in beacon.addresses if address.key is not None)
    if len(str(named)) <= MAX_LEGACY_BEACON_BYTES:
        assert decode_legacy(encode_legacy(named)).addresses == (named,)
    if beacon.key == CLIENT.public and len(data) < 500:
        again = decode_normal(encode_normal(beacon.addresses, NETWORK, CLIENT), NETWORK)
        assert again.verified
        assert again.addresses == beacon.addresses


def check_addresses(addresses: list[Any]) -> None:
    """An address says what it is without an error, in text that a terminal can take, and comes back from it."""
    text = format_addresses(addresses)
    assert text.isascii()
    assert text.isprintable()
    assert parse_addresses(text) == addresses
    for address in addresses:
        assert address.port is None or 0 < address.port < 65536
        assert address.host is None or address.host.isprintable()
        assert address.key is None or isinstance(address.key, FeedRef)


def check_address(data: bytes) -> None:
    """Text is addresses, or an error."""
    found = raised(AddressError, parse_addresses, data.decode("utf-8", "replace"))
    if isinstance(found, list):
        check_addresses(found)


def address_texts() -> list[str]:
    """Return addresses of all kinds."""
    key = str(CLIENT.public)[1:-8]
    return [
        f"net:192.168.1.2:8008~shs:{key}",
        f"net:fe80::1%eth0:8008~shs:{key};ws://example.org:8989/x~shs:{key}",
        f"example.org:8008:@{key}.ed25519",
        f"net:host:8008~shs:{key}:{key}",
        f"unix:/run/a!:b~noauth:{key}",
        f"tunnel:@{key}.ed25519:@{key}.ed25519~shs:{key}",
        f"ssb:address/multiserver?multiserverAddress=net%3Ahost%3A8008~shs%3A{key.replace('+', '%2B')}",
        f"onion:abc.onion:8008~shs:{key}",
    ]


def beacon_seeds() -> Iterable[bytes]:
    """Return packets, and addresses to be packed."""
    addresses = parse_addresses(address_texts()[0])
    yield b"\x00" + encode_legacy(addresses[0])
    yield b"\x01" + encode_normal(tuple(addresses), NETWORK, CLIENT)
    yield from (b"\x02" + text.encode() for text in address_texts())
    yield b"\x03" + json.dumps({"address": address_texts()[0], "x": []}).encode()


TARGETS = {
    "handshake-server": Target(check_server, functools.partial(handshake_seeds, by_client=True), max_bytes=300),
    "handshake-client": Target(check_client, functools.partial(handshake_seeds, by_client=False), max_bytes=300),
    "box-stream": Target(check_boxes, boxes_seeds, max_bytes=320),
    "packets": Target(check_packets, packets_seeds, max_bytes=320),
    "muxrpc": Target(check_session, session_seeds, max_bytes=400),
    "json-body": Target(check_jsontext, jsontext_seeds, max_bytes=200),
    "call-arguments": Target(check_arguments, arguments_seeds, max_bytes=200),
    "item": Target(check_item, item_seeds, max_bytes=700),
    "exchange": Target(check_exchange, exchange_seeds, max_bytes=80),
    "reorder": Target(check_reorder, lambda: [b"\x00\x10\x01ab\x00\x03\x08\x02c\x01\x01"], max_bytes=100),
    "beacon": Target(check_beacon, beacon_seeds, max_bytes=320),
    "address": Target(check_address, lambda: [text.encode() for text in address_texts()], max_bytes=260),
}
