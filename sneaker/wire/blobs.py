"""Blobs over muxrpc: who wants what, who has what, and the bytes (PROTOCOL.md, section 10).

Each side calls ``blobs.createWants`` on the other and gets objects ``{blob: n}``: n < 0 is a want at a distance of -n
hops, n > 0 says "I have it, it is n bytes".  The first object comes at once, ``{}`` if there is nothing: JavaScript
falls back to an older protocol if an error comes first.  A want that we cannot fill becomes a want of ours, one hop
further, up to the sympathy limit.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

from sneaker.errors import CallRefused, LocalProtocolError, RefError, RemoteProtocolError
from sneaker.limits import MAX_BLOB_BYTES, MAX_BLOB_WANTS, MAX_NOTES_PER_PACKET
from sneaker.refs import BlobRef, FeedRef
from sneaker.wire.json_text import parse_json, shown, whole_number

__all__ = [
    "BlobExchange",
    "BlobQuery",
    "BlobReceiver",
    "Fetch",
    "Want",
    "format_get_arguments",
    "parse_get_arguments",
    "parse_has_arguments",
]

# The empty blob: JavaScript peers count it as always present, so nobody ever fetches it.
EMPTY_BLOB = BlobRef.of(b"")

# ssb-blobs' default: want for a friend's friend's friend, not further.
SYMPATHY = 3


class Want(NamedTuple):
    """``peer`` wants ``blob``; ``distance`` is 1 if for itself, 2 for a friend, ..."""

    peer: FeedRef
    blob: BlobRef
    distance: int


class Fetch(NamedTuple):
    """Call ``blobs.get`` for ``blob`` on ``peer``, which says that it has ``size`` bytes."""

    peer: FeedRef
    blob: BlobRef
    size: int


class _Peer:
    __slots__ = ("asked", "pending", "started")

    def __init__(self) -> None:
        self.started = False
        self.asked: dict[BlobRef, None] = {}
        self.pending: dict[BlobRef, int] = {}


class _Wanted:
    """A blob we want: how far away the one who wants it is, who asked, and which peers have it."""

    __slots__ = ("askers", "distance", "failed", "fetching", "have", "own")

    def __init__(self, distance: int) -> None:
        self.distance = distance
        self.own = False
        self.askers: set[FeedRef] = set()
        self.have: dict[FeedRef, int] = {}
        self.failed: set[FeedRef] = set()
        self.fetching: FeedRef | None = None


class BlobExchange:
    """All wants and haves, of ours and of every connected peer. It never holds blobs."""

    def __init__(
        self, *, sympathy: int = SYMPATHY, max_size: int = MAX_BLOB_BYTES, max_wants: int = MAX_BLOB_WANTS
    ) -> None:
        """``sympathy``: hops up to which others' wants become ours; ``max_size``: the largest blob fetched, bytes."""
        self._sympathy = sympathy
        self._max_size = max_size
        self._max_wants = max_wants
        self._peers: dict[FeedRef, _Peer] = {}
        self._wanted: dict[BlobRef, _Wanted] = {}
        self._fetchable: dict[BlobRef, None] = {}

    # ------------------------------------------------------------------------------------------ ours

    def want(self, blob: BlobRef) -> None:
        """Want a blob for ourselves and tell everybody."""
        if blob == EMPTY_BLOB:
            return
        self._want(blob, 1).own = True

    def unwant(self, blob: BlobRef) -> bool:
        """Want a blob for ourselves no longer, and return True; False if a peer has offered it, so that it may yet come.

        What peers want is not affected.
        """
        wanted = self._wanted.get(blob)
        if wanted is None:
            return True
        if wanted.fetching is not None or blob in self._fetchable:
            return False
        wanted.own = False
        self._drop_unasked(blob, wanted)
        return True

    def stored(self, blob: BlobRef, size: int) -> None:
        """Say that we have ``blob`` now; peers that asked for it on their connections are told."""
        self._wanted.pop(blob, None)
        self._fetchable.pop(blob, None)
        for peer in self._peers.values():
            if blob in peer.asked:
                peer.pending[blob] = size
            elif peer.pending.get(blob, 0) < 0:
                del peer.pending[blob]

    @property
    def wanted(self) -> list[BlobRef]:
        """What we want, for ourselves or for others."""
        return list(self._wanted)

    # ------------------------------------------------------------------------------------------ peers

    def connect(self, peer: FeedRef) -> None:
        """Begin with a peer: all our wants are due to it. Raises LocalProtocolError if it is connected already."""
        if peer in self._peers:
            raise LocalProtocolError(f"blobs are exchanged with {peer} already")
        state = self._peers[peer] = _Peer()
        for blob, wanted in self._wanted.items():
            state.pending[blob] = -wanted.distance

    def disconnect(self, peer: FeedRef) -> None:
        """Forget a peer and what it wanted of us; what was being fetched from it is fetched elsewhere."""
        if self._peers.pop(peer, None) is None:
            return
        for blob, wanted in list(self._wanted.items()):
            wanted.askers.discard(peer)
            wanted.failed.discard(peer)
            wanted.have.pop(peer, None)
            if wanted.fetching == peer:
                wanted.fetching = None
            if not self._drop_unasked(blob, wanted):
                self._update_fetchable(blob, wanted)

    def receive(self, peer: FeedRef, raw: bytes) -> list[Want]:
        """Take one item of the peer's wants; returns the wants in it: look each up and call ``answer``.

        An entry whose id is no blob id, or whose number is no integer, is passed over. Raises RemoteProtocolError if the
        item is no JSON object.
        """
        try:
            value = parse_json(raw)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise RemoteProtocolError("an item of blobs.createWants is not a JSON object")
        state, wants = self._peer(peer), []
        for text, number in value.items():
            if type(number) is not int or number == 0:
                continue
            try:
                blob = BlobRef.parse(text)
            except RefError:
                continue
            if number > 0:
                self._has(peer, blob, number)
            elif blob in state.asked or len(state.asked) < self._max_wants:
                state.asked[blob] = None
                wants.append(Want(peer, blob, -number))
        return wants

    def answer(self, want: Want, size: int | None) -> None:
        """Answer a want: ``size`` in bytes if we have the blob, else None, and we may come to want it too."""
        state = self._peers.get(want.peer)
        if state is None or want.blob == EMPTY_BLOB:
            return
        if size is not None:
            if size:
                state.pending[want.blob] = size
            return
        distance = want.distance + 1
        if distance > self._sympathy:
            return
        if want.blob in self._wanted or len(self._wanted) < self._max_wants:
            self._want(want.blob, distance).askers.add(want.peer)

    def items_to_send(self, peer: FeedRef) -> list[bytes]:
        """Return, once, the items due to ``peer`` on the ``createWants`` stream it opened.

        The first time there is at least ``{}``.
        """
        state = self._peer(peer)
        if state.started and not state.pending:
            return []
        entries = [f'"{blob}":{number}' for blob, number in state.pending.items()]
        state.pending = {}
        state.started = True
        return [
            ("{" + ",".join(entries[start : start + MAX_NOTES_PER_PACKET]) + "}").encode("ascii")
            for start in range(0, max(len(entries), 1), MAX_NOTES_PER_PACKET)
        ]

    # ------------------------------------------------------------------------------------------ fetching

    def next_fetch(self) -> Fetch | None:
        """Return a blob to fetch now, or None; each is fetched from one peer at a time."""
        while self._fetchable:
            blob = next(iter(self._fetchable))
            del self._fetchable[blob]
            wanted = self._wanted.get(blob)
            if wanted is None or wanted.fetching is not None:
                continue
            for peer, size in wanted.have.items():
                if peer not in wanted.failed:
                    wanted.fetching = peer
                    return Fetch(peer, blob, size)
        return None

    def fetch_failed(self, fetch: Fetch) -> None:
        """Say that a fetch gave nothing; another peer is tried, and this one again only when it offers it anew."""
        wanted = self._wanted.get(fetch.blob)
        if wanted is not None and wanted.fetching == fetch.peer:
            wanted.fetching = None
            wanted.failed.add(fetch.peer)
            self._update_fetchable(fetch.blob, wanted)

    # ------------------------------------------------------------------------------------------ inside

    def _peer(self, peer: FeedRef) -> _Peer:
        state = self._peers.get(peer)
        if state is None:
            raise LocalProtocolError(f"no blobs are exchanged with {peer}")
        return state

    def _want(self, blob: BlobRef, distance: int) -> _Wanted:
        wanted = self._wanted.get(blob)
        if wanted is not None and wanted.distance <= distance:
            return wanted
        if wanted is None:
            wanted = self._wanted[blob] = _Wanted(distance)
        wanted.distance = distance
        for state in self._peers.values():
            state.pending[blob] = -distance
        return wanted

    def _has(self, peer: FeedRef, blob: BlobRef, size: int) -> None:
        wanted = self._wanted.get(blob)
        if wanted is not None and size <= self._max_size:  # what nobody here wants is not worth remembering
            wanted.have[peer] = size
            wanted.failed.discard(peer)
            self._update_fetchable(blob, wanted)

    def _update_fetchable(self, blob: BlobRef, wanted: _Wanted) -> None:
        if wanted.fetching is None and any(peer not in wanted.failed for peer in wanted.have):
            self._fetchable[blob] = None

    def _drop_unasked(self, blob: BlobRef, wanted: _Wanted) -> bool:
        if wanted.own or wanted.askers:
            return False
        del self._wanted[blob]
        self._fetchable.pop(blob, None)
        return True


