"""The committed vectors of the network protocols."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from sneaker.keys import Keypair
from sneaker.refs import decode_base64

DATA = Path(__file__).parent.parent / "data" / "wire"


@functools.cache
def load(name: str) -> Any:
    return json.loads((DATA / name).read_text("utf-8"))


def transcript(name: str) -> list[dict[str, Any]]:
    """Return the packets of a recorded connection, without the describing first line."""
    lines = (DATA / "transcripts" / name).read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines[1:]]


def keypair(stated: dict[str, str]) -> Keypair:
    if "seed" in stated:  # the key pair of an invitation
        return Keypair.from_seed(bytes.fromhex(stated["seed"]))
    return Keypair.from_seed(decode_base64(stated["private"].removesuffix(".ed25519"))[:32])


def seeded(number: int) -> Keypair:
    """A key pair of our own for tests."""
    return Keypair.from_seed(number.to_bytes(32, "big"))
