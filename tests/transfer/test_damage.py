"""Cut and flipped bundles: never a wrong message, undamaged records always taken, the loss named (design, targets)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sneaker.bundle import message_records as bundle_messages
from sneaker.bundle.events import Damage, End, MessagesRead, Status
from sneaker.bundle.frames import FRAME_BYTES, PREAMBLE_BYTES, parse_frame
from sneaker.bundle.reader import BundleReader
from sneaker.caps import Caps
from sneaker.errors import BundleDamaged, NetworkKeyMismatch
from sneaker.feed.classic.message import create_message
from sneaker.feed.message import Compact, Head
from sneaker.keys import Keypair
from sneaker.need_data import NeedData
from sneaker.refs import FeedRef
from tests.bundle.bundles import strange_bundles
from tests.command_line import sneaker
from tests.homes import fixture_log, home, log_lines, pack, take
from tests.tries import amount

RECORD_BYTES = 8 * 1024  # many small records, so that damage to one leaves others


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bytes]:
    """A bundle of about 2,000 messages in many records."""
    folder = tmp_path_factory.mktemp("damage")
    with pytest.MonkeyPatch.context() as patch, home(folder / "home", b"\x01" * 32) as opened:
        patch.setattr(bundle_messages.split_runs, "__defaults__", (RECORD_BYTES,))
        take(opened, "-", data=fixture_log())
        take(opened, "-", data=_more_messages(2000 - opened.store.counts().messages))
        pack(opened, folder / "all.sneaker")
        assert opened.store.counts().messages == 2000
        yield (folder / "all.sneaker").read_bytes()


def _more_messages(count: int) -> bytes:
    """Return a log of ``count`` messages of an author of its own."""
    keypair = Keypair.from_seed(b"\x07" * 32)
    head, lines = None, []
    for number in range(count):
        text = f"message {number} of an author who has much to say about the sea {number * 7919}"
        message = create_message(keypair, head, 1_700_000_000_000 + number, {"type": "post", "text": text})
        head = Head(message.sequence, message.key)
        lines.append(message.text.replace(b"\n", b" "))
    return b"\n".join(lines)


def read(data: bytes) -> tuple[dict[tuple[FeedRef, int], Compact], dict[int, int], End, list[Damage]]:
    """Return the messages of a bundle, the offset and messages of each intact record, how it ended and the damage."""
    reader = BundleReader()
    if data:
        reader.receive_data(data)
    reader.receive_data(b"")
    messages: dict[tuple[FeedRef, int], Compact] = {}
    records: dict[int, int] = {}
    damage: list[Damage] = []
    while True:
        event = reader.next_event()
        assert not isinstance(event, NeedData)
        if isinstance(event, End):
            return messages, records, event, damage
        if isinstance(event, Damage):
            damage.append(event)
        if isinstance(event, MessagesRead):
            try:
                runs = event.runs()
            except BundleDamaged:
                continue
            records[event.offset] = sum(len(run.compacts) for run in runs)
            for run in runs:
                for sequence, compact in enumerate(run.compacts, run.first):
                    messages[run.author, sequence] = compact


def ends(data: bytes, records: dict[int, int]) -> dict[int, int]:
    """Return for each record's offset where the next thing begins."""
    from sneaker.bundle.frames import FRAME_BYTES, parse_frame

    found = {}
    for offset in records:
        frame = parse_frame(data, offset)
        assert frame is not None
        found[offset] = offset + FRAME_BYTES + frame.length
    return found


@contextmanager
def no_change(whole: dict[tuple[FeedRef, int], Compact], got: dict[tuple[FeedRef, int], Compact]) -> Iterator[None]:
    for place, compact in got.items():
        assert whole[place] == compact, "a message that the bundle does not hold"
    yield


def check_cut(data: bytes, at: int, whole: dict[tuple[FeedRef, int], Compact], ending: dict[int, int]) -> None:
    messages, records, end, _ = read(data[:at])
    with no_change(whole, messages):
        assert set(records) == {offset for offset, stop in ending.items() if stop <= at}
    assert end.status is Status.TRUNCATED
    assert end.detail


