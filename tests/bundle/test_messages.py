"""Message records: every run comes back as it was, and hostile payloads are refused in bounded memory."""

from __future__ import annotations

import struct
import tracemalloc
from binascii import b2a_base64
from collections.abc import Callable, Iterable

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from sneaker.bundle.compression import compress, decompress
from sneaker.bundle.frames import Cursor, encode_varint
from sneaker.bundle.message_records import (
    MAX_COLUMN_BYTES,
    MAX_RECORD_MESSAGES,
    decode_messages,
    encode_messages,
    split_runs,
)
from sneaker.errors import BundleDamaged
from sneaker.feed.classic.compact import KIND_BOX, KIND_BOX2, KIND_JSON, KIND_RAW, compact, expand_run
from sneaker.feed.message import Compact
from sneaker.feed.run import Run
from sneaker.limits import MAX_MESSAGE_BYTES, MAX_SEQUENCE
from sneaker.refs import FeedRef, MessageRef
from tests.bundle.bundles import keypair, make_feed, make_message, posts, run_of, without_keys
from tests.tries import amount, tries

pytestmark = pytest.mark.timeout(300)

SAFE = 2**53 - 1
timestamps = st.one_of(
    st.integers(-SAFE, SAFE), st.sampled_from([0, -1, SAFE, -SAFE, 2**31, 2**32, -(2**32)]), st.integers(1, 10**13)
)
references = st.binary(min_size=32, max_size=32).map(lambda raw: b2a_base64(raw, newline=False))
# Base64 that is not canonical, or too long, or runs into another reference: left alone or found, but never changed.
nearly = st.sampled_from(
    [b"A" * 43 + b"=", b"A" * 42 + b"B=", b"A" * 45 + b"=", b"A" * 86 + b"==", b"=", b"A" * 41 + b"AA=="]
)
words = st.one_of(
    references,
    nearly,
    st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), max_size=12).map(str.encode),
)


@st.composite
def bodies(draw: st.DrawFn, pool: list[bytes]) -> bytes:
    """Lines that look like contents: references, repeated ones too, between text."""
    pieces = draw(st.lists(st.one_of(words, st.sampled_from(pool)), max_size=6))
    return b'{"type":"post","text":"' + b"".join(pieces) + b'"}'


@st.composite
def compacts(draw: st.DrawFn, pool: list[bytes]) -> Compact:
    kind = draw(st.sampled_from([KIND_JSON, KIND_JSON, KIND_JSON, KIND_BOX, KIND_BOX2, KIND_RAW]))
    if kind == KIND_RAW:
        return Compact(KIND_RAW << 1, 0, b"", draw(st.binary(max_size=80)))
    signature = bytes([draw(st.integers(0, 255))]) * 64
    content = draw(bodies(pool)) if kind == KIND_JSON else draw(st.binary(max_size=80))
    return Compact(kind << 1 | draw(st.integers(0, 1)), draw(timestamps), signature, content)


@st.composite
def runs(draw: st.DrawFn) -> list[Run]:
    pool = draw(st.lists(references, min_size=1, max_size=3))
    made = []
    for _ in range(draw(st.integers(1, 5))):
        messages = draw(st.lists(compacts(pool), min_size=1, max_size=6))
        first = draw(st.one_of(st.just(1), st.integers(1, 300), st.just(MAX_SEQUENCE + 1 - len(messages))))
        previous = MessageRef(draw(st.binary(min_size=32, max_size=32))) if first > 1 else None
        made.append(Run(FeedRef.classic(draw(st.binary(min_size=32, max_size=32))), first, previous, messages))
    return made


@tries(200)
@given(runs(), st.sampled_from([1, 3, 12]))
def test_round_trip(given_runs: list[Run], level: int) -> None:
    assert decode_messages(encode_messages(given_runs, level)) == without_keys(given_runs)


