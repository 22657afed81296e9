"""muxrpc: many calls, both ways, over one connection (PROTOCOL.md, section 8).

A call is known by the number we put on the wire for it: positive for calls of ours, negative for calls of the peer's
(the peer writes the same number with the other sign).  An async call has one answer; a source sends items to the
caller, a sink takes them from the caller, a duplex does both; either side of a stream ends it once, and it is gone
when both have.  The rules for ends:

* an end that is an error ends both directions, and is echoed for the peer to forget the call too;
* an end of a source is echoed at once, from whichever side it comes: there is nothing left to say;
* a sink or duplex that the peer ends in peace stays open for us, so that an acknowledgement can wait for the disk,
  until ``end`` is called;
* a call that we end with an error is forgotten at once, and what the peer still sends for it is dropped.

There is no flow control in muxrpc.  Items count as unconsumed until ``consumed`` is called for them, and while
``wants_pause`` is true the connection should not be read.  Session never buffers an item itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from sneaker.errors import LocalProtocolError, RemoteProtocolError
from sneaker.limits import MAX_OPEN_CALLS, MAX_PACKET_BYTES
from sneaker.wire.json_text import encode_json
from sneaker.wire.muxrpc.calls import (
    AnswerReceived,
    CallKind,
    EndReceived,
    Event,
    ItemReceived,
    PeerError,
    RequestReceived,
    SessionEnded,
    encode_error,
    parse_error,
    parse_request,
)
from sneaker.wire.muxrpc.packets import GOODBYE_PACKET, BodyKind, Packet, PacketReader, encode_packet
from sneaker.wire.stream_reader import GOODBYE, NEED_DATA, NeedData

__all__ = ["CLOSED_TEXT", "Session"]

# The text that JavaScript peers give the calls that a closing connection cuts off.
CLOSED_TEXT = "unexpected end of parent stream"


# JavaScript peers echo an error with all of its stack trace; a message is enough to end a call.
_MAX_ECHO_BYTES = 4096

# Unconsumed or unsent bytes at which reading should pause: a few bodies of the largest kind would fill memory.
_PAUSE_BYTES = 4 * 1024 * 1024
_MAX_NUMBER = 2**31 - 1


class _Call:
    __slots__ = ("kind", "they_ended", "unconsumed", "we_ended")

    def __init__(self, kind: CallKind) -> None:
        self.kind = kind
        self.we_ended = False
        self.they_ended = False
        self.unconsumed = 0


class Session:
    """One muxrpc connection; which side dialled makes no difference."""

    def __init__(
        self,
        *,
        max_body: int = MAX_PACKET_BYTES,
        max_open_calls: int = MAX_OPEN_CALLS,
        pause_bytes: int = _PAUSE_BYTES,
    ) -> None:
        """``max_open_calls``: calls of the peer's open at once; ``pause_bytes``: when ``wants_pause`` says stop."""
        self._reader = PacketReader(max_body)
        self._failure: RemoteProtocolError | None = None
        self._calls: dict[int, _Call] = {}
        self._max_open_calls = max_open_calls
        self._their_open_calls = 0
        self._their_highest = 0
        self._next_number = 1
        self._outbox: list[bytes] = []
        self._outgoing_bytes = 0
        self._unconsumed_bytes = 0
        self._pause_bytes = pause_bytes
        self._said_goodbye = False
        self._ended = False

    # ------------------------------------------------------------------------------------------ bytes

    def receive_data(self, data: bytes) -> None:
        """Store bytes from the box stream; ``b""`` is their end, and RuntimeError follows for data after it."""
        self._reader.receive_data(data)

    def data_to_send(self) -> bytes:
        """Return, once, the bytes that must go into the box stream."""
        data = b"".join(self._outbox)
        self._outbox.clear()
        self._outgoing_bytes = 0
        return data

    @property
    def outgoing_bytes(self) -> int:
        """Bytes that ``data_to_send`` would return: make no more while the peer does not take them."""
        return self._outgoing_bytes

    @property
    def wants_pause(self) -> bool:
        """Whether the connection should not be read now: too much is unconsumed, or too much waits to be sent."""
        return self._unconsumed_bytes >= self._pause_bytes or self._outgoing_bytes >= self._pause_bytes

    @property
    def trailing_data(self) -> bytes:
        """Bytes after the peer's goodbye; nobody should send any."""
        return self._reader.trailing_data

    # ------------------------------------------------------------------------------------------ what we do

    def request(self, name: Sequence[str], kind: CallKind, arguments: Sequence[object] = ()) -> int:
        """Call the peer; returns the number of the call. ``arguments`` are JSON values, or bytes of JSON text.

        Raises LocalProtocolError after the goodbye.
        """
        self._check_open()
        if self._next_number > _MAX_NUMBER:
            raise LocalProtocolError("this connection has used up its request numbers")
        texts = [part if isinstance(part, bytes) else encode_json(part) for part in arguments]
        body = b'{"name":' + encode_json(list(name)) + b',"args":[' + b",".join(texts) + b"]"
        # muxrpc 7 and 8 send no type for async calls; go-ssb and older peers accept both, and Go wants it stated.
        body += b',"type":"' + kind.value.encode("ascii") + b'"}'
        call = self._next_number
        self._put(call, body, BodyKind.JSON, stream=kind is not CallKind.ASYNC)
        self._next_number += 1
        self._calls[call] = _Call(kind)
        return call

    def send(self, call: int, body: bytes, kind: BodyKind = BodyKind.JSON) -> None:
        """Send one item of a stream; ``body`` is what ``kind`` says, and not empty.

        Raises LocalProtocolError if the call is over, or its kind lets only the peer send.
        """
        state = self._state(call)
        if state.we_ended or not self._we_send(call, state.kind):
            raise LocalProtocolError(f"call {call} takes no items from this side")
        self._put(call, body, kind, stream=True)

    def answer(self, call: int, body: bytes, kind: BodyKind = BodyKind.JSON) -> None:
        """Answer an async call of the peer's, which is over then. Raises LocalProtocolError if it is none."""
        if call > 0 or self._state(call).kind is not CallKind.ASYNC:
            raise LocalProtocolError(f"call {call} is no async call of the peer's")
        self._put(call, body, kind)
        self._forget(call)

    def end(self, call: int, error: str | None = None) -> None:
        """End our side of a call in peace, or with an error text; with an error it is over for both sides.

        An async call of the peer's can only be ended with an error, one of ours not at all.
        Raises LocalProtocolError if it is over already.
        """
        state = self._state(call)
        if state.kind is CallKind.ASYNC:
            if call > 0 or error is None:
                raise LocalProtocolError("an async call has an answer, not an end")
            self._put_error(call, error, stream=False)
            self._forget(call)
            return
        if state.we_ended:
            raise LocalProtocolError(f"call {call} was ended before")
        state.we_ended = True
        if error is not None:
            self._put_error(call, error, stream=True)
            self._forget(call)
            return
        self._put(call, b"true", BodyKind.JSON, stream=True, end=True)
        if state.they_ended:
            self._forget(call)

    def goodbye(self) -> None:
        """End every call with an error and say goodbye; afterwards only the peer's goodbye is waited for.

        A second call does nothing.
        """
        if self._said_goodbye:
            return
        for call, state in list(self._calls.items()):
            if state.kind is CallKind.ASYNC:
                if call < 0:
                    self._put_error(call, CLOSED_TEXT, stream=False)
            elif not state.we_ended:
                self._put_error(call, CLOSED_TEXT, stream=True)
        self._calls.clear()
        self._their_open_calls = 0
        self._unconsumed_bytes = 0
        self._outbox.append(GOODBYE_PACKET)
        self._outgoing_bytes += len(GOODBYE_PACKET)
        self._said_goodbye = True

    def consumed(self, call: int, size: int) -> None:
        """Say that ``size`` bytes of items of ``call`` are dealt with; calls that are over may be named too."""
        state = self._calls.get(call)
        if state is not None:
            size = min(size, state.unconsumed)
            state.unconsumed -= size
            self._unconsumed_bytes -= size

    def unconsumed(self, call: int) -> int:
        """Return how many bytes of items of ``call`` are not consumed yet: one slow reader can be found by it."""
        state = self._calls.get(call)
        return 0 if state is None else state.unconsumed

    # ------------------------------------------------------------------------------------------ what comes

    def next_event(self) -> Event | NeedData:
        """Return the next event, or NEED_DATA.

        Raises RemoteProtocolError if the peer broke the protocol, now and on every later call.
        """
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        try:
            while not self._ended:
                packet = self._reader.next_event()
                if packet is NEED_DATA:
                    if self._reader.input_ended:
                        return self._end_session(goodbye=False)
                    return NEED_DATA
                if packet is GOODBYE:
                    return self._end_session(goodbye=True)
                event = self._packet_received(packet)
                if event is not None:
                    return event
        except RemoteProtocolError as error:
            self._failure = error
            self._reader.fail(error)
            raise
        return NEED_DATA

    def _end_session(self, *, goodbye: bool) -> SessionEnded:
        calls = tuple(self._calls)
        if goodbye:
            self.goodbye()
        self._ended = True
        return SessionEnded(goodbye, calls)

    def _packet_received(self, packet: Packet) -> Event | None:
        if self._said_goodbye:
            return None
        number, stream, end, kind, body = packet
        call = -number
        state = self._calls.get(call)
        if state is None:
            return self._unknown_received(packet) if call < 0 else None
        if state.kind is CallKind.ASYNC:
            if call < 0 and not end:
                raise RemoteProtocolError(f"request number {number} was used twice")
            self._forget(call)
            if end:
                return EndReceived(call, parse_error(packet) or PeerError("the call ended without an answer"))
            return AnswerReceived(call, kind, body)
        if end:  # go-muxrpc forgets the stream flag when it cancels
            return self._end_received(call, state, packet)
        if not stream and call < 0:
            raise RemoteProtocolError(f"request number {number} was used twice")
        if state.they_ended or not stream or not self._they_send(call, state):
            return None  # late, or nonsense that harms nobody
        size = len(body)
        state.unconsumed += size
        self._unconsumed_bytes += size
        return ItemReceived(call, kind, body)

    def _end_received(self, call: int, state: _Call, packet: Packet) -> EndReceived | None:
        if state.they_ended:
            return None
        state.they_ended = True
        error = parse_error(packet)
        if state.we_ended:
            self._forget(call)
            return EndReceived(call, error)
        if error is None and state.kind is not CallKind.SOURCE:
            return EndReceived(call, None, open=True)
        if error is not None and 0 < len(packet.body) <= _MAX_ECHO_BYTES:
            self._put(call, packet.body, packet.kind, stream=True, end=True)
        else:
            self._put(call, b"true", BodyKind.JSON, stream=True, end=True)
        self._forget(call)
        return EndReceived(call, error)

    def _unknown_received(self, packet: Packet) -> RequestReceived | None:
        """Handle a packet for no open call: a request, or the remains of a call that is over.

        Numbers grow, so a packet below the highest one seen that is not shaped like a request is what the peer sent
        before it learned that we ended the call. No list of dead calls is needed for that.
        """
        if packet.number > self._their_highest:
            self._their_highest = packet.number
        elif packet.stream and b'"name"' not in packet.body:
            return None
        if packet.stream and packet.end:
            return None  # the echo of our own end
        request, problem = parse_request(packet)
        if problem is None and self._their_open_calls >= self._max_open_calls:
            problem = "too many open calls"
        if request is None or problem is not None:
            self._put_error(-packet.number, problem or "invalid request", stream=packet.stream)
            return None
        self._calls[request.call] = _Call(request.kind)
        self._their_open_calls += 1
        return request

    # ------------------------------------------------------------------------------------------ small parts

    def _we_send(self, call: int, kind: CallKind) -> bool:
        return kind is CallKind.DUPLEX or (kind is CallKind.SINK if call > 0 else kind is CallKind.SOURCE)

    def _they_send(self, call: int, state: _Call) -> bool:
        if state.kind is CallKind.DUPLEX:
            return True
        # Once we ended a stream that only they feed, nobody listens.
        return not state.we_ended and (state.kind is CallKind.SOURCE if call > 0 else state.kind is CallKind.SINK)

    def _state(self, call: int) -> _Call:
        self._check_open()
        state = self._calls.get(call)
        if state is None:
            raise LocalProtocolError(f"call {call} is not open")
        return state

    def _check_open(self) -> None:
        if self._said_goodbye or self._ended or self._failure is not None:
            raise LocalProtocolError("this connection is closing")

    def _forget(self, call: int) -> None:
        state = self._calls.pop(call)
        self._unconsumed_bytes -= state.unconsumed
        if call < 0:
            self._their_open_calls -= 1

    def _put(self, call: int, body: bytes, kind: BodyKind, *, stream: bool = False, end: bool = False) -> None:
        packet = encode_packet(call, body, kind, stream=stream, end=end)
        self._outbox.append(packet)
        self._outgoing_bytes += len(packet)

    def _put_error(self, call: int, text: str, *, stream: bool) -> None:
        self._put(call, encode_error(text), BodyKind.JSON, stream=stream, end=True)
