"""Bundles in files: what the index is trusted for, and when it is not."""

from __future__ import annotations

import io

import pytest

from sneaker.bundle.frames import FOOTER_BYTES, FRAME_BYTES, Footer, RecordType, encode_footer, encode_preamble
from sneaker.bundle.indexed_file import open_indexed
from sneaker.bundle.message_records import decode_messages
from sneaker.errors import BundleDamaged, BundleUnsupported
from tests.bundle.bundles import Parts, keypair, make_bundle, make_header, posts, record_of, small_parts

SMALL = make_bundle(small_parts())


class Counting(io.BytesIO):
    """A file that counts what is read of it."""

    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data


def test_an_intact_bundle() -> None:
    bundle = open_indexed(io.BytesIO(SMALL))
    assert bundle is not None
    assert bundle.trailer.signature_ok
    assert bundle.clock(RecordType.CLOCK) == small_parts().clock
    assert bundle.clock(RecordType.PREREQUISITES) == small_parts().prerequisites
    ada, ben, eve = (keypair(name).public for name in ("ada", "ben", "eve"))
    assert len(list(bundle.advancing({}))) == 2
    assert len(list(bundle.advancing({ada: 3, ben: 2}))) == 1
    assert len(list(bundle.advancing({ada: 5, ben: 9, eve: 2}))) == 0
    (entry,) = bundle.advancing({ada: 5, ben: 1, eve: 2, keypair("zoe").public: 1})
    (run, _) = decode_messages(bundle.read(entry))
    assert run.first == 2


def test_ten_messages_of_many_cost_little() -> None:
    groups = [[posts(keypair(f"author {number}"), 20)] for number in range(40)]
    data = make_bundle(Parts(groups))
    file = Counting(data)
    bundle = open_indexed(file)
    assert bundle is not None
    clock = {entry.feed: entry.last for entry in bundle.index.feeds}
    clock[keypair("author 17").public] = 10
    wanted = list(bundle.advancing(clock))
    assert len(wanted) == 1
    assert decode_messages(bundle.read(wanted[0]))[0].author == keypair("author 17").public
    assert file.taken < len(data) / 5


def test_every_bit_flipped_is_none_or_found_when_it_is_read() -> None:
    for place in range(len(SMALL)):
        data = bytearray(SMALL)
        data[place] ^= 1 << place % 8
        bundle = open_indexed(io.BytesIO(data))
        if bundle is None:
            continue
        hurt = 0
        for entry in bundle.index.records:
            try:
                bundle.read(entry)
            except BundleDamaged:
                hurt += 1
                assert entry.offset <= place < entry.offset + FRAME_BYTES + entry.length
        assert hurt == 1


def test_every_cut_is_none() -> None:
    for length in range(len(SMALL)):
        assert open_indexed(io.BytesIO(SMALL[:length])) is None
    assert open_indexed(io.BytesIO(SMALL + b"\0")) is None


def test_footers_that_lie() -> None:
    body = SMALL[:-FOOTER_BYTES]
    for offset in (0, 16, len(body) - 1, len(body), len(SMALL), 2**31, 2**63 - 1, 2**63, 2**64 - 1):
        assert open_indexed(io.BytesIO(body + encode_footer(Footer(offset, 0)))) is None


def test_another_version_or_feature() -> None:
    with pytest.raises(BundleUnsupported):
        open_indexed(io.BytesIO(encode_preamble(2) + SMALL[16:]))
    with pytest.raises(BundleUnsupported):
        open_indexed(io.BytesIO(make_bundle(Parts(header=make_header(features=("time-travel",))))))


def test_a_file_that_changes_after_it_was_opened() -> None:
    file = io.BytesIO(SMALL)
    bundle = open_indexed(file)
    assert bundle is not None
    file.truncate(record_of(SMALL, RecordType.MESSAGES, 0)[0] + 10)
    for entry in bundle.index.records[3:]:
        with pytest.raises(BundleDamaged):
            bundle.read(entry)