def joined(pieces: Iterable[Run]) -> list[Run]:
    """Put together what continues the run before it; what was generated may do so, too."""
    whole: list[Run] = []
    for piece in pieces:
        before = whole[-1] if whole else None
        if before and (before.author, before.last + 1, before.keys[-1]) == (piece.author, piece.first, piece.previous):
            whole[-1] = before._replace(compacts=[*before.compacts, *piece.compacts], keys=[*before.keys, *piece.keys])
        else:
            whole.append(piece._replace(compacts=list(piece.compacts), keys=list(piece.keys)))
    return whole


@tries(100)
@given(runs(), st.integers(1, 400))
@example(
    [Run(FeedRef.classic(bytes(32)), n, MessageRef(bytes(32)), [Compact(0, 0, bytes(64), b"")]) for n in (1, 2)], 1
)
def test_split_runs_keep_everything_in_order(given_runs: list[Run], room: int) -> None:
    keyed = [
        run._replace(keys=[MessageRef(bytes([n % 256]) * 32) for n in range(len(run.compacts))]) for run in given_runs
    ]
    groups = list(split_runs(keyed, room))
    assert all(groups)
    assert joined(piece for group in groups for piece in group) == joined(keyed)
    for group in groups:
        sizes = [len(item.content) + 8 for run in group for item in run.compacts]
        assert len(sizes) == 1 or sum(sizes) <= room


def test_split_runs_bounds_the_number_of_messages() -> None:
    tiny = Compact(KIND_BOX << 1, 0, bytes(64), b"")
    run = Run(FeedRef.classic(bytes(32)), 1, None, [tiny] * 10_000, [MessageRef(bytes(32))] * 10_000)
    groups = list(split_runs([run]))
    assert [sum(len(piece.compacts) for piece in group) for group in groups] == [4096, 4096, 1808]
    assert [decode_messages(encode_messages(group))[0].first for group in groups] == [1, 4097, 8193]


def test_split_runs_of_nothing() -> None:
    assert list(split_runs([])) == []
    assert list(split_runs([Run(FeedRef.classic(bytes(32)), 1, None, [])])) == []


def reference(number: int) -> bytes:
    return b2a_base64(number.to_bytes(32, "big"), newline=False)


def json_run(contents: list[bytes]) -> Run:
    return Run(FeedRef.classic(bytes(32)), 1, None, [Compact(0, 0, bytes(64), content) for content in contents])


def test_more_references_than_two_bytes_can_name() -> None:
    """The number of a repeated reference has 14 bits; those behind stay as text."""
    many = [b'{"type":"x","a":"' + b"".join(reference(n * 50 + i) for i in range(50)) + b'"}' for n in range(340)]
    repeated = [
        b'{"type":"x","a":"' + reference(n) + b'"}' for n in (0, 1, 127, 128, 16382, 16383, 16384, 16385, 16999)
    ]
    given_runs = [json_run(many + repeated)]
    payload = encode_messages(given_runs)
    assert decode_messages(payload) == without_keys(given_runs)


def test_one_reference_repeated_more_than_16384_times() -> None:
    line = b'{"type":"x","a":"' + reference(7) * 20 + b'"}'
    given_runs = [json_run([line] * 1000)]
    payload = encode_messages(given_runs)
    assert decode_messages(payload) == without_keys(given_runs)
    assert len(payload) < 64_000 + 2_000


def test_real_messages_come_back_byte_for_byte() -> None:
    ada, eve = keypair("ada"), keypair("eve")
    odd = [
        {"type": "odd", "float": 1.5, "small": 1e-7, "large": 1e21, "minus": -0.0},
        {"type": "odd", "half": "\ud83d", "whole": "\U0001f600", "control": "\x01\x02\x7f\u2028"},
        {"type": "odd", "2": 1, "1": 2, "": {}, "list": [[], [1, [2]]]},
        "A" * 40 + ".box",
        "AAAA.box2",
        "AAAA.box9 and more",
        ".box",
    ]
    feed = make_feed(eve, odd)
    turned = make_message(eve, feed[-1], 0, {"type": "post"}, author_first=True)
    strange = make_message(eve, turned, "yesterday", {"type": "post"})
    negative = make_message(eve, strange, -1.5, {"type": "post"})
    feed += [turned, strange, negative]
    groups = [run_of(posts(ada, 7)), run_of(feed)]
    decoded = decode_messages(encode_messages(groups))
    texts = [
        message.text for run in decoded for message in expand_run(run.author, run.first, run.previous, run.compacts)
    ]
    assert texts == [message.text for message in [*posts(ada, 7), *feed]]


