"""Targets: files that people and other programs bring: secrets, settings, logs, clocks, markers, and the mount table."""

from __future__ import annotations

import io
import itertools
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, cast

import orjson

from sneaker.clock import VectorClock
from sneaker.devices.mounts import MountTable, device_mounts, parse_mountinfo
from sneaker.errors import ClockError, ConfigError, DecryptionError, InvalidMessage, KeysError, RefError, StickError
from sneaker.feed.classic.javascript_json import parse_json
from sneaker.feed.classic.validate import parse_message
from sneaker.feed.json_stream import JsonObject, looks_like_objects, read_objects
from sneaker.home.config import Config, format_config, load_config
from sneaker.home.copy_detection import read_note
from sneaker.home.secret_file import load_secret
from sneaker.keys import Keypair, format_secret
from sneaker.refs import BlobRef, FeedRef, MessageRef, Ref
from sneaker.stick.marker import Marker, format_marker, parse_marker
from sneaker.transfer.age_encryption import decrypting, encrypting
from sneaker.transfer.read_log import LogSummary, read_log
from tests.bundle.bundles import keypair
from tests.bundle.vectors import ROOT
from tests.fuzz.feeds import log_lines, same, sample_messages
from tests.fuzz.rules import Taker, Target, pieces_of, put_piece, raised

__all__ = ["TARGETS"]

ADA = keypair("ada")


class Numbered(io.BytesIO):
    """Bytes that say they lie where the null device does."""

    def fileno(self) -> int:
        return NULL.fileno()


NULL = open(os.devnull, "rb")  # noqa: SIM115


class InMemory:
    """The path of a file that has these bytes, and of the folder that it is in: a disk would cost more than the reader."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __truediv__(self, name: str) -> InMemory:
        return self

    def __str__(self) -> str:
        return "file"

    def open(self, mode: str) -> BinaryIO:
        assert mode == "rb"
        return Numbered(self._data)


def path_of(data: bytes) -> Path:
    """Return something like the path of a file with these bytes."""
    return cast(Path, InMemory(data))


# ---------------------------------------------------------------------------------------------------- the home


def check_secret(data: bytes) -> None:
    """A secret is damaged, or comes back; the words of an error never hold any of it."""
    pair = raised(KeysError, load_secret, path_of(data))
    if isinstance(pair, Keypair):
        assert load_secret(path_of(format_secret(pair).encode())) == pair
    else:
        assert len(pair.message) < 200


def secret_seeds() -> Iterable[bytes]:
    """Return secret files in several spellings."""
    text = format_secret(ADA)
    yield text.encode()
    plain = "".join(line for line in text.splitlines() if not line.startswith("#"))
    yield plain.encode()
    yield ("# \xe4\n" + plain).encode("latin-1")
    yield plain.replace("{", "{#x\n", 1).replace(",", ",\n #y\r\n").encode()
    value = json.loads(plain)
    del value["id"]
    yield json.dumps(value).encode("utf-16")


def check_config(data: bytes) -> None:
    """Settings are wrong, which is said in words, or are taken."""
    config = raised(ConfigError, load_config, path_of(data))
    if isinstance(config, Config):
        again = load_config(path_of(format_config(config).encode()))
        assert again.caps == config.caps
        assert 0 <= config.peer.hops <= 10
        assert config.sticks.min_free_bytes >= 0


def note_seeds() -> Iterable[bytes]:
    """Return notes of two places, and of none."""
    for place in ({"inode": 5}, {"machine": "ab", "inode": [5]}, {"board": "x"}, {}):
        yield json.dumps({"feed": str(ADA.public), "place": place}).encode()
    yield b"[]"


def config_seeds() -> Iterable[bytes]:
    """Return settings of all kinds."""
    yield b"""\
