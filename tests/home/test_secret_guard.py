"""The own secret is not given away by mistake, nor what is private: not in a message, not as a blob, not on a stick."""

from __future__ import annotations

import base64
import os
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from sneaker.errors import PublishUnsafe
from sneaker.home.secret_guard import check_content
from sneaker.keys import Keypair, format_secret
from sneaker.own_feed.attachments import read_attachments
from sneaker.own_feed.publish import publish
from tests.command_line import sneaker
from tests.homes import NOW_MS, home

ME = Keypair.from_seed(b"\xfb\xff" + bytes(range(30)))
OTHER = Keypair.from_seed(b"o" * 32)
BOB = str(OTHER.public)

SPELLINGS: dict[str, Callable[[Keypair], str]] = {
    "secret file": format_secret,
    "both halves": lambda pair: base64.b64encode(pair.secret).decode(),
    "seed": lambda pair: base64.b64encode(pair.seed).decode(),
    "for addresses": lambda pair: base64.urlsafe_b64encode(pair.seed).decode().rstrip("="),
    "hex": lambda pair: pair.seed.hex().upper(),
    "in lines": lambda pair: "\r\n  ".join(textwrap.wrap(base64.b64encode(pair.secret).decode(), 20)),
}


@pytest.fixture
def at(tmp_path: Path) -> Path:
    with home(tmp_path / "home", ME.seed):
        pass
    return tmp_path / "home"


def check_nothing_left(at: Path) -> None:
    with home(at) as opened:
        assert opened.store.counts().messages == 0
        assert opened.blobs.counts().count == 0


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_message_does_not_hold_the_own_key(at: Path, spelling: str) -> None:
    text = f"look: {SPELLINGS[spelling](ME)} nice?"
    for content in (
        {"type": "post", "text": text},
        {"type": "test", "list": [{"deep": [text]}]},
        {"type": "test", text: 1},
    ):
        for to in ([], [OTHER.public]):
            with home(at) as opened, pytest.raises(PublishUnsafe, match="your private key stands in the content"):
                publish(
                    opened.store,
                    opened.keypair,
                    opened.caps,
                    content,
                    private_to=to,
                    now_ms=lambda: NOW_MS,
                    random_bytes=os.urandom,
                )
    check_nothing_left(at)
    check_content({"type": "post", "text": SPELLINGS[spelling](OTHER)}, ME)
    check_content({"type": "post", "text": f"I am {ME.public}, {ME.public.hex()}"}, ME)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_file_with_the_own_key_is_not_attached(at: Path, tmp_path: Path, spelling: str, encoding: str) -> None:
    (tmp_path / "notes.txt").write_text(f"some notes\n{SPELLINGS[spelling](ME)}\n", encoding=encoding)
    with home(at) as opened, pytest.raises(PublishUnsafe, match=r"your private key stands in .*notes\.txt"):
        read_attachments(opened, [tmp_path / "notes.txt"])
    with home(tmp_path / "another") as another:
        assert read_attachments(another, [tmp_path / "notes.txt"]).files
        (tmp_path / "photo.png").write_text(format_secret(ME), encoding=encoding)
        with pytest.raises(PublishUnsafe, match=r"photo\.png is the secret of an identity"):
            read_attachments(another, [tmp_path / "photo.png"])


def test_the_bytes_of_the_own_key_are_not_attached(at: Path, tmp_path: Path) -> None:
    (tmp_path / "dump").write_bytes(b"\0 dump " + ME.secret)
    with home(at) as opened, pytest.raises(PublishUnsafe, match="your private key"):
        read_attachments(opened, [tmp_path / "dump"])


def test_the_secret_is_not_published_on_the_command_line(at: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").write_bytes((at / "secret").read_bytes())
    for arguments in (["--attach", tmp_path / "copy"], [(at / "secret").read_text()]):
        done = sneaker("publish", *arguments, at=at, ok=False)
        assert (done.code, done.out) == (22, "")
        assert "your private key stands in" in done.err
    check_nothing_left(at)


def test_nothing_in_the_home_is_attached(at: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(at / "config.toml")
    (tmp_path / "fine.txt").write_bytes(b"a picture")
    with home(at) as opened:
        for path in (at / "secret", at / "store.sqlite", at / "config.toml", tmp_path / "link"):
            with pytest.raises(PublishUnsafe, match=f"{path} lies in your home"):
                read_attachments(opened, [tmp_path / "fine.txt", path])


def test_nothing_is_attached_to_what_is_private(at: Path, tmp_path: Path) -> None:
    (tmp_path / "map.png").write_bytes(b"where we meet")
    for arguments in (
        ["for you", "--private-to", BOB],
        ["--content", f'{{"type":"post","text":"x","recps":["{BOB}"]}}'],
    ):
        done = sneaker("publish", *arguments, "--attach", tmp_path / "map.png", at=at, ok=False)
        assert (done.code, done.out) == (22, "")
        assert "attached files are not encrypted: anybody could read them" in done.err
    check_nothing_left(at)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["x" * 9000], 22),
        (["--content", '{"type":"x"}'], 22),
        (["--content", '{"type":"post","text":"x","mentions":1}'], 2),
    ],
)
def test_a_message_that_is_refused_leaves_no_blob(at: Path, tmp_path: Path, arguments: list[str], code: int) -> None:
    (tmp_path / "map.png").write_bytes(b"a map")
    assert sneaker("publish", *arguments, "--attach", tmp_path / "map.png", at=at, ok=False).code == code
    check_nothing_left(at)


def test_a_feed_that_may_not_go_on_leaves_no_blob(at: Path, tmp_path: Path) -> None:
    (tmp_path / "map.png").write_bytes(b"a map")
    again = tmp_path / "again"
    sneaker("init", "--secret", at / "secret", at=again)
    assert sneaker("publish", "x", "--attach", tmp_path / "map.png", at=again, ok=False).code == 23
    check_nothing_left(again)


def test_a_stick_does_not_lie_beside_the_secret(at: Path, tmp_path: Path) -> None:
    (at / "stick").mkdir()
    (tmp_path / "link").symlink_to(at)
    for place in (at, at / "stick", tmp_path / "link"):
        done = sneaker("drive", "init", place, at=at, ok=False)
        assert (done.code, done.out) == (60, "")
        assert f"{place} is in your home, beside your secret" in done.err
        assert not (place / "SNEAKER").exists()
    done = sneaker("drive", "init", tmp_path, at=at, ok=False)
    assert (done.code, done.out) == (60, "")
    assert f"your home {at} is in {tmp_path}, and your secret would lie on the stick" in done.err
    assert not (tmp_path / "SNEAKER").exists()
    # Nor one that another machine has made.
    (tmp_path / "beside").mkdir()
    sneaker("drive", "init", tmp_path / "beside", at=at)
    (tmp_path / "beside/SNEAKER").rename(tmp_path / "SNEAKER")
    assert sneaker("drive", "trust", tmp_path, at=at, ok=False).code == 60
