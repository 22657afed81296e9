"""Homes, logs and the command line for tests."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from sneaker.caps import MAIN_CAPS, Caps
from sneaker.home.config import CONFIG_NAME, Config, format_config
from sneaker.home.home import Home, create_home, open_home
from sneaker.ingest.reports import ImportReport
from sneaker.keys import Keypair
from sneaker.transfer.export import ExportOptions, ExportReport, export
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


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def sneaker(
    *arguments: str | Path, at: Path | None = None, data: bytes | None = None, ok: bool = True, timeout: float = 60
) -> Done:
    """Run the real command line; ``ok`` demands exit code 0.  A traceback is never right."""
    command: Sequence[str] = [
        sys.executable,
        "-m",
        "sneaker",
        *(["--home", str(at)] if at is not None else []),
        *map(str, arguments),
    ]
    done = subprocess.run(
        command,
        input=data,
        stdin=None if data is not None else subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    result = Done(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))
    assert "Traceback" not in result.err, result.err
    assert "bug in sneaker" not in result.err, result.err
    if ok:
        assert result.code == 0, result.err + result.out
    return result