[network]
key = "1KHLiKZvAvjbY1ziZEHMXawbCEIM6qwjCDm3VYRan/s="
[drives]
filesystems = ["vfat", "exfat"]
mount = true
[inbox]
folders = ["~/in", "/x"]
[notify]
desktop = false
hook = ["a", "b"]
[peer]
listen = "127.0.0.1:8008"
hops = 3
connect = ["net:host:8008~shs:1KHLiKZvAvjbY1ziZEHMXawbCEIM6qwjCDm3VYRan/s="]
[sticks]
stale_days = 5
min_free = "500M"
max_size = 7
"""
    yield b'[network]\nhmac_key = "1KHLiKZvAvjbY1ziZEHMXawbCEIM6qwjCDm3VYRan/s="\n'
    yield b"inbox = 1\n"
    yield b'a.b.c = [1, 2.5, 1979-05-27T07:32:00Z, {x = """y"""}]\n'


def check_note(data: bytes) -> None:
    """A note cannot be read, or holds fields; one that does not name its place lies anywhere but where it was written."""
    note = read_note(path_of(data))
    if note is not None:
        assert isinstance(note.fields, dict)
        assert note.is_here in (True, False, None)
        if not isinstance(note.fields.get("place"), dict):
            assert note.is_here is False


def check_clock(data: bytes) -> None:
    """A clock is none, or comes back."""
    clock = raised(ClockError, VectorClock.parse, data)
    if isinstance(clock, VectorClock):
        assert VectorClock.parse(orjson.dumps(clock.as_json())) == clock


def check_ref(data: bytes) -> None:
    """An id is none, or comes back in both spellings."""
    for kind in (FeedRef, MessageRef, BlobRef):
        ref = raised(RefError, kind.parse, data.decode("utf-8", "replace"))
        if isinstance(ref, Ref):
            assert kind.parse(str(ref)) == ref
            assert kind.parse(ref.uri) == ref


# ---------------------------------------------------------------------------------------------------- what is carried


def check_log(data: bytes) -> None:
    """A log gives the same in whatever pieces it comes, and what it gives is a message or a word on why there is none."""
    entries = list(read_log([data]))
    assert list(read_log(pieces_of(data))) == entries
    summary = LogSummary()
    for entry in entries:
        summary.count_entry(entry)
        assert 0 < entry.line <= data.count(b"\n") + 1
        assert entry.detail.isprintable()
        assert bool(entry.code) is (entry.message is None)
        if entry.message is not None:
            assert (entry.feed, entry.sequence) == (entry.message.author, entry.message.sequence)
            assert parse_message(entry.message.text) == entry.message
    assert summary.detail.isprintable()


def check_json_stream(data: bytes) -> None:
    """Objects of a stream are what stands in it, each byte in one of them at most, and none is longer than the limit."""
    limit, text = (64, data[1:]) if data[:1] == b"\0" else (4096, data[1:])
    found = list(read_objects([text], limit))
    assert list(read_objects(pieces_of(text), limit)) == found
    assert list(read_objects(itertools.chain.from_iterable((piece, b"") for piece in pieces_of(text)), limit)) == found
    assert len(found) <= len(text)
    for item in found:
        if isinstance(item, JsonObject):
            assert isinstance(item.value, dict)
        else:
            assert len(item.head) <= 1024
            assert item.detail.isprintable()
    looks_like_objects(text)
    if text[:1] == b"{" and isinstance(value := raised(InvalidMessage, parse_json, text), dict) and len(text) <= limit:
        assert len(found) == 1
        assert isinstance(found[0], JsonObject)
        assert same(found[0].value, value) or found[0].is_quick


def log_seeds() -> Iterable[bytes]:
    """Return logs as programs print them."""
    yield b"\n".join(log_lines()[:2])
    values = [json.loads(message.text) for message in sample_messages()[:3]]
    entries = [
        {"key": str(message.key), "value": value, "timestamp": 1.5}
        for message, value in zip(sample_messages(), values, strict=False)
    ]
    yield b"\n".join(json.dumps(value).encode() for value in values)
    yield b"\n".join(json.dumps(entry, separators=(",", ":")).encode() for entry in entries)
    yield b"\n\n".join(json.dumps(entry, indent=2).encode() for entry in entries)
    yield json.dumps(entries[:2]).encode()
    yield b"".join(b"\x1e" + json.dumps(entry).encode() + b"\n" for entry in entries[:2])
    yield json.dumps(entries[0]).encode("utf-16")
    yield json.dumps({"seq": 1, "value": entries[0]}).encode() + b'\n{"sync":true}\n'
    for name in ("opened", "opened-db2", "sync-marker", "trailing-object"):
        yield from (ROOT / "tests" / "data" / "logs" / f"{name}.ndjson").read_bytes().splitlines()


def json_stream_seeds() -> Iterable[bytes]:
    """Return the same, and things that are broken."""
    yield from (b"\1" + log[:280] for log in log_seeds())
    yield b'\0{"a":"{}"}, {"b":[{},{"key":1}]} x {"key":{"value":"\\""}\n{"c":tru}{"author":"\n{}{"'
    yield b'\0[1,2,{}]\n\n\xef\xbb\xbf{\n  "a": 1\n}\n{'


def check_marker(data: bytes) -> None:
    """A marker is none, or comes back."""
    marker = raised(StickError, parse_marker, data)
    if isinstance(marker, Marker):
        assert parse_marker(format_marker(marker)) == marker


def check_age(data: bytes) -> None:
    """An encrypted file is not for us, or gives a beginning of what is in it; bytes changed are never taken for it."""
    taker = Taker(data)
    file = bytearray(AGE if taker.byte() & 1 else taker.rest())
    while taker.left:
        order, place = taker.byte(), taker.byte() % (len(file) + 1)
        if order < 0x80:
            file[place : place + 1] = taker.take(1)
        elif order < 0xC0:
            file[place:place] = (taker.piece() * 4 ** (order & 7))[:MAX_AGE_BYTES]
        else:
            del file[place:]
    read = raised(DecryptionError, read_age, bytes(file))
    if isinstance(read, bytes):
        assert AGE_PLAIN.startswith(read)


def read_age(data: bytes) -> bytes:
    with decrypting(io.BytesIO(data), ADA) as plain:
        return plain.file.read()


MAX_AGE_BYTES = 200_000
AGE_PLAIN = bytes(range(100))


def make_age() -> bytes:
    """Return a file encrypted to Ada."""
    file = io.BytesIO()
    with encrypting(file, [str(ADA.public)]) as plain:
        plain.write(AGE_PLAIN)
    return file.getvalue()


AGE = make_age()


# ---------------------------------------------------------------------------------------------------- the machine


def check_mounts(data: bytes) -> None:
    """Each line of the mount table is taken or left out by itself, and what is visible is found without going round."""
    mounts = parse_mountinfo(data)
    assert mounts == [mount for line in data.split(b"\n") for mount in parse_mountinfo(line)]
    table = MountTable(tuple(mounts))
    visible = table.visible()
    assert all(mount in mounts for mount in visible)
    device_mounts(table)


def mount_seeds() -> Iterable[bytes]:
    """Return tables."""
    yield b"""\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
