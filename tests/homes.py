"""Homes, logs and the command line for tests."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zstandard

from sneaker.caps import MAIN_CAPS, Caps
from sneaker.cli.environment import default_memory
from sneaker.home.config import CONFIG_NAME, Config, format_config
from sneaker.home.home import Home, create_home, open_home
from sneaker.home.secret_file import load_secret
from sneaker.ingest.reports import ImportReport
from sneaker.keys import Keypair
from sneaker.own_feed.fork_guard import ForkGuard
from sneaker.transfer.export import export
from sneaker.transfer.export_options import ExportOptions, ExportReport
from sneaker.transfer.import_files import import_sources

FIXTURES = Path(__file__).parent / "data" / "fixtures"
NOW_MS = 1_700_000_000_000


def fixture_log() -> bytes:
    """Return the log that the JavaScript stack wrote, as NDJSON."""
    with (FIXTURES / "small.ndjson.zst").open("rb") as file:
        return zstandard.ZstdDecompressor().stream_reader(file).read()


def fixture_log_file(folder: Path) -> Path:
    path = folder / "log.ndjson"
    path.write_bytes(fixture_log())
    return path


def make_home(path: Path) -> Path:
    """Make what ``sneaker init`` makes, without a process; return ``path``."""
    create_home(path, Keypair.from_seed(os.urandom(32)), format_config(Config()), CONFIG_NAME)
    with open_home(path, MAIN_CAPS) as opened:
        ForkGuard(opened, default_memory()).begin_memory()
    return path


def identity(path: Path) -> str:
    """Return what ``sneaker id`` says, without a process."""
    return str(load_secret(path / "secret").public)


@contextmanager
def home(path: Path, seed: bytes | None = None, caps: Caps = MAIN_CAPS) -> Iterator[Home]:
    """Open the home at ``path``, made if need be."""
    if not (path / "secret").exists():
        keypair = Keypair.from_seed(seed if seed is not None else os.urandom(32))
        create_home(path, keypair, format_config(Config(caps=caps)), CONFIG_NAME)
    opened = open_home(path, caps)
    try:
        yield opened
    finally:
        opened.store.close()


def take(opened: Home, *paths: Path | str, data: bytes = b"", **options: Any) -> ImportReport:
    return import_sources(
        opened, [str(path) for path in paths], stdin=io.BytesIO(data), now_ms=lambda: NOW_MS, **options
    )


def pack(opened: Home, destination: Path | str, **options: Any) -> ExportReport:
    return export(
        opened,
        str(destination),
        ExportOptions(**options),
        stdout=io.BytesIO(),
        now_ms=NOW_MS,
        random_bytes=os.urandom,
    )


def log_lines(opened: Home) -> list[tuple[str, bytes]]:
    """Return everything in a store, in the order of ``log``."""
    return [(str(message.key), message.text) for message in opened.store.log()]