@pytest.mark.parametrize(
    "bad",
    [
        [],
        [Run(FeedRef.classic(bytes(32)), 1, None, [])],
        [Run(FeedRef.classic(bytes(32)), 2, None, [Compact(0, 0, bytes(64), b"{}")])],
        [json_run([b"{}"] * (MAX_RECORD_MESSAGES + 1))],
        [json_run([b"x" * 24_000] * 400)],
        [Run(FeedRef.classic(bytes(32)), 1, None, [Compact(14, 0, b"", bytes(20_000))] * 300)],
    ],
)
def test_what_no_reader_would_take_is_not_written(bad: list[Run]) -> None:
    with pytest.raises(ValueError, match=r"a record of|a record with|needs the key"):
        encode_messages(bad)


# ------------------------------------------------------------------------------------------------ hostile payloads


def columns(
    *,
    count: int = 1,
    signed: int | None = None,
    runs: bytes | None = None,
    forms: bytes = b"\0",
    stamps: bytes = bytes(8),
    text: bytes = b'{"type":"post"}\n',
    references: bytes = b"\0",
    lengths: bytes = b"",
    others: bytes = b"",
    plain: int | None = None,
    text_length: int | None = None,
) -> bytes:
    """Return a payload with some of its parts replaced."""
    head = encode_varint(1) + bytes(32) + encode_varint(1) + encode_varint(count)
    body = b"".join(
        (
            head if runs is None else runs,
            forms,
            stamps,
            encode_varint(len(text) if text_length is None else text_length),
            text,
            references,
            lengths,
            others,
        )
    )
    signed = count if signed is None else signed
    return b"".join(
        (
            encode_varint(count),
            encode_varint(signed),
            encode_varint(len(body) if plain is None else plain),
            bytes(64 * min(signed, 5000)),
            compress(body),
        )
    )


def test_the_columns_of_these_tests_are_right() -> None:
    assert decode_messages(columns())[0].compacts == [Compact(0, 0, bytes(64), b'{"type":"post"}')]


