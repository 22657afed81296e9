"""What tests of import and export share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.homes import fixture_log, home, take


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that holds the fixture, to export from; nothing is to be added to it."""
    path = tmp_path_factory.mktemp("filled") / "home"
    with home(path) as opened:
        take(opened, "-", data=fixture_log())
    return path
