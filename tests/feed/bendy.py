"""Makes messages of bendy butt feeds, as ssb-bendy-butt does, and with single parts replaced."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from sneaker.caps import auth
from sneaker.feed.bencode import encode
from sneaker.feed.bfe import encode_field
from sneaker.feed.formats import FORMATS
from sneaker.feed.message import Message
from sneaker.keys import Keypair
from sneaker.refs import FeedRef

BENDYBUTT = next(item for item in FORMATS if item.byte == 3)
META = Keypair.from_seed(hashlib.sha256(b"a metafeed").digest())
SUB = Keypair.from_seed(hashlib.sha256(b"a subfeed").digest())
FEED = FeedRef(b"\3" + META.public.key)
CONTENT: dict[str, Any] = {
    "type": "metafeed/add/existing",
    "feedpurpose": "main",
    "subfeed": str(SUB.public),
    "metafeed": str(FEED),
    "nonce": {"type": "Buffer", "data": list(range(32))},
    "tangles": {"metafeed": {"root": None, "previous": None}},
    "n": -5,
    "flags": [True, False, None, "é☃"],
}


def fields(value: Any) -> Any:
    """Return content with fields for leaves."""
    if isinstance(value, dict) and value.get("type") != "Buffer":
        return {key.encode(): fields(item) for key, item in value.items()}
    if isinstance(value, list):
        return [fields(item) for item in value]
    return value if type(value) is int else encode_field(value)


def make(
    before: Message | None = None,
    content: Any = CONTENT,
    *,
    timestamp: Any = 1_600_000_000_000,
    hmac_key: bytes | None = None,
    author: Keypair = META,
    signer: Keypair = SUB,
    replaced: dict[str, Any] | None = None,
) -> bytes:
    """Return the message that follows ``before``; ``replaced`` is what stands in the payload instead, before it is signed."""

    def sign(pair: Keypair, data: bytes) -> bytes:
        return b"\4\0" + pair.sign(data if hmac_key is None else auth(data, hmac_key))

    said = fields(content)
    section = said if isinstance(said, bytes) else [said, sign(signer, b"bendybutt" + encode(said))]
    payload = {
        "author": b"\0\3" + author.public.key,
        "sequence": before.sequence + 1 if before is not None else 1,
        "previous": b"\1\4" + before.key if before is not None else b"\6\2",
        "timestamp": timestamp,
        "section": section,
    } | (replaced or {})
    listed = list(payload.values())
    return encode([listed, sign(author, encode(listed))])


def metafeed(count: int, branch: str = "", shared: int = 0) -> Sequence[Message]:
    """Return the first messages of a metafeed; behind ``shared`` of them each ``branch`` goes on in its own way."""
    messages: list[Message] = []
    for number in range(count):
        content = CONTENT | {"number": number, "branch": branch if number >= shared else ""}
        messages.append(BENDYBUTT.parse(make(messages[-1] if messages else None, content, timestamp=1000 + number)))
    return messages


def log_line(message: Message) -> bytes:
    """Return a message as a line of a log."""
    return b'{"key":"%b",%b,"timestamp":1}\n' % (str(message.key).encode(), BENDYBUTT.log_json(message))
