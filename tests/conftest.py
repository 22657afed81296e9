"""What every test gets: a clean environment, and a header that says which kinds of tests can run here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests import tools, tries
from tests.folders import make_memory_folder, memory_folder

pytest_plugins = ["tests.filesystems"]

REQUIRE_ALL = os.environ.get("SNEAKER_REQUIRE") == "all"
#: How hard Hypothesis tries: SNEAKER_TRIES is "quick" or "thorough".
TRIES = os.environ.get("SNEAKER_TRIES") or ("thorough" if REQUIRE_ALL else "quick")
tries.choose_profile(TRIES)
#: What a test that says nothing of it may take, in seconds, if Hypothesis tries hard.
THOROUGH_TIMEOUT_S = 180
#: The same for tests that are marked slow.
SLOW_TIMEOUT_S = 300


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if TRIES == "thorough" and config.getoption("timeout", None) is None:
        config.option.timeout = THOROUGH_TIMEOUT_S
    # What tmp_path_factory makes is in memory too. The workers get folders below it.
    if config.option.basetemp is None:
        config.option.basetemp = folder = str(make_memory_folder())
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_report_header() -> list[str]:
    lines = ["what can run here:"]
    for name, reason in tools.reasons().items():
        lines.append(f"  {name:<6} {'yes' if reason is None else 'no: ' + reason}")
    lines.append(f"Hypothesis tries: {TRIES} (SNEAKER_TRIES)")
    if REQUIRE_ALL:
        lines.append("  SNEAKER_REQUIRE=all: a test that cannot run for want of a tool fails")
    return lines


#: What shares this machine's devices, networks or processor time with nothing else: one worker runs all of it.
ALONE = {"netns", "qemu", "udev"}
#: What begins first, for it takes longest and waits most of its time, while others compute.
FIRST = ("machine", "net/test_interop", "net/", "devices/")


def group_of(item: pytest.Item) -> str:
    """Return what runs on one worker: a file, which may have fixtures of its own, or all that needs the machine alone."""
    alone = ALONE & {mark.name for mark in item.iter_markers()}
    return "machine" if alone else f"{item.path.parent.name}/{item.path.stem}"


def rank(group: str) -> int:
    """Return when a group of tests begins, 0 for first."""
    return next((number for number, start in enumerate(FIRST) if group.startswith(start)), len(FIRST))


@pytest.hookimpl(tryfirst=True)  # xdist looks at the groups in this hook
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group_of(item)))
    items.sort(key=lambda item: rank(group_of(item)))
    run_slow = config.getoption("--slow")
    skip_slow = pytest.mark.skip(reason="slow: run with --slow")
    for item in items:
        if item.get_closest_marker("slow"):
            if not run_slow:
                item.add_marker(skip_slow)
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT_S))


def pytest_collection_finish(session: pytest.Session) -> None:
    if session.config.getoption("loadgroup", False):
        assert all("@" in item.nodeid for item in session.items), "this pytest-xdist does not see the groups of tests"


def pytest_runtest_setup(item: pytest.Item) -> None:
    for name, reason in tools.reasons().items():
        if reason is not None and item.get_closest_marker(name):
            if REQUIRE_ALL:
                pytest.fail(f"SNEAKER_REQUIRE=all, but {name} is missing: {reason}", pytrace=False)
            pytest.skip(f"{name}: {reason}")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No SNEAKER_* from outside, and a home folder of the test's own."""
    for name in list(os.environ):
        if name.startswith("SNEAKER_"):
            monkeypatch.delenv(name)
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with memory_folder() as home:
        monkeypatch.setenv("HOME", str(home))
        yield
