"""What is named for import, and what is found in folders."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sneaker.caps import MAIN_CAPS
from sneaker.cli.watch_actions import HomeInbox
from sneaker.clock import VectorClock
from sneaker.keys import Keypair
from sneaker.transfer import source_kinds
from sneaker.transfer.inspect import inspect
from sneaker.transfer.read_log import LogSource
from sneaker.transfer.source_events import SourceEvent
from sneaker.transfer.source_kinds import SOURCE_KINDS, identify_source
from sneaker.transfer.sources import OpenedSource
from sneaker.transfer.verify import verify
from tests.command_line import sneaker
from tests.homes import home, take


@pytest.fixture
def alice(tmp_path: Path) -> Path:
    sneaker("init", at=tmp_path / "alice")
    sneaker("publish", "one", at=tmp_path / "alice")
    return tmp_path / "alice"


@pytest.fixture
def bob(tmp_path: Path) -> Path:
    sneaker("init", at=tmp_path / "bob")
    return tmp_path / "bob"


def test_a_folder_with_nothing_in_it_beside_one_whose_name_goes_on(alice: Path, bob: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "ab").mkdir()
    sneaker("export", tmp_path / "ab", at=alice)
    done = sneaker("import", tmp_path / "a", tmp_path / "ab", "--json", at=bob, ok=False)
    found = {Path(source["path"]).name: source["status"] for source in done.json["sources"]}
    assert found.pop("a") == "refused"
    assert list(found.values()) == ["ok"]


@pytest.mark.parametrize("ending", [".ndjson", ".jsonl", ".JSONL"])
def test_logs_are_known_by_one_list_of_endings(alice: Path, bob: Path, tmp_path: Path, ending: str) -> None:
    lines = sneaker("log", "--json", at=alice).out.encode()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / f"log{ending}").write_bytes(lines)
    assert HomeInbox.wanted(lines, f"log{ending}")
    assert sneaker("import", tmp_path / "in", "--json", at=bob).json["messages"]["accepted"] == 1


def test_other_json_in_a_folder_is_nobodys_log(alice: Path) -> None:
    line = sneaker("log", "--json", at=alice).out.encode()
    assert json.loads(line)
    assert not HomeInbox.wanted(line, "settings.json")


# ---- one interface for all kinds


def test_each_kind_is_told_by_its_first_bytes(alice: Path, tmp_path: Path) -> None:
    sneaker("export", tmp_path / "bundle", at=alice)
    sneaker("clock", "--card", tmp_path / "card", at=alice)
    sneaker("export", tmp_path / "encrypted", "--to", sneaker("id", at=alice).out.strip(), at=alice)
    (tmp_path / "log").write_text(sneaker("log", "--json", at=alice).out)
    found = {}
    for name in ("bundle", "card", "encrypted", "log"):
        kind = identify_source((tmp_path / name).read_bytes(), name)
        assert [other for other in SOURCE_KINDS if other.recognises((tmp_path / name).read_bytes())] == [kind]
        found[name] = str(kind.kind)
    assert found == {"bundle": "bundle", "card": "card", "encrypted": "encrypted", "log": "ndjson"}


def test_a_new_kind_is_read_by_all(alice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module and its place in the list: import, inspect and verify know no more of a kind."""

    class Backwards(LogSource):
        def recognises(self, start: bytes) -> bool:
            return start.startswith(b"\n}")

        def read_events(
            self, source: OpenedSource, *, hmac_key: bytes | None, keypair: Keypair | None
        ) -> Iterator[SourceEvent]:
            turned = OpenedSource(source.name, b"".join(source.chunks())[::-1], io.BytesIO(), source.progress)
            return super().read_events(turned, hmac_key=hmac_key, keypair=keypair)

    monkeypatch.setattr(source_kinds, "SOURCE_KINDS", (*SOURCE_KINDS, Backwards()))
    data = sneaker("log", "--json", at=alice).out.encode()[::-1]
    (tmp_path / "turned").write_bytes(data)
    assert verify(io.BytesIO(data), "turned", MAIN_CAPS, progress=lambda done: None).valid == 1
    found = inspect(io.BytesIO(data), "turned", MAIN_CAPS, VectorClock(), progress=lambda done: None)
    assert found.messages == 1
    with home(tmp_path / "carol") as carol:
        assert take(carol, tmp_path / "turned").ingested.accepted == 1


def test_a_named_pipe_is_not_waited_for_by_whatever_way_it_is_named(alice: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in (tmp_path / "pipe", f"/proc/self/../..{tmp_path}/pipe"):
        done = sneaker("import", name, at=alice, ok=False, timeout=20)
        assert "is a named pipe" in done.err
