"""What is named for import, and what is found in folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sneaker.cli.watch_actions import HomeInbox
from tests.command_line import sneaker


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
