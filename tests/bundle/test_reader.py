"""The reader under every kind of damage: no exception, no wrong message, and nothing undamaged is lost."""

from __future__ import annotations

import io
import random
import struct
import time
import tracemalloc
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sneaker.bundle import reader as reader_module
from sneaker.bundle.compression import compress
from sneaker.bundle.events import Damage, End, Event, HeaderRead, Lost, MessagesRead, Status
from sneaker.bundle.frames import (
    FOOTER_BYTES,
    FRAME_BYTES,
    MAX_PAYLOAD_BYTES,
    MAX_RECORDS,
    PREAMBLE,
    PREAMBLE_BYTES,
    SYNC,
    RecordType,
    encode_preamble,
    encode_record,
    encode_varint,
    parse_frame,
)
from sneaker.bundle.indexed_file import open_indexed
from sneaker.bundle.message_records import encode_messages
from sneaker.bundle.reader import BundleReader
from sneaker.bundle.records import (
    Index,
    decode_index,
    encode_blob,
    encode_header,
    encode_index,
)
from sneaker.bundle.writer import BundleWriter
from sneaker.need_data import NEED_DATA, NeedData
from sneaker.refs import BlobRef
from tests.bundle.bundles import (
    HEADER,
    MESSAGE,
    PADDING,
    SIGNED,
    TAG,
    UNKNOWN,
    Outcome,
    Parts,
    events_of,
    keypair,
    make_bundle,
    make_header,
    posts,
    read_bundle,
    record_of,
    records_of,
    run_of,
    signed_bundle,
    small_parts,
    strange_bundles,
    valid_messages,
    with_bytes_between,
)
from tests.readers import check_reader
from tests.tries import amount, tries

pytestmark = pytest.mark.timeout(300)

SMALL = make_bundle(small_parts())
WHOLE = read_bundle(SMALL)


class OneEnd(BundleReader):
    """A reader that says End once, as check_reader wants it; ours repeats it for ever."""

    _said = False

    def next_event(self) -> Event | NeedData:
        event = super().next_event()
        if isinstance(event, End):
            if self._said:
                return NEED_DATA
            self._said = True
        return event


def texts_at(data: bytes) -> dict[int, list[bytes]]:
    """Return what each message record of an undamaged bundle holds, by the offset of its frame."""
    found = {}
    for event in events_of(data):
        if isinstance(event, MessagesRead):
            outcome = Outcome(Status.OK, End(Status.OK, ""), [], {}, [])
            found[event.offset] = [m.text for run in event.runs() for m in valid_messages(run, outcome)]
    return found


TEXTS = texts_at(SMALL)


def check_damaged(data: bytes, hit: range, *, shifted: int = 0) -> Outcome:
    """Read SMALL, damaged in the bytes ``hit``, and check all that the specification promises about it."""
    outcome = read_bundle(data)
    assert outcome.status is not Status.OK
    assert outcome.end.status is not Status.OK
    expected = []
    lost = []
    for kind, offset, length in records_of(SMALL):
        untouched = hit.stop <= offset or hit.start >= offset + FRAME_BYTES + length
        if kind == RecordType.MESSAGES:
            if untouched:
                expected += TEXTS[offset]
            else:
                lost.append(offset)
        elif kind == RecordType.BLOB:
            assert bool(outcome.blobs) is untouched
    assert outcome.texts == expected
    if outcome.end.lost_messages is not None:
        named = sum(item.count for item in outcome.end.lost_messages)
        assert named == sum(len(TEXTS[offset]) for offset in lost)
    return outcome


def test_a_whole_bundle_is_ok() -> None:
    assert WHOLE.end.status is Status.OK
    assert WHOLE.end.signed
    assert WHOLE.end.lost_messages == ()
    assert WHOLE.end.lost_blobs == ()
    assert len(WHOLE.messages) == 8
    assert len(WHOLE.blobs) == 1
    assert [type(event).__name__ for event in WHOLE.events] == [
        "HeaderRead",
        "ClockRead",
        "ClockRead",
        "MessagesRead",
        "MessagesRead",
        "BlobRead",
        "End",
    ]


def test_reader_contract() -> None:
    check_reader(OneEnd, SMALL, events_of(SMALL), trailing=False)