# ---------------------------------------------------------------------------------------------------- the bytes


@dataclass(frozen=True, slots=True)
class BlobQuery:
    """What ``blobs.get`` and ``blobs.getSlice`` ask for.

    ``start`` and ``end``: the part from ``start`` to before ``end``, None for all.  ``size``: how many bytes the caller
    expects the whole blob to have; ``max_size``: how many it takes at most.
    """

    blob: BlobRef
    start: int = 0
    end: int | None = None
    size: int | None = None
    max_size: int | None = None

    def check(self, size: int) -> range:
        """Return the range of bytes to send of a blob of ``size`` bytes; raises CallRefused with the text to answer."""
        if self.size is not None and self.size != size:
            raise CallRefused(f"incorrect file length, requested:{self.size} file was:{size}")
        if self.max_size is not None and size > self.max_size:
            raise CallRefused(f"incorrect file length, requested less than:{self.max_size} file was:{size}")
        return range(min(self.start, size), min(size if self.end is None else self.end, size))


#: What a JavaScript peer answers for a blob that it does not have.
NO_BLOB_TEXT = "could not get blob"


def parse_get_arguments(arguments: list[object]) -> BlobQuery:
    """Read the arguments of ``blobs.get`` or ``getSlice``: an id, or an object with it as key, hash or id.

    Raises CallRefused with the text to answer.
    """
    first = arguments[0] if arguments else None
    options = first if isinstance(first, dict) else {"key": first}
    text = options.get("key") or options.get("hash") or options.get("id")
    try:
        blob = BlobRef.parse(text if isinstance(text, str) else "")
    except RefError:
        raise CallRefused("invalid hash") from None
    numbers: dict[str, int | None] = {}
    for name in ("start", "end", "size", "max"):
        number = whole_number(options.get(name))
        if (number is None and options.get(name) is not None) or (number is not None and not 0 <= number < 2**53):
            raise CallRefused(f"{name} is not a number of bytes")
        numbers[name] = number
    return BlobQuery(blob, numbers["start"] or 0, numbers["end"], numbers["size"], numbers["max"])


