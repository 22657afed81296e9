"""The committed vectors; `tests/data/vectors/README.md` says where they come from."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from sneaker.caps import parse_cap
from sneaker.errors import CapsError, InvalidMessage
from sneaker.feed.classic.message import Head, Message
from sneaker.feed.classic.validate import check_message, parse_message
from sneaker.keys import Keypair
from sneaker.refs import MessageRef, decode_base64

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


def judge(raw: bytes | str, state: Any, hmac_key: Any) -> Message | str:
    """Return the message if it is valid, else the reason why not."""
    try:
        key = None if hmac_key is None else parse_cap(hmac_key)
    except CapsError:
        return "hmac-key-invalid"
    try:
        message = parse_message(raw)
        check_message(head(state), message, key)
    except InvalidMessage as error:
        return error.reason
    return message
