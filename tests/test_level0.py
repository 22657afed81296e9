"""Refs, keys, caps and the secret file."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from sneaker.caps import MAIN_NETWORK_KEY, Caps, auth, parse_cap
from sneaker.errors import CapsError, KeysError, RefError
from sneaker.home.secret_file import load_secret, save_secret
from sneaker.keys import Keypair, format_secret, parse_secret, verify_signature
from sneaker.limits import MAX_SECRET_BYTES
from sneaker.refs import BlobRef, FeedRef, MessageRef, decode_base64, encode_base64

FEED = FeedRef.classic(bytes(range(32)))


def test_refs_print_and_parse_both_ways() -> None:
    for cls in (FeedRef, MessageRef, BlobRef):
        ref = cls(os.urandom(32)) if cls is not FeedRef else FeedRef.classic(os.urandom(32))
        assert cls.parse(str(ref)) == ref
        assert cls.parse(ref.uri) == ref
        assert type(cls.parse(ref.uri)) is cls


def test_uri_keeps_padding_and_uses_url_safe_letters() -> None:
    ref = FeedRef.classic(b"\xfb\xff" * 16)
    assert ref.uri == "ssb:feed/classic/" + encode_base64(ref.key).replace("+", "-").replace("/", "_")
    assert FeedRef.parse(ref.uri.replace("ssb:", "ssb://")) == ref
    assert FeedRef.parse(ref.uri.replace("classic", "ed25519").replace("/", ":", 1)) == ref


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        str(FEED)[1:],
        str(FEED)[:-1],
        str(FEED) + " ",
        str(FEED).replace("@", "%"),
        "@" + "A" * 42 + "B=.ed25519",
        "@" + "A" * 43 + ".ed25519",
        "ssb:feed/buttwoo-v1/" + "A" * 43 + "=",
        "ssb:feed/bendybutt-v1/" + "A" * 43,
        "ssb:feed/bendybutt-v1/" + "A" * 44,
        "ssb:message/classic/" + "A" * 43 + "=",
        "x" * 10_000,
        "\x1b[31m",
    ],
)
def test_what_is_no_feed(text: str) -> None:
    with pytest.raises(RefError) as caught:
        FeedRef.parse(text)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_blob_query_is_dropped() -> None:
    ref = BlobRef.of(b"hello")
    assert BlobRef.parse(f"{ref}?unbox=abc.boxs") == ref


def test_base64_is_canonical() -> None:
    assert decode_base64("AA==") == b"\0"
    for text in ("AB==", "AA", "AA=", "AA==\n", "A A==", "AA==AA==", "_-==", "é"):
        with pytest.raises(RefError):
            decode_base64(text)


def test_secret_round_trip(tmp_path: Path) -> None:
    pair = Keypair.from_seed(bytes(32))
    assert parse_secret(format_secret(pair).encode()) == pair
    save_secret(tmp_path / "secret", pair)
    assert load_secret(tmp_path / "secret") == pair
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    with pytest.raises(KeysError):
        save_secret(tmp_path / "secret", Keypair.from_seed(b"\1" * 32))
    assert load_secret(tmp_path / "secret") == pair
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


@pytest.mark.parametrize(
    "change", ["", "{}", "[]", "null", "# only a comment", '{"curve":"ed25519"}', "\xff", "{" * 5000]
)
def test_a_damaged_secret_is_an_error(tmp_path: Path, change: str) -> None:
    (tmp_path / "secret").write_text(change, encoding="utf-8")
    with pytest.raises(KeysError):
        load_secret(tmp_path / "secret")


def test_halves_that_do_not_belong_together() -> None:
    one, two = Keypair.from_seed(bytes(32)), Keypair.from_seed(b"\1" * 32)
    text = format_secret(one).replace(encode_base64(one.public.key), encode_base64(two.public.key))
    with pytest.raises(KeysError):
        parse_secret(text.encode())


@pytest.mark.parametrize(
    ("encoding", "comment"),
    [("latin-1", "geh\xf6rt mir"), ("utf-8", "geh\xf6rt mir"), ("utf-8-sig", "mine"), ("utf-16", "geh\xf6rt mir")],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_secret_in_whatever_an_editor_made_of_it(tmp_path: Path, encoding: str, comment: str, line_end: str) -> None:
    """ssb-keys drops the comments and does not care what was in them."""
    pair = Keypair.from_seed(bytes(32))
    text = f"# {comment}\n\n" + format_secret(pair)
    (tmp_path / "secret").write_bytes(text.replace("\n", line_end).encode(encoding))
    assert load_secret(tmp_path / "secret") == pair


def test_time_for_a_secret_grows_with_its_length() -> None:
    """A comment may begin behind any blank: looking for it from each blank on takes minutes for this."""
    start = time.process_time()
    with pytest.raises(KeysError):
        parse_secret(b" " * MAX_SECRET_BYTES + b"\n" * MAX_SECRET_BYTES)
    assert time.process_time() - start < 2


def test_the_secret_does_not_show() -> None:
    pair = Keypair.from_seed(bytes(range(32)))
    assert encode_base64(pair.secret)[:20] not in repr(pair)
    assert "secret" not in repr(pair)


def test_signatures() -> None:
    pair = Keypair.from_seed(bytes(32))
    signature = pair.sign(b"hello")
    assert verify_signature(pair.public.key, signature, b"hello")
    assert not verify_signature(pair.public.key, signature, b"hellO")
    assert not verify_signature(pair.public.key, signature + b"\0", b"hello")
    assert not verify_signature(pair.public.key, b"", b"hello")
    assert not verify_signature(bytes(32), signature, b"hello")


def test_caps() -> None:
    assert encode_base64(MAIN_NETWORK_KEY) == "1KHLiKZvAvjbY1ziZEHMXawbCEIM6qwjCDm3VYRan/s="
    assert len(auth(b"", bytes(32))) == 32
    with pytest.raises(CapsError):
        parse_cap("short")
    with pytest.raises(CapsError):
        Caps(b"short")
    assert Caps().network_id != Caps(hmac_key=bytes(32)).network_id
    assert MAIN_NETWORK_KEY not in Caps().network_id