HUGE = encode_varint(2**63 - 1)
HEAD = encode_varint(1) + bytes(32)
LIES: dict[str, Callable[[], bytes]] = {
    "no messages": lambda: columns(count=0, runs=b"\0", forms=b"", stamps=b"", text=b""),
    "too many messages": lambda: columns(count=MAX_RECORD_MESSAGES + 1),
    "more messages than there are": lambda: columns(count=2),
    "more signatures than messages": lambda: columns(signed=2),
    "fewer signatures than messages": lambda: columns(signed=0),
    "a huge count": lambda: HUGE + columns()[1:],
    "a varint without an end": lambda: b"\xff" * 40,
    "a varint of ten bytes": lambda: b"\x81" + b"\x80" * 8 + b"\x00" + columns()[1:],
    "huge columns": lambda: columns(plain=MAX_COLUMN_BYTES + 1),
    "columns longer than stated": lambda: columns(plain=20),
    "columns shorter than stated": lambda: columns(plain=1000),
    "no runs": lambda: columns(runs=b"\0"),
    "many runs": lambda: columns(runs=encode_varint(2**40) + bytes(100)),
    "a run from 0": lambda: columns(runs=HEAD + b"\0\1"),
    "a run of 0": lambda: columns(runs=HEAD + b"\1\0"),
    "a run of more than the record": lambda: columns(runs=HEAD + b"\1\2"),
    "a run beyond the end of feeds": lambda: columns(
        count=2, runs=HEAD + encode_varint(MAX_SEQUENCE) + b"\2" + bytes(32), forms=b"\0\0", stamps=bytes(16)
    ),
    "a sequence of 2^40": lambda: columns(runs=HEAD + encode_varint(2**40) + b"\1" + bytes(32)),
    "previous is missing": lambda: columns(runs=HEAD + b"\2\1", forms=b"", stamps=b"", text=b"", references=b""),
    "form 6": lambda: columns(forms=b"\x06", text=b"", lengths=b"\1", others=b"x"),
    "form 15": lambda: columns(signed=0, forms=b"\x0f", text=b"", lengths=b"\1", others=b"x"),
    "form 16": lambda: columns(forms=b"\x10"),
    "form 255": lambda: columns(forms=b"\xff"),
    "a timestamp of 2^53": lambda: columns(stamps=planes(2**53)),
    "a timestamp of -2^53": lambda: columns(stamps=planes(-(2**53))),
    "timestamps that leave the range and come back": lambda: columns(
        count=2, forms=b"\0\0", stamps=planes(2**62, -(2**62)), text=b"{}\n{}\n"
    ),
    "text without a line end": lambda: columns(text=b"{}"),
    "one line too many": lambda: columns(text=b"{}\n{}\n"),
    "one line too few": lambda: columns(text=b""),
    "a million lines": lambda: columns(text=b"\n" * 1_000_000),
    "text beyond the columns": lambda: columns(text_length=2**30),
    "more references than columns": lambda: columns(references=HUGE),
    "an escape for no reference": lambda: columns(text=b'{"type":"\x01"}\n'),
    "an escape for a missing reference": lambda: columns(
        text=b'{"type":"\x02\x80\x81"}\n', references=b"\1" + bytes(32)
    ),
    "one escape more than references": lambda: columns(text=b"\x01\x01\n", references=b"\1" + bytes(32)),
    "half an escape": lambda: columns(text=b"\x02\x80", references=b"\1" + bytes(32)),
    "an escape with low bytes": lambda: columns(text=b"\x02\x00\x00\n", references=b"\1" + bytes(32)),
    "a low escape and no references": lambda: columns(text=b"\x02ab\n"),
    "an escape behind half an escape": lambda: columns(text=b"\x02\x02\x80\x80\n", references=b"\1" + bytes(32)),
    "an expansion bomb": lambda: columns(text=b"\x02\x80\x80" * 1_390_000 + b"\n", references=b"\1" + bytes(32)),
    "an oversize message": lambda: columns(text=b"x" * (MAX_MESSAGE_BYTES + 1) + b"\n"),
    "a message grown oversize": lambda: columns(text=b"\x02\x80\x80" * 600 + b"\n", references=b"\1" + bytes(32)),
    "an oversize raw message": lambda: columns(
        signed=0,
        forms=b"\x0e",
        text=b"",
        lengths=encode_varint(MAX_MESSAGE_BYTES + 1),
        others=bytes(MAX_MESSAGE_BYTES + 1),
    ),
    "a box of huge length": lambda: columns(forms=b"\2", text=b"", lengths=HUGE),
    "bytes behind the columns": lambda: columns(others=b"x"),
    "raw with a signature": lambda: columns(forms=b"\x0e", text=b"", lengths=b"\1", others=b"x"),
    "nothing": lambda: b"",
    "no compressed columns": lambda: b"\1\0\5",
    "not compressed": lambda: b"\1\0\5hello",
}


def planes(*stamps: int) -> bytes:
    """Return the timestamp column with these differences, which may be out of every range."""
    raw = b"".join(struct.pack("<q", stamp) for stamp in stamps)
    return b"".join(raw[plane::8] for plane in range(8))


