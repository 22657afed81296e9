#!/usr/bin/env python3
"""Read a plain bundle: its messages as lines of JSON on stdout, what became of it on stderr.

    read_bundle.py FILE          print {"key", "value"} of each message
    read_bundle.py --list FILE   print what records there are instead

This was written from bundles-format.md alone, needs only pynacl and zstandard, and shares no code with sneaker: it shows that
the page suffices, and keeps old bundles readable. It holds the file in memory, and checks signatures and each message's
place in its run, not the other rules of classic messages. Exit status: 0 if the bundle is ok, 3 if not.
"""

import base64
import hashlib
import json
import re
import struct
import sys
import zlib

import zstandard
from nacl.bindings import crypto_sign_open
from nacl.exceptions import CryptoError

FIRST, SYNC, FOOTER = b"\x89SNK\r\n\x1a\n", bytes.fromhex("f39a534e4b52c51d"), b"SNKend\r\n"
HEADER, MESSAGES, BLOB, TRAILER, PREREQUISITES, CLOCK, INDEX, PARITY, PADDING = 1, 2, 3, 4, 0x81, 0x82, 0x83, 0x84, 0x85
NETWORK = hashlib.sha256(
    b"sneaker network\0" + base64.b64decode("1KHLiKZvAvjbY1ziZEHMXawbCEIM6qwjCDm3VYRan/s=")
).digest()
TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|\{\}|\[\]|[{}\[\],:]|[^"{}\[\],:\s]+')
ORDERS = (("previous", "sequence", "author"), ("previous", "author", "sequence"))


class Damaged(Exception):
    pass


class Refused(Exception):
    pass


def demand(condition: object, what: str) -> None:
    if not condition:
        raise Damaged(what)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def verify(public: bytes, signature: bytes, data: bytes) -> bool:
    try:
        return crypto_sign_open(signature + data, public) == data
    except (CryptoError, ValueError):
        return False


def intact(head: bytes) -> bool:
    return zlib.crc32(head[:-4]) == int.from_bytes(head[-4:], "little")


class Fields:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, length: int) -> bytes:
        demand(self.at + length <= len(self.data), "a record ends inside a field")
        self.at += length
        return self.data[self.at - length : self.at]

    def varint(self, most: int = 2**63 - 1) -> int:
        value = 0
        for shift in range(0, 63, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                demand(value <= most, "a number is over its limit")
                return value
        raise Damaged("a number is too long")

    def zstd(self, size: int) -> "Fields":
        decompressor = zstandard.ZstdDecompressor(max_window_size=8 << 20)
        try:
            with decompressor.stream_reader(self.take(len(self.data) - self.at), read_across_frames=False) as reader:
                plain, more = reader.read(size) if size else b"", reader.read(1)
        except zstandard.ZstdError:
            raise Damaged("compressed data cannot be read") from None
        demand(len(plain) == size and not more, "compressed data is not as long as stated")
        return Fields(plain)

    def end(self) -> None:
        demand(self.at == len(self.data), "bytes are left in a record")


def pretty(body: str) -> str:
    out, level = [], 1
    for token in TOKENS.findall(body):
        level += (token in ("{", "[")) - (token in ("}", "]"))
        line = "\n" + "  " * level
        out.append(line + token if token in ("}", "]") else token + line if token in ("{", "[", ",") else token)
        out.append(" " if token == ":" else "")
    return "".join(out)


def rebuild(
    form: int, author: bytes, sequence: int, previous: bytes | None, stamp: int, seal: bytes, body: bytes
) -> str:
    """Return the text of a message, verified."""
    place = {
        "previous": "null" if previous is None else f'"%{b64(previous)}.sha256"',
        "sequence": str(sequence),
        "author": f'"@{b64(author)}.ed25519"',
    }
    try:
        if form == 14:
            text = body.decode()
            value = json.loads(text)
            for name, expected in place.items():
                demand(json.loads(expected) == value[name], "a raw message belongs elsewhere")
            seal = base64.b64decode(value["signature"].removesuffix(".sig.ed25519"))
        else:
            content = pretty(body.decode()) if form < 2 else f'"{b64(body)}.box{"2" if form > 3 else ""}"'
            demand(form > 1 or isinstance(json.loads(content), dict), "a content is not an object")
            lines = [f'  "{name}": {place[name]}' for name in ORDERS[form & 1]]
            lines += [f'  "timestamp": {stamp}', '  "hash": "sha256"', f'  "content": {content}']
            text = "{\n" + ",\n".join([*lines, f'  "signature": "{b64(seal)}.sig.ed25519"']) + "\n}"
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Damaged("a message is not JSON") from None
    signed = text[: text.rindex(',\n  "signature"')] + "\n}"
    demand(verify(author, seal, signed.encode()), "a message is not signed by its author")
    return text


def read_messages(payload: bytes) -> list[tuple[bytes, int, bytes | None, list]]:
    """Return runs: feed, first sequence, previous, and (form, timestamp, signature, body) of each message."""
    fields = Fields(payload)
    count, signed, plain = fields.varint(4096), fields.varint(4096), fields.varint(4 << 20)
    seals = Fields(fields.take(64 * signed))
    fields = fields.zstd(plain)
    runs = []
    for _ in range(fields.varint(count)):
        feed, first, number = fields.take(32), fields.varint(2**31 - 1), fields.varint(count)
        demand(first >= 1 and number >= 1 and first + number <= 2**31, "a run has impossible sequences")
        runs.append((feed, first, fields.take(32) if first > 1 else None, number))
    demand(count and sum(run[3] for run in runs) == count, "the runs are not as long as stated")
    forms, columns = fields.take(count), fields.take(8 * count)
    demand(set(forms) <= {0, 1, 2, 3, 4, 5, 14}, "an unknown form")
    demand(signed == count - forms.count(14), "the signatures are not as many as stated")
    stamp, stamps = 0, []
    for number in range(count):
        stamp += struct.unpack("<q", columns[number::count])[0]
        demand(abs(stamp) < 2**53, "an impossible timestamp")
        stamps.append(stamp)
    text = fields.take(fields.varint())
    references = [b64(fields.take(32)).encode() for _ in range(fields.varint(plain // 32))]
    escapes, fresh = text.count(1) + text.count(2), iter(references)
    demand(len(text) + 44 * escapes <= 8 << 20, "too much text")
    out, at = [], 0
    for match in re.finditer(rb"\x01|\x02[\x80-\xff]{2}", text):
        number, escapes = match[0][1:], escapes - 1
        found = references[(number[0] & 0x7F) << 7 | number[1] & 0x7F :][:1] if number else [next(fresh, b"")]
        demand(found and found[0], "a missing reference")
        out += [text[at : match.start()], found[0]]
        at = match.end()
    demand(escapes == 0, "half an escape")
    lines = b"".join([*out, text[at:]]).split(b"\n")
    demand(lines.pop() == b"" and len(lines) == count - sum(form > 1 for form in forms), "lines do not match forms")
    lengths = [fields.varint(24576) for form in forms if form > 1]
    others = iter([fields.take(length) for length in lengths])
    fields.end()
    demand(all(len(line) <= 24576 for line in lines), "an oversize message")
    each = iter(lines)
    seal = iter([seals.take(64) for _ in range(signed)])
    messages = [
        (form, stamp, next(seal) if form != 14 else b"", next(others) if form > 1 else next(each))
        for form, stamp in zip(forms, stamps, strict=True)
    ]
    return [(*run[:3], [messages.pop(0) for _ in range(run[3])]) for run in runs]


def read_index(payload: bytes) -> tuple[list, int, int]:
    """Return (type, offset, length, digest) of the records, and how many messages and blobs there are."""
    fields = Fields(payload)
    fields = fields.zstd(fields.varint(16 << 20))
    feeds = []
    for _ in range(fields.varint(200_000)):
        feed, first = fields.take(32), fields.varint(2**31 - 1)
        last = first + fields.varint(2**31 - 1 - first)
        demand(first >= 1 and fields.take(16), "the index names impossible sequences")
        feeds.append((feed, first, last))
    blobs = [(fields.take(32), fields.varint((5 << 20) - 1)) for _ in range(fields.varint(65_536))]
    records, at, end, messages = [], 0, 0, 0
    for _ in range(fields.varint(65_536)):
        kind, at = fields.take(1)[0], at + fields.varint()
        length, check = fields.varint(16 << 20), fields.take(16)
        demand(end <= at < 2**63, "the index names records that overlap")
        end = at + 48 + length
        for _ in range(fields.varint(262_144) if kind == MESSAGES else 0):
            feed, start, number = fields.varint(), fields.varint(), fields.varint()
            inside = feed < len(feeds) and number >= 1 and feeds[feed][1] <= start <= feeds[feed][2] + 1 - number
            demand(inside, "the index names messages that it does not hold")
            messages += number
        demand(kind != BLOB or fields.varint() < len(blobs), "the index names a blob that it does not hold")
        records.append((kind, at, length, check))
    fields.end()
    return records, messages, len(blobs)


def read_small(kind: int, payload: bytes) -> None:
    fields = Fields(payload)
    if kind == BLOB:
        packing, blob, size = fields.take(1)[0], fields.take(32), fields.varint((5 << 20) - 1)
        demand(packing < 2, "a blob is packed in an unknown way")
        data = fields.zstd(size).data if packing else fields.take(len(payload) - fields.at)
        demand(len(data) == size and hashlib.sha256(data).digest() == blob, "a blob does not match its id")
    elif kind in (PREREQUISITES, CLOCK):
        for _ in range(fields.varint(200_000)):
            fields.take(32), fields.varint(2**31 - 1)
        fields.end()


def read_header(payload: bytes, tag: bytes) -> tuple:
    """Return bundle id, exporter, network id and number of volume."""
    try:
        value = json.loads(payload) if len(payload) <= 65536 else None
        if unknown := [name for name in value["features"] if name not in ("classic-messages", "blobs")]:
            raise Refused(f"unknown features {unknown}")
        bundle, network = (base64.b64decode(value[name]) for name in ("bundle", "network"))
        exporter = base64.b64decode(value["exporter"][1:].removesuffix(".ed25519"))
    except (ValueError, KeyError, TypeError):
        raise Damaged("the header cannot be read") from None
    demand(bundle[:8] == tag, "the header is of another bundle")
    if network != NETWORK:
        raise Refused("the bundle is of another network")
    return bundle, exporter, network, value["volume"]


class Bundle:
    def __init__(self, data: bytes, emit: object) -> None:
        self.data, self.emit, self.problem, self.tag = data, emit, "", None
        self.arrived, self.index_at, self.trailer_at, self.parity_at = [], None, 0, 0
        self.header = self.index = self.trailer = self.footer = None

    def frame(self, at: int) -> tuple[int, int, bytes] | None:
        head = self.data[at : at + 48]
        if len(head) < 48 or head[:8] != SYNC or not intact(head) or self.tag not in (None, head[20:28]):
            return None
        kind, length = head[8], int.from_bytes(head[12:16], "little")
        return (kind, length, head[28:44]) if length <= 16 << 20 else None

    def read(self) -> str:
        """Read it all; return the status."""
        data, at = self.data, 16
        if data[:8] != FIRST or len(data) < 16 or not intact(data[:16]):
            if len(data) < 16 and FIRST.startswith(data[:8]):
                return "truncated"
            self.problem, at = "the preamble is damaged", 0
        elif data[8:10] != b"\1\0":
            raise Refused("another version")
        while (at := self.step(at)) is not None:
            pass
        self.problem = self.problem or self.compare()
        return "damaged" if self.problem else "ok" if self.footer else "truncated"

    def step(self, at: int) -> int | None:
        """Read what stands at ``at``; return where to go on."""
        data, found = self.data, self.frame(at)
        if found:
            self.tag, (kind, length, check) = data[at + 20 : at + 28], found
            payload = data[at + 48 : at + 48 + length]
            if len(payload) == length and hashlib.blake2b(payload, digest_size=16).digest() == check:
                self.take(kind, at, payload, check)
                return at + 48 + length
            if len(payload) < length and not any(self.frame(m.start() + at + 48) for m in re.finditer(SYNC, payload)):
                return None
            return self.search(at + 48, "a record fails its check")
        end = data[at : at + 28]
        if self.trailer and not self.footer and len(end) == 28 and end[:8] == FOOTER and intact(end):
            self.footer = struct.unpack("<QQ", end[8:24])
            return at + 28
        cut_frame = SYNC.startswith(end[:8]) and len(data) < at + 48
        if cut_frame or (self.trailer and FOOTER.startswith(end[:8]) and len(end) < 28):
            return None
        return self.search(at + 1, "no record begins here") if end else None

    def search(self, at: int, what: str) -> int | None:
        """Return where the next intact frame begins."""
        self.problem = self.problem or f"{what} (near byte {at})"
        return next((m.start() for m in re.compile(SYNC).finditer(self.data, at) if self.frame(m.start())), None)

    def take(self, kind: int, at: int, payload: bytes, check: bytes) -> None:
        if self.trailer and kind in (HEADER, MESSAGES, BLOB, TRAILER, PREREQUISITES, CLOCK, INDEX):
            self.problem = self.problem or "a record stands behind the trailer"
        elif self.trailer:
            self.parity_at = self.parity_at or at * (kind == PARITY)
        elif kind != TRAILER:
            self.arrived.append((kind, at, len(payload), check))
        try:
            if kind not in (HEADER, MESSAGES, BLOB, TRAILER) and kind < 0x80:
                raise Refused(f"a record of type {kind} must be understood")
            detail = self.read_payload(kind, payload, at)
        except Damaged as error:
            detail = self.problem = self.problem or f"{error} (record at byte {at})"
        self.emit(kind, at, len(payload), detail)

    def read_payload(self, kind: int, payload: bytes, at: int) -> list | None:
        if kind == HEADER:
            self.header = self.header or read_header(payload, self.tag)
        elif kind == MESSAGES:
            return read_messages(payload)
        elif kind == INDEX and not self.trailer:
            self.index, self.index_at = read_index(payload), self.arrived[-1]
        elif kind == TRAILER and not self.trailer:
            demand(len(payload) == 200 and payload[:8] == self.tag, "the trailer is not one of this bundle")
            self.trailer, self.trailer_at = struct.unpack("<16s32s32s16sQQQQII64s", payload), at
            signed = b"sneaker bundle trailer 1\0" + payload[:136]
            demand(verify(payload[16:48], payload[136:], signed), "the trailer's signature is wrong")
        read_small(kind, payload)
        return None

    def compare(self) -> str:
        """Return how header, index, trailer, footer and what arrived contradict each other, if they do."""
        if self.index and self.arrived != [*self.index[0], self.index_at]:
            return "the records are not those of the index"
        if self.trailer:
            bundle, exporter, network, check, offset, messages, blobs, records, volume, _, _ = self.trailer
            if not self.index or self.index_at != (INDEX, offset, self.index_at[2], check):
                return "the index is not the signed one"
            if (messages, blobs, records) != (*self.index[1:], len(self.arrived)):
                return "the trailer counts wrong"
            if self.header not in (None, (bundle, exporter, network, volume)):
                return "the header is not the signed one"
            if self.footer not in (None, (self.trailer_at, self.parity_at)):
                return "the footer names wrong places"
        return ""


def main(arguments: list[str]) -> int:
    listing = arguments[:1] == ["--list"]
    if len(arguments) != 1 + listing:
        sys.exit(__doc__)
    refused = 0

    def emit(kind: int, at: int, length: int, detail: object) -> None:
        nonlocal refused
        runs = detail if isinstance(detail, list) else []
        if listing:
            print(f"{at:12} {length:9}  {kind:02x}  {'damaged' if isinstance(detail, str) else ''}".rstrip())
        for feed, first, previous, messages in runs:
            if listing:
                print(f"      @{b64(feed)}.ed25519 {first}-{first + len(messages) - 1}")
            for sequence, message in enumerate(messages, first):
                try:
                    text = rebuild(message[0], feed, sequence, previous, *message[1:])
                except Damaged as error:
                    refused += 1
                    print(f"@{b64(feed)}.ed25519 {sequence}: {error}", file=sys.stderr)
                    break
                previous = hashlib.sha256(text.encode("utf-16-le")[::2]).digest()
                if not listing:
                    print(f'{{"key":"%{b64(previous)}.sha256","value":{"".join(TOKENS.findall(text))}}}')

    with open(arguments[-1], "rb") as file:
        bundle = Bundle(file.read(), emit)
    try:
        status = bundle.read()
    except Refused as error:
        status, bundle.problem = "refused", str(error)
    status = "damaged" if refused and status != "refused" else status
    print(f"{status}: {bundle.problem}".removesuffix(": "), file=sys.stderr)
    return 0 if status == "ok" else 3


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")  # whatever the locale says
    sys.exit(main(sys.argv[1:]))
