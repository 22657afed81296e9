"""One place says which blobs are missing, which go along, and which have come early."""

from __future__ import annotations

from pathlib import Path

import pytest

from sneaker.planning.send_order import Range
from sneaker.refs import BlobRef
from sneaker.store import blob_ledger
from sneaker.store.blob_ledger import BlobLedger, BlobToSend
from sneaker.store.blobs import BlobStore
from sneaker.store.store import Store
from tests.store.worlds import batch, feed, keypair

ADA, BEN = keypair(0).public, keypair(1).public
#: What ``worlds.content`` mentions: in every fifth message from the fourth on, one of seven blobs.
DATA = [b"%d" % number for number in range(7)]
BLOBS = [BlobRef.of(data) for data in DATA]


@pytest.fixture(params=[1, 10_000], ids=["listed", "looked for"])
def blobs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> BlobStore:
    monkeypatch.setattr(blob_ledger, "_LIST_FROM", request.param)
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
def ledger(store: Store, blobs: BlobStore) -> BlobLedger:
    with store.writer() as writer:
        writer.commit(batch((writer.next_feed_id(), feed(number, 20)) for number in range(2)))
    return BlobLedger(store, blobs)


def test_what_is_missing(ledger: BlobLedger, blobs: BlobStore) -> None:
    mentioned = {BLOBS[sequence % 7] for sequence in (4, 9, 14, 19)}
    assert ledger.missing() == mentioned
    assert ledger.missing([(ADA, 1, 9)]) == {BLOBS[4], BLOBS[2]}
    assert ledger.missing([(ADA, 5, 4)]) == set()
    assert ledger.missing([(ADA, 1, 4)], also=[BLOBS[6]]) == {BLOBS[4], BLOBS[6]}
    blobs.add_blob(DATA[4])
    assert ledger.missing() == mentioned - {BLOBS[4]}
    links = list(ledger.missing_links([(BEN, 1, 20), (ADA, 1, 20)]))
    assert [(link.feed, link.sequence) for link in links] == [(BEN, 9), (BEN, 14), (BEN, 19)]


def test_what_goes_along(ledger: BlobLedger, blobs: BlobStore) -> None:
    for data in DATA:
        blobs.add_blob(data)
    ranges = [Range(ADA, 1, 10), Range(BEN, 9, 14)]
    along = [BlobToSend(BLOBS[4], (ADA, 4)), BlobToSend(BLOBS[2], (ADA, 9)), BlobToSend(BLOBS[0], (BEN, 14))]
    assert ledger.to_send(ranges) == along
    assert ledger.to_send(ranges, {BLOBS[2]}) == [BlobToSend(BLOBS[2]), along[0], along[2]]
    assert ledger.to_send(ranges, {BLOBS[2]}, there={BLOBS[2], BLOBS[4]}) == [along[2]]
    assert ledger.to_send(ranges, max_bytes=0) == []
    assert ledger.to_send(ranges, {BlobRef.of(b"nobody has it")}) == along


def test_what_came_early(ledger: BlobLedger, blobs: BlobStore) -> None:
    for data in (DATA[4], b"nobody mentions it"):
        assert blobs.keep_early(BlobRef.of(data), data)
    assert not ledger.lacks(BLOBS[4])
    assert ledger.lacks(BLOBS[2])
    assert BLOBS[4] in ledger.missing(), "it is not held until its mention is known"
    assert ledger.take_mentioned() == 1
    assert BLOBS[4] not in ledger.missing()
    assert blobs.keep_early(BLOBS[2], DATA[2])
    assert not ledger.must_fetch(BLOBS[2])
    assert blobs.has(BLOBS[2])
    assert ledger.must_fetch(BLOBS[0])
