"""The built wheel, installed alone in a fresh environment, does the main job."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_wheel_works_without_development_packages(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "sneaker/py.typed" in names
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "sneaker").rglob("*.md")}
    assert "sneaker/guide/sticks.md" in pages
    assert pages <= set(names)
    assert not [name for name in names if name.startswith("tests") or "vectors" in name], "no test data in the wheel"
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel)],
        check=True,
        capture_output=True,
    )
    program = tmp_path / "venv/bin/sneaker"
    done = subprocess.run([program, "demo", "--json"], check=True, capture_output=True, text=True)
    assert '"identical":true' in done.stdout
    help_text = subprocess.run([program, "--help"], check=True, capture_output=True, text=True).stdout
    assert "import" in help_text
    installed = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze"], check=True, capture_output=True, text=True
    ).stdout.lower()
    assert "pytest" not in installed
    assert "hypothesis" not in installed
