"""Reading only what is needed: by the index, a bundle costs what is new in it."""

from __future__ import annotations

import io
from pathlib import Path

from sneaker.ingest.reports import ImportReport, SourceReport
from sneaker.transfer.import_files import importing
from tests.homes import NOW_MS, fixture_log, home, log_lines, pack, take


class Counting(io.BytesIO):
    """A file that counts the bytes read from it."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def import_counting(path: Path, data: bytes) -> tuple[ImportReport, int]:
    file = Counting(data)
    with home(path) as opened, importing(opened, now_ms=lambda: NOW_MS) as session:
        session.import_file(file, SourceReport("counted"))
        return session.finish(), file.count


def many_small_records(tmp_path: Path) -> bytes:
    from sneaker.bundle import message_records as messages

    default = messages.split_runs.__defaults__
    messages.split_runs.__defaults__ = (8 * 1024,)
    try:
        with home(tmp_path / "a") as a:
            take(a, "-", data=fixture_log())
            pack(a, tmp_path / "x.sneaker")
    finally:
        messages.split_runs.__defaults__ = default
    return (tmp_path / "x.sneaker").read_bytes()


def test_what_is_known_is_not_read_again(tmp_path: Path) -> None:
    # Large enough that what is read to know the kind of file is a small part of it.
    data = many_small_records(tmp_path)
    report, whole = import_counting(tmp_path / "b", data)
    assert report.ingested.accepted == 1129
    assert whole >= len(data)
    report, again = import_counting(tmp_path / "b", data)
    assert report.sources[0].status == "known"
    index_and_start = 256 * 1024 + 40_000
    assert again < index_and_start


def test_a_few_new_messages_cost_a_few_records(tmp_path: Path) -> None:
    data = many_small_records(tmp_path)
    with home(tmp_path / "a") as a:
        feeds = sorted(a.store.clock().items())
        lines = [text for _, text in log_lines(a)]
        last = {(str(feed), sequence) for feed, sequence in feeds[:3]}
        rest = [
            text.replace(b"\n", b" ")
            for message, text in zip(a.store.log(), lines, strict=True)
            if (str(message.author), message.sequence) not in last
        ]
    with home(tmp_path / "b") as b:
        take(b, "-", data=b"\n".join(rest))
    _, nothing = import_counting(tmp_path / "a", data)
    report, few = import_counting(tmp_path / "b", data)
    assert report.ingested.accepted == 3
    assert few - nothing < 3 * 30_000
    with home(tmp_path / "a") as a, home(tmp_path / "b") as b:
        assert log_lines(a) == log_lines(b)