def test_reader_contract_for_damaged_bundles() -> None:
    chooser = random.Random(7)
    for _ in range(6):
        data = bytearray(SMALL)
        for _ in range(3):
            data[chooser.randrange(len(data))] ^= 1 << chooser.randrange(8)
        del data[chooser.randrange(len(data))]
        damaged = bytes(data[: chooser.randrange(len(data) // 2, len(data))])
        check_reader(OneEnd, damaged, events_of(damaged), trailing=False, examples=5)


@pytest.mark.parametrize("step", [29, pytest.param(1, marks=pytest.mark.slow)])
def test_every_bit_flipped(step: int) -> None:
    """Each bit of every byte, or of one in 29."""
    for place in range(0, len(SMALL), step):
        for bit in range(8):
            data = bytearray(SMALL)
            data[place] ^= 1 << bit
            check_damaged(bytes(data), range(place, place + 1))


def test_every_cut() -> None:
    borders = [offset for _, offset, _ in records_of(SMALL)]
    for length in sorted({*range(0, len(SMALL), amount(quick=3, thorough=1)), *borders}):
        outcome = check_damaged(SMALL[:length], range(length, len(SMALL)))
        assert outcome.end.status is Status.TRUNCATED, length
        if length in borders:
            assert str(length) in outcome.end.detail


def test_every_byte_missing_or_added() -> None:
    # Between two records an added byte costs neither.
    borders = {offset for _, offset, _ in records_of(SMALL)}
    for place in sorted({*range(0, len(SMALL), amount(quick=7, thorough=1)), *borders}):
        data = SMALL[:place] + SMALL[place + 1 :]
        check_damaged(data, range(place, place + 1))
        added = SMALL[:place] + b"\x55" + SMALL[place:]
        check_damaged(added, range(place, place) if place in borders else range(place - 1, place + 1))


def test_lost_messages_are_named() -> None:
    offset, _ = record_of(SMALL, RecordType.MESSAGES, 1)
    data = bytearray(SMALL)
    data[offset + FRAME_BYTES + 20] ^= 0x10
    end = read_bundle(bytes(data)).end
    assert end.lost_messages == (
        Lost(keypair("ada").public, 4, 2),
        Lost(keypair("eve").public, 1, 2),
    )
    assert end.lost_blobs == ()
    assert end.signed
    assert "4 messages of 2 feeds" in end.detail


def test_lost_blobs_are_named() -> None:
    offset, _ = record_of(SMALL, RecordType.BLOB)
    end = read_bundle(SMALL[: offset + 3] + b"\0" + SMALL[offset + 4 :]).end
    assert end.lost_blobs == (BlobRef.of(small_parts().blobs[0]),)
    assert end.detail == "1 blobs are damaged"


@tries(150)
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(1, 400), st.booleans()), min_size=1, max_size=4))
@example([(1612, 1, False), (1612, 1, True)])  # the second one heals the first
def test_random_wounds(wounds: list[tuple[int, int, bool]]) -> None:
    """Parts overwritten or zeroed: exactly the untouched records come."""
    data = bytearray(SMALL)
    chooser = random.Random(repr(wounds))
    for start, length, zero in wounds:
        for place in range(start, min(start + length, len(data))):
            data[place] = 0 if zero else chooser.randrange(256)
    touched = {place for place, (now, before) in enumerate(zip(data, SMALL, strict=True)) if now != before}
    outcome = read_bundle(bytes(data))
    assert (outcome.end.status is Status.OK) is (not touched)
    expected = [
        text
        for kind, offset, length in records_of(SMALL)
        if kind == RecordType.MESSAGES and not touched & set(range(offset, offset + FRAME_BYTES + length))
        for text in TEXTS[offset]
    ]
    assert outcome.texts == expected


def test_another_magic_costs_nothing() -> None:
    outcome = read_bundle(b"\0" * PREAMBLE_BYTES + SMALL[PREAMBLE_BYTES:])
    assert outcome.end.status is Status.DAMAGED
    assert outcome.end.signed
    assert outcome.end.detail == "the bundle is damaged, but no message or blob in it"
    assert outcome.texts == WHOLE.texts


