"""Makes `bendybutt-refused.json`: messages of a metafeed that each break one rule of PROTOCOL.md, section 5, and no other.

What is wrong is signed like everything else, so that nothing but the rule stands against it.

    python -m tests.feed.bendy_vectors    write the file
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sneaker.caps import auth
from sneaker.feed.bencode import encode
from sneaker.keys import Keypair
from tests.feed.bendy import CONTENT, META, SUB, fields
from tests.feed.vectors import FOLDER

PATH = FOLDER / "bendybutt-refused.json"

_SAID = fields({name: CONTENT[name] for name in ("type", "feedpurpose", "subfeed", "metafeed")})
_SIGNED = b"\4\0"


def _section(content: bytes, signer: Keypair = SUB, code: bytes = _SIGNED) -> bytes:
    """Return a content section, in bencode."""
    return b"l" + content + encode(code + signer.sign(b"bendybutt" + content)) + b"e"


def _message(
    *,
    author: bytes = b"\0\3" + META.public.key,
    sequence: bytes = b"i1e",
    previous: bytes = b"\6\2",
    timestamp: bytes = b"i1600000000000e",
    section: bytes = _section(encode(_SAID)),
    signer: Keypair = META,
    code: bytes = _SIGNED,
    hmac_key: bytes | None = None,
) -> bytes:
    payload = b"l" + encode(author) + sequence + encode(previous) + timestamp + section + b"e"
    signature = signer.sign(payload if hmac_key is None else auth(payload, hmac_key))
    return b"l" + payload + encode(code + signature) + b"e"


def _with_text(length: int) -> bytes:
    """Return a valid message of so many bytes."""
    short = _message(section=_section(encode(_SAID | {b"text": b"\6\0" + b"x" * 7000})))
    return _message(section=_section(encode(_SAID | {b"text": b"\6\0" + b"x" * (7000 + length - len(short))})))


def _content(**changed: Any) -> bytes:
    return _section(encode(_SAID | {name.encode(): value for name, value in changed.items()}))


def make_vectors() -> dict[str, Any]:
    """Return what stands in the file."""
    first = _message()
    before = b"\1\4" + hashlib.sha256(first).digest()
    second = {"sequence": b"i2e", "previous": before}
    pairs = [encode(name) + encode(value) for name, value in sorted(_SAID.items())]
    unsigned = encode(_SAID)
    valid = {
        "first message": first,
        "second message": _message(**second),
        "8192 bytes": _with_text(8192),
        "no subfeed, content signed by anybody": _message(
            section=_section(encode({name: value for name, value in _SAID.items() if name != b"subfeed"}), META)
        ),
        "box1 ciphertext": _message(section=encode(b"\5\0" + bytes(100))),
        "box1 ciphertext with a content signature": _message(section=_section(encode(b"\5\0" + bytes(100)))),
    }
    refused = {
        "bytes behind the end": first + b"i1e",
        "8193 bytes": _with_text(8193),
        "keys out of order": _message(section=_section(b"d" + b"".join(reversed(pairs)) + b"e")),
        "a key twice": _message(section=_section(b"d" + pairs[0] + b"".join(pairs) + b"e")),
        "a zero in front of the sequence": _message(sequence=b"i01e"),
        "a zero in front of a length": _message(section=_section(unsigned.replace(b"7:subfeed", b"07:subfeed", 1))),
        "a classic author": _message(author=b"\0\0" + META.public.key),
        "an author of 33 bytes": _message(author=b"\0\3" + META.public.key + b"\0"),
        "sequence 0": _message(sequence=b"i0e"),
        "sequence 2^31": _message(sequence=b"i2147483648e", previous=before),
        "sequence as text": _message(sequence=encode(b"\6\0001")),
        "a previous message in message 1": _message(previous=before),
        "no previous message in message 2": _message(sequence=b"i2e"),
        "a classic previous message": _message(sequence=b"i2e", previous=b"\1\0" + before[2:]),
        "a previous message of 31 bytes": _message(sequence=b"i2e", previous=before[:-1]),
        "timestamp -1": _message(timestamp=b"i-1e"),
        "timestamp 2^53": _message(timestamp=b"i9007199254740992e"),
        "content without a signature": _message(section=unsigned),
        "ciphertext of an unknown code": _message(section=encode(b"\5\2" + bytes(100))),
        "content that is text": _message(section=_section(encode(b"\6\0text"))),
        "an unknown code in content": _message(section=_content(more=b"\6\4x")),
        "a feed of 31 bytes in content": _message(section=_content(more=b"\0\0" + bytes(31))),
        "a boolean of 2 in content": _message(section=_content(more=b"\6\1\2")),
        "text that is not UTF-8": _message(section=_content(more=b"\6\0\xff")),
        "an integer of 2^53 in content": _message(section=_content(more=2**53)),
        "content signature of another code": _message(section=_section(unsigned, code=b"\4\1")),
        "content signed by the author, not the subfeed": _message(section=_section(unsigned, META)),
        "signature of another code": _message(code=b"\4\1"),
        "signed by the subfeed, not the author": _message(signer=SUB),
        "signed with an HMAC key where there is none": _message(hmac_key=bytes(32)),
    }
    misplaced = {
        "sequence 3 behind message 1": _message(sequence=b"i3e", previous=before),
        "another previous message": _message(sequence=b"i2e", previous=b"\1\4" + bytes(32)),
    }
    return {
        "format": "bendybutt-v1: valid messages; messages that break one rule each; and two that do not follow the first."
        " ssbBendyButt: whether ssb-bendy-butt 1.0.2 (Node 20) takes it",
        "valid": [_case(name, raw, True) for name, raw in valid.items()],
        "refused": [_case(name, raw, False) for name, raw in refused.items()],
        "misplaced": [_case(name, raw, False) for name, raw in misplaced.items()],
    }


# Where ssb-bendy-butt 1.0.2, asked about each, is of another mind.
_OTHERWISE = {
    "box1 ciphertext",
    "bytes behind the end",
    "timestamp 2^53",
    "content that is text",
    "an unknown code in content",
    "a feed of 31 bytes in content",
    "a boolean of 2 in content",
    "text that is not UTF-8",
    "an integer of 2^53 in content",
    "content signed by the author, not the subfeed",
}


def _case(name: str, raw: bytes, valid: bool) -> dict[str, Any]:
    return {"name": name, "ssbBendyButt": valid is not (name in _OTHERWISE), "hex": raw.hex()}


if __name__ == "__main__":
    PATH.write_text(json.dumps(make_vectors(), indent=1) + "\n", encoding="utf-8")
