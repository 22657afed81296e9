"""``createHistoryStream``: one feed from one sequence on (PROTOCOL.md, section 8.2).

It is how peers without EBT replicate, and how a feed is fetched by hand.  ssb-db2 answers it in the order of
timestamps, so what comes is put in order here, within bounds.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sneaker.errors import CallRefused, LocalProtocolError, RefError, RemoteProtocolError
from sneaker.limits import MAX_REORDER_BYTES, MAX_REORDER_MESSAGES, MAX_SEQUENCE
from sneaker.refs import FeedRef
from sneaker.wire.json_text import encode_json, members, parse_json

__all__ = [
    "HistoryQuery",
    "ReorderBuffer",
    "ReorderRoom",
    "encode_history_item",
    "format_history_arguments",
    "history_message",
    "parse_history_arguments",
]


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """What a caller wants: messages of ``feed`` from sequence ``first`` on, itself included.

    ``old``: those that are there, at most ``limit`` of them (None for all); ``live``: those that come later.
    ``keys`` with ``values`` asks for ``{key, value, timestamp}``, ``keys`` alone for the key, ``values`` alone for the bare
    message.
    """

    feed: FeedRef
    first: int = 1
    limit: int | None = None
    live: bool = False
    old: bool = True
    keys: bool = True
    values: bool = True


def parse_history_arguments(arguments: Sequence[object]) -> HistoryQuery | None:
    """Read the arguments of a call, as ssb-server 16 does; None for one that names no feed: there is nothing to give.

    ``sequence`` goes before ``seq``, and below 1 both mean the whole feed; ``old: false`` alone means what comes later;
    a limit below 0 means no limit. Raises CallRefused with the text to answer for values of a wrong type.
    """
    options = arguments[0] if arguments else None
    if not isinstance(options, dict):
        return None
    identity = options.get("id")
    try:
        feed = FeedRef.parse_classic(identity if isinstance(identity, str) else "")
    except RefError:
        return None
    sequence = _number(options, "sequence") or _number(options, "seq") or 1
    limit = _number(options, "limit")
    old = options.get("old") is not False
    keys = _switch(options, "keys") is not False
    return HistoryQuery(
        feed,
        first=math.ceil(min(max(sequence, 1), MAX_SEQUENCE + 1)),
        limit=None if limit is None or limit < 0 else math.floor(min(limit, MAX_SEQUENCE)),
        live=_switch(options, "live") is True or not old,
        old=old,
        keys=keys,
        values=_switch(options, "values") is not False or not keys,
    )


def format_history_arguments(query: HistoryQuery) -> list[object]:
    """Return the arguments of a call, spelled as JavaScript peers spell them.

    Raises LocalProtocolError for a first sequence below 1 (scuttlego fails on 0) and for a limit of 0 (ssb-db2 takes
    that for no limit).
    """
    if query.first < 1:
        raise LocalProtocolError("sequences begin at 1")
    if query.limit == 0:
        raise LocalProtocolError("a limit of 0 means no limit to some peers")
    options: dict[str, object] = {"id": str(query.feed), "seq": query.first, "live": query.live, "keys": query.keys}
    if query.limit is not None:
        options["limit"] = query.limit
    if not query.old:
        options["old"] = False
    if not query.values:
        options["values"] = False
    return [options]


def history_message(raw: bytes) -> bytes | None:
    """Return the exact text of the message in one item, bare or inside ``{key, value, timestamp}``.

    None for the ``{"sync": true}`` that divides old from live. Raises RemoteProtocolError for anything else.
    """
    try:
        value = parse_json(raw)
        if isinstance(value, dict):
            if "author" in value and "content" in value:
                return raw.strip()
            if "key" in value and "value" in value:
                return members(raw)["value"]
            if "sync" in value:
                return None
    except ValueError:
        pass
    raise RemoteProtocolError("createHistoryStream gave something that is no message")


def encode_history_item(query: HistoryQuery, key: str, raw: bytes, received_at_ms: float) -> bytes:
    """Return the JSON of one item as ``query`` wants it; ``raw`` is the message's text and stays as it is."""
    if query.keys and query.values:
        timestamp = encode_json(int(received_at_ms) if float(received_at_ms).is_integer() else received_at_ms)
        return b'{"key":' + encode_json(key) + b',"value":' + raw + b',"timestamp":' + timestamp + b"}"
    return raw if query.values else encode_json(key)


class ReorderRoom:
    """How much the buffers of one connection may hold back together."""

    def __init__(self, max_messages: int = MAX_REORDER_MESSAGES, max_bytes: int = MAX_REORDER_BYTES) -> None:
        self._messages = max_messages
        self._bytes = max_bytes

    def take(self, size: int) -> bool:
        """Make room for one message; False if there is none."""
        if self._messages < 1 or self._bytes < size:
            return False
        self._messages -= 1
        self._bytes -= size
        return True

    def give_back(self, size: int) -> None:
        """Say that a message is not held back any more."""
        self._messages += 1
        self._bytes += size


class ReorderBuffer:
    """Turns a feed's messages back into the order of their sequences; it holds back a bounded number of them."""

    def __init__(self, first: int, room: ReorderRoom | None = None) -> None:
        """``first``: the sequence that was asked for; ``room``: what is shared with other buffers."""
        self._next = first
        self._waiting: dict[int, bytes] = {}
        self._room = room or ReorderRoom()

    @property
    def next_sequence(self) -> int:
        """The sequence that is waited for; all below were handed out."""
        return self._next

    @property
    def waiting(self) -> Collection[int]:
        """The sequences of what is held back; if there are any when the stream ends, there was a gap."""
        return self._waiting.keys()

    def add_message(self, sequence: int, raw: bytes) -> list[bytes]:
        """Take one message; returns those that are next in order now. What came before already is dropped.

        Raises RemoteProtocolError if more would have to be held back than there is room for.
        """
        if sequence < self._next or sequence in self._waiting:
            return []
        if sequence > self._next:
            if not self._room.take(len(raw)):
                raise RemoteProtocolError(f"message {self._next} does not come, and too many after it did")
            self._waiting[sequence] = raw
            return []
        ready = [raw]
        self._next += 1
        while (following := self._waiting.pop(self._next, None)) is not None:
            self._room.give_back(len(following))
            ready.append(following)
            self._next += 1
        return ready

    def clear(self) -> None:
        """Drop what is held back."""
        for raw in self._waiting.values():
            self._room.give_back(len(raw))
        self._waiting.clear()


def _number(options: dict[str, object], name: str) -> float | None:
    value = options.get(name)
    if value is None or value is False:
        return None
    if value is True or not isinstance(value, (int, float)):
        raise CallRefused(f"createHistoryStream: {name} is not a number")
    return value


def _switch(options: dict[str, object], name: str) -> object:
    value = options.get(name)
    if value is not None and not isinstance(value, (bool, int, float)):
        raise CallRefused(f"createHistoryStream: {name} is neither true nor false")
    return value
