"""Bundles whose exporter lied, or whose exporter has bad memory: signed, whole, and not what they say."""

from __future__ import annotations

import os
from pathlib import Path

from sneaker.bundle.message_records import encode_messages
from sneaker.bundle.records import Header
from sneaker.bundle.writer import BundleWriter
from sneaker.caps import MAIN_CAPS
from sneaker.feed.run import Run
from sneaker.stick.layout import base32, from_base32
from sneaker.stick.reread import packed_by
from sneaker.stick.safe_folder import Folder
from tests.sticks import Machine, bundles, machines


def put_bundle(stick: Path, liar: Machine, run: Run, *, payload: bytes | None = None) -> Path:
    """Let a machine sign a bundle whose index says that it holds ``run``; ``payload`` is what it really holds."""
    header = Header(os.urandom(16), MAIN_CAPS.network_id, liar.me, 0)
    writer = BundleWriter(header, liar.keypair)
    data = writer.start({}, None)
    data += writer.add_messages([run], encode_messages([run]) if payload is None else payload)
    data += writer.finish(1)
    path = bundles(stick) / f"{base32(header.bundle_id)}.sneaker"
    path.write_bytes(data)
    return path


def packed_by_machine(path: Path) -> bytes | None:
    with Folder(os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)) as folder:
        return packed_by(folder, path.name)


def run_of(machine: Machine, first: int = 1) -> Run:
    with machine.opened() as opened:
        rows = list(opened.store.rows(machine.me, first))
        previous = opened.store.key_at(machine.me, first - 1) if first > 1 else None
    return Run(machine.me, first, previous, [row.compact for row in rows], [row.key for row in rows])


def starve(tmp_path: Path, spoil: str) -> tuple[Machine, Machine, Path]:
    """A has messages for B. The liar's bundle says that it holds them all, so A need not write them."""
    stick = tmp_path / "stick"
    tmp_path.mkdir(exist_ok=True)
    (author, reader, liar) = machines(tmp_path, stick, "ABL")
    author.publish(*(f"message {number}" for number in range(9)))
    reader.sync(stick)
    run = run_of(author)
    if spoil == "signatures":
        bad = [item._replace(signature=os.urandom(64)) for item in run.compacts]
        put_bundle(stick, liar, run, payload=encode_messages([run._replace(compacts=bad)]))
    elif spoil == "fewer":
        short = run._replace(compacts=run.compacts[:2], keys=run.keys[:2])
        put_bundle(stick, liar, run, payload=encode_messages([short]))
    elif spoil == "junk":
        put_bundle(stick, liar, run, payload=os.urandom(500))
    else:
        put_bundle(stick, liar, run)
    return author, reader, stick


def test_the_truth_is_enough(tmp_path: Path) -> None:
    author, reader, stick = starve(tmp_path, "nothing")
    report = author.sync(stick)
    assert report.exported is None
    reader.sync(stick)
    assert reader.clock()[author.me] == 10


def test_lies_starve_nobody(tmp_path: Path) -> None:
    """B says that it cannot use the bundle; A looks, sees that it is not what it says, and writes the messages itself."""
    for spoil in ("signatures", "fewer", "junk"):
        author, reader, stick = starve(tmp_path / spoil, spoil)
        assert author.sync(stick).exported is None
        assert reader.sync(stick).complete == (spoil == "fewer"), "what is there is all right then"
        assert reader.clock().get(author.me, 0) <= 2
        assert author.sync(stick).exported is not None, spoil
        reader.sync(stick)
        assert reader.clock()[author.me] == 10, spoil
        author.sync(stick)
        assert len(list(bundles(stick).iterdir())) <= 2, "the lie stays, the rest is cleaned up"


def test_slander_costs_nothing_but_a_look(tmp_path: Path) -> None:
    """A card that complains about a good bundle changes nothing."""
    author, reader, stick = starve(tmp_path, "nothing")
    with_reader = {path for path in bundles(stick).iterdir() if packed_by_machine(path) == reader.me}
    [lie] = set(bundles(stick).iterdir()) - with_reader
    author.sync(stick)
    bundle_id = from_base32(lie.name.partition(".")[0], 16)
    assert bundle_id is not None
    slanderer = Machine(tmp_path, "S")
    slanderer.card(stick, author.clock() | reader.clock(), unreadable=frozenset({bundle_id}))
    assert author.sync(stick).exported is None
    assert reader.sync(stick).complete
    assert reader.clock()[author.me] == 10
