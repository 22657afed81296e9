from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sneaker.caps import auth
from sneaker.errors import HandshakeError, LocalProtocolError, SneakerError
from sneaker.keys import Keypair
from sneaker.refs import FeedRef
from sneaker.wire.handshake import BoxKeys, ClientAuthenticated, ClientHandshake, HandshakeDone, ServerHandshake
from sneaker.wire.stream_reader import NEED_DATA
from tests.readers import Failed, check_reader
from tests.tries import tries
from tests.wire.vectors import keypair, load, seeded

GOOD = load("shs.json")["handshakes"]
BAD = load("shs.json")["failures"]
KEY = bytes(range(32))


def make_client(case: dict[str, Any]) -> ClientHandshake:
    expected = case.get("clientExpectsServer", case["server"]["id"])
    return ClientHandshake(
        bytes.fromhex(case.get("appKey") or case["clientAppKey"]),
        keypair(case["client"]),
        FeedRef.parse(expected),
        bytes.fromhex(case["clientRandom"]),
    )


def make_server(case: dict[str, Any]) -> ServerHandshake:
    return ServerHandshake(
        bytes.fromhex(case.get("appKey") or case["serverAppKey"]),
        keypair(case["server"]),
        bytes.fromhex(case["serverRandom"]),
    )


class AcceptingServer(ServerHandshake):
    """Accepts everybody, so that it can be read like any reader."""

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, ClientAuthenticated):
            self.accept_client()
        return event


def box_keys(case: dict[str, Any], side: str) -> BoxKeys:
    get = {name: bytes.fromhex(case[name]) for name in case if name.endswith(("Key", "Nonce"))}
    if side == "client":
        return BoxKeys(
            get["clientEncryptKey"], get["clientEncryptNonce"], get["clientDecryptKey"], get["clientDecryptNonce"]
        )
    return BoxKeys(
        get["serverEncryptKey"], get["clientDecryptNonce"], get["serverDecryptKey"], get["clientEncryptNonce"]
    )


@pytest.mark.parametrize("case", GOOD, ids=range(len(GOOD)))
def test_both_sides_send_and_learn_what_the_vectors_say(case: dict[str, Any]) -> None:
    messages = [bytes.fromhex(message) for message in case["messages"]]
    client, server = make_client(case), make_server(case)
    assert client.data_to_send() == messages[0]
    server.receive_data(messages[0])
    assert server.next_event() is NEED_DATA
    assert server.data_to_send() == messages[1]
    client.receive_data(messages[1])
    assert client.next_event() is NEED_DATA
    assert client.data_to_send() == messages[2]
    server.receive_data(messages[2])
    client_key = keypair(case["client"]).public
    assert server.next_event() == ClientAuthenticated(client_key, messages[0][:32])
    assert server.next_event() is NEED_DATA
    assert server.data_to_send() == b""
    server.accept_client()
    assert server.data_to_send() == messages[3]
    assert server.next_event() == HandshakeDone(client_key, box_keys(case, "server"))
    client.receive_data(messages[3])
    assert client.next_event() == HandshakeDone(FeedRef.parse(case["server"]["id"]), box_keys(case, "client"))
    assert client.done is not None
    assert server.next_event() is NEED_DATA


@pytest.mark.parametrize("case", GOOD[:2], ids=range(2))
def test_cut_anywhere(case: dict[str, Any]) -> None:
    first, second, third, fourth = (bytes.fromhex(message) for message in case["messages"])
    client_key, server_key = keypair(case["client"]).public, FeedRef.parse(case["server"]["id"])
    check_reader(
        lambda: make_client(case), second + fourth, [HandshakeDone(server_key, box_keys(case, "client"))], examples=10
    )
    check_reader(
        lambda: AcceptingServer(
            bytes.fromhex(case["appKey"]), keypair(case["server"]), bytes.fromhex(case["serverRandom"])
        ),
        first + third,
        [ClientAuthenticated(client_key, first[:32]), HandshakeDone(client_key, box_keys(case, "server"))],
        examples=10,
    )
    check_reader(lambda: make_client(case), second, [Failed("handshake-failed")], examples=5)


@pytest.mark.parametrize("case", BAD, ids=lambda case: case["name"])
def test_faults_are_noticed_where_the_vectors_say(case: dict[str, Any]) -> None:
    messages = [bytes.fromhex(message) for message in case["messages"]]
    who, _, number = case["result"].partition(" rejects message ")
    side: Any = make_server(case) if who == "server" else make_client(case)
    for message in messages[0 if who == "server" else 1 :: 2]:
        side.receive_data(message)
    with pytest.raises(HandshakeError) as caught:
        side.next_event()
    assert caught.value.message_number == int(number)
    assert caught.value.reason == ("network-key" if int(number) <= 2 else "forged")


def pair(server_key: Keypair | None = None) -> tuple[ClientHandshake, ServerHandshake]:
    server = server_key or seeded(2)
    return (
        ClientHandshake(KEY, seeded(1), seeded(2).public, bytes([3] * 32)),
        ServerHandshake(KEY, server, bytes([4] * 32)),
    )


def exchange(client: ClientHandshake, server: ServerHandshake) -> None:
    server.receive_data(client.data_to_send())
    server.next_event()
    client.receive_data(server.data_to_send())
    client.next_event()
    server.receive_data(client.data_to_send())


def test_a_refused_client_sees_the_end_and_nothing_else() -> None:
    client, server = pair()
    exchange(client, server)
    assert server.next_event() == ClientAuthenticated(seeded(1).public, client.opening)
    server.refuse_client()
    assert server.data_to_send() == b""
    assert server.next_event() is NEED_DATA
    with pytest.raises(LocalProtocolError):
        server.accept_client()
    client.receive_data(b"")
    with pytest.raises(HandshakeError) as caught:
        client.next_event()
    assert caught.value.reason == "refused"
    assert caught.value.hint


def test_a_wrong_server_key_fails_at_message_3() -> None:
    client, server = pair(server_key=seeded(9))
    exchange(client, server)
    with pytest.raises(HandshakeError) as caught:
        server.next_event()
    assert (caught.value.message_number, caught.value.reason) == (3, "forged")


def test_an_early_end_is_not_a_refusal() -> None:
    client, _ = pair()
    client.receive_data(b"")
    with pytest.raises(HandshakeError) as caught:
        client.next_event()
    assert caught.value.reason == "closed"


@pytest.mark.parametrize(
    "point",
    [
        bytes(32),
        bytes([1]) + bytes(31),
        bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
        bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
        bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    ],
)
def test_low_order_points_are_refused(point: bytes) -> None:
    for side in pair():
        side.receive_data(auth(point, KEY) + point)
        with pytest.raises(HandshakeError) as caught:
            side.next_event()
        assert caught.value.reason == "low-order"


def test_a_server_address_with_a_key_of_nobody_is_our_mistake() -> None:
    with pytest.raises(LocalProtocolError):
        ClientHandshake(KEY, seeded(1), FeedRef.classic(bytes(32)), bytes(32))


def test_decisions_out_of_place_are_our_mistake() -> None:
    _, server = pair()
    with pytest.raises(LocalProtocolError):
        server.accept_client()
    with pytest.raises(LocalProtocolError):
        server.refuse_client()


@tries(100)
@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_give_events_or_our_error(data: bytes, correct_start: bool) -> None:
    client, server = pair()
    hello = client.data_to_send()
    for side in (client, server):
        side.receive_data((hello if correct_start else b"") + data)
        try:
            while side.next_event() is not NEED_DATA:
                pass
        except SneakerError:
            pass
