"""The vectors in tests/data/bundles, and the script that wrote them."""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "data" / "bundles"


@dataclass(frozen=True)
class Vector:
    """One file."""

    name: str
    expect: str
    sha256: str
    messages: int
    data: bytes


def load_vectors() -> list[Vector]:
    """Return all vectors, by name."""
    found = []
    for path in sorted(FOLDER.glob("*.vector")):
        head, _, data = path.read_bytes().partition(b"\n\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\n"))
        assert set(fields) == {"expect", "sha256", "messages", "comment"}
        found.append(Vector(path.stem, fields["expect"], fields["sha256"], int(fields["messages"]), data))
    return found


def digest_of(texts: Iterable[bytes]) -> str:
    """Return what a vector says of its messages."""
    return hashlib.sha256(b"".join(text + b"\n" for text in texts)).hexdigest()


def load_script(name: str) -> ModuleType:
    """Import a script of scripts/, which may have no suffix."""
    loader = importlib.machinery.SourceFileLoader(
        name.replace("-", "_").removesuffix(".py"), str(ROOT / "scripts" / name)
    )
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module
