"""More than 4 GiB: written, split and read in little memory, and where offsets need more than 32 bits."""

from __future__ import annotations

import functools
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from sneaker.bundle import writer as writer_module
from sneaker.bundle.frames import FRAME_BYTES, MAX_PAYLOAD_BYTES, RecordType, payload_digest
from sneaker.bundle.indexed_file import open_indexed
from sneaker.bundle.message_records import decode_messages, encode_messages
from sneaker.bundle.records import decode_blob, encode_blob
from sneaker.bundle.writer import BundleWriter
from sneaker.limits import MAX_BLOB_BYTES
from sneaker.own_feed.publish import publish
from sneaker.refs import BlobRef
from sneaker.transfer.export_options import DEFAULT_VOLUME_BYTES
from tests.bundle.bundles import EXPORTER, keypair, make_header, posts, run_of, without_keys
from tests.homes import NOW_MS, home

GIB = 1 << 30
BLOBS = 4 * GIB // MAX_BLOB_BYTES + 30
BLOBS_IN_A_MESSAGE = 20

# The source's blobs, a bundle of them and the reader's: 13.4 GB, and room for others.
NEEDED_BYTES = 20 * 10**9
PEAK_BYTES = 150 * 10**6

# VmHWM begins anew with exec; ru_maxrss of a child would count what its parent held when it forked.
MEASURED = """
import re, sys
from pathlib import Path
from sneaker.cli import main
peak = Path(sys.argv.pop(1))
try:
    main()
finally:
    peak.write_text(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def measured(tmp_path: Path, *arguments: str | Path, codes: tuple[int, ...] = (0,)) -> Any:
    """Run a command in a process of its own, which must stay small, and return its JSON."""
    peak = tmp_path / "peak"
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, peak, *map(str, arguments), "--json"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=600,
        check=False,
    )
    assert done.returncode in codes, done.stderr.decode() + done.stdout.decode()
    peak_bytes = int(peak.read_text()) * 1024
    print(f"{arguments[2]}: {time.monotonic() - began:.1f} s, at most {peak_bytes / 1e6:.0f} MB of memory")
    assert peak_bytes < PEAK_BYTES
    return orjson.loads(done.stdout.splitlines()[-1])


def make_source(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[BlobRef]:
    """Make a home with messages that mention more than 4 GiB of blobs, which do not compress."""
    data = bytearray(random.Random(1).randbytes(MAX_BLOB_BYTES))
    blobs: list[BlobRef] = []
    with monkeypatch.context() as patch, home(path) as opened:
        patch.setattr(os, "fsync", lambda _: None)  # nobody's data, and minutes on slow disks
        for number in range(BLOBS):
            data[:8] = number.to_bytes(8, "big")
            blobs.append(opened.blobs.add_blob(bytes(data))[0])
        for first in range(0, BLOBS, BLOBS_IN_A_MESSAGE):
            links = [{"link": str(blob)} for blob in blobs[first : first + BLOBS_IN_A_MESSAGE]]
            content = {"type": "post", "text": f"blobs from {first}", "mentions": links}
            publish(opened.store, opened.keypair, opened.caps, content, now_ms=lambda: NOW_MS, random_bytes=os.urandom)
    return blobs


@pytest.mark.disk
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_more_than_four_gib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if (free := shutil.disk_usage(tmp_path).free) < NEEDED_BYTES:
        pytest.skip(f"needs {NEEDED_BYTES / 1e9:.0f} GB of free disk; there are {free / 1e9:.0f}")
    source, reader, out, whole = (tmp_path / name for name in ("a", "b", "out", "whole"))
    try:
        began = time.monotonic()
        blobs = make_source(source, monkeypatch)
        print(f"source: {time.monotonic() - began:.1f} s")
        with home(source) as a:
            clock = a.store.clock()
        with home(reader):
            out.mkdir()
        split_and_join(tmp_path, source, reader, out, blobs)
        with home(reader) as b:
            assert set(b.blobs) == set(blobs)
            assert b.store.clock() == clock
        shutil.rmtree(out)
        shutil.rmtree(reader)
        whole.mkdir()
        one_file(tmp_path, source, whole / "one.sneaker", blobs)
    finally:
        for folder in (source, reader, out, whole):
            shutil.rmtree(folder, ignore_errors=True)


def split_and_join(tmp_path: Path, source: Path, reader: Path, out: Path, blobs: list[BlobRef]) -> None:
    """Export to a folder and import the volumes, the last one first."""
    exported = measured(tmp_path, "--home", source, "export", out)
    sizes = [file["bytes"] for file in exported["files"]]
    assert sizes == [Path(file["path"]).stat().st_size for file in exported["files"]]
    assert len(sizes) > 1
    assert max(sizes) <= DEFAULT_VOLUME_BYTES < 4 * GIB < sum(sizes)
    assert exported["blobs"] == len(blobs)
    for file in reversed(exported["files"]):
        taken = measured(tmp_path, "--home", reader, "import", file["path"])
        assert not taken["blobs"]["refused"]
    # Blobs that came before the messages which mention them waited.
    assert taken["blobs"]["accepted"] == len(blobs)


def one_file(tmp_path: Path, source: Path, path: Path, blobs: list[BlobRef]) -> None:
    """Write one file of more than 4 GiB, read it from the front, and its last blob by the index."""
    exported = measured(tmp_path, "--home", source, "export", "--volume-size", "8G", path)
    assert exported["bytes"] == path.stat().st_size > 4 * GIB
    verified = measured(tmp_path, "--home", source, "verify", path)
    assert verified["status"] == "ok", verified
    with home(source) as a:
        a.blobs.path_of(blobs[-1]).unlink()
    taken = measured(tmp_path, "--home", source, "import", path)
    assert taken["blobs"] == {"accepted": 1, "known": len(blobs) - 1, "refused": 0, "waiting": 0}


@pytest.mark.timeout(300)
def test_offsets_that_need_more_than_32_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle with 4 GiB of padding in it, holes that take no room on the disk, read by its index."""
    # All the padding is one object, whose digest is computed once.
    monkeypatch.setattr(writer_module, "payload_digest", functools.cache(payload_digest))
    hole = bytes(MAX_PAYLOAD_BYTES)
    messages, blob = posts(keypair("ada"), 3), b"a blob behind the hole"
    runs, ref = [run_of(messages)], BlobRef.of(blob)
    writer = BundleWriter(make_header(), EXPORTER)
    path = tmp_path / "sparse.sneaker"
    with path.open("wb") as file:
        file.write(writer.start())
        while writer.bytes_written <= 4 * GIB:
            file.write(writer._record(RecordType.PADDING, hole)[:FRAME_BYTES])
            file.seek(writer.bytes_written)
        file.write(writer.add_messages(runs, encode_messages(runs)))
        file.write(writer.add_blob(ref, len(blob), encode_blob(ref, blob)))
        file.write(writer.finish())
        assert file.tell() == writer.bytes_written > 4 * GIB
    with path.open("rb") as file:
        bundle = open_indexed(file)
        assert bundle is not None
        assert bundle.trailer.index_offset > 4 * GIB
        first, second = bundle.index.records[-2:]
        assert second.offset > first.offset > 4 * GIB
        assert decode_messages(bundle.read(first)) == without_keys(runs)
        assert decode_blob(bundle.read(second)) == (ref, blob)
