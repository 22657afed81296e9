"""Blobs: stored, carried, wanted, bounded; accepted only if they are what they say and somebody mentions them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sneaker.bundle.records import Header, encode_blob
from sneaker.bundle.writer import BundleWriter
from sneaker.errors import BlobError
from sneaker.exchange.attachments import attach_files
from sneaker.exchange.cards import wanted_blobs
from sneaker.exchange.home import Home
from sneaker.exchange.publish import publish
from sneaker.limits import MAX_BLOB_BYTES
from sneaker.refs import BlobRef
from sneaker.store.blobs import BlobStore
from tests.homes import NOW_MS, home, pack, sneaker, take


def attach(opened: Home, *paths: Path) -> list[BlobRef]:
    content = attach_files(opened.blobs, paths, {"type": "post", "text": "look"})
    publish(opened.store, opened.keypair, opened.caps, content, now_ms=lambda: NOW_MS, random_bytes=os.urandom)
    return [BlobRef.parse(mention["link"]) for mention in content["mentions"]]


def files(folder: Path, *sizes: int) -> list[Path]:
    paths = []
    for number, size in enumerate(sizes):
        path = folder / f"file{number}.bin"
        path.write_bytes(os.urandom(size))
        paths.append(path)
    return paths


def test_store_keeps_blobs_as_other_programs_do(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    blob, new = store.add(b"hello")
    assert new
    assert store.add(b"hello") == (blob, False)
    assert store.path_of(blob) == tmp_path / "sha256" / blob.hex()[:2] / blob.hex()[2:]
    assert store.read(blob) == b"hello"
    assert list(store) == [blob]
    assert (store.counts().count, store.counts().bytes) == (1, 5)
    assert store.size(blob) == 5
    assert store.read(BlobRef(bytes(32))) is None


def test_the_empty_blob_is_always_there(tmp_path: Path) -> None:
    assert BlobStore(tmp_path).read(BlobRef.of(b"")) == b""


def test_a_rotten_blob_counts_as_missing_and_is_kept_aside(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    blob, _ = store.add(b"hello")
    store.path_of(blob).write_bytes(b"hellO")
    assert store.read(blob) is None
    assert not store.has(blob)
    assert store.add(b"hello")[1]
    assert store.read(blob) == b"hello"


def test_limits(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    assert store.add(bytes(MAX_BLOB_BYTES))[1]
    with pytest.raises(BlobError):
        store.add(bytes(MAX_BLOB_BYTES + 1))
    with pytest.raises(BlobError):
        store.add(b"one", BlobRef.of(b"two"))
    assert len(list(store)) == 1


def test_blobs_travel_with_the_messages_that_mention_them(tmp_path: Path) -> None:
    with home(tmp_path / "a") as a, home(tmp_path / "b") as b:
        blobs = attach(a, *files(tmp_path, 10, 100_000, MAX_BLOB_BYTES))
        packed = pack(a, tmp_path / "x.sneaker").packed
        assert packed.blobs == 3
        report = take(b, tmp_path / "x.sneaker")
        assert report.blobs.accepted == 3
        assert report.complete
        assert [b.blobs.read(blob) for blob in blobs] == [a.blobs.read(blob) for blob in blobs]
        assert take(b, tmp_path / "x.sneaker").sources[0].status == "known"


def test_blobs_can_stay_at_home_and_be_wanted_later(tmp_path: Path) -> None:
    with home(tmp_path / "a") as a, home(tmp_path / "b") as b:
        small, large = attach(a, *files(tmp_path, 10, 200_000))
        assert pack(a, tmp_path / "1.sneaker", blobs=False).packed.blobs == 0
        take(b, tmp_path / "1.sneaker")
        assert wanted_blobs(b) == {small, large}
        assert pack(a, tmp_path / "2.sneaker", max_blob_bytes=1000).packed.blobs == 1
        assert take(b, tmp_path / "2.sneaker").blobs.accepted == 1
        assert wanted_blobs(b) == {large}
    sneaker("clock", "--card", tmp_path / "b.card", at=tmp_path / "b")
    report = sneaker("export", tmp_path / "3.sneaker", "--for", tmp_path / "b.card", "--json", at=tmp_path / "a").json
    assert (report["messages"], report["blobs"]) == (0, 1)
    assert sneaker("import", tmp_path / "3.sneaker", "--json", at=tmp_path / "b").json["blobs"]["accepted"] == 1
    assert sneaker("status", "--json", at=tmp_path / "b").json["blobs"] == {"count": 2, "bytes": 200_010, "missing": 0}


def lone_blob(a: Home, blob: BlobRef, data: bytes) -> bytes:
    """Return a bundle with nothing but a blob record, true or not."""
    header = Header(os.urandom(16), a.caps.network_id, a.keypair.public, NOW_MS, ("classic-messages", "blobs"))
    writer = BundleWriter(header, a.keypair)
    return writer.start() + writer.add_blob(blob, len(data), encode_blob(blob, data)) + writer.finish()


def test_a_blob_that_nobody_mentions_waits_in_a_bounded_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sneaker.store.blobs.MAX_EARLY_BLOB_BYTES", 100_000)
    with home(tmp_path / "a") as a, home(tmp_path / "b") as b:
        (blob,) = attach(a, *files(tmp_path, 60_000))
        data = lone_blob(a, blob, a.blobs.read(blob) or b"")
        (tmp_path / "blob.sneaker").write_bytes(data)
        for source, counts in ((tmp_path / "blob.sneaker", (0, 0, 1)), ("-", (0, 1, 0))):
            report = take(b, source, data=data)
            assert (report.blobs.accepted, report.blobs.known, report.blobs.waiting) == counts
            assert report.complete
        assert list(b.blobs) == []
        assert not b.blobs.has(blob)
        stray = os.urandom(60_000)
        report = take(b, "-", data=lone_blob(a, BlobRef.of(stray), stray))
        assert report.blobs.refused == 1
        assert not report.complete
        pack(a, tmp_path / "messages.sneaker", blobs=False)
        assert take(b, tmp_path / "messages.sneaker").blobs.accepted == 1
        assert b.blobs.read(blob) == a.blobs.read(blob)
        assert list((tmp_path / "b/blobs/early").iterdir()) == []


def test_a_blob_that_lies_is_refused(tmp_path: Path) -> None:
    with home(tmp_path / "a") as a, home(tmp_path / "b") as b:
        (blob,) = attach(a, *files(tmp_path, 10))
        pack(a, tmp_path / "messages.sneaker", blobs=False)
        take(b, tmp_path / "messages.sneaker")
        report = take(b, "-", data=lone_blob(a, blob, b"other"))
        assert (report.blobs.accepted, report.blobs.refused) == (0, 1)
        assert report.sources[0].status == "damaged"
        assert not b.blobs.has(blob)


def test_attach_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"a picture")
    at = tmp_path / "home"
    sneaker("init", at=at)
    content = sneaker("publish", "my cat", "--attach", tmp_path / "cat.png", "--json", at=at).json["value"]["content"]
    blob = BlobRef.of(b"a picture")
    assert content["mentions"] == [{"link": str(blob), "name": "cat.png", "type": "image/png", "size": 9}]
    assert content["text"] == f"my cat\n\n![cat.png]({blob})"
    assert sneaker("publish", "x", "--attach", tmp_path / "none", at=at, ok=False).code == 36
    (tmp_path / "huge").write_bytes(bytes(MAX_BLOB_BYTES + 1))
    assert sneaker("publish", "x", "--attach", tmp_path / "huge", at=at, ok=False).code == 38
    assert sneaker("clock", "--json", at=at).out.count(":") == 1
