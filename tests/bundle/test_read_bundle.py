"""scripts/read_bundle.py, which was written from the page alone, against the package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sneaker.feed.classic.canonical import parse_canonical
from tests.bundle.bundles import make_bundle, records_of, small_parts
from tests.bundle.test_vectors import read_vector
from tests.bundle.vectors import ROOT, Vector, digest_of, load_script, load_vectors
from tests.tries import amount

SCRIPT = ROOT / "scripts" / "read_bundle.py"
reader = load_script("read_bundle.py")


def run(data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, list[str], str]:
    """Return exit status, lines of stdout, and the status on stderr."""
    path = tmp_path / "bundle.sneaker"
    path.write_bytes(data)
    code = reader.main([*options, str(path)])
    out, err = capsys.readouterr()
    return code, out.split("\n")[:-1], err.splitlines()[-1].partition(":")[0]


@pytest.mark.parametrize("vector", load_vectors(), ids=lambda vector: vector.name)
def test_it_reads_every_vector_as_the_package_does(
    vector: Vector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines, status = run(vector.data, tmp_path, capsys)
    assert status == vector.expect
    assert code == (0 if vector.expect == "ok" else 3)
    outcome = read_vector(vector)
    assert [json.loads(line)["key"] for line in lines] == [str(message.key) for message in outcome.messages]
    texts = [parse_canonical(line.partition(',"value":')[2][:-1])[1] for line in lines]
    assert texts == outcome.texts
    assert digest_of(texts) == vector.sha256


@pytest.mark.timeout(300)
def test_every_bit_of_a_bundle_flipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_bundle(small_parts())
    for place in range(0, len(data), amount(quick=11, thorough=3)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        vector = Vector("", "damaged", "", 0, bytes(damaged))
        code, lines, status = run(vector.data, tmp_path, capsys)
        outcome = read_vector(vector)
        assert (code, status) == (3, outcome.status)
        assert [json.loads(line)["key"] for line in lines] == [str(message.key) for message in outcome.messages]


def test_the_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_bundle(small_parts())
    code, lines, status = run(data, tmp_path, capsys, "--list")
    assert (code, status) == (0, "ok")
    starts = [line.split() for line in lines if not line.startswith("      @")]
    assert [(int(kind, 16), int(at), int(length)) for at, length, kind in starts] == records_of(data)
    assert len([line for line in lines if "@" in line]) == 4
    for vector in load_vectors():
        run(vector.data, tmp_path, capsys, "--list")


def test_it_is_small_and_independent() -> None:
    source = SCRIPT.read_text(encoding="utf-8")
    assert len(source.splitlines()) < 200
    imported = {
        line.split()[1].partition(".")[0] for line in source.splitlines() if line.startswith(("import", "from"))
    }
    assert imported - sys.stdlib_module_names == {"nacl", "zstandard"}
    assert subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, check=False).returncode == 1