def test_another_version_is_refused_and_a_flipped_bit_in_the_version_is_not() -> None:
    outcome = read_bundle(encode_preamble(2) + SMALL[PREAMBLE_BYTES:])
    assert outcome.end.status is Status.REFUSED
    assert outcome.messages == []
    flipped = bytearray(SMALL)
    flipped[8] ^= 2
    assert read_bundle(bytes(flipped)).texts == WHOLE.texts


def test_flags_are_ignored() -> None:
    assert read_bundle(encode_preamble(flags=0xFFFF) + SMALL[PREAMBLE_BYTES:]).end.status is Status.OK


def test_bytes_behind_the_end() -> None:
    for more in (b"\0", b"\0" * 5000, b"rest", SMALL, SMALL[:40]):
        outcome = read_bundle(SMALL + more)
        assert outcome.end.status is Status.DAMAGED
        damage = [event for event in outcome.events if isinstance(event, Damage)]
        assert next((item.offset, item.detail) for item in damage) == (len(SMALL), "bytes behind the end")
        assert set(outcome.texts) == set(WHOLE.texts)
        assert outcome.end.signed is (more != SMALL)


@pytest.mark.parametrize("kind", [RecordType.PADDING, RecordType.PARITY, RecordType.MESSAGES, 0xFE])
def test_a_record_behind_the_footer_is_damage(kind: int) -> None:
    outcome = read_bundle(SMALL + encode_record(kind, 9, small_parts().header.bundle_id[:8], b"more"))
    assert outcome.end.status is Status.DAMAGED
    assert set(outcome.texts) == set(WHOLE.texts)


def test_nothing_behind_a_refusal_is_read() -> None:
    reader = BundleReader()
    reader.receive_data(encode_preamble(9))
    assert isinstance(end := reader.next_event(), End)
    reader.receive_data(SMALL)
    assert reader.next_event() is end
    assert reader.trailing_data.endswith(SMALL)


def test_frames_of_another_bundle_are_damage() -> None:
    """The remains of an older file in a sector: whole records, and still not ours."""
    other = make_bundle(Parts([[posts(keypair("zoe"), 3)]], header=make_header(bundle_id=b"another bundle!!")))
    offset, end = record_of(other, RecordType.MESSAGES)
    at, _ = record_of(SMALL, RecordType.MESSAGES, 1)
    outcome = read_bundle(SMALL[:at] + other[offset:end] + SMALL[at:])
    assert outcome.end.status is Status.DAMAGED
    assert outcome.texts == WHOLE.texts


def nested() -> bytes:
    """A bundle whose first blob is a bundle with another id, and whose second holds a record with its own tag."""
    header = make_header(bundle_id=b"the outer bundle")
    fake = encode_record(RecordType.MESSAGES, 9, b"the oute", encode_messages([run_of(posts(keypair("mallory"), 2))]))
    noise = random.Random(3).randbytes(30_000)
    data = make_bundle(Parts([[posts(keypair("ada"), 2)]], blobs=[SMALL + noise, fake + noise], header=header))
    assert SMALL in data
    assert fake in data
    return data


def test_records_inside_of_payloads_are_not_read() -> None:
    outcome = read_bundle(nested())
    assert outcome.end.status is Status.OK
    assert [message.author for message in outcome.messages] == [keypair("ada").public] * 2


def test_records_inside_of_damaged_payloads_are_never_ok() -> None:
    """Behind a broken check a reader cannot tell a record from a copy of one; the messages prove themselves."""
    data = bytearray(nested())
    for number in (0, 1):
        data[record_of(nested(), RecordType.BLOB, number)[1] - 1] ^= 1
    outcome = read_bundle(bytes(data))
    assert outcome.end.status is Status.DAMAGED
    assert not outcome.end.signed
    assert {message.author for message in outcome.messages} == {keypair("ada").public, keypair("mallory").public}
    assert len(outcome.messages) == 4


def test_a_cut_payload_that_holds_frames_is_only_cut() -> None:
    _, end = record_of(nested(), RecordType.BLOB)
    assert read_bundle(nested()[: end - 1]).end.status is Status.TRUNCATED


def rebuilt(*records: tuple[int, bytes], base: bytes = SMALL) -> bytes:
    """Return the header of SMALL and then these records."""
    _, end = record_of(base, RecordType.HEADER)
    return base[:end] + b"".join(encode_record(kind, n + 1, TAG, payload) for n, (kind, payload) in enumerate(records))


