"""What cannot be taken back is checked before: content is published as it was given, to whom it names, or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sneaker.errors import PublishUnsafe, UsageError
from sneaker.feed.private import Opener
from sneaker.keys import Keypair
from sneaker.own_feed.draft import parse_draft, read_text
from sneaker.own_feed.publish import contact_content, publish
from sneaker.refs import FeedRef
from tests.command_line import sneaker
from tests.homes import NOW_MS, home

SEED = bytes(range(32))
ME = Keypair.from_seed(SEED)
FRIENDS = [Keypair.from_seed(bytes([number]) * 32) for number in range(1, 9)]
BOB = str(FRIENDS[0].public)
GROUP = "%g/JTmMEjG4JP2aQAO0LM8tIoRtNkTq07Se6h1qwnQKY=.cloaked"


def say(path: Path, content: dict[str, Any], *to: FeedRef) -> Any:
    """Publish; return what the message has for content."""
    with home(path, SEED) as opened:
        message = publish(
            opened.store,
            opened.keypair,
            opened.caps,
            content,
            private_to=to,
            now_ms=lambda: NOW_MS,
            random_bytes=os.urandom,
        )
        return message.content


def held(path: Path) -> int:
    with home(path, SEED) as opened:
        return opened.store.counts().messages


def post(**more: Any) -> dict[str, Any]:
    return {"type": "post", "text": "for few", **more}


@pytest.mark.parametrize(
    ("recps", "readers"),
    [
        ([BOB], [BOB, str(ME.public)]),
        (BOB, [BOB, str(ME.public)]),
        ([str(ME.public)], [str(ME.public)]),
        ([str(ME.public), BOB, BOB], [str(ME.public), BOB]),
        ([{"link": BOB, "name": "bob"}], [BOB, str(ME.public)]),
        ([FRIENDS[0].public.uri], [BOB, str(ME.public)]),
    ],
)
def test_recps_encrypt(tmp_path: Path, recps: Any, readers: list[str]) -> None:
    content = say(tmp_path, post(recps=recps))
    assert isinstance(content, str)
    assert Opener(ME).open(content) == post(recps=readers)
    assert (Opener(FRIENDS[0]).open(content) is not None) == (BOB in readers)
    assert Opener(FRIENDS[1]).open(content) is None


def test_who_reads_along_stands_in_what_is_private(tmp_path: Path) -> None:
    content = say(tmp_path, post(), FRIENDS[0].public)
    assert Opener(FRIENDS[0]).open(content) == post(recps=[BOB, str(ME.public)])


@pytest.mark.parametrize(
    "recps",
    [
        [],
        None,
        False,
        "",
        {},
        {"link": BOB},
        42,
        [GROUP],
        ["ssb:identity/group/g_JTmMEjG4JP2aQAO0LM8tIoRtNkTq07Se6h1qwnQKY="],
        [BOB, GROUP],
        [BOB, "bob"],
        [BOB, None],
        [{"name": "bob"}],
        [BOB + "x"],
        [str(friend.public) for friend in FRIENDS],
        [str(friend.public) for friend in FRIENDS[:7]],  # eight with ourselves
    ],
)
def test_recps_that_cannot_be_encrypted_to_are_never_published(tmp_path: Path, recps: Any) -> None:
    with pytest.raises(PublishUnsafe):
        say(tmp_path, post(recps=recps))
    assert held(tmp_path) == 0


def test_six_others_and_ourselves_are_as_many_as_there_may_be(tmp_path: Path) -> None:
    content = say(tmp_path, post(), *(friend.public for friend in FRIENDS[:6]))
    assert all(Opener(reader).open(content) is not None for reader in [*FRIENDS[:6], ME])


def test_two_lists_of_readers_have_to_agree(tmp_path: Path) -> None:
    assert isinstance(say(tmp_path, post(recps=[BOB]), FRIENDS[0].public), str)
    with pytest.raises(UsageError):
        say(tmp_path, post(recps=[BOB]), FRIENDS[1].public)
    assert held(tmp_path) == 1


@pytest.mark.parametrize(
    "content",
    [
        {"type": "post", "text": ""},
        {"type": "post", "text": " \n\t\u3000"},
        {"type": "post", "text": "\u200b\u2060\ufeff\u202e"},
        {"type": "post"},
        {"type": "post", "text": None},
        contact_content(ME.public, following=True),
        contact_content(ME.public, blocking=True),
        {"type": "x"},
        {"type": "post", "text": "x", "n": -0.0},
        {"type": "post", "text": "x", "n": 2**60},
        {"type": "post", "text": "x", "n": 2**53 + 1},
    ],
)
def test_what_nobody_can_mean_is_refused_in_private_too(tmp_path: Path, content: dict[str, Any]) -> None:
    for to in ([], [FRIENDS[0].public]):
        with pytest.raises(PublishUnsafe):
            say(tmp_path, content, *to)
    assert held(tmp_path) == 0


@pytest.mark.parametrize(
    "number",
    [
        "-0",
        "-0.0",
        "-0e5",
        "1e400",
        "-1e400",
        "9007199254740993",
        "1152921504606846976",
        "1e-400",
        "0.12345678901234567890",
    ],
)
def test_numbers_that_would_change_are_refused(number: str) -> None:
    with pytest.raises(PublishUnsafe):
        parse_draft(f'{{"type":"test","deep":[{{"n":{number}}}]}}')


@pytest.mark.parametrize(
    "number", ["0", "0.0", "1.0", "0.1", "-1.5e-7", "1e21", "9007199254740992", "100000000000000000000", "1E3"]
)
def test_numbers_that_mean_the_same_are_taken(number: str) -> None:
    assert parse_draft(f'{{"type":"test","n":{number}}}')["n"] == float(number)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "01", "1.", ".5", "0x1", "+1"])
def test_what_is_no_number_of_json_is_refused(word: str) -> None:
    with pytest.raises(UsageError):
        parse_draft(f'{{"type":"test","n":{word}}}')


@pytest.mark.parametrize("text", ['{"type":"a1b","type":"a1b"}', '{"type":"test","x":[{"\\u0061":1,"a":2}]}'])
def test_equal_keys_are_refused(text: str) -> None:
    with pytest.raises(PublishUnsafe):
        parse_draft(text)


def test_deep_nesting_is_refused_in_words() -> None:
    with pytest.raises(PublishUnsafe):
        parse_draft('{"type":"test","x":' + "[" * 50_000 + "]" * 50_000 + "}")


def test_a_byte_order_mark_is_not_content() -> None:
    assert parse_draft(b'\xef\xbb\xbf{"type":"post"}') == {"type": "post"}
    assert read_text(b"\xef\xbb\xbfhello\r\n") == "hello"


def test_recps_on_the_command_line(tmp_path: Path) -> None:
    me = sneaker("init", at=tmp_path / "a").out.strip()
    content = json.dumps(post(recps=[me]))
    assert (
        sneaker("publish", "--content", content, "--json", at=tmp_path / "a").json["value"]["content"].endswith(".box")
    )
    assert "for few" not in sneaker("log", "--json", at=tmp_path / "a").out
    assert "for few" in sneaker("log", at=tmp_path / "a").out