36 22 8:17 / /media/a\\040b rw,nosuid shared:2 master:1 - vfat /dev/sdb1 rw,utf8
37 36 8:17 /sub /media/a\\040b/x ro - vfat /dev/sdb1 rw
38 22 0:5 / /proc rw - proc proc rw
"""
    yield b"1 1 0:0 / / rw - x y z\n2 1 0:0 / / rw - x y z\n1 2 0:0 / / ro - x y ro"


def marker_seeds() -> Iterable[bytes]:
    """Return a marker, and one with more in it."""
    marker = format_marker(Marker(bytes(16), bytes(range(32)), 5))
    yield marker
    yield json.dumps({**json.loads(marker), "created": 1e3, "more": [{}]}).encode()


def clock_seeds() -> Iterable[bytes]:
    """Return clocks in all spellings."""
    feed = FeedRef.classic(bytes(32))
    yield orjson.dumps(VectorClock({feed: 7, ADA.public: 1}).as_json())
    yield json.dumps({feed.uri: 7.0, str(feed): 3, "ssb:feed/bendybutt-v1/x": -1}).encode()


TARGETS = {
    "secret": Target(check_secret, secret_seeds, max_bytes=700),
    "configuration": Target(check_config, config_seeds, max_bytes=520),
    "note": Target(check_note, note_seeds, max_bytes=160),
    "clock": Target(check_clock, clock_seeds, max_bytes=256),
    "ref": Target(check_ref, lambda: [b"@" + b"A" * 43 + b"=.ed25519", ADA.public.uri.encode()], max_bytes=100),
    "log": Target(check_log, log_seeds, max_bytes=800),
    "json-stream": Target(check_json_stream, json_stream_seeds, max_bytes=300),
    "marker": Target(check_marker, marker_seeds, max_bytes=200),
    "age": Target(
        check_age,
        lambda: [b"\x00" + AGE, b"\x01\x05x", b"\x01\xc0\x80", b"\x01\x80\x30" + put_piece(b"-> X\n")],
        max_bytes=450,
    ),
    "mount-table": Target(check_mounts, mount_seeds, max_bytes=320),
}
