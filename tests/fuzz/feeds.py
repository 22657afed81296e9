"""Targets: messages, their JSON, and what is read out of them."""

from __future__ import annotations

import functools
import json
import math
import unicodedata
from collections.abc import Iterable
from typing import Any

import zstandard

from sneaker.cli.log import _readable
from sneaker.errors import InvalidMessage
from sneaker.escaping import escaped, escaped_json
from sneaker.feed.classic.canonical import parse_canonical
from sneaker.feed.classic.compact import AUTHOR_FIRST, KIND_RAW, compact, expand, expand_run, kind_of
from sneaker.feed.classic.javascript_json import format_json, parse_json
from sneaker.feed.classic.quick_parse import quick_message, quick_place
from sneaker.feed.classic.validate import parse_message
from sneaker.feed.content import facts_in, read_facts
from sneaker.feed.message import Compact, Message
from sneaker.feed.private import Opener, seal
from sneaker.limits import MAX_MESSAGE_BYTES, MAX_MESSAGE_UNITS
from sneaker.refs import MessageRef, encode_base64
from sneaker.wire.json_text import encode_json
from tests.bundle.bundles import CREATED_MS, keypair, make_feed
from tests.bundle.vectors import ROOT
from tests.feed.bendy import BENDYBUTT, log_line, metafeed
from tests.feed.bendy import make as make_bendybutt
from tests.fuzz.rules import Failed, Taker, Target, raised

__all__ = ["TARGETS", "log_lines", "sample_messages"]

ADA, BEN = keypair("ada"), keypair("ben")
CONTENTS: list[Any] = [
    {"type": "post", "text": "näh\u2028 \ud83d\ude00 \ud800", "mentions": [{"link": "&" + "A" * 43 + "=.sha256"}]},
    {"type": "contact", "contact": str(BEN.public), "following": True, "blocking": False},
    {"type": "about", "about": str(BEN.public), "name": "Ben", "1": 1, "-1": 1e-7, "0": [1.5, {}, [], 1e21]},
    "Z".rjust(40, "A") + ".box",
    "Z".rjust(40, "A") + ".box2",
    "AAAA.box more",
    {"type": "vote", "vote": {"value": 1, "link": "%" + "A" * 43 + "=.sha256", "x": [[], {"a": None}, True]}},
    {"type": "odd", "n": [0.1, -0.0, 2**53, 123456789012345678, 1e400], "s": '\u007f\\"\b\f'},
]


@functools.cache
def sample_messages() -> list[Message]:
    """Return messages of many kinds, in both orders of fields."""
    feed = make_feed(ADA, CONTENTS)
    from tests.bundle.bundles import make_message

    feed.append(make_message(ADA, feed[-1], CREATED_MS + 0.5, {"type": "post"}, author_first=True))
    feed.append(make_message(ADA, feed[-1], "then", {"type": "post"}, author_first=True))
    feed.append(make_message(ADA, feed[-1], CREATED_MS, {"type": "post", "text": "."}, author_first=True))
    return feed


def log_lines() -> list[bytes]:
    """Return some lines of a log that another program wrote."""
    data = (ROOT / "tests" / "data" / "fixtures" / "small.ndjson.zst").read_bytes()
    lines = zstandard.ZstdDecompressor().decompressobj().decompress(data).split(b"\n")
    return [line for line in lines[:400:20] if 0 < len(line) < 1500]