@pytest.mark.parametrize("where", [RecordType.MESSAGES, RecordType.INDEX, RecordType.TRAILER])
def test_an_inserted_record_is_never_ok(where: RecordType) -> None:
    """A carrier may put in records that prove themselves, but not under the exporter's name."""
    extra = encode_record(RecordType.MESSAGES, 3, TAG, encode_messages([run_of(posts(keypair("zoe"), 2))]))
    for more in (extra, encode_record(RecordType.PADDING, 3, TAG, b""), encode_record(RecordType.CLOCK, 3, TAG, b"\0")):
        at, _ = record_of(SMALL, where)
        outcome = read_bundle(SMALL[:at] + more + SMALL[at:])
        assert outcome.end.status is Status.DAMAGED
        assert not outcome.end.signed
        assert outcome.end.lost_messages == ()
        assert set(outcome.texts) >= set(WHOLE.texts)
    _, at = record_of(SMALL, RecordType.TRAILER)
    outcome = read_bundle(SMALL[:at] + extra + SMALL[at:])
    assert outcome.end.status is Status.DAMAGED
    assert not outcome.end.signed


def test_a_removed_or_hidden_record_is_never_ok() -> None:
    for kind, offset, length in records_of(SMALL):
        outcome = read_bundle(SMALL[:offset] + SMALL[offset + FRAME_BYTES + length :])
        assert outcome.end.status is Status.DAMAGED, kind
        if kind == RecordType.MESSAGES:
            assert sum(item.count for item in outcome.end.lost_messages or ()) == len(TEXTS[offset])
        # A carrier can also give a record a type that readers skip: the frame's CRC is no secret.
        frame = parse_frame(SMALL, offset)
        assert frame is not None
        body = SMALL[offset + FRAME_BYTES : offset + FRAME_BYTES + length]
        hidden = (
            SMALL[:offset] + encode_record(RecordType.PADDING, 0, TAG, body) + SMALL[offset + FRAME_BYTES + length :]
        )
        assert read_bundle(hidden).end.status is Status.DAMAGED, kind


def test_exchanged_records_are_never_ok() -> None:
    first, second = (record_of(SMALL, RecordType.MESSAGES, number) for number in (0, 1))
    data = SMALL[: first[0]] + SMALL[second[0] : second[1]] + SMALL[first[0] : first[1]] + SMALL[second[1] :]
    outcome = read_bundle(data)
    assert outcome.end.status is Status.DAMAGED
    assert outcome.end.lost_messages == ()
    assert set(outcome.texts) == set(WHOLE.texts)


def test_the_header_is_the_first_record_or_none() -> None:
    """Whatever the exporter signed: the header counts where it belongs, and the messages come all the same."""
    whole = read_bundle(signed_bundle(HEADER, MESSAGE))
    assert (whole.end.status, len(whole.texts)) == (Status.OK, 1)
    for records in (
        (HEADER, HEADER, MESSAGE),
        (HEADER, MESSAGE, HEADER),
        (PADDING, HEADER, MESSAGE),
        (MESSAGE, HEADER),
        (MESSAGE,),
    ):
        data = signed_bundle(*records)
        outcome = read_bundle(data)
        assert outcome.end.status is Status.DAMAGED, records
        assert outcome.texts == whole.texts
        headers = [event for event in outcome.events if isinstance(event, HeaderRead)]
        assert len(headers) == (records[0] == HEADER)
        assert open_indexed(io.BytesIO(data)) is None
    assert read_bundle(signed_bundle(MESSAGE)).end.detail == "the header is missing"


def test_a_record_that_must_be_understood_stops_every_reader() -> None:
    for records in ((HEADER, MESSAGE, UNKNOWN), (HEADER, UNKNOWN, MESSAGE)):
        data = signed_bundle(*records)
        outcome = read_bundle(data)
        assert outcome.end.status is Status.REFUSED
        assert len(outcome.texts) == (records[1] == MESSAGE)
        assert open_indexed(io.BytesIO(data)) is None
    assert open_indexed(io.BytesIO(signed_bundle(HEADER, MESSAGE, (0x95, b"to be skipped")))) is not None


