"""The values of muxrpc: kinds of calls, what a session reports, and how requests and errors are read.

Reading is tolerant of what is in use: Go's line end behind JSON, names as a string, no ``type`` on async requests, no
``args``, errors that are text.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

from sneaker.wire.json_text import encode_json, parse_json, shown
from sneaker.wire.muxrpc.packets import BodyKind, Packet

__all__ = [
    "AnswerReceived",
    "CallKind",
    "EndReceived",
    "Event",
    "ItemReceived",
    "PeerError",
    "RequestReceived",
    "SessionEnded",
    "encode_error",
    "parse_error",
    "parse_request",
]

# Real names have two or three parts of under 30 characters.
_MAX_NAME_PARTS = 8
_MAX_NAME_CHARACTERS = 200
# Error texts are shown and logged; JavaScript peers add whole stack traces in a field that we do not read.
_MAX_ERROR_CHARACTERS = 1000


class CallKind(StrEnum):
    """The shape of a call, seen from the caller."""

    ASYNC = "async"
    SOURCE = "source"
    SINK = "sink"
    DUPLEX = "duplex"


_STREAM_KINDS = {"source": CallKind.SOURCE, "sink": CallKind.SINK, "duplex": CallKind.DUPLEX}


class PeerError(NamedTuple):
    """Why a call ended, in the peer's words; show them only with escapes taken out."""

    message: str
    name: str = "Error"


class RequestReceived(NamedTuple):
    """The peer calls us."""

    call: int
    name: tuple[str, ...]
    kind: CallKind
    arguments: list[Any]


class ItemReceived(NamedTuple):
    """One item of a stream. Report ``len(body)`` to ``Session.consumed`` when it is dealt with."""

    call: int
    kind: BodyKind
    body: bytes


class AnswerReceived(NamedTuple):
    """The answer to an async call of ours; the call is over."""

    call: int
    kind: BodyKind
    body: bytes

    def value(self) -> Any:
        """Return the answer as a Python value: JSON parsed, text as str, binary as bytes. Raises ValueError."""
        if self.kind is BodyKind.JSON:
            return parse_json(self.body)
        return self.body.decode("utf-8", "replace") if self.kind is BodyKind.TEXT else self.body


class EndReceived(NamedTuple):
    """The peer ended a stream, or failed an async call (then ``error`` is set). Nothing more comes for it.

    ``open`` tells whether ``end`` is still ours to call: after a sink or duplex that ended in peace.
    """

    call: int
    error: PeerError | None
    open: bool = False


class SessionEnded(NamedTuple):
    """Nothing more comes from the peer; ``goodbye`` tells whether it said so or just stopped.

    ``calls`` are those that were open until now.
    """

    goodbye: bool
    calls: tuple[int, ...]


Event = RequestReceived | ItemReceived | AnswerReceived | EndReceived | SessionEnded


def parse_request(packet: Packet) -> tuple[RequestReceived | None, str | None]:
    """Read a request, tolerant of Go's and older peers' spelling; returns it, or the text that refuses it."""
    value: object = None
    if packet.kind is BodyKind.JSON:
        try:
            value = parse_json(packet.body)
        except ValueError:
            return None, "invalid request, not JSON"
    if not isinstance(value, dict):
        return None, "invalid request"
    name = value.get("name")
    parts = name.split(".") if isinstance(name, str) else name
    if (
        not isinstance(parts, list)
        or not 0 < len(parts) <= _MAX_NAME_PARTS
        or not all(isinstance(part, str) for part in parts)
        or sum(len(part) for part in parts) > _MAX_NAME_CHARACTERS
    ):
        return None, "invalid request, name should be an array of strings"
    arguments = value.get("args")
    if arguments is None:  # Go leaves an empty list out
        arguments = []
    if not isinstance(arguments, list):
        return None, "invalid request, args should be array"
    stated = value.get("type")
    kind = CallKind.ASYNC
    if packet.stream:
        if not isinstance(stated, str) or stated not in _STREAM_KINDS:
            return None, f"unsupported stream type: {'undefined' if stated is None else shown(stated, 20)}"
        kind = _STREAM_KINDS[stated]
    return RequestReceived(-packet.number, tuple(parts), kind, arguments), None


def parse_error(packet: Packet) -> PeerError | None:
    """Read the body of an end: None for a peaceful one (``true``, or whatever is no error)."""
    if packet.kind is not BodyKind.JSON:
        text = packet.body.decode("utf-8", "replace")
        return PeerError(text[:_MAX_ERROR_CHARACTERS]) if text else None
    try:
        value = parse_json(packet.body)
    except ValueError:
        return None if packet.stream else PeerError("an error that is not JSON")
    if isinstance(value, dict):
        message, name = value.get("message"), value.get("name")
        return PeerError(
            message[:_MAX_ERROR_CHARACTERS] if isinstance(message, str) else "unknown error",
            name[:_MAX_ERROR_CHARACTERS] if isinstance(name, str) else "Error",
        )
    if isinstance(value, str):
        return PeerError(value[:_MAX_ERROR_CHARACTERS])
    return None


def encode_error(text: str) -> bytes:
    """Return the body of an error, as JavaScript peers write it."""
    return encode_json({"message": text, "name": "Error", "stack": ""})