def check_flip(data: bytes, bit: int, whole: dict[tuple[FeedRef, int], Compact], ending: dict[int, int]) -> None:
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    messages, records, end, _ = read(bytes(damaged))
    hit = {offset for offset, stop in ending.items() if offset <= bit // 8 < stop}
    with no_change(whole, messages):
        assert set(records) == set(ending) - hit
    assert end.status is not Status.OK
    assert end.detail
    if hit and end.lost_messages is not None:
        assert sum(lost.count for lost in end.lost_messages) == len(whole) - len(messages)


def places(data: bytes, count: int | None) -> tuple[range | list[int], list[int]]:
    cuts = range(0, len(data), 97)
    generator = random.Random(7)
    flips = [generator.randrange(8 * len(data)) for _ in range(2000)]
    return (cuts, flips) if count is None else (generator.sample(cuts, count), flips[:count])


def check_all(data: bytes, count: int | None) -> None:
    whole, records, end, _ = read(data)
    assert end.status is Status.OK
    assert len(whole) == 2000
    assert len(records) > 50
    ending = ends(data, records)
    cuts, flips = places(data, count)
    for at in cuts:
        check_cut(data, at, whole, ending)
    for bit in flips:
        check_flip(data, bit, whole, ending)


def test_some_cuts_and_flips(bundle: bytes) -> None:
    check_all(bundle, amount(quick=20, thorough=60))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_cut_at_every_97th_byte_and_2000_flips(bundle: bytes) -> None:
    check_all(bundle, None)


def test_imports_of_damaged_bundles_take_what_is_whole(bundle: bytes, tmp_path: Path) -> None:
    """The whole way: each damaged bundle into a fresh store, then the whole one on top, which heals everything."""
    whole, records, _, _ = read(bundle)
    ending = ends(bundle, records)
    generator = random.Random(11)
    with home(tmp_path / "reference") as opened:
        take(opened, "-", data=bundle)
        expected = log_lines(opened)
    for number in range(amount(quick=2, thorough=6)):
        damaged = bytearray(bundle)
        if number % 2:
            at = generator.randrange(len(bundle))
            del damaged[at:]
            lost = {offset for offset, stop in ending.items() if stop > at}
        else:
            at = generator.randrange(8 * len(bundle))
            damaged[at // 8] ^= 1 << at % 8
            lost = {offset for offset, stop in ending.items() if offset <= at // 8 < stop}
        intact = sum(count for offset, count in records.items() if offset not in lost)
        path = tmp_path / f"{number}.sneaker"
        path.write_bytes(damaged)
        with home(tmp_path / f"home{number}") as opened:
            report = take(opened, path)
            assert report.sources[0].status in ("damaged", "truncated", "refused")
            assert report.sources[0].detail
            assert not report.complete
            # What chains on a lost record waits; nothing that is whole is refused.
            assert report.ingested.accepted + report.ingested.waiting == intact or at < 16
            assert report.ingested.refused == 0
            (tmp_path / "whole.sneaker").write_bytes(bundle)
            take(opened, tmp_path / "whole.sneaker")
            assert log_lines(opened) == expected
    assert len(whole) == 2000


def test_exit_code_3_names_the_loss(bundle: bytes, tmp_path: Path) -> None:
    damaged = bytearray(bundle)
    damaged[len(bundle) // 2] ^= 0x10
    (tmp_path / "damaged.sneaker").write_bytes(damaged)
    sneaker("init", at=tmp_path / "home")
    done = sneaker("import", tmp_path / "damaged.sneaker", at=tmp_path / "home", ok=False)
    assert done.code == 3
    assert "damaged" in done.out
    assert ".ed25519" in done.out, "the feed that lost something is named"
    (tmp_path / "cut.sneaker").write_bytes(bundle[: len(bundle) // 2])
    done = sneaker("import", tmp_path / "cut.sneaker", at=tmp_path / "home", ok=False)
    assert done.code == 3
    assert "cut" in done.out


def headerless(data: bytes) -> bytes:
    """Return a bundle without its header record, as a bad sector or a hostile exporter may leave it."""
    frame = parse_frame(data, PREAMBLE_BYTES)
    assert frame is not None
    return data[:PREAMBLE_BYTES] + data[PREAMBLE_BYTES + FRAME_BYTES + frame.length :]


@pytest.mark.parametrize("from_pipe", [False, True])
def test_without_a_header_the_signed_trailer_names_the_network(tmp_path: Path, from_pipe: bool) -> None:
    """Its messages would be valid: the networks differ in their network key alone."""
    with home(tmp_path / "there", b"\x01" * 32, Caps(b"another network's key, 32 bytes!")) as there:
        take(there, "-", data=_more_messages(3))
        pack(there, tmp_path / "there.sneaker")
        blind = headerless((tmp_path / "there.sneaker").read_bytes())
        (tmp_path / "blind.sneaker").write_bytes(blind)
    with home(tmp_path / "here", b"\x02" * 32) as here:
        report = take(here, "-", data=blind) if from_pipe else take(here, tmp_path / "blind.sneaker")
        assert report.sources[0].status == "refused"
        assert isinstance(report.sources[0].error, NetworkKeyMismatch)
        assert here.store.counts().messages == 0
        assert not list(here.path.glob("staging*"))
    with home(tmp_path / "sister", b"\x03" * 32, Caps(b"another network's key, 32 bytes!")) as sister:
        report = take(sister, "-", data=blind) if from_pipe else take(sister, tmp_path / "blind.sneaker")
        assert report.sources[0].status == "damaged"
        assert sister.store.counts().messages == 3


def test_without_header_and_trailer_what_came_is_taken(bundle: bytes, tmp_path: Path) -> None:
    cut = headerless(bundle)[: len(bundle) // 2]
    with home(tmp_path / "here", b"\x02" * 32) as here:
        report = take(here, "-", data=cut)
        assert report.sources[0].status == "damaged"
        assert here.store.counts().messages + report.ingested.waiting > 100


@pytest.mark.parametrize("what", strange_bundles())
def test_a_file_and_a_pipe_give_the_same(tmp_path: Path, what: str) -> None:
    data = strange_bundles()[what]
    path = tmp_path / "x.sneaker"
    path.write_bytes(data)
    with home(tmp_path / "file") as file, home(tmp_path / "pipe") as pipe:
        (by_file,), (by_pipe,) = take(file, path).sources, take(pipe, "-", data=data).sources
        assert log_lines(file) == log_lines(pipe)
        assert log_lines(file)
    assert (by_file.status, by_file.detail) == (by_pipe.status, by_pipe.detail)
    assert by_file.status in (Status.DAMAGED, Status.REFUSED)
    looked_at = sneaker("inspect", path, "--json", at=tmp_path / "file", ok=False).json
    assert (looked_at["status"], looked_at["detail"]) == (by_file.status, by_file.detail)
