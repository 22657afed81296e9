"""The released vectors, read by the package."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from sneaker.bundle.events import Status
from sneaker.bundle.indexed_file import open_indexed
from sneaker.bundle.message_records import decode_messages
from sneaker.caps import MAIN_CAPS
from sneaker.errors import BundleError
from tests.bundle.bundles import Outcome, read_bundle
from tests.bundle.vectors import FOLDER, ROOT, Vector, digest_of, load_script, load_vectors

VECTORS = load_vectors()


def read_vector(vector: Vector) -> Outcome:
    return read_bundle(vector.data, network_id=MAIN_CAPS.network_id)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_vector(vector: Vector) -> None:
    outcome = read_vector(vector)
    assert outcome.status == vector.expect
    assert len(outcome.messages) == vector.messages
    assert digest_of(outcome.texts) == vector.sha256


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_reading_by_index_gives_no_other_messages(vector: Vector) -> None:
    try:
        bundle = open_indexed(io.BytesIO(vector.data))
        if bundle is None:
            assert vector.expect != "ok"
            return
        assert vector.expect != "truncated"
        texts = set(read_vector(vector).texts)
        for entry in bundle.advancing({}):
            for run in decode_messages(bundle.read(entry)):
                if vector.expect == "ok":
                    assert run.compacts
        assert texts or vector.messages == 0
    except BundleError:
        assert vector.expect != Status.OK


def test_the_script_knows_every_vector() -> None:
    script = load_script("make-vectors")
    assert {vector.name for vector in script.vectors()} <= {vector.name for vector in VECTORS}
    assert FOLDER.stat()


def test_the_script_does_not_write_over_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = load_script("make-vectors")
    monkeypatch.setattr(script, "TARGET", tmp_path)
    monkeypatch.setattr(script, "vectors", lambda: script.whole()[:2])
    monkeypatch.setattr("sys.argv", ["make-vectors"])
    said: list[str] = []
    assert script.main(said.append) == 0
    first, second = sorted(tmp_path.iterdir())
    first.write_bytes(b"released")
    assert script.main(said.append) == 1
    assert first.read_bytes() == b"released"
    assert "it stays" in said[-1]
    monkeypatch.setattr("sys.argv", ["make-vectors", "--force", first.stem])
    assert script.main(said.append) == 0
    assert first.read_bytes() != b"released"
    assert second.exists()


def test_the_page_shows_the_vector() -> None:
    script = load_script("make-vectors")
    (vector,) = [vector for vector in VECTORS if vector.name == "one-message"]
    page = (ROOT / "bundles-format.md").read_text(encoding="utf-8")
    assert script.page_with(page, script.annotate(vector.data)) == page
