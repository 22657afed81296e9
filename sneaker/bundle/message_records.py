"""Message records: runs of many feeds in columns, and back, byte for byte.

``bundles-format.md``, "Message records".  What can be recomputed is not here: author, sequence and previous follow
from the run, the constant fields from the format, and base64 is stored as the bytes behind it.  A record holds
at most ``MAX_RECORD_MESSAGES`` messages and ``MAX_COLUMN_BYTES`` of columns, which bounds what damage costs and
what a reader holds in memory.
"""

from __future__ import annotations

import itertools
import re
import sys
from array import array
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from sneaker.bundle.compression import DEFAULT_LEVEL, compress, decompress
from sneaker.bundle.frames import Cursor, encode_varint, feed_bytes
from sneaker.errors import BundleDamaged
from sneaker.feed.classic.compact import AUTHOR_FIRST, KIND_BOX, KIND_BOX2, KIND_JSON, KIND_RAW, kind_of
from sneaker.feed.message import Compact
from sneaker.feed.run import Run
from sneaker.limits import MAX_MESSAGE_BYTES, MAX_SEQUENCE
from sneaker.refs import FeedRef, MessageRef

__all__ = [
    "MAX_COLUMN_BYTES",
    "MAX_RECORD_MESSAGES",
    "RECORD_CONTENT_BYTES",
    "decode_messages",
    "encode_messages",
    "split_runs",
]

# What a writer puts into one record.  Larger records compress a little better (2 MiB: 3.7 bytes a message less) and
# cost more messages when a sector goes bad; 1 MiB is about 2,600 ordinary messages.
RECORD_CONTENT_BYTES = 1024 * 1024

# What a reader accepts.
MAX_RECORD_MESSAGES = 4096
MAX_COLUMN_BYTES = 4 * 1024 * 1024
# The 64 bytes of a signature do not compress, and a message has at most MAX_MESSAGE_BYTES: the ratio follows.
_MAX_RATIO = 384

# With the references put back. An honest record of MAX_RECORD_MESSAGES holds less.
_MAX_TEXT_BYTES = 8 * 1024 * 1024

# Canonical base64 of 32 bytes, wherever it stands (less the "=" it ends in): ids of feeds, messages and blobs in practice.
_REFERENCE = re.compile(rb"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]")
_REFERENCE_CHARACTERS = 43
# In the text column: a reference seen for the first time, or one seen before by its number in two bytes of seven bits.
# Control characters cannot stand in canonical JSON, so both are free to use.
_REPEATED = re.compile(rb"\x02([\x80-\xff]{2})")
_NO_SUCH_REFERENCE = "a message record names a reference that it does not hold"
_MAX_REPEATED = 1 << 14
# The forms that exist; any other byte is damage.
_FORMS = bytes(
    [kind << 1 | order for kind in (KIND_JSON, KIND_BOX, KIND_BOX2) for order in (0, AUTHOR_FIRST)] + [KIND_RAW << 1]
)


def split_runs(runs: Iterable[Run], content_bytes: int = RECORD_CONTENT_BYTES) -> Iterator[list[Run]]:
    """Group ``runs`` into lists for one record each; where a record is full, a run is cut."""
    group: list[Run] = []
    messages = 0
    room = content_bytes
    for run in runs:
        start = 0
        for position, compact in enumerate(run.compacts):
            size = len(compact.content) + 8
            if messages == MAX_RECORD_MESSAGES or (messages and size > room):
                if position > start:
                    group.append(_piece(run, start, position))
                yield group
                group, messages, room, start = [], 0, content_bytes, position
            messages += 1
            room -= size
        if start < len(run.compacts):
            group.append(_piece(run, start, len(run.compacts)))
    if group:
        yield group


def _piece(run: Run, start: int, end: int) -> Run:
    if start == 0 and end == len(run.compacts):
        return run
    previous = run.previous if start == 0 else run.keys[start - 1]
    return Run(run.author, run.first + start, previous, run.compacts[start:end], run.keys[start:end])


