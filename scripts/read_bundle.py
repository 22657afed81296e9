#!/usr/bin/env python3
"""Print the messages of a plain bundle as JSON lines, or its records: read_bundle.py [--list] FILE; status on stderr.

Written from bundles-format.md alone. It checks signatures and places in runs, not the other rules of classic messages.
"""

import hashlib
import io
import json
import re
import struct
import sys
from binascii import a2b_base64, b2a_base64, crc32
from itertools import accumulate
from pathlib import Path
from typing import Any

import zstandard
from nacl.bindings import crypto_sign_open

FIRST, SYNC, FOOTER = b"\x89SNK\r\n\x1a\n", bytes.fromhex("f39a534e4b52c51d"), b"SNKend\r\n"
KINDS = {1: "header", 2: "messages", 3: "blob", 4: "trailer", 0x81: "read", 0x82: "read", 0x83: "index"}
NETWORK = hashlib.sha256(b"sneaker network\0" + a2b_base64("1KHLiKZvAvjbY1ziZEHMXawbCEIM6qwjCDm3VYRan/s=")).digest()
TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|\{\}|\[\]|[{}\[\],:]|[^"{}\[\],:\s]+')
START = '{\n  "previous": %s,\n  %s,\n  %s,\n  "timestamp": '
TEXT = '%s%d,\n  "hash": "sha256",\n  "content": %s,\n  "signature": "%s.sig.ed25519"\n}'


def demand(condition: object, what: str, error: type[BaseException] = ValueError) -> None:
    if not condition:
        raise error(what)  # any Exception is damage, SystemExit refuses the bundle


def b64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()


def intact(head: bytes, magic: bytes, size: int) -> bool:
    return len(head) == size and head[:8] == magic and crc32(head[:-4]) == int.from_bytes(head[-4:], "little")


class Payload(io.BytesIO):
    def take(self, length: int) -> bytes:
        demand(len(data := self.read(length)) == length, "a record ends inside a field")
        return data

    def varint(self, most: int = 2**63 - 1) -> int:
        value = shift = 0
        while (byte := self.take(1)[0]) > 127 and shift < 56:
            value, shift = value + (byte - 128 << shift), shift + 7
        demand(byte < 128 and value + (byte << shift) <= most, "a number is over its limit")
        return value + (byte << shift)

    def unpack(self, size: int, ratio: int = 384) -> "Payload":  # it becomes what it unpacks to
        source = zstandard.ZstdDecompressor(max_window_size=8 << 20).stream_reader(self.read())
        io.BytesIO.__init__(self, source.read(size) if 0 < size <= ratio * self.tell() else b"")
        demand(len(self.getvalue()) == size and not source.read(1), "a compressed part is not as long as stated")
        return self

    def header(self) -> tuple[Any, ...]:
        value = json.loads(self.read(65536))
        demand({*value["features"]} <= {"classic-messages", "blobs"}, "an unknown feature", SystemExit)
        demand(a2b_base64(value["network"]) == NETWORK, "another network", SystemExit)
        return a2b_base64(value["bundle"]), a2b_base64(value["exporter"][1:-8]), NETWORK, value["volume"]

    def messages(self) -> list[tuple[bytes, int, bytes, list[Any]]]:
        count, signed, plain, runs = self.varint(4096), self.varint(4096), self.varint(4 << 20), list[Any]()
        seals = iter([self.take(64) for _ in range(signed)])
        for _ in range(self.unpack(plain).varint(count)):
            feed, first, number = self.take(32), self.varint(2**31 - 1), self.varint(count)
            runs.append((feed, first, self.take(32 * (first > 1)), number))
            demand(first and 0 < number <= 2**31 - first, "a run has impossible sequences")
        demand(count == sum(run[3] for run in runs) > 0, "the runs are not as long as stated")
        forms, columns, text = self.take(count), self.take(8 * count), self.take(self.varint())
        stamps = [*accumulate(int.from_bytes(columns[n::count], "little", signed=True) for n in range(count))]
        demand({*forms} <= {0, 1, 2, 3, 4, 5, 14} and max(map(abs, stamps)) < 2**53, "impossible forms or timestamps")
        table = [b2a_base64(self.take(32), newline=False) for _ in range(self.varint(plain // 32))]
        demand(len(text) + 44 * (text.count(1) + text.count(2)) <= 8 << 20, "too much text")
        fresh, lengths = iter(table), [self.varint(24576) for form in forms if form > 1]
        text = re.sub(b"\1", lambda _: next(fresh), text)
        text = re.sub(b"\2([\x80-\xff]{2})?", lambda found: table[(found[1][0] & 127) << 7 | found[1][1] & 127], text)
        lines, others = iter(text.split(b"\n")), iter([self.take(length) for length in lengths])
        bodies = [next(others if form > 1 else lines) for form in forms]
        items = zip(forms, stamps, [next(seals) if form < 14 else b"" for form in forms], bodies, strict=True)
        demand([*lines, *seals] == [b""] and max(map(len, bodies)) <= 24576, "bodies or signatures do not fit forms")
        return [(*run[:3], [next(items) for _ in range(run[3])]) for run in runs]

    def blob(self) -> None:
        packing, blob, size = self.take(1)[0], self.take(32), self.varint((5 << 20) - 1)
        body = (self.unpack(size, 256) if packing else self).read()
        demand(packing < 2 and len(body) == size and hashlib.sha256(body).digest() == blob, "a blob is not its id's")

    def index(self) -> tuple[list[Any], tuple[int, int]]:
        self.unpack(self.varint(16 << 20), 64)
        feeds = [(self.take(32), self.varint(), self.varint(), self.take(16)) for _ in range(self.varint(200_000))]
        blobs = [self.take(32) and self.varint((5 << 20) - 1) for _ in range(self.varint(65_536))]
        records, at, messages = [], 0, 0
        for _ in range(self.varint(65_536)):
            kind, at = self.take(1)[0], at + self.varint()
            records.append((kind, at, self.varint(16 << 20), self.take(16)))
            for _ in range(self.varint(262_144) if kind == 2 else 0):
                (_, low, more, _), first, number = feeds[self.varint()], self.varint(), self.varint()
                demand(0 < low <= first < first + number <= low + more + 1 <= 2**31, "messages it does not hold")
                messages += number
            demand(kind != 3 or self.varint() < len(blobs), "a blob it does not hold")
        return records, (messages, len(blobs))

    def trailer(self) -> tuple[Any, ...]:
        signed = b"sneaker bundle trailer 1\0" + (data := self.read())[:136]
        demand(crypto_sign_open(data[136:] + signed, data[16:48]) == signed, "the trailer's signature is wrong")
        *ids, check, offset, messages, blobs, records, volume = struct.unpack("<16s32s32s16sQQQQI68x", data)
        return (*ids, volume), (messages, blobs), (offset, check), records


def pretty(body: str) -> str:
    out, line = "", "\n  "
    for token in TOKENS.findall(body):
        line = line + "  " if token in "{[" else line[:-2] if token in "}]" else line
        out += line + token if token in "}]" else token + line if token in "{[," else token + " " * (token == ":")
    return out


def rebuild(author: bytes, sequence: int, previous: bytes, form: int, stamp: int, seal: bytes, body: bytes) -> str:
    before = f'"%{b64(previous)}.sha256"' if previous else "null"
    who = (f'"sequence": {sequence}', f'"author": "@{b64(author)}.ed25519"')
    starts = (START % (before, *who), START % (before, *who[::-1]))
    content = pretty(body.decode()) if form < 2 else f'"{b64(body)}.box{"2" * (form > 3)}"'
    text = body.decode() if form == 14 else TEXT % (starts[form & 1], stamp, content, b64(seal))
    demand(json.loads(text) and text.startswith(starts) and (form > 1 or content[0] == "{"), "it does not belong here")
    unsigned, _, end = text.rpartition(',\n  "signature": "')
    seal, signed = a2b_base64(end[:88]), f"{unsigned}\n}}".encode()
    demand(end == f'{b64(seal)}.sig.ed25519"\n}}' and crypto_sign_open(seal + signed, author) == signed, "a forgery")
    return text


def read(data: bytes, listing: bool) -> list[str]:
    """Print what is in a bundle; return what is wrong with it, and its status."""
    found, arrived, faults, broken, tag = dict[str, Any](), [], [], [], b""
    list_out, message_out = (print, len) if listing else (len, print)
    at = end = 16 * intact(data[:16], FIRST, 16)
    demand(not end or data[8:10] == b"\1\0", "another version", SystemExit)
    while (at := data.find(SYNC, at)) >= 0:
        head, length = data[at : at + 48], int.from_bytes(data[at + 12 : at + 16], "little")
        good = intact(head, SYNC, 48) and length <= 16 << 20 and head[20:28] == (tag or head[20:28])
        tag, payload = (head[20:28], data[at + 48 : at + 48 + length]) if good else (tag, b"")
        if not good or hashlib.blake2b(payload, digest_size=16).digest() != head[28:44]:
            broken += [(at, at + 48 + length > len(data))] * good
            at += 1
            continue
        faults += [f"no intact record at byte {end}"] * (at > end)
        kind, name = head[8], KINDS.get(head[8], "read")
        list_out(f"{at:12} {length:9}  {kind:02x}")
        arrived.append((kind, at, length, head[28:44]))
        at = end = at + 48 + length
        broken, runs = [], list[Any]()
        demand(kind in KINDS or kind >= 0x80, f"a record of type {kind} must be understood", SystemExit)
        try:
            value = getattr(fields := Payload(payload), name)()
            demand(not fields.read(), "bytes are left in a record")
            runs = value if name == "messages" else []
            seen = (found.get("header"), found.get("index", "??")[1], arrived[-2:][0][1::2], len(arrived) - 1)
            demand(name != "header" or (value[0][:8] == tag and not arrived[1:]), "a header of another bundle or place")
            demand(name != "index" or value[0] == arrived[:-1], "the records are not those of the index")
            demand(name != "trailer" or value == seen, "the trailer does not fit what was before it")
            demand(kind not in KINDS or ("trailer" if name == "trailer" else "index") not in found, "it is too late")
            found[name] = value
        except Exception as error:
            faults.append(f"record at byte {arrived[-1][1]}: {error!r}")
        for feed, first, previous, messages in runs:
            list_out(f"      @{b64(feed)}.ed25519 {first}-{first + len(messages) - 1}")
            for sequence, message in enumerate(messages, first):
                try:
                    text = rebuild(feed, sequence, previous, *message)
                except Exception as error:
                    faults.append(f"@{b64(feed)}.ed25519 {sequence}: {error!r}")
                    break
                previous = hashlib.sha256(text.encode("utf-16-le")[::2]).digest()
                message_out(f'{{"key":"%{b64(previous)}.sha256","value":{"".join(TOKENS.findall(text))}}}')
    rest, places = data[end:], [at for kind, at, _, _ in arrived if kind in (4, 0x84)]
    footer = "trailer" in found and intact(rest, FOOTER, 28) and struct.unpack("<8xQQ4x", rest) == (*places, 0)[:2]
    expected = [(SYNC, 48), (FOOTER, 28)][: 1 + ("trailer" in found)] if end else [(FIRST, 16)]
    cut = any(len(rest) < size and magic.startswith(rest[:8]) for magic, size in expected) or broken == [(end, True)]
    faults += [f"no intact record at byte {end}"] * (not footer and not cut)
    return [*faults, "damaged" if faults else "ok" if footer else "truncated"]


def main(arguments: list[str]) -> int:
    *options, path = arguments or sys.exit(__doc__)
    try:
        outcome = read(Path(path).read_bytes(), "--list" in options)
    except SystemExit as reason:
        outcome = [f"refused: {reason}"]
    print(*outcome, sep="\n", file=sys.stderr)
    return 0 if outcome == ["ok"] else 3


if __name__ == "__main__":
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8")  # whatever the locale says
    sys.exit(main(sys.argv[1:]))
