"""What only tests use is no part of the program."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
#: What programs of other people use.
PUBLIC = {ROOT / "sneaker" / "api.py"}
#: Called by the classes that these are methods of: a raw file, an asyncio protocol, watchdog's handler, a text file.
CALLED_BY_LIBRARIES = {"readable", "datagram_received", "error_received", "on_any_event", "writelines"}

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def trees() -> dict[Path, ast.Module]:
    """Return every file of the package, and every script in Python."""
    scripts = (path for path in (ROOT / "scripts").iterdir() if path.suffix == ".py" or is_python(path))
    paths = [*(ROOT / "sneaker").rglob("*.py"), *scripts]
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def is_python(path: Path) -> bool:
    return path.is_file() and b"python" in path.read_bytes().partition(b"\n")[0]


def mentioned(tree: ast.Module) -> Iterator[str]:
    """Yield each name that a file reads or imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield node.attr
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names)


def defined(body: list[ast.stmt]) -> Iterator[tuple[int, str]]:
    """Yield line and name of each constant, function, class and method of a file, but for commands."""
    for node in body:
        if isinstance(node, Definition):
            decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
            if not any(re.search(r"\b(command|callback)\(", decorator) for decorator in decorators):
                yield node.lineno, node.name
            if isinstance(node, ast.ClassDef):
                yield from ((line, name) for line, name in defined(node.body) if not name.isupper())
        elif isinstance(node, ast.Assign):
            yield from (
                (node.lineno, name.id) for name in node.targets if isinstance(name, ast.Name) and name.id.isupper()
            )


def test_whatever_is_defined_is_used_by_the_program_itself() -> None:
    files = trees()
    used = {name for tree in files.values() for name in mentioned(tree)} | CALLED_BY_LIBRARIES
    unused = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path, tree in files.items()
        if path not in PUBLIC
        for line, name in defined(tree.body)
        if name not in used and not (name.startswith("__") and name.endswith("__"))
    ]
    assert unused == []