def message_seeds() -> Iterable[bytes]:
    """Return messages in several spellings."""
    for message in sample_messages():
        value = json.loads(message.text)
        yield message.text
        yield json.dumps(value, separators=(",", ":")).encode()
        yield json.dumps(value, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass")


# ---------------------------------------------------------------------------------------------------- messages


def check_message(data: bytes) -> None:
    """One message: the exact way, the quick way and the compact form say the same."""
    exact = raised(InvalidMessage, parse_message, data)
    quick = quick_message(data)
    place = quick_place(data)
    if quick is not None:
        message, form = quick
        assert exact == message
        assert place == (message.author, message.sequence)
        assert expand(message.author, message.sequence, message.previous, form) == message
    if not isinstance(exact, Message):
        return
    assert len(exact.text) <= MAX_MESSAGE_BYTES
    assert parse_message(exact.text) == exact
    check_compact(exact)
    read_facts(exact)


def check_compact(message: Message) -> None:
    """The compact form of a message gives it back."""
    form = compact(message)
    assert expand(message.author, message.sequence, message.previous, form) == message
    assert expand_run(message.author, message.sequence, message.previous, [form]) == [message]
    if kind_of(form.form) == KIND_RAW:
        assert (form.timestamp, form.signature, form.content) == (0, b"", message.text)


def check_forms(data: bytes) -> None:
    """Any compact forms: what a run makes of them is what each becomes by itself."""
    taker = Taker(data)
    first = taker.choose((1, 2, 3, 2**31 - 2, 2**31 - 1, 0))
    previous = None if first == 1 and not taker.byte() & 1 else PREVIOUS
    compacts = []
    while taker.left and len(compacts) < 4:
        form = taker.choose((0, AUTHOR_FIRST, 2, 3, 4, 5, 14, 15, 6, 255))
        timestamp = taker.choose((CREATED_MS, 0, -1, 2**53 - 1, 2**53, -(2**53)))
        signature = bytes((taker.byte(),)) * taker.choose((64, 64, 64, 0, 63))
        compacts.append(Compact(form, timestamp, signature, taker.piece()))
    messages = expand_run(ADA.public, first, previous, compacts)
    before = previous
    for number, item in enumerate(compacts):
        alone = raised(InvalidMessage, expand, ADA.public, first + number, before, item)
        if not isinstance(alone, Message):
            assert len(messages) == number
            return
        assert messages[number] == alone
        assert parse_message(alone.text) == alone
        assert len(alone.text) <= MAX_MESSAGE_BYTES
        check_compact(alone)
        before = alone.key
    assert len(messages) == len(compacts)


PREVIOUS = MessageRef(bytes(range(32)))


def forms_seeds() -> Iterable[bytes]:
    """Return compact forms of the samples, and some of no message."""
    for message in sample_messages():
        form = compact(message)
        if len(form.content) < 0xC0:
            order = (0, 1, 2, 3, 4, 5, 14).index(form.form)
            yield bytes((1, order, 0, 0, 0, len(form.content))) + form.content
    plain = b'{"type":"post"}'
    piece = bytes((0, 0, 0, 0, len(plain))) + plain
    yield b"\x01" + piece * 3
    yield b"\x00\x00" + piece * 2
    yield b"\x01" + piece + b"\x02\x00\x00\x00\x04abcd" + piece


# ---------------------------------------------------------------------------------------------------- JSON


def check_json(data: bytes) -> None:
    """The canonical text is the exact printer's, and canonical; a limit holds."""
    exact = raised(InvalidMessage, parse_json, data)
    printed = raised(InvalidMessage, format_json, exact) if not isinstance(exact, Failed) else exact
    fast = raised(InvalidMessage, parse_canonical, data, limit=MAX_MESSAGE_UNITS)
    if isinstance(printed, Failed):
        assert isinstance(fast, Failed)
        return
    text = printed.encode("utf-8")
    if isinstance(fast, Failed):
        assert fast.message.startswith("invalid message: too-long")
        assert len(printed) > MAX_MESSAGE_UNITS
        return
    value, fast_text = fast
    assert fast_text == text
    assert same(parse_json(text), value)
    assert parse_canonical(text)[1] == text
    if isinstance(value, dict):
        facts_in(value, text)


def same(one: Any, other: Any) -> bool:
    """Compare values of JSON, without recursion, and 1 is not 1.0 nor true."""
    waiting = [(one, other)]
    while waiting:
        left, right = waiting.pop()
        if type(left) is not type(right):
            return False
        if isinstance(left, dict):
            if list(left) != list(right):
                return False
            waiting += [(left[key], right[key]) for key in left]
        elif isinstance(left, list):
            if len(left) != len(right):
                return False
            waiting += zip(left, right, strict=True)
        elif left != right and not (isinstance(left, float) and math.isnan(left) and math.isnan(right)):
            return False
    return True


def json_seeds() -> Iterable[bytes]:
    """Return contents, and small texts of all that JSON has."""
    for content in CONTENTS:
        yield json.dumps(content).encode()
    yield b'[1,2.50,-0,1e5,1E-7,123456789012345678901234567890,"\\ud83d\\ude00\\ud800",null,true,{"a":[],"2":{},"1":0}]'
    yield b'{"a":1,"a":2,"__proto__":{"b":[[[[1]]]]}}'
    yield b" \t\r\n[ ] "
    yield b'{"a":1e400,"b":5e-324,"c":1.7976931348623157e308,"d":1e21,"e":1e-5}'


# ---------------------------------------------------------------------------------------------------- to be read


def check_screen(data: bytes) -> None:
    """Nothing that is printed acts on a terminal, whatever the list of characters forgot; and JSON stays what it was."""
    text = data.decode("utf-8", "surrogatepass") if not isinstance(raised(ValueError, data.decode), Failed) else ""
    for shown in (escaped(text), escaped(text, keep_lines=True)):
        for character in shown:
            assert unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp") or character in "\t\n"
            assert unicodedata.bidirectional(character) not in TURNING
    assert escaped(escaped(text)) == escaped(text)
    line = encode_json({"text": text})
    assert json.loads(escaped_json(line)) == {"text": text}


TURNING = ("LRE", "LRO", "RLE", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def check_private(data: bytes) -> None:
    """Whatever is in a private box, its owner gets its content or nothing, and reads a line of it."""
    taker = Taker(data)
    order = taker.byte()
    if order & 1:
        boxed = taker.rest()
    else:
        recipients = [ADA.public, BEN.public, *[ADA.public] * (order >> 4 & 3)]
        if order & 2:
            recipients.reverse()
        boxed = seal(taker.rest(), recipients, bytes(24), b"k" * 32, b"s" * 32)
        assert OPENER.open_bytes(boxed) == data[1:]
    content = OPENER.open(encode_base64(boxed) + ".box")
    again = OPENER.open_bytes(boxed)
    if again is None:
        assert content is None
    elif content is not None:
        assert same(content, parse_json(again))
    OPENER.open(data.decode("utf-8", "replace"))
    line = _readable(sample_messages()[0]._replace(content=encode_base64(boxed) + ".box"), OPENER)
    assert line == escaped(line)
    assert len(line) <= 2000


OPENER = Opener(BEN)


def private_seeds() -> Iterable[bytes]:
    """Return contents to be sealed, and some that are."""
    for content in CONTENTS[:3]:
        yield b"\x00" + json.dumps(content).encode()
        yield b"\x02" + json.dumps(content).encode()
        yield b"\x01" + seal(json.dumps(content).encode(), [BEN.public], bytes(24), b"k" * 32, b"s" * 32)


def bendybutt_seeds() -> Iterable[bytes]:
    """Return messages of a metafeed, in their bytes and as logs have them."""
    for message in metafeed(3):
        yield b"\0" + message.text
        yield b"\1" + json.dumps(json.loads(log_line(message))["value"]).encode()
    yield b"\0" + make_bendybutt(replaced={"section": b"\5\0" + bytes(40)})


def check_bendybutt(data: bytes) -> None:
    """A message of a metafeed in its bytes, or in JavaScript's words: every form of one gives it back."""
    try:
        if data[:1] == b"\1":
            value = parse_json(data[1:])
            if not isinstance(value, dict):
                return
            message = BENDYBUTT.read_log_value(value, value, is_quick=False)
        else:
            message = BENDYBUTT.parse(data[1:])
    except InvalidMessage:
        return
    assert len(message.text) <= 8192
    assert BENDYBUTT.parse(message.text) == message
    form = BENDYBUTT.compact(message)
    assert BENDYBUTT.expand(message.author, message.sequence, message.previous, form) == message
    printed = parse_json(b"{" + BENDYBUTT.log_json(message) + b"}")
    assert BENDYBUTT.read_log_value(printed["value"], printed, is_quick=False) == message
    BENDYBUTT.is_signed(message, None)
    _readable(message, Opener(ADA))


TARGETS = {
    "bendybutt": Target(check_bendybutt, bendybutt_seeds, max_bytes=700),
    "message": Target(check_message, message_seeds, max_bytes=700),
    "compact": Target(check_forms, forms_seeds, max_bytes=300),
    "json": Target(check_json, json_seeds, max_bytes=256),
    "screen": Target(check_screen, lambda: ["a\x1b[2J\u202e\x9b\u2028\U000e0041\u200d\n".encode()], max_bytes=100),
    "private": Target(check_private, private_seeds, max_bytes=320),
}