@pytest.mark.parametrize("name", LIES)
def test_lies_are_damage(name: str) -> None:
    payload = LIES[name]()
    tracemalloc.start()
    try:
        with pytest.raises(BundleDamaged):
            decode_messages(payload)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024 * 1024


def test_unused_references_are_ignored() -> None:
    assert decode_messages(columns(references=b"\2" + bytes(64)))[0].compacts[0].content == b'{"type":"post"}'


def test_every_bit_of_a_payload_flipped_gives_runs_or_damage() -> None:
    """The digest is against accidents; whoever computes it anew may write anything."""
    payload = encode_messages([run_of(posts(keypair("ada"), 2)), run_of(make_feed(keypair("eve"), ["AAAA.box"]))])
    for place in range(len(payload)):
        for bit in range(8):
            data = bytearray(payload)
            data[place] ^= 1 << bit
            try:
                for run in decode_messages(bytes(data)):
                    expand_run(run.author, run.first, run.previous, run.compacts)
            except BundleDamaged:
                pass


# ------------------------------------------------------------------------------------------------ Zstandard


def test_decompression_never_makes_more_than_stated() -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(amount(quick=50_000_000, thorough=500_000_000)))
    for stated in (0, 1, 1000, 4_000_000):
        tracemalloc.start()
        try:
            with pytest.raises(BundleDamaged):
                decompress(bomb, stated)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < stated + 1_000_000


def test_a_frame_that_asks_for_a_terabyte_of_window() -> None:
    # Magic, descriptor (no single segment, no size), window descriptor for 2^41 bytes, an empty last block.
    frame = b"\x28\xb5\x2f\xfd\x00" + bytes([31 << 3]) + b"\x01\x00\x00"
    with pytest.raises(BundleDamaged):
        decompress(frame, 10)
    stated = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 2**40) + b"\x01\x00\x00"
    with pytest.raises(BundleDamaged):
        decompress(stated, 10)


def test_cut_frames_are_damage() -> None:
    data = bytes(range(256)) * 40
    packed = compress(data)
    for length in range(len(packed)):
        with pytest.raises(BundleDamaged):
            decompress(packed[:length], len(data))
    assert decompress(packed, len(data)) == data
    assert decompress(compress(b""), 0) == b""


@pytest.mark.parametrize(
    "level", [1, 12, pytest.param(19, marks=pytest.mark.slow), pytest.param(22, marks=pytest.mark.slow)]
)
def test_what_any_level_writes_can_be_read(level: int) -> None:
    data = bytes(range(256)) * (16 * 1024 * 1024 // 256)
    assert decompress(compress(data, level), len(data)) == data


def test_varints() -> None:
    for value in (0, 1, 127, 128, 2**31 - 1, 2**31, 2**62, 2**63 - 1):
        cursor = Cursor(encode_varint(value))
        assert cursor.varint() == value
        cursor.finish()
        assert len(encode_varint(value)) <= 9
    with pytest.raises(BundleDamaged):
        Cursor(b"\xff" * 8 + b"\x80\x01").varint()
    with pytest.raises(BundleDamaged):
        Cursor(encode_varint(11)).varint(10)
    with pytest.raises(ValueError, match="byte must be"):
        encode_varint(-1)


def test_no_small_record_holds_much() -> None:
    """Each of a thousand such records in a small file would cost as much time as a full one."""
    columns = b"\0" * (1 << 20)
    with pytest.raises(BundleDamaged, match="limit"):
        decode_messages(encode_varint(1) + encode_varint(0) + encode_varint(len(columns)) + compress(columns))


def test_the_densest_messages_fit() -> None:
    """Nothing but what does not compress, and as much as there may be of what does."""
    feed = make_feed(keypair("ada"), [{"type": "post", "text": "\u20ac" * 7_700}] * 40)
    (run,) = decode_messages(encode_messages([run_of(feed)]))
    assert [item.content for item in run.compacts] == [compact(message).content for message in feed]
