"""Any bytes give events or our own error, nothing else: bundles, and what is in their records."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sneaker.bundle.card import Card, decode_card, encode_card
from sneaker.bundle.compression import compress
from sneaker.bundle.events import Status
from sneaker.bundle.format import FRAME_BYTES, Cursor, encode_varint
from sneaker.bundle.messages import decode_messages
from sneaker.bundle.records import decode_blob, decode_clock, decode_header, decode_index, decode_trailer
from sneaker.errors import SneakerError
from sneaker.feed.compact import expand, expand_run
from sneaker.refs import BlobRef
from tests.bundle.bundles import keypair, read_bundle, records_of
from tests.bundle.vectors import Vector, load_vectors

CORPUS = Path(__file__).parent / "corpus"
VECTORS = load_vectors()


def read_messages(payload: bytes) -> None:
    for run in decode_messages(payload):
        valid = expand_run(run.author, run.first, run.previous, run.compacts)
        if len(valid) < len(run.compacts):
            previous = valid[-1].key if valid else run.previous
            with pytest.raises(SneakerError):
                expand(run.author, run.first + len(valid), previous, run.compacts[len(valid)])


def read_any(data: bytes) -> None:
    assert read_bundle(data).end.status in Status


TARGETS: dict[str, Callable[[bytes], object]] = {
    "bundle": read_any,
    "messages": read_messages,
    "index": decode_index,
    "header": decode_header,
    "clock": decode_clock,
    "blob": decode_blob,
    "trailer": decode_trailer,
    "card": decode_card,
}
KINDS = {1: "header", 2: "messages", 3: "blob", 4: "trailer", 0x81: "clock", 0x82: "clock", 0x83: "index"}


def try_target(name: str, data: bytes) -> None:
    """The rule itself."""
    said = ""
    try:
        TARGETS[name](data)
    except SneakerError as error:
        said = error.message
    assert said.isprintable()


@functools.cache
def seeds() -> dict[str, list[bytes]]:
    """Return what each target begins with: payloads out of the vectors, and whole vectors."""
    found: dict[str, set[bytes]] = {name: set() for name in TARGETS}
    for vector in VECTORS:
        found["bundle"].add(vector.data)
        for kind, offset, length in records_of(vector.data):
            if kind in KINDS:
                found[KINDS[kind]].add(vector.data[offset + FRAME_BYTES : offset + FRAME_BYTES + length])
    ada = keypair("ada")
    card = Card(ada.public, bytes(32), 1, 1, {ada.public: 7}, frozenset({BlobRef(bytes(32))}))
    found["card"].add(encode_card(card, ada))
    return {name: sorted(data) for name, data in found.items()}


def mutate(data: bytes, chooser: random.Random) -> bytes:
    """Return ``data`` with a few things done to it that parsers get wrong."""
    out = bytearray(data)
    for _ in range(chooser.choice((1, 1, 2, 5))):
        place = chooser.randrange(len(out) + 1)
        action = chooser.randrange(7)
        if action == 0 and out:
            out[place % len(out)] ^= 1 << chooser.randrange(8)
        elif action == 1:
            del out[place : place + chooser.randrange(1, 20)]
        elif action == 2:
            out[place:place] = chooser.randbytes(chooser.randrange(1, 20))
        elif action == 3:
            out[place : place + 9] = encode_varint(chooser.choice((0, 127, 2**14, 2**31, 2**32, 2**62, 2**63 - 1)))
        elif action == 4:
            out[place : place + 8] = b"\xff" * 8
        elif action == 5:
            other = chooser.randrange(len(out) + 1)
            out[place:place] = out[other : other + chooser.randrange(1, 200)]
        else:
            del out[place:]
    return bytes(out)


def inside(name: str, payload: bytes, chooser: random.Random) -> bytes:
    """Return a payload whose compressed part was mutated before it was compressed."""
    at = payload.find(b"\x28\xb5\x2f\xfd")
    if name not in ("messages", "index") or at < 0:
        return mutate(payload, chooser)
    try:
        plain = zstandard.ZstdDecompressor().decompressobj().decompress(payload[at:])
    except zstandard.ZstdError:
        return mutate(payload, chooser)
    changed = mutate(plain[:20_000], chooser)
    if name == "index":
        return encode_varint(len(changed)) + compress(changed, 1)
    cursor = Cursor(payload)
    try:
        count, signed = cursor.varint(), cursor.varint()
        cursor.varint()
        seals = cursor.take(64 * signed)
    except SneakerError:
        return mutate(payload, chooser)
    return encode_varint(count) + encode_varint(signed) + encode_varint(len(changed)) + seals + compress(changed, 1)


@pytest.mark.parametrize("name", TARGETS)
def test_vectors_and_corpus(name: str) -> None:
    for data in seeds()[name]:
        try_target(name, data)
    for path in sorted((CORPUS / name).glob("*")):
        try_target(name, path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.binary(max_size=600))
def test_any_bytes(name: str, data: bytes) -> None:
    try_target(name, data)


@pytest.mark.parametrize("name", TARGETS)
def test_mutations(name: str, request: pytest.FixtureRequest) -> None:
    """A fixed number in every run; ``--slow`` tries many more."""
    chooser = random.Random(f"fuzz {name}")
    for _ in range(20_000 if request.config.getoption("--slow") else 400):
        data = chooser.choice(seeds()[name])
        changed = inside(name, data, chooser) if chooser.random() < 0.6 else mutate(data, chooser)
        try:
            try_target(name, changed)
        except BaseException:
            (CORPUS / name).mkdir(parents=True, exist_ok=True)
            (CORPUS / name / f"{len(changed)}-{random.Random(changed).randrange(2**32):08x}").write_bytes(changed)
            raise


def test_mutated_bundles_never_give_a_wrong_message() -> None:
    chooser = random.Random(1)
    known = {text for vector in VECTORS for text in read_bundle(vector.data).texts}
    for _ in range(300):
        vector: Vector = chooser.choice(VECTORS)
        outcome = read_bundle(mutate(vector.data, chooser))
        assert set(outcome.texts) <= known
