"""Whatever a message, a name, a path or a file holds: a terminal shows it and obeys none of it, and JSON stays JSON."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from sneaker.escaping import escaped, escaped_json
from sneaker.feed.classic.message import create_message
from sneaker.feed.message import Head, Message
from sneaker.feed.private import Opener, seal
from sneaker.keys import Keypair
from sneaker.refs import FeedRef, encode_base64
from tests.command_line import Done, sneaker
from tests.homes import home, pack, take
from tests.tries import amount

EVIL = "\x1b]0;owned\x07\r\x7f\x85\x9b31m\u200b\u202egnp\u2066\u2028\ufeff\U000e0041"
AUTHOR = Keypair.from_seed(b"\x05" * 32)


def is_unsafe(character: str) -> bool:
    """Say by Unicode's own tables whether a character does something else than to be seen."""
    if character in "\u200c\u200d":  # Persian and emoji need them
        return False
    category = unicodedata.category(character)
    return (
        category in ("Cc", "Cs", "Zl", "Zp")
        or unicodedata.bidirectional(character) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
        or character in "\u200e\u200f\u061c\ufeff\u200b"
        or 0xE0000 <= ord(character) < 0xE0080
    )


def assert_safe(text: str) -> None:
    found = {hex(ord(character)) for character in text if is_unsafe(character) and character not in "\n\t"}
    assert not found, (found, text)


def test_every_character_there_is() -> None:
    step = amount(quick=997, thorough=1)
    # The quick profile leaves out most numbers that have no character yet, or a private one.
    empty = [*range(0x32000, 0xE0000, step), *range(0xE1000, sys.maxunicode + 1, step)]
    safe = []
    for character in map(chr, [*range(0x32000), *range(0xE0000, 0xE1000), *empty]):
        if is_unsafe(character):
            shown = escaped(character)
            assert shown.startswith("\\u"), hex(ord(character))
            assert json.loads(f'"{shown}"') == character
        elif unicodedata.category(character) != "Cf":
            safe.append(character)
    # All at once: a million calls take seconds.
    assert len(safe) > (1_000_000 if step == 1 else 200_000)
    assert escaped("".join(safe)) == "".join(safe)
    assert escaped("a\tb\nc", keep_lines=True) == "a\tb\nc"
    assert escaped("a\tb\nc") == "a\\u0009b\\u000ac"


def test_json_keeps_its_value() -> None:
    line = json.dumps({"text": EVIL, "é": "naïve \U0001f468\u200d\U0001f469"}, ensure_ascii=False).encode()
    shown = escaped_json(line)
    assert_safe(shown.decode())
    assert json.loads(shown) == json.loads(line)
    assert "naïve \U0001f468\u200d\U0001f469" in shown.decode()
    assert escaped_json(b'{"a":1}') == b'{"a":1}'


def feed_of(*contents: object) -> list[Message]:
    head, messages = None, []
    for number, content in enumerate(contents):
        message = create_message(AUTHOR, head, 1_700_000_000_000 + number, content)  # type: ignore[arg-type]
        head = Head(message.sequence, message.key)
        messages.append(message)
    return messages


def log_of(messages: list[Message]) -> bytes:
    return b"\n".join(message.text.replace(b"\n", b" ") for message in messages) + b"\n"


@pytest.fixture
def evil_home(tmp_path: Path) -> Path:
    """A home below a folder with an evil name, which holds an evil message by an evil person."""
    path = tmp_path / EVIL.replace("/", "") / "home"
    evil = feed_of(
        {"type": "about", "about": str(AUTHOR.public), "name": EVIL},
        {"type": "post", "text": EVIL},
        {"type": EVIL, EVIL: EVIL},
    )
    with home(path, b"\x01" * 32) as opened:
        assert take(opened, "-", data=log_of(evil)).ingested.accepted == 3
        pack(opened, path.parent / "x.sneaker")
    return path


COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "log": lambda folder: ["log"],
    "status": lambda folder: ["status"],
    "doctor": lambda folder: ["doctor"],
    "clock": lambda folder: ["clock"],
    "inspect": lambda folder: ["inspect", f"{folder}/x.sneaker"],
    "verify": lambda folder: ["verify", f"{folder}/x.sneaker"],
    "import": lambda folder: ["import", f"{folder}/x.sneaker", f"{folder}/odd.ndjson"],
    "export": lambda folder: ["export", f"{folder}/y.sneaker"],
    "drive init": lambda folder: ["drive", "init", str(folder / "stick")],
    "sync": lambda folder: ["sync", str(folder)],
    "a missing file": lambda folder: ["import", f"{folder}/none"],
    "usage": lambda folder: ["log", f"--{EVIL}"],
    "an id": lambda folder: ["follow", EVIL],
    "init again": lambda folder: ["init"],
}


@pytest.mark.parametrize("json_too", [False, True])
@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_that_is_printed_acts(evil_home: Path, name: str, json_too: bool) -> None:
    (evil_home.parent / "stick").mkdir()
    (evil_home.parent / "odd.ndjson").write_text(json.dumps({EVIL: EVIL}) + f"\n{EVIL}\n", encoding="utf-8")
    arguments = COMMANDS[name](evil_home.parent)
    done = sneaker(*arguments, *(["--json"] if json_too else []), at=evil_home, ok=False)
    assert_safe(done.out + done.err)
    if json_too:
        for line in done.out.splitlines():
            json.loads(line)


def test_the_log_as_json_is_the_same_log(evil_home: Path, tmp_path: Path) -> None:
    lines = sneaker("log", "--json", at=evil_home).out
    assert [json.loads(line)["value"]["content"].get("text") for line in lines.splitlines()][1] == EVIL
    with home(evil_home) as there, home(tmp_path / "other", b"\x02" * 32) as here:
        assert take(here, "-", data=lines.encode()).ingested.accepted == 3
        assert here.store.clock() == there.store.clock()


def boxed(plaintext: bytes, to: FeedRef) -> str:
    return encode_base64(seal(plaintext, [to], bytes(24), b"k" * 32, b"o" * 32)) + ".box"


ODD_CONTENTS = {
    "a type of many levels": b'{"type":' + b"[" * 1100 + b"]" * 1100 + b"}",
    "content of many levels": b'{"type":"post","x":' + b"[" * 1100 + b"]" * 1100 + b"}",
    "no type": b"{}",
    "a type that is a number": b'{"type":1e400,"text":"x"}',
    "a list": b"[1]",
    "a number of thousands of digits": b'{"type":"post","x":' + b"9" * 5000 + b"}",
    "half a character": b'{"type":"post","text":"\\ud800"}',
    "an escape": b'{"type":"post","text":"\\u009b31m"}',
    "no JSON": b"\xff\xfe",
}


@pytest.mark.parametrize("name", ODD_CONTENTS)
def test_no_private_message_ends_the_log(tmp_path: Path, name: str) -> None:
    """Anybody may write such a thing to us: it would stand in the store for ever."""
    with home(tmp_path / "me", b"\x01" * 32) as opened:
        me = opened.keypair.public
        last = {"type": "post", "text": "the last word"}
        report = take(opened, "-", data=log_of(feed_of(boxed(ODD_CONTENTS[name], me), last)))
        assert report.ingested.accepted == 2
        content = opened.store.message(AUTHOR.public, 1)
        assert content is not None
        Opener(opened.keypair).open(str(content.content))
    for command in ("log", "status", "doctor"):
        done: Done = sneaker(command, at=tmp_path / "me", ok=False)
        assert done.code in (0, 3)
        assert_safe(done.out)
        if command == "log":
            assert "(private)" in done.out.splitlines()[0]
            assert "the last word" in done.out.splitlines()[1]


def test_own_private_messages_of_any_kind_are_taken_back(tmp_path: Path) -> None:
    """What one's own private messages say is read on import."""
    with home(tmp_path / "me", b"\x05" * 32) as opened:
        contents = [boxed(content, AUTHOR.public) for content in ODD_CONTENTS.values()]
        report = take(opened, "-", data=log_of(feed_of(*contents)))
        assert report.ingested.accepted == len(ODD_CONTENTS)
