"""Imports point down only (design: levels 0 to 5); pure layers import nothing that reads files, time or randomness."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "sneaker"

LEVELS = {
    "errors": 0,
    "bugs": 0,
    "events": 0,
    "limits": 0,
    "refs": 0,
    "keys": 0,
    "screen": 0,
    "caps": 0,
    "feed": 1,
    "clock": 1,
    "graph": 1,
    "private": 1,
    "wire": 1,
    "bundle": 1,
    "store": 2,
    "exchange": 3,
    "net": 4,
    "drives": 4,
    "desktop": 4,
    "cli": 5,
    "config": 5,
    "__main__": 5,
}
# Parts of level 1 that may use others of level 1; they do not import each other otherwise.
WITHIN = {
    "bundle": {"feed", "clock"},
    "wire": {"feed", "clock"},
    "private": {"feed"},
    "graph": set(),
    "clock": set(),
    "feed": {"graph"},
}
IMPURE = {
    "os",
    "socket",
    "time",
    "random",
    "secrets",
    "subprocess",
    "asyncio",
    "sqlite3",
    "pathlib",
    "tempfile",
    "shutil",
}
# Reading a bundle out of a seekable file is the one thing of level 1 that touches a file.
MAY_TOUCH_FILES = {"bundle/file.py"}

MODULES = sorted(path for path in PACKAGE.rglob("*.py"))


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.append(node.module or "")
            found += [f"{node.module}.{alias.name}" for alias in node.names if node.module == "sneaker"]
    return found


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = part(path)
    if own == "__init__":
        return
    for name in imports(path):
        pieces = name.split(".")
        if pieces[0] != "sneaker" or len(pieces) < 2 or pieces[1] in (own, "__version__"):
            continue
        other = pieces[1]
        assert other in LEVELS, f"{path.name} imports {name}: give {other} a level"
        if LEVELS[other] == LEVELS[own] == 1:
            assert other in WITHIN.get(own, set()), f"{own} imports {other}"
        elif LEVELS[own] == LEVELS[other] == 4:
            pytest.fail(f"{own} imports {other}: parts of level 4 do not know each other")
        else:
            assert LEVELS[other] <= LEVELS[own], f"{own} imports {other}, which is above it"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_pure_layers_are_pure(path: Path) -> None:
    if LEVELS.get(part(path)) != 1 or str(path.relative_to(PACKAGE)) in MAY_TOUCH_FILES:
        return
    for name in imports(path):
        assert name.split(".")[0] not in IMPURE, f"{path.relative_to(PACKAGE)} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_reads_the_environment_and_prints(path: Path) -> None:
    if part(path) in ("cli", "config", "__main__"):
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv"):
            pytest.fail(f"{path} reads the environment at line {node.lineno}")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            pytest.fail(f"{path} prints at line {node.lineno}")


@pytest.mark.parametrize(("library", "module"), [("zstandard", "bundle/compression.py"), ("zfec", "bundle/parity.py")])
def test_one_module_for_one_library(library: str, module: str) -> None:
    users = [str(path.relative_to(PACKAGE)) for path in MODULES if library in (n.split(".")[0] for n in imports(path))]
    assert set(users) <= {module}