def format_get_arguments(fetch: Fetch, max_size: int = MAX_BLOB_BYTES) -> list[object]:
    """Return the arguments of ``blobs.get`` for a fetch, as ssb-blobs sends them."""
    return [{"key": str(fetch.blob), "max": max_size}]


def parse_has_arguments(arguments: list[object]) -> tuple[list[BlobRef], bool]:
    """Read the argument of ``blobs.has``: an id or a list of them; returns the ids and whether a list is due.

    Raises CallRefused with the text to answer.
    """
    first = arguments[0] if arguments else None
    texts = first if isinstance(first, list) else [first]
    if len(texts) > MAX_BLOB_WANTS:
        raise CallRefused("too many ids")
    blobs = []
    for text in texts:
        try:
            blobs.append(BlobRef.parse(text if isinstance(text, str) else ""))
        except RefError:
            raise CallRefused(f"invalid id:{shown(text)}") from None
    return blobs, isinstance(first, list)


class BlobReceiver:
    """Checks a blob while it comes, so that the caller may write the parts to a temporary file."""

    def __init__(self, blob: BlobRef, *, max_size: int = MAX_BLOB_BYTES) -> None:
        """``max_size``: more bytes than this are an error, whatever the peer announced."""
        self._blob = blob
        self._max_size = max_size
        self._hash = hashlib.sha256()
        self.size = 0

    def add_chunk(self, chunk: bytes) -> None:
        """Take the next part. Raises RemoteProtocolError as soon as the blob is too large."""
        self.size += len(chunk)
        if self.size > self._max_size:
            raise RemoteProtocolError(f"a blob is larger than {self._max_size} bytes")
        self._hash.update(chunk)

    def finish(self) -> None:
        """Take the end. Raises RemoteProtocolError if the bytes are not those of the blob that was asked for."""
        if self._hash.digest() != self._blob:
            raise RemoteProtocolError(f"what came is not blob {self._blob}")
