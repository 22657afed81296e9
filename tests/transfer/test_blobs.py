"""Blobs: stored, carried, wanted, bounded; accepted only if they are what they say and somebody mentions them."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

import pytest

from sneaker.bundle.records import Header, encode_blob
from sneaker.bundle.writer import BundleWriter
from sneaker.errors import BlobError
from sneaker.home.home import Home
from sneaker.limits import MAX_BLOB_BYTES, MAX_EARLY_BLOB_AGE_S
from sneaker.own_feed.attachments import read_attachments
from sneaker.own_feed.publish import contact_content, publish
from sneaker.refs import BlobRef
from sneaker.stick.own_card import wanted_blobs
from sneaker.store.blobs import BlobStore
from tests.command_line import sneaker
from tests.homes import NOW_MS, fixture_log, home, pack, take


def attach(opened: Home, *paths: Path) -> list[BlobRef]:
    message = publish(
        opened.store,
        opened.keypair,
        opened.caps,
        {"type": "post", "text": "look"},
        attachments=read_attachments(opened, paths),
        now_ms=lambda: NOW_MS,
        random_bytes=os.urandom,
    )
    assert isinstance(message.content, dict)
    return [BlobRef.parse(mention["link"]) for mention in message.content["mentions"]]


def files(folder: Path, *sizes: int) -> list[Path]:
    paths = []
    for number, size in enumerate(sizes):
        path = folder / f"file{number}.bin"
        path.write_bytes(os.urandom(size))
        paths.append(path)
    return paths


def test_store_keeps_blobs_as_other_programs_do(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    blob, new = store.add_blob(b"hello")
    assert new
    assert store.add_blob(b"hello") == (blob, False)
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
    blob, _ = store.add_blob(b"hello")
    store.path_of(blob).write_bytes(b"hellO")
    assert store.read(blob) is None
    assert not store.has(blob)
    assert store.add_blob(b"hello")[1]
    assert store.read(blob) == b"hello"


def test_limits(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    assert store.add_blob(bytes(MAX_BLOB_BYTES))[1]
    with pytest.raises(BlobError):
        store.add_blob(bytes(MAX_BLOB_BYTES + 1))
    with pytest.raises(BlobError):
        store.add_blob(b"one", BlobRef.of(b"two"))
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
        me = str(a.keypair.public)
    named = sneaker("status", "--missing", "--json", at=tmp_path / "b").json["missing"]
    assert named == [{"blob": str(large), "feed": me, "sequence": 1}]
    assert f"missing   {large}, mentioned by {me} 1" in sneaker("status", "--missing", at=tmp_path / "b").out
    assert "missing   " not in sneaker("status", at=tmp_path / "b").out
    sneaker("clock", "--card", tmp_path / "b.card", at=tmp_path / "b")
    report = sneaker("export", tmp_path / "3.sneaker", "--for", tmp_path / "b.card", "--json", at=tmp_path / "a").json
    assert (report["messages"], report["blobs"]) == (0, 1)
    assert sneaker("import", tmp_path / "3.sneaker", "--json", at=tmp_path / "b").json["blobs"]["accepted"] == 1
    assert sneaker("status", "--json", at=tmp_path / "b").json["blobs"] == {
        "count": 2,
        "bytes": 200_010,
        "missing": 0,
        "waiting": 0,
    }


def lone_blob(a: Home, blob: BlobRef, data: bytes) -> bytes:
    """Return a bundle with nothing but a blob record, true or not."""
    header = Header(os.urandom(16), a.caps.network_id, a.keypair.public, NOW_MS, ("classic-messages", "blobs"))
    writer = BundleWriter(header, a.keypair)
    return writer.start() + writer.add_blob(blob, len(data), encode_blob(blob, data)) + writer.finish()


def test_a_blob_that_nobody_mentions_waits_until_somebody_does(tmp_path: Path) -> None:
    with home(tmp_path / "a") as a, home(tmp_path / "b") as b:
        (blob,) = attach(a, *files(tmp_path, 60_000))
        data = lone_blob(a, blob, a.blobs.read(blob) or b"")
        (tmp_path / "blob.sneaker").write_bytes(data)
        for source, counts, status in (
            (tmp_path / "blob.sneaker", (0, 0, 1), "ok"),
            (tmp_path / "blob.sneaker", (0, 1, 0), "known"),
            ("-", (0, 1, 0), "known"),
        ):
            report = take(b, source, data=data)
            assert (report.blobs.accepted, report.blobs.known, report.blobs.waiting) == counts
            assert report.complete
            assert report.sources[0].status == status
        assert list(b.blobs) == []
        assert not b.blobs.has(blob)
        status = sneaker("status", "--json", at=tmp_path / "b").json["blobs"]
        assert (status["count"], status["waiting"]) == (0, 1)
        pack(a, tmp_path / "messages.sneaker", blobs=False)
        assert take(b, tmp_path / "messages.sneaker").blobs.accepted == 1
        assert b.blobs.read(blob) == a.blobs.read(blob)
        assert list((tmp_path / "b/blobs/early").iterdir()) == []


def test_blobs_wait_only_while_the_disk_has_room_and_then_the_report_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with home(tmp_path / "a") as a, home(tmp_path / "b") as b:
        blobs = attach(a, *files(tmp_path, 150_000, 150_000, 150_000))
        exported = pack(a, tmp_path, volume_bytes=300_000)
        paths = [str(tmp_path / name) for name, _ in exported.files]
        assert len(paths) > 2
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr("sneaker.store.blobs.MIN_FREE_BESIDE_EARLY_BLOBS_BYTES", usage.free * 2)
        report = take(b, paths[-1])
        assert (report.blobs.waiting, report.blobs.refused) == (0, 1)
        assert not report.complete
        assert report.sources[0].status == "ok"
        assert "no room" in report.sources[0].detail
        # What a message mentions already needs no waiting.
        for path in (*paths, paths[-1]):
            assert take(b, path).complete
        assert all(b.blobs.has(blob) for blob in blobs)


def test_volumes_bring_their_blobs_in_any_order(tmp_path: Path) -> None:
    with home(tmp_path / "a") as a:
        blobs = attach(a, *files(tmp_path, 150_000, 150_000, 150_000))
        (tmp_path / "out").mkdir()
        exported = pack(a, tmp_path / "out", volume_bytes=300_000)
        paths = [str(tmp_path / "out" / name) for name, _ in exported.files]
    for number, order in enumerate(itertools.permutations(paths)):
        with home(tmp_path / f"one by one {number}") as b:
            reports = [take(b, path) for path in order]
            assert all(report.complete for report in reports)
            assert sum(report.blobs.accepted for report in reports) == len(blobs)
            assert all(b.blobs.has(blob) for blob in blobs)
        with home(tmp_path / f"at once {number}") as b:
            report = take(b, *order)
            assert report.complete
            assert (report.blobs.accepted, report.blobs.waiting) == (len(blobs), 0)
    with home(tmp_path / "folder") as b:
        report = take(b, tmp_path / "out")
        assert report.complete
        assert (report.blobs.accepted, report.blobs.waiting) == (len(blobs), 0)


def test_a_waiting_blob_is_forgotten_in_the_end_and_a_rotten_one_is_not_taken(tmp_path: Path) -> None:
    with home(tmp_path / "a") as a, home(tmp_path / "b") as b:
        old, rotten = attach(a, *files(tmp_path, 100, 200))
        for blob in (old, rotten):
            take(b, "-", data=lone_blob(a, blob, a.blobs.read(blob) or b""))
        assert b.blobs.early() == sorted([old, rotten])
        lines = fixture_log().splitlines(keepends=True)
        for age, left in ((-60, [old, rotten]), (60, [rotten])):
            os.utime(tmp_path / "b/blobs/early" / old.hex(), (0, NOW_MS / 1000 - MAX_EARLY_BLOB_AGE_S - age))
            take(b, "-", data=lines.pop(0))
            assert b.blobs.early() == sorted(left)
        (tmp_path / "b/blobs/early" / rotten.hex()).write_bytes(b"x" * 200)
        pack(a, tmp_path / "messages.sneaker", blobs=False)
        assert take(b, tmp_path / "messages.sneaker").blobs.accepted == 0
        assert b.blobs.early() == []
        assert wanted_blobs(b) >= {old, rotten}


def test_a_block_leaves_out_the_blobs_of_the_blocked_only(tmp_path: Path) -> None:
    """Whoever blocks somebody still gets the blobs of others that come before their messages."""
    with home(tmp_path / "a") as a, home(tmp_path / "enemy") as enemy, home(tmp_path / "b") as b:
        (theirs,) = attach(enemy, *files(tmp_path, 1000))
        pack(enemy, tmp_path / "enemy.sneaker")
        (early,) = attach(a, *files(tmp_path, 2000))
        data = a.blobs.read(early) or b""
        content = contact_content(enemy.keypair.public, following=False, blocking=True)
        publish(b.store, b.keypair, b.caps, content, now_ms=lambda: NOW_MS, random_bytes=os.urandom)
        (tmp_path / "early.sneaker").write_bytes(lone_blob(a, early, data))
        report = take(b, tmp_path / "enemy.sneaker", tmp_path / "early.sneaker")
        assert (report.ingested.left_out, report.blobs.waiting) == (1, 1)
        assert b.blobs.early() == [early]
        assert not b.blobs.has(theirs)
        pack(a, tmp_path / "a.sneaker", blobs=False)
        assert take(b, tmp_path / "a.sneaker").blobs.accepted == 1
        assert b.blobs.has(early)


def test_check_finds_rotten_blobs_and_repair_lets_them_be_brought_again(tmp_path: Path) -> None:
    with home(tmp_path / "a") as a, home(tmp_path / "b") as b:
        good, bad = attach(a, *files(tmp_path, 100, 100))
        pack(a, tmp_path / "x.sneaker")
        take(b, tmp_path / "x.sneaker")
        b.blobs.path_of(bad).write_bytes(b"x" * 100)
        left = b.blobs.path_of(good).with_name("left.part")
        left.write_bytes(b"half")
        os.utime(left, (0, 0))
    shown = sneaker("check", at=tmp_path / "b", ok=False).out.splitlines()[-1]
    assert shown.startswith("1 problems in 1 messages of 1 feeds and 2 blobs; nothing was changed")
    for arguments, code in (((), 3), (("--repair",), 0), ((), 0)):
        done = sneaker("check", "--json", *arguments, at=tmp_path / "b", ok=False)
        assert done.code == code
        problems = [problem["code"] for problem in done.json["problems"]]
        assert problems == ([] if arguments == () and code == 0 else ["blob-damaged"])
        assert left.exists() == (arguments == () and code == 3)
    with home(tmp_path / "b") as b:
        assert wanted_blobs(b) == {bad}
        assert take(b, tmp_path / "x.sneaker").blobs.accepted == 1
        assert b.blobs.has(bad)


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
