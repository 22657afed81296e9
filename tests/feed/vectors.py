"""The committed vectors, and what the one door says of a message; `tests/data/vectors/README.md` says where they come from."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from sneaker.caps import Caps, parse_cap
from sneaker.errors import CapsError
from sneaker.feed.classic.compact import expand
from sneaker.feed.content import read_facts
from sneaker.feed.message import Compact, Head, Message
from sneaker.ingest.ingest import Ingest
from sneaker.keys import Keypair
from sneaker.refs import FeedRef, MessageRef, decode_base64
from sneaker.signatures.pool import Verifier
from sneaker.store.rows import SEQUENCE_BITS, SEQUENCE_MASK, Batch, Committed, FeedState, MessageRow
from tests.json_messages import add_json

FOLDER = Path(__file__).resolve().parent.parent / "data" / "vectors"


@cache
def load(name: str) -> Any:
    """Return what a vector file holds; `.jsonl` gives a list. Read only: it is shared."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()] if name.endswith(".jsonl") else json.loads(text)


def keypair(keys: dict[str, str]) -> Keypair:
    """Return the pair of an ssb-keys object."""
    return Keypair.from_seed(decode_base64(keys["private"].removesuffix(".ed25519"), 64)[:32])


def head(state: Any) -> Head | None:
    """Return the head that a vector's `state` means."""
    return None if state is None else Head(state["sequence"], MessageRef.parse(state["id"]))


class EndOnly:
    """A store that holds nothing but the last message's key of whichever feed comes, and keeps what it is given."""

    own = None
    read_facts = staticmethod(read_facts)

    def __init__(self, end: Head | None) -> None:
        self.end = end
        self.refs: dict[int, FeedRef] = {}
        self.batches: list[Batch] = []

    def writer(self, *_: object, **__: object) -> EndOnly:
        return self

    def feed_state(self, ref: FeedRef) -> FeedState:
        self.refs[1] = ref
        return FeedState(ref, 1, *(self.end[:2] if self.end is not None else (0, b"")))

    def row(self, row_id: int) -> MessageRow | None:
        if self.end is None or row_id != 1 << SEQUENCE_BITS | self.end.sequence:
            return None
        return (row_id, self.end.key, 0, 0, b"", b"")

    def waiting_row(self, row_id: int) -> None:
        return None

    def commit(self, batch: Batch, idle: Callable[[], None] | None = None) -> Committed:
        self.batches.append(batch)
        return Committed()

    def pause(self) -> None: ...

    def resume(self, timeout_s: float = 5.0) -> bool:
        return False

    def close(self) -> None: ...

    def accepted(self) -> list[Message]:
        """Return the messages that were to be written behind the end."""
        found: list[Message] = []
        for batch in self.batches:
            for row_id, _, *rest in batch.rows:
                previous = found[-1].key if found else self.end.key if self.end is not None else None
                message = expand(self.refs[1], row_id & SEQUENCE_MASK, previous, Compact(*rest))
                found.append(message)
        return found


_VERIFIER = Verifier(1)


def judge(raw: bytes | str, state: Any, hmac_key: Any) -> Message | str:
    """Return the message as it is stored if it is the next one after `state`, else what the door says instead.

    That is the code of its refusal, or `waiting` or `known`.
    """
    try:
        key = None if hmac_key is None else parse_cap(hmac_key)
    except CapsError:
        return "hmac-key-invalid"
    if state is not None and state["sequence"] < 1:
        return "no-such-state"
    store: Any = EndOnly(head(state))
    with Ingest(store, caps=Caps(hmac_key=key), now_ms=lambda: 0, verifier=_VERIFIER) as ingest:
        add_json(ingest, raw)
        report = ingest.close()
    assert report.read == 1
    if report.refusals:
        return report.refusals[0].code
    if report.accepted:
        (message,) = store.accepted()
        return message
    return "waiting" if store.batches and store.batches[0].waiting else "known"