@pytest.mark.parametrize("what", strange_bundles())
def test_what_no_index_lists_is_seen_in_files_too(what: str) -> None:
    data = strange_bundles()[what]
    outcome = read_bundle(data)
    assert outcome.end.status in (Status.DAMAGED, Status.REFUSED)
    assert len(outcome.texts) >= 1
    assert open_indexed(io.BytesIO(data)) is None


def test_padding_behind_the_trailer_is_no_damage() -> None:
    data = with_bytes_between(SIGNED, len(SIGNED) - FOOTER_BYTES, encode_record(RecordType.PADDING, 9, TAG, b"padding"))
    assert read_bundle(data).end.status is Status.OK
    assert open_indexed(io.BytesIO(data)) is not None


def unpacked_indexes(data: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[Outcome, list[bytes]]:
    """Read a bundle; return also the payloads of the indexes that were unpacked."""
    seen: list[bytes] = []

    def decode(payload: bytes) -> Index:
        seen.append(payload)
        return decode_index(payload)

    monkeypatch.setattr(reader_module, "decode_index", decode)
    return read_bundle(data), seen


def test_only_the_index_that_the_trailer_names_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    at, end = record_of(SMALL, RecordType.INDEX)
    own = SMALL[at + FRAME_BYTES : end]
    other = encode_record(RecordType.INDEX, 3, TAG, encode_index(Index()))

    outcome, seen = unpacked_indexes(SMALL[:at] + other * 12 + SMALL[at:], monkeypatch)
    assert (outcome.end.status, seen) == (Status.DAMAGED, [own])
    assert outcome.end.lost_messages == ()

    outcome, seen = unpacked_indexes(SMALL[:end] + other + SMALL[end:], monkeypatch)
    assert (outcome.end.status, seen) == (Status.DAMAGED, [])
    assert outcome.end.detail == "the index is not the one that was signed"
    assert outcome.texts == WHOLE.texts

    outcome, seen = unpacked_indexes(SMALL[:end] + SMALL[at:end] + SMALL[end:], monkeypatch)
    assert (outcome.end.status, seen) == (Status.DAMAGED, [own])
    assert not outcome.end.signed

    # Without a trailer the last one tells what is lost, if it can.
    outcome, seen = unpacked_indexes(SMALL[:at] + other * 12 + SMALL[at:end], monkeypatch)
    assert (len(seen), outcome.end.lost_messages) == (1, ())


def test_an_index_that_cannot_be_read_is_damage() -> None:
    bomb = encode_varint(1 << 20) + compress(bytes(1 << 20))
    outcome = read_bundle(rebuilt(MESSAGE, (RecordType.INDEX, bomb)))
    assert outcome.end.status is Status.DAMAGED
    assert outcome.end.detail == "the index unpacks to far more than an index holds"
    assert len(outcome.texts) == 1


def test_a_header_under_another_name_is_never_ok() -> None:
    """Everything is signed by mallory, and the header says ada."""
    mallory, ada = keypair("mallory"), keypair("ada")
    writer = BundleWriter(make_header(exporter=mallory.public), mallory)
    writer._header = make_header(exporter=ada.public)
    data = writer.start()
    writer._header = make_header(exporter=mallory.public)
    outcome = read_bundle(data + writer.finish())
    assert outcome.end.status is Status.DAMAGED
    assert not outcome.end.signed
    assert outcome.end.detail == "the header is not the one of this bundle"


def test_unknown_records() -> None:
    runs = [run_of(posts(keypair("ada"), 1))]
    good = (RecordType.MESSAGES, encode_messages(runs))
    skipped = read_bundle(rebuilt((0xF0, b"something new"), good))
    assert skipped.end.status is Status.TRUNCATED
    assert len(skipped.messages) == 1
    stopped = read_bundle(rebuilt(good, (0x70, b"something new"), good))
    assert stopped.end.status is Status.REFUSED
    assert len(stopped.messages) == 1


def test_an_unknown_feature_is_refused_before_anything_is_taken() -> None:
    header = make_header(features=("classic-messages", "time-travel"))
    outcome = read_bundle(make_bundle(Parts([[posts(keypair("ada"), 1)]], header=header)))
    assert outcome.end.status is Status.REFUSED
    assert "time-travel" in outcome.end.detail
    assert not any(isinstance(event, HeaderRead) for event in outcome.events)
    assert outcome.messages == []


def test_an_unknown_feature_is_refused_in_whatever_header() -> None:
    payload = b'{"features":["time-travel"],"bundle":"in another spelling"}'
    data = PREAMBLE + encode_record(RecordType.HEADER, 0, TAG, payload)
    assert read_bundle(data).end.status is Status.REFUSED


def test_header_oddities() -> None:
    for payload in (b"", b"[]", b"nonsense", b'{"features":7}', b"[" * 60000, b" " * 70000):
        data = PREAMBLE + encode_record(RecordType.HEADER, 0, TAG, payload)
        assert read_bundle(data).end.status is Status.DAMAGED
    good = encode_header(make_header())
    for old, new in (
        (b'"volume":1', b'"volume":0'),
        (b'"volume":1', b'"volume":true'),
        (b'"volume":1', b'"volume":1.0'),
    ):
        data = PREAMBLE + encode_record(RecordType.HEADER, 0, TAG, good.replace(old, new))
        assert read_bundle(data).end.status is Status.DAMAGED


def test_no_input_at_all() -> None:
    assert read_bundle(b"").end.status is Status.TRUNCATED
    assert read_bundle(b"\0").end.status is Status.DAMAGED


def test_data_after_the_end_is_the_callers_bug() -> None:
    reader = BundleReader()
    reader.receive_data(b"")
    with pytest.raises(RuntimeError):
        reader.receive_data(b"x")


def test_frames_with_absurd_lengths_are_no_frames() -> None:
    frame = bytearray(encode_record(RecordType.BLOB, 1, TAG, b""))
    frame[12:16] = struct.pack("<I", MAX_PAYLOAD_BYTES + 1)
    frame[44:48] = struct.pack("<I", zlib.crc32(bytes(frame[:44])))
    assert parse_frame(frame) is None


def test_hashing_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that each state 16 MiB and the wrong digest would have a reader hash the same bytes for days."""
    stated = amount(quick=MAX_PAYLOAD_BYTES // 8, thorough=MAX_PAYLOAD_BYTES)
    monkeypatch.setattr(reader_module, "_FREE_HASHING_BYTES", 4 * stated)
    head = bytearray(encode_record(RecordType.BLOB, 1, TAG, b""))
    head[12:16] = struct.pack("<I", stated)
    head[44:48] = struct.pack("<I", zlib.crc32(bytes(head[:44])))
    data = PREAMBLE + bytes(head) * (2 * stated // len(head))
    start = time.process_time()
    assert events_of(data, 1 << 20)
    assert time.process_time() - start < 20


def test_memory_is_bounded_by_one_record() -> None:
    ref = BlobRef.of(noise := random.Random(1).randbytes(5 * 1024 * 1024 - 1))
    blob = encode_record(RecordType.BLOB, 1, TAG, encode_blob(ref, noise))
    padding = encode_record(RecordType.PADDING, 1, TAG, bytes(MAX_PAYLOAD_BYTES))
    header = rebuilt()
    times = amount(quick=2, thorough=3)
    reader = BundleReader()
    tracemalloc.start()
    try:
        for record in (header, *[blob] * times, *[padding] * times, SYNC * 100_000):
            for at in range(0, len(record), 1 << 16):
                reader.receive_data(record[at : at + (1 << 16)])
                while type(reader.next_event()).__name__ != "NeedData":
                    pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 * 1024 * 1024


def test_more_records_than_an_index_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream of empty records makes the reader forget, not grow; and its messages still come."""
    most = amount(quick=MAX_RECORDS // 8, thorough=MAX_RECORDS)
    monkeypatch.setattr(reader_module, "MAX_RECORDS", most)
    records = encode_record(RecordType.PADDING, 1, TAG, b"") * 1000
    last = encode_record(RecordType.MESSAGES, 1, TAG, encode_messages([run_of(posts(keypair("ada"), 1))]))
    reader = BundleReader()
    reader.receive_data(rebuilt())
    tracemalloc.start()
    try:
        for _ in range(most // 1000 + 5):
            reader.receive_data(records)
            while type(reader.next_event()).__name__ != "NeedData":
                pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 512 * most
    reader.receive_data(last)
    assert isinstance(reader.next_event(), MessagesRead)
    reader.receive_data(b"")
    assert isinstance(end := reader.next_event(), End)
    assert end.status is Status.DAMAGED
