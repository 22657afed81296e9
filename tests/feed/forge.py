"""Makes messages, valid and otherwise, in any spelling of JSON, signed by real keys.

A message is built as pairs of field and value, so that order, duplicates and omissions can be chosen; it is signed over
whatever came out, so that a mutation is judged by the rule it breaks and not by a broken signature.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from sneaker.caps import auth
from sneaker.errors import InvalidMessage
from sneaker.feed.classic.javascript_json import format_json, parse_json, utf16_units
from sneaker.keys import Keypair
from sneaker.refs import decode_base64, encode_base64

SIGNATURE_ROOM = len(',\n  "signature": "') + 88 + len('.sig.ed25519"')
FIELDS = ["previous", "sequence", "author", "timestamp", "hash", "content"]


class Raw(str):
    """JSON text to be written as it is."""


class Pairs(list[tuple[str, Any]]):
    """An object as pairs, which may repeat keys."""


def seeded(number: int) -> Keypair:
    """Return a key pair for tests, the same one for the same number."""
    return Keypair.from_seed(hashlib.sha256(b"sneaker test %d" % number).digest())


@dataclass
class Forged:
    """A case: the text, and what to judge it against."""

    raw: str
    state: dict[str, Any] | None
    hmac_key: bytes | None
    notes: list[str] = field(default_factory=list)


# ---- spelling


def spell(value: Any, rng: Random, wild: float = 0.0) -> str:
    """Write JSON; `wild` is the share of values with unusual whitespace, escapes or number spelling."""

    def space() -> str:
        return "".join(rng.choices(" \t\n\r", k=rng.randrange(1, 4))) if rng.random() < wild / 2 else ""

    def text(value: str) -> str:
        if rng.random() >= wild:
            return json.dumps(value, ensure_ascii=rng.random() < 0.3)
        parts = []
        for character in value:
            dice = rng.random()
            if dice < 0.2 or character in '"\\' or character < " ":
                units = character.encode("utf-16-be", "surrogatepass")
                for high, low in zip(units[::2], units[1::2], strict=True):
                    escape = f"{high << 8 | low:04x}"
                    parts.append("\\u" + (escape.upper() if dice < 0.1 else escape))
            elif character == "/" and dice < 0.5:
                parts.append("\\/")
            else:
                parts.append(character)
        return f'"{"".join(parts)}"'

    def number(value: float) -> str:
        if rng.random() >= wild or not math.isfinite(value) or abs(value) >= 2**53:
            return json.dumps(value) if math.isfinite(value) else "1e999"
        form = rng.randrange(4)
        if form == 0 and isinstance(value, int):
            return f"{value}.{'0' * rng.randrange(1, 4)}"
        if form == 1 and isinstance(value, int):
            return f"{value}{rng.choice('eE')}{rng.choice(['', '+', '-'])}0"
        if form == 2:
            return f"{float(value):.17e}"
        return repr(value)

    def write(value: Any) -> str:
        return space() + write_bare(value) + space()

    def write_bare(value: Any) -> str:
        if isinstance(value, Raw):
            return str(value)
        if isinstance(value, str):
            return text(value)
        if value is None or isinstance(value, bool):
            return json.dumps(value)
        if isinstance(value, int | float):
            return number(value)
        if isinstance(value, Pairs | dict):
            pairs = value if isinstance(value, Pairs) else value.items()
            members = [f"{space()}{text(key)}{space()}:{write(item)}" for key, item in pairs]
            return "{" + (",".join(members) or space()) + "}"
        return "[" + (",".join(write(item) for item in value) or space()) + "]"

    return write(value)


def sign(pairs: Pairs, keypair: Keypair, hmac_key: bytes | None, rng: Random) -> str:
    """Return the signature field for pairs, made over their canonical text."""
    try:
        canonical = format_json(parse_json(spell(pairs, rng))).encode()
    except InvalidMessage:
        canonical = b"{}"
    return encode_base64(keypair.sign(canonical if hmac_key is None else auth(canonical, hmac_key))) + ".sig.ed25519"


# ---- values

WORDS = [
    "",
    "a",
    "type",
    "text",
    "link",
    "mentions",
    "é",
    "🦀",
    "\u2028",
    "\x7f",
    "\x00",
    "\ud800",
    "\udc00\ud800",
    '"',
    "\\",
]
KEYS = [
    "0",
    "1",
    "01",
    "10",
    "4294967294",
    "4294967295",
    "-1",
    "1.5",
    "a1",
    "__proto__",
    "constructor",
    "toJSON",
    "length",
]
NUMBERS: list[Any] = [
    0,
    -0.0,
    1,
    -1,
    1.5,
    0.1,
    1e-6,
    1e-7,
    1e16,
    1e20,
    1e21,
    1e22,
    123456789012345680000,
    2**53,
    2**53 + 1,
]
NUMBERS += [2**63, 2**64, 2**70, -(2**63), 1491901740000.001, 5e-324, 1.7976931348623157e308]
NUMBERS += [
    Raw(text) for text in ("1e400", "-1e400", "1e-400", "-0", "-0.0", "1.0", "1E2", "100e-2", "0.1e1", "9" * 400)
]


def any_text(rng: Random) -> str:
    return "".join(rng.choice(WORDS) for _ in range(rng.randrange(4)))


def any_number(rng: Random) -> Any:
    dice = rng.random()
    if dice < 0.4:
        return rng.choice(NUMBERS)
    if dice < 0.7:
        number = struct.unpack(">d", rng.randbytes(8))[0]
        return number if math.isfinite(number) else 7
    return rng.randrange(-(10 ** rng.randrange(1, 25)), 10 ** rng.randrange(1, 25))


def any_value(rng: Random, depth: int = 3) -> Any:
    """Return any JSON value; objects may repeat keys."""
    dice = rng.random()
    if depth and dice < 0.25:
        keys = [rng.choice(KEYS) if rng.random() < 0.4 else any_text(rng) for _ in range(rng.randrange(5))]
        return Pairs((key, any_value(rng, depth - 1)) for key in keys)
    if depth and dice < 0.45:
        return [any_value(rng, depth - 1) for _ in range(rng.randrange(5))]
    if dice < 0.7:
        return any_text(rng)
    if dice < 0.9:
        return any_number(rng)
    return rng.choice([None, True, False])


def any_id(rng: Random, sigil: str = "%", suffix: str = ".sha256") -> str:
    return sigil + encode_base64(rng.randbytes(32)) + suffix


def any_content(rng: Random) -> Any:
    dice = rng.random()
    if dice < 0.15:
        return encode_base64(rng.randbytes(rng.randrange(200))) + rng.choice([".box", ".box2"])
    kind = rng.choice(["post", "vote", "contact", "abc", "x" * 52, "🦀" * 26, "ééé", "\ud800ab"])
    content = Pairs([("type", kind)])
    for _ in range(rng.randrange(6)):
        content.append((rng.choice(KEYS) if rng.random() < 0.3 else any_text(rng), any_value(rng)))
    if rng.random() < 0.3:
        content.insert(rng.randrange(len(content)), ("mentions", [{"link": any_id(rng, "&"), "size": any_number(rng)}]))
    return content


# ---- mutations of one field; each returns the new value

NOT_TYPES = [None, True, False, 0, 1, "", "x", [], {}, [1], {"a": 1}, Raw("1e400"), -1, 1.5]


def odd_author(author: str, rng: Random) -> Any:
    body = author[1:45]
    options: list[Any] = [
        body + ".ed25519",
        f"@{body}.sha256",
        f"@{body}Xed25519",
        f"@{body}\ned25519",
        f"@{body}.ed25519 ",
        f"@{body}.ed25519\n",
        f" @{body}.ed25519",
        f"@{body}.ED25519",
        f"@{body}.k256",
        f"@{body}",
        f"%{body}.ed25519",
        f"@{body[:42]}{chr(ord(body[42]) ^ 1)}=.ed25519",
        f"@{body[:-1]}.ed25519",
        f"@{body.replace('+', '-').replace('/', '_')}.ed25519",
        "ssb:feed/classic/" + body.replace("+", "-").replace("/", "_"),
        any_id(rng, "@", ".ed25519"),
        "@" + encode_base64(rng.randbytes(31)) + ".ed25519",
        "@" + encode_base64(rng.randbytes(33)) + ".ed25519",
        "@" + encode_base64(bytes(32)) + ".ed25519",
        "@" + encode_base64(b"\x01" + bytes(31)) + ".ed25519",
        "@" + encode_base64(b"\xff" * 32) + ".ed25519",
        [author],
    ]
    return rng.choice(options + NOT_TYPES)


def odd_sequence(sequence: int, rng: Random) -> Any:
    options: list[Any] = [
        str(sequence),
        [sequence],
        sequence + 1,
        sequence - 1,
        sequence + 0.5,
        -sequence,
        2**31 - 1,
        2**31,
        2**31 + sequence,
        2**32 + sequence,
        2**53,
        Raw(f"{sequence}.0"),
        Raw(f"{sequence}e0"),
        Raw(f"{sequence}0e-1"),
        Raw("-0"),
        Raw("1e-1"),
    ]
    return rng.choice(options + NOT_TYPES)


def odd_previous(previous: str | None, rng: Random) -> Any:
    known = previous or any_id(rng)
    options: list[Any] = [
        any_id(rng),
        [known],
        [[known]],
        [[[[known]]]],
        [known, known],
        [known, None],
        [None, known],
        [known, []],
        [[]],
        [None],
        {"toString": 1},
        {"toString": known},
        {"valueOf": known},
        [{"toString": 1}],
        {"0": known, "length": 1},
        {"id": known},
        known + " ",
        known[1:],
        "&" + known[1:],
        known.replace(".sha256", ".ed25519"),
        known.replace(".sha256", ""),
        "ssb:message/classic/" + known[1:45].replace("+", "-").replace("/", "_"),
    ]
    return rng.choice(options + NOT_TYPES)


def odd_timestamp(timestamp: Any, rng: Random) -> Any:
    return rng.choice([any_number(rng), any_value(rng), str(timestamp), [timestamp], *NOT_TYPES])


def odd_hash(_: Any, rng: Random) -> Any:
    return rng.choice(["SHA256", "sha512", "sha256 ", ["sha256"], {"sha256": 1}, "\u017fha256", *NOT_TYPES])


def odd_content(content: Any, rng: Random) -> Any:
    encoded = encode_base64(rng.randbytes(rng.choice([0, 1, 2, 3, 31, 32, 33])))
    endings = [".box", ".box2", ".box9", ".boxes are nice", ".box\n", ".box\r", ".box\u2028", ".box\u2029", ".box\x85"]
    endings += [
        ".box\n.box",
        ".BOX",
        ".bo",
        "box",
        ".box?unbox=abc",
        ".box🦀",
        ".box\ud800",
        ".box\x00",
        "\n.box",
        " .box",
    ]
    bodies = [
        encoded,
        encoded.rstrip("="),
        encoded + "=",
        encoded + "==",
        encoded[:-1],
        "A",
        "AA",
        "AAA",
        "AB==",
        "AAB=",
        "é",
    ]
    bodies += ["AA-_", "AA AA", "AAAA\n", "not base64!", "AAAAA===", "====", "AAA=AAAA", "AA==AAAA"]
    kinds: list[Any] = ["ab", "x" * 52, "x" * 53, "🦀", "🦀🦀", "🦀" * 26, "🦀" * 27, "x" * 51 + "🦀", "x" * 50 + "🦀"]
    kinds += ["\ud800\ud800", "\ud800\ud800\ud800", "é" * 52, "é" * 53, "\x00\x00\x00", "", 12345, ["abc"], ["abcd"]]
    options: list[Any] = [rng.choice(bodies) + rng.choice(endings), {"type": rng.choice(kinds)}]
    options += [
        Pairs([("type", "ab"), ("x", 1), ("type", "abc")]),
        Pairs([("type", "abc"), ("type", rng.choice(kinds))]),
    ]
    options += [Pairs([("__proto__", {"type": "post"})]), Pairs([("type", "post"), ("__proto__", {"type": "x"})])]
    options += [
        [content],
        {"Type": "post"},
        {"type ": "post"},
        {"type": {"length": 5}},
        [["type", "post"]],
        {"0": "post"},
    ]
    options += [{"type": rng.choice(NOT_TYPES)}, {"toJSON": 1, "type": "abc"}]
    return rng.choice(options + NOT_TYPES) if rng.random() < 0.3 else rng.choice(options)


def odd_signature(signature: str, rng: Random) -> Any:
    body = signature[:88]
    raw = bytearray(decode_base64(body))
    raw[rng.randrange(64)] ^= 1 << rng.randrange(8)
    options: list[Any] = [
        encode_base64(bytes(raw)) + ".sig.ed25519",
        encode_base64(bytes(64)) + ".sig.ed25519",
        encode_base64(bytes(65)) + ".sig.ed25519",
        encode_base64(bytes(66)) + ".sig.ed25519",
        encode_base64(bytes(63)) + ".sig.ed25519",
        body[:85] + chr(ord(body[85]) ^ 1) + "==.sig.ed25519",
        body.replace("+", "-").replace("/", "_") + ".sig.ed25519",
        body + ".sig.sha256",
        body + ".sig.ed25519x",
        body + ".sig.ed25519\n",
        body + ".sig.",
        body + ".sigxed25519",
        body + "xsig.ed25519",
        body + ".SIG.ED25519",
        body + ".sig.ed25519.sig.ed25519",
        body,
        body[:86] + ".sig.ed25519",
        " " + signature,
        [signature],
        {"length": 100},
        signature.replace("=", "\\u003d"),
    ]
    return rng.choice(options + NOT_TYPES)


ODD = {
    "author": odd_author,
    "sequence": odd_sequence,
    "previous": odd_previous,
    "timestamp": odd_timestamp,
    "hash": odd_hash,
    "content": odd_content,
}


WAYS = [*ODD, *ODD, *ODD, "content", "previous", "size", "size", "order", "drop", "add", "repeat", "place", "signature"]
WAYS += ["signature", "state", "state", "other signer", "other hmac"]


def _put(pairs: Pairs, name: str, value: Any) -> None:
    for place, (key, _) in enumerate(pairs):
        if key == name:
            pairs[place] = (name, value)


def _fill(pairs: Pairs, units: int, rng: Random) -> None:
    """Give the content a text that makes the signed message exactly `units` UTF-16 units long, if it can."""
    content = Pairs([("type", "post"), ("text", "")])
    if rng.random() < 0.3:
        content.append(("list", [[1.0, {}], {"a": [0.5]}]))
    _put(pairs, "content", content)
    room = units - SIGNATURE_ROOM - utf16_units(format_json(parse_json(spell(pairs, rng))))
    pieces = []
    while room > 0:
        piece, size = rng.choice(
            [
                ("a", 1),
                ("é", 1),
                ("\u2028", 1),
                ("🦀", 2),
                ("\n", 2),
                ('"', 2),
                ("\x01", 6),
                ("\x7f", 1),
                ("a" * 200, 200),
            ]
        )
        if rng.random() < 0.05:
            piece, size = "\ud800", 6
        if pieces and pieces[-1] == "\ud800" and piece == "\ud800":
            continue
        if size <= room:
            pieces.append(piece)
            room -= size
    content[1] = ("text", "".join(pieces))


def forge(rng: Random, authors: Sequence[Keypair], hmac_keys: Sequence[bytes | None]) -> Forged:
    """Return a random case: valid in two cases of five, otherwise broken in one or two ways."""
    keypair = rng.choice(authors)
    hmac_key = rng.choice(hmac_keys)
    first = rng.random() < 0.4
    state = (
        None if first else {"id": any_id(rng), "sequence": rng.choice([1, 2, 41, 2**31 - 2, rng.randrange(1, 10**6)])}
    )
    values = {
        "previous": state["id"] if state else None,
        "sequence": state["sequence"] + 1 if state else 1,
        "author": str(keypair.public),
        "timestamp": rng.choice(
            [1491901740000, 1491901740000.5, 1491901740000.001, rng.randrange(2**41), any_number(rng)]
        ),
        "hash": "sha256",
        "content": any_content(rng),
    }
    order = FIELDS.copy()
    if rng.random() < 0.5:
        order[1:3] = order[2:0:-1]
    pairs = Pairs((name, values[name]) for name in order)
    forged = Forged("", state, hmac_key)
    signer = keypair
    wild = rng.choice([0.0, 0.0, 0.2])
    place: int | None = None
    signature: Any = None

    for _ in range(rng.choice([0, 0, 1, 1, 1, 2])):
        what = rng.choice(WAYS)
        forged.notes.append(what)
        if what in ODD:
            if any(name == what for name, _ in pairs):
                _put(pairs, what, ODD[what](values[what], rng))
        elif what == "size":
            _fill(pairs, rng.choice([8190, 8191, 8192, 8192, 8193, 8194, 8300]), rng)
        elif what == "order":
            one, two = rng.sample(range(len(pairs)), 2)
            pairs[one], pairs[two] = pairs[two], pairs[one]
        elif what == "drop" and len(pairs) > 2:
            del pairs[rng.randrange(len(pairs))]
        elif what == "add":
            name = rng.choice(["extra", "0", "7", "__proto__", "key", "", "Signature", "content "])
            pairs.insert(rng.randrange(len(pairs) + 1), (name, any_value(rng)))
        elif what == "repeat":
            name = rng.choice(FIELDS)
            value = rng.choice([None, 1, "x", dict(pairs).get(name)])
            pairs.insert(rng.randrange(len(pairs) + 1), (name, value))
        elif what == "place":
            place = rng.randrange(len(pairs))
        elif what == "signature":
            signature = odd_signature
        elif what == "state":
            forged.state = rng.choice(
                [None, {"id": any_id(rng), "sequence": rng.choice([0, 1, values["sequence"]])}]
                + ([{"id": state["id"], "sequence": state["sequence"] + rng.choice([-1, 1, 5])}] if state else [])
            )
        elif what == "other signer":
            signer = rng.choice(authors)
        elif what == "other hmac":
            forged.hmac_key = rng.choice(hmac_keys)

    seal: Any = sign(pairs, signer, hmac_key, rng)
    if signature is not None:
        seal = signature(seal, rng)
    pairs.insert(len(pairs) if place is None else place, ("signature", seal))
    raw = spell(pairs, rng, wild)
    if rng.random() < 0.05:
        forged.notes.append("text")
        raw = break_text(raw, rng)
    forged.raw = raw
    return forged


def break_text(raw: str, rng: Random) -> str:
    """Return JSON text with a small accident in it."""
    at = rng.randrange(len(raw))
    way = rng.randrange(5)
    if way == 0:
        return raw[:at]
    if way == 1:
        return raw[:at] + raw[at + 1 :]
    if way == 2:
        return raw[:at] + rng.choice('{}[]",:\\0 \n\t\x00\ufeff\u00a0ée.-+') + raw[at:]
    if way == 3:
        return rng.choice(["\ufeff", "\u00a0", "\n", "[", "// x\n"]) + raw
    return raw + rng.choice(["\n", "}", "]", "\x00", "\ufeff", ",", " null", "\u2028"])


def forge_many(seed: int, count: int, authors: int = 40) -> Iterator[Forged]:
    """Yield `count` cases, the same ones for the same seed."""
    rng = Random(seed)
    keypairs = [seeded(number) for number in range(authors)]
    hmac_keys = [None, None, hashlib.sha256(b"hmac 1").digest(), hashlib.sha256(b"hmac 2").digest()]
    for _ in range(count):
        yield forge(rng, keypairs, hmac_keys)