def encode_messages(runs: Sequence[Run], level: int = DEFAULT_LEVEL) -> bytes:
    """Return the payload of a message record with these runs, in this order.

    Raises ValueError for what no reader would take; runs out of ``split_runs`` are never so.
    """
    compacts = [compact for run in runs for compact in run.compacts]
    if not 0 < len(compacts) <= MAX_RECORD_MESSAGES or not all(run.compacts for run in runs):
        raise ValueError(f"a record of {len(compacts)} messages")
    columns = [encode_varint(len(runs))]
    for run in runs:
        columns += (feed_bytes(run.author), encode_varint(run.first), encode_varint(len(run.compacts)))
        if run.first > 1:
            if run.previous is None:
                raise ValueError("a run that starts inside its feed needs the key before it")
            columns.append(run.previous)
    forms, timestamps, signatures, contents = zip(*compacts, strict=True)
    columns.append(bytes(forms))
    columns.append(_encode_timestamps(timestamps))
    kinds = [kind_of(form) for form in forms]
    text = b"".join([content + b"\n" for kind, content in zip(kinds, contents, strict=True) if kind == KIND_JSON])
    if len(text) > _MAX_TEXT_BYTES:
        raise ValueError(f"a record with {len(text)} bytes of text")
    text, references = _take_references(text)
    columns += (encode_varint(len(text)), text, encode_varint(len(references) // 32), references)
    others = [content for kind, content in zip(kinds, contents, strict=True) if kind != KIND_JSON]
    columns += [encode_varint(len(other)) for other in others]
    columns += others
    plain = b"".join(columns)
    if len(plain) > MAX_COLUMN_BYTES:
        raise ValueError(f"a record of {len(plain)} bytes")
    joined_signatures = b"".join(signatures)
    return b"".join(
        (
            encode_varint(len(compacts)),
            encode_varint(len(joined_signatures) // 64),
            encode_varint(len(plain)),
            joined_signatures,
            compress(plain, level),
        )
    )


def decode_messages(payload: bytes) -> list[Run]:
    """Return the runs of a message record.

    Nothing in them is checked against keys or hashes yet; that is for whoever takes the messages in.  Raises
    BundleDamaged if the payload is not what the format says, whatever the bytes are, in memory bounded by the limits
    of this module.
    """
    cursor = Cursor(payload)
    count = cursor.varint(MAX_RECORD_MESSAGES)
    signed = cursor.varint(count)
    plain_bytes = cursor.varint(min(MAX_COLUMN_BYTES, _MAX_RATIO * len(payload)))
    signatures = cursor.take(64 * signed)
    columns = Cursor(decompress(cursor.rest(), plain_bytes))

    heads: list[tuple[FeedRef, int, int, MessageRef | None]] = []
    left = count
    for _ in range(columns.varint(count)):
        author = FeedRef.classic(columns.take(32))
        first = columns.varint(MAX_SEQUENCE)
        length = columns.varint(left)
        if first < 1 or length < 1 or first + length - 1 > MAX_SEQUENCE:
            raise BundleDamaged("a run of messages has impossible sequences")
        heads.append((author, first, length, MessageRef(columns.take(32)) if first > 1 else None))
        left -= length
    if left or not count:
        raise BundleDamaged("a message record does not hold as many messages as it says")

    forms = columns.take(count)
    if forms.translate(None, _FORMS):
        raise BundleDamaged("a message record holds messages of an unknown form")
    timestamps = _decode_timestamps(columns.take(8 * count))
    text = columns.take(columns.varint(plain_bytes))
    references = columns.take(32 * columns.varint(plain_bytes // 32))
    contents = _put_references(text, references, count)
    if len(set(forms)) == 1 and kind_of(forms[0]) == KIND_JSON:
        if len(contents) != count or signed != count:
            raise BundleDamaged("a message record does not hold as many contents as messages")
        columns.finish()
        bodies: Iterable[bytes] = contents
        each_signature: Iterable[bytes] = [signatures[at : at + 64] for at in range(0, 64 * count, 64)]
    else:
        bodies, each_signature = _mixed_columns(forms, contents, columns, signatures)
    if max(map(len, contents), default=0) > MAX_MESSAGE_BYTES:
        raise BundleDamaged("a message record holds an oversize message")
    compacts = list(map(Compact, forms, timestamps, each_signature, bodies))
    runs = []
    start = 0
    for author, first, length, previous in heads:
        runs.append(Run(author, first, previous, compacts[start : start + length]))
        start += length
    return runs


def _mixed_columns(
    forms: bytes, contents: list[bytes], columns: Cursor, signatures: bytes
) -> tuple[list[bytes], list[bytes]]:
    """Return bodies and signatures in message order where not every message is a JSON object."""
    kinds = [kind_of(form) for form in forms]
    sizes = [columns.varint(MAX_MESSAGE_BYTES) for kind in kinds if kind != KIND_JSON]
    others = iter([columns.take(size) for size in sizes])
    columns.finish()
    if kinds.count(KIND_JSON) != len(contents) or len(signatures) != 64 * (len(kinds) - kinds.count(KIND_RAW)):
        raise BundleDamaged("a message record does not hold as many contents as messages")
    texts = iter(contents)
    each_signature = iter([signatures[at : at + 64] for at in range(0, len(signatures), 64)])
    return (
        [next(texts) if kind == KIND_JSON else next(others) for kind in kinds],
        [b"" if kind == KIND_RAW else next(each_signature) for kind in kinds],
    )


@cache
def _repeated() -> list[bytes]:
    """Return the escape of each number: a table that is made when the first record is written, not at each start."""
    return [b"\x02" + bytes((0x80 | number >> 7, 0x80 | number & 0x7F)) for number in range(_MAX_REPEATED)]


def _take_references(text: bytes) -> tuple[bytes, bytes]:
    """Return ``text`` with its references replaced by escapes, and the column of the distinct ones (32 bytes each)."""
    numbers: dict[bytes, int] = {}
    repeated = _repeated()
    # Looking at what stands before each "=" takes a third of the time that searching for the whole pattern takes.
    *pieces, rest = text.split(b"=")
    replaced: list[bytes] = []
    for piece in pieces:
        start = len(piece) - _REFERENCE_CHARACTERS
        if start >= 0 and _REFERENCE.fullmatch(piece, start) is not None:
            reference = piece[start:]
            number = numbers.get(reference)
            if number is None:
                numbers[reference] = len(numbers)
                replaced += (piece[:start], b"\x01")
                continue
            if number < _MAX_REPEATED:
                replaced += (piece[:start], repeated[number])
                continue
        replaced += (piece, b"=")
    replaced.append(rest)
    return b"".join(replaced), b"".join([a2b_base64(reference + b"=") for reference in numbers])


def _put_references(text: bytes, references: bytes, most: int) -> list[bytes]:
    """Undo ``_take_references`` and return the lines of the text, at most ``most``, without their line ends."""
    if text.count(b"\n") > most:
        raise BundleDamaged("a message record does not hold as many contents as messages")
    first, repeated = text.count(b"\x01"), text.count(b"\x02")
    if first or repeated:
        spelled = [b2a_base64(references[at : at + 32], newline=False) for at in range(0, len(references), 32)]
        if len(text) + 44 * (first + repeated) > _MAX_TEXT_BYTES:
            raise BundleDamaged("a message record holds more text than allowed")
        if first > len(spelled):
            raise BundleDamaged(_NO_SUCH_REFERENCE)
        if repeated:
            # split() gives text, number, text, number, ..., text
            pieces = _REPEATED.split(text)
            if len(pieces) != 2 * repeated + 1:
                raise BundleDamaged("a message record holds half an escape")
            try:
                pieces[1::2] = [spelled[(number[0] & 0x7F) << 7 | number[1] & 0x7F] for number in pieces[1::2]]
            except IndexError:
                raise BundleDamaged(_NO_SUCH_REFERENCE) from None
            text = b"".join(pieces)
        between = text.split(b"\x01")
        text = b"".join(itertools.chain.from_iterable(zip(between, [*spelled[:first], b""], strict=True)))
    if not text:
        return []
    if not text.endswith(b"\n"):
        raise BundleDamaged("a message record ends inside a line")
    lines = text.split(b"\n")
    lines.pop()
    return lines


def _encode_timestamps(timestamps: Sequence[int]) -> bytes:
    """Return the differences as 64-bit little-endian integers, all first bytes, then all second bytes, and so on."""
    differences = array("q", itertools.chain(timestamps[:1], map(int.__sub__, timestamps[1:], timestamps)))
    if sys.byteorder == "big":
        differences.byteswap()
    raw = differences.tobytes()
    return b"".join([raw[plane::8] for plane in range(8)])


def _decode_timestamps(planes: bytes) -> list[int]:
    count = len(planes) // 8
    raw = bytearray(len(planes))
    for plane in range(8):
        raw[plane::8] = planes[plane * count : (plane + 1) * count]
    differences = array("q", bytes(raw))
    if sys.byteorder == "big":
        differences.byteswap()
    timestamps = list(itertools.accumulate(differences))
    if timestamps and max(max(timestamps), -min(timestamps)) > 2**53 - 1:
        raise BundleDamaged("a message record holds an impossible timestamp")
    return timestamps
