"""One authenticated connection: a byte stream, the box stream and a muxrpc session, and who is told what comes.

It knows no protocol: which calls there are, and what they mean, the services say.

The reader hands every item to whoever has the call, at once and without waiting; the writer sends what has gathered.
Whoever sends much waits for ``wait_for_room`` first, and nothing is read while too much is unconsumed (here or, by ``may_read``,
in the whole program).  So what a peer can make us hold is bounded, whatever it does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from sneaker.errors import CallRefused, ConnectionLost, LocalProtocolError, NetworkError, RemoteProtocolError
from sneaker.net.stream_receivers import StreamReceiver
from sneaker.net.transports.transport import ByteStream
from sneaker.refs import FeedRef
from sneaker.wire.boxstream import Boxer, Unboxer
from sneaker.wire.handshake import BoxKeys
from sneaker.wire.muxrpc.calls import (
    AnswerReceived,
    CallKind,
    EndReceived,
    Event,
    ItemReceived,
    PeerError,
    RequestReceived,
    SessionEnded,
)
from sneaker.wire.muxrpc.packets import BodyKind
from sneaker.wire.muxrpc.session import CLOSED_TEXT, Session
from sneaker.wire.stream_reader import GOODBYE, NEED_DATA

__all__ = ["PeerSession"]

# What is read at once: a hundred messages or so, some milliseconds of work during which nobody else gets a turn.
READ_BYTES = 128 * 1024

# Producers stop when so much waits to be sent on a connection.
ROOM_BYTES = 256 * 1024

# How long the other side has to answer our goodbye.
_GOODBYE_TIMEOUT_S = 1.0


class PeerSession:
    """A connection after its handshake.  ``run`` it once; the other methods are for the same event loop."""

    def __init__(
        self,
        peer: FeedRef,
        keys: BoxKeys,
        trailing_data: bytes,
        stream: ByteStream,
        *,
        dialled: bool,
        muxrpc: Session | None = None,
    ) -> None:
        """``trailing_data`` of the handshake; ``dialled``: by us."""
        self.peer = peer
        self.dialled = dialled
        self.muxrpc = muxrpc or Session()
        #: Why the connection broke, None if it ended in peace or goes on.
        self.error: Exception | None = None
        #: Whether the rest of the program lets more be read now.
        self.may_read: Callable[[], bool] = lambda: True
        #: Called for every request of the peer's; raises CallRefused to refuse it.
        self.on_request: Callable[[RequestReceived], None] = _refuse
        loop = asyncio.get_running_loop()
        #: When the peer last sent anything, on the loop's clock.
        self.heard_at = loop.time()
        #: When bytes last went out, and when the connection was made.
        self.sent_at = self.started_at = self.heard_at
        self._time = loop.time
        self._reader = stream.reader
        self._writer = stream.writer
        self._boxer = Boxer(keys.encrypt_key, keys.encrypt_nonce)
        self._unboxer = Unboxer(keys.decrypt_key, keys.decrypt_nonce)
        if trailing_data:
            self._unboxer.receive_data(trailing_data)
        self._answers: dict[int, asyncio.Future[AnswerReceived]] = {}
        self._receivers: dict[int, StreamReceiver] = {}
        self._something_to_send = asyncio.Event()
        self._has_room = asyncio.Event()
        self._resumed = asyncio.Event()
        self._closing = False
        self._ended = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        #: Where the other end is, for people: "host:port".
        self.remote = stream.remote
        #: The IP address of the other end, "" if there is none.
        self.host = stream.host

    # ------------------------------------------------------------------------------------------ life

    async def run(self) -> None:
        """Serve the connection until it ends; never raises, ``error`` says what went wrong, be it a bug of ours."""
        writing = self.spawn(self._write())
        try:
            await self._read()
        except asyncio.CancelledError:
            self.error = self.error or ConnectionLost("the connection was closed")
        except Exception as error:
            self._keep_reason(error)
        try:
            await self._wind_up(writing)
        except Exception as error:
            self._keep_reason(error)
        finally:
            self._writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_GOODBYE_TIMEOUT_S):
                    await self._writer.wait_closed()

    async def _wind_up(self, writing: asyncio.Task[None]) -> None:
        self._closing = True
        self._ended.set()
        self._has_room.set()
        writing.cancel()
        await asyncio.wait([writing])
        self._send_goodbye()
        try:
            self._fail_calls()
        finally:
            for task in list(self._tasks):
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=5)

    def fail_with(self, error: Exception) -> None:
        """End now, because of ``error``: whatever goes wrong on behalf of a connection is the end of that connection."""
        self._keep_reason(error)
        self.abort()

    def _keep_reason(self, error: Exception) -> None:
        """Keep the first reason; but a bug or a broken protocol takes the place of a lost connection."""
        if self.error is None or (_is_loss(self.error) and not _is_loss(error)):
            self.error = error

    async def hang_up(self, reason: str | None = None) -> None:
        """Say goodbye, wait a moment for the peer's, and end; ``reason`` becomes ``error``."""
        if reason is not None and self.error is None:
            self.error = ConnectionLost(reason)
        if not self._closing:
            self._closing = True
            self._fail_calls()
            self.muxrpc.goodbye()
            self._something_to_send.set()
            self._has_room.set()
            self._resumed.set()
        try:
            async with asyncio.timeout(_GOODBYE_TIMEOUT_S):
                await self._ended.wait()
        except TimeoutError:
            self.abort()

    def abort(self, reason: str | None = None) -> None:
        """End now, without ceremony."""
        if reason is not None and self.error is None:
            self.error = ConnectionLost(reason)
        self._closing = True
        self._writer.transport.abort()
        self._resumed.set()
        self._has_room.set()

    @property
    def closing(self) -> bool:
        """Whether nothing new can be done with this connection."""
        return self._closing

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine that ends with the connection.

        What it raises ends the connection, but for NetworkError, CallRefused and LocalProtocolError: those say that the
        connection or the call is over.
        """
        task = asyncio.create_task(self._contained(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # One that is cancelled before it has begun would complain that nobody waited for it.
        task.add_done_callback(lambda _: work.close())
        return task

    async def _contained(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (NetworkError, CallRefused, LocalProtocolError):
            pass
        except Exception as error:
            self.fail_with(error)

    # ------------------------------------------------------------------------------------------ calls of ours

    async def call(
        self, name: Sequence[str], arguments: Sequence[object] = (), *, timeout_s: float = 30
    ) -> AnswerReceived:
        """Call an async method of the peer's.

        Raises CallRefused with the peer's words, NetworkError if the connection ends or nothing comes.
        """
        number = self._request(name, CallKind.ASYNC, arguments)
        answer: asyncio.Future[AnswerReceived] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            raise NetworkError(f"the peer does not answer {'.'.join(name)}") from None
        finally:
            self._answers.pop(number, None)

    def open_stream(
        self, name: Sequence[str], kind: CallKind, arguments: Sequence[object], receiver: StreamReceiver
    ) -> int:
        """Open a stream to the peer and return its number; raises ConnectionLost."""
        number = self._request(name, kind, arguments)
        self._receivers[number] = receiver
        return number

    def _request(self, name: Sequence[str], kind: CallKind, arguments: Sequence[object]) -> int:
        if self._closing:
            raise ConnectionLost("the connection has ended")
        number = self.muxrpc.request(name, kind, arguments)
        self.wake_writer()
        return number

    # ------------------------------------------------------------------------------------------ both kinds of calls

    def attach_receiver(self, call: int, receiver: StreamReceiver) -> None:
        """Let ``receiver`` have a call that the peer opened."""
        self._receivers[call] = receiver

    def is_open(self, call: int) -> bool:
        """Whether a stream that somebody is attached to goes on."""
        return not self._closing and call in self._receivers

    def send_item(self, call: int, body: bytes, kind: BodyKind = BodyKind.JSON) -> None:
        """Send an item; nothing happens if the call is over."""
        if self.is_open(call):
            self.muxrpc.send(call, body, kind)
            self.wake_writer()

    def answer_call(self, call: int, body: bytes, kind: BodyKind = BodyKind.JSON) -> None:
        """Answer an async call of the peer's; nothing happens if it is over."""
        if not self._closing:
            with contextlib.suppress(LocalProtocolError):
                self.muxrpc.answer(call, body, kind)
            self.wake_writer()

    def end_call(self, call: int, error: str | None = None) -> None:
        """End our side of a call, or refuse it; nothing happens if it is over."""
        if error is not None:
            self._receivers.pop(call, None)
        if not self._closing:
            with contextlib.suppress(LocalProtocolError):
                self.muxrpc.end(call, error)
            self.wake_writer()

    def consumed(self, call: int, size: int) -> None:
        """Say that ``size`` bytes of a call are dealt with, so that more may be read."""
        self.muxrpc.consumed(call, size)
        self._resumed.set()

    def wake_writer(self) -> None:
        """Let the writer send what has gathered."""
        self._something_to_send.set()

    def resume_reading(self) -> None:
        """Say that ``may_read`` may have changed."""
        self._resumed.set()

    async def wait_for_room(self) -> None:
        """Wait until something large may be sent; raises ConnectionLost."""
        while not self._closing and self.muxrpc.outgoing_bytes >= ROOM_BYTES:
            self._has_room.clear()
            await self._has_room.wait()
        if self._closing:
            raise ConnectionLost("the connection has ended")

    # ------------------------------------------------------------------------------------------ reading

    @property
    def is_paused(self) -> bool:
        """Whether nothing is read now, because too much waits to be dealt with."""
        return not self._closing and (self.muxrpc.wants_pause or not self.may_read())

    async def _read(self) -> None:
        self._take_plain()  # what came along with the handshake
        while not self._ended.is_set():
            while self.is_paused:
                self._resumed.clear()
                await self._resumed.wait()
                self.heard_at = self._time()
            data = await self._reader.read(READ_BYTES)
            self.heard_at = self._time()
            self._unboxer.receive_data(data)
            try:
                self._take_plain()
            except RemoteProtocolError as error:
                if data:
                    raise
                raise ConnectionLost(error.message) from None
            if not data:
                return

    def _take_plain(self) -> None:
        unboxer, muxrpc = self._unboxer, self.muxrpc
        parts: list[bytes] = []
        ended = False
        try:
            while (plain := unboxer.next_event()) is not NEED_DATA:
                if plain is GOODBYE:
                    ended = True
                    break
                parts.append(plain)
        finally:
            if parts:
                muxrpc.receive_data(b"".join(parts))
                self._dispatch_all()
        if ended:
            muxrpc.receive_data(b"")
            self._dispatch_all()
        self.wake_writer()

    def _dispatch_all(self) -> None:
        next_event = self.muxrpc.next_event
        while (event := next_event()) is not NEED_DATA:
            self._dispatch(event)

    def _dispatch(self, event: Event) -> None:
        if isinstance(event, ItemReceived):
            receiver = self._receivers.get(event.call)
            if receiver is None:
                self.muxrpc.consumed(event.call, len(event.body))
            else:
                receiver.item_received(event.kind, event.body)
        elif isinstance(event, RequestReceived):
            try:
                self.on_request(event)
            except CallRefused as error:
                self.end_call(event.call, error.message)
        elif isinstance(event, AnswerReceived):
            answer = self._answers.pop(event.call, None)
            if answer is not None and not answer.done():
                answer.set_result(event)
        elif isinstance(event, EndReceived):
            self._end_received(event)
        elif isinstance(event, SessionEnded):
            self._closing = True
            self._ended.set()
            self._fail_calls()

    def _end_received(self, event: EndReceived) -> None:
        answer = self._answers.pop(event.call, None)
        if answer is not None and not answer.done() and event.error is not None:
            answer.set_exception(CallRefused(event.error.message))
        receiver = self._receivers.get(event.call) if event.open else self._receivers.pop(event.call, None)
        if receiver is not None:
            receiver.end_received(event.error, still_open=event.open)

    def _fail_calls(self) -> None:
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            if not answer.done():
                answer.set_exception(ConnectionLost("the connection ended before the answer"))
                answer.exception()  # whoever waited may be gone
        receivers, self._receivers = self._receivers, {}
        for receiver in receivers.values():
            receiver.end_received(PeerError(CLOSED_TEXT), still_open=False)

    # ------------------------------------------------------------------------------------------ writing

    async def _write(self) -> None:
        writer, muxrpc = self._writer, self.muxrpc
        writer.transport.set_write_buffer_limits(high=ROOM_BYTES)
        while True:
            await self._something_to_send.wait()
            self._something_to_send.clear()
            while muxrpc.outgoing_bytes:
                data = self._boxer.box(muxrpc.data_to_send())
                self._has_room.set()
                self._resumed.set()
                self.sent_at = self._time()
                writer.write(data)
                await writer.drain()
                self.sent_at = self._time()

    def _send_goodbye(self) -> None:
        """The last words, as far as the socket takes them."""
        with contextlib.suppress(OSError, RuntimeError, LocalProtocolError):
            if not self._writer.transport.is_closing() and self.error is None:
                self.muxrpc.goodbye()
                self._writer.write(self._boxer.box(self.muxrpc.data_to_send()) + self._boxer.goodbye())


def _is_loss(error: Exception) -> bool:
    return isinstance(error, NetworkError | OSError)


def _refuse(request: RequestReceived) -> None:
    raise CallRefused(f"method:{','.join(request.name)} is not in list of allowed methods")
