from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from sneaker.errors import LocalProtocolError
from sneaker.limits import MAX_PACKET_BYTES
from sneaker.wire.muxrpc.packets import GOODBYE_PACKET, BodyKind, Packet, PacketReader, encode_packet
from sneaker.wire.stream_reader import GOODBYE
from tests.readers import Failed, check_reader, read_all
from tests.wire.vectors import load

FRAMES = load("muxrpc-frames.json")["frames"]


def expected(frame: dict[str, Any]) -> Any:
    packet = frame["packet"]
    if packet == "GOODBYE":
        return GOODBYE
    value = packet["value"]
    if isinstance(value, str):
        kind, body = BodyKind.TEXT, value.encode("utf-8")
    elif isinstance(value, dict) and set(value) == {"base64"}:
        kind, body = BodyKind.BINARY, base64.b64decode(value["base64"])
    else:
        kind, body = BodyKind.JSON, json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    return Packet(packet["req"], packet["stream"], packet["end"], kind, body)


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame["name"])
def test_frames(frame: dict[str, Any]) -> None:
    wire, packet = bytes.fromhex(frame["hex"]), expected(frame)
    if packet is GOODBYE:
        assert wire == GOODBYE_PACKET
    else:
        assert encode_packet(packet.number, packet.body, packet.kind, stream=packet.stream, end=packet.end) == wire
    check_reader(PacketReader, wire, [packet], trailing=packet is GOODBYE, examples=10)


def test_all_frames_in_a_row() -> None:
    wire = b"".join(bytes.fromhex(frame["hex"]) for frame in FRAMES)
    check_reader(PacketReader, wire, [expected(frame) for frame in FRAMES])


def test_an_end_inside_a_packet_is_an_error() -> None:
    wire = encode_packet(1, b"{}")
    for length in range(1, len(wire)):
        assert read_all(PacketReader(), [wire[:length]]) == [Failed()]
    assert read_all(PacketReader(), []) == []
    assert read_all(PacketReader(), [GOODBYE_PACKET]) == [GOODBYE]


def test_empty_bodies_are_read_but_not_written() -> None:
    assert read_all(PacketReader(), [bytes.fromhex("080000000000000001")]) == [
        Packet(1, True, False, BodyKind.BINARY, b"")
    ]
    with pytest.raises(LocalProtocolError):
        encode_packet(1, b"")


@pytest.mark.parametrize("number", [0, 2**31, -(2**31)])
def test_numbers_out_of_range_are_not_written(number: int) -> None:
    with pytest.raises(LocalProtocolError):
        encode_packet(number, b"{}")


def test_bodies_over_the_limit_are_neither_written_nor_waited_for() -> None:
    with pytest.raises(LocalProtocolError):
        encode_packet(1, bytes(MAX_PACKET_BYTES + 1))
    header = bytes([2]) + (MAX_PACKET_BYTES + 1).to_bytes(4, "big") + (1).to_bytes(4, "big")
    check_reader(PacketReader, header, [Failed()], end=False)
    assert read_all(PacketReader(max_body=3), [encode_packet(1, b"1234")]) == [Failed()]


def test_an_unknown_kind_of_body_is_an_error() -> None:
    check_reader(PacketReader, bytes([3]) + (1).to_bytes(4, "big") + (1).to_bytes(4, "big") + b"x", [Failed()])
