"""The house of ``sneaker/README.md``: imports point down, no files import each other in a circle, pure floors touch nothing."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "sneaker"

#: From the ground up. What stands on one floor may import the floors below and its own room; see SAME_FLOOR for the rest.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "limits", "refs", "caps", "keys", "clock", "escaping", "sizes", "need_data", "bugs"),
    ("feed", "social", "wire", "bundle"),
    ("planning",),
    ("files", "signatures"),
    ("store",),
    ("ingest",),
    ("home",),
    ("own_feed",),
    ("transfer",),
    ("stick",),
    ("doctor",),
    ("net", "devices", "desktop"),
    ("api", "cli"),
    ("__main__",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

#: Rooms of one floor that another one of that floor may use.
SAME_FLOOR = {"bundle": {"feed"}, "wire": {"feed"}, "feed": {"social"}}

#: The floors that take bytes and give values: level 1 and 2 of the house.
PURE = {room for floor in FLOORS[:3] for room in floor}
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
#: What is not as pure as its floor, and why.
MAY_TOUCH_FILES = {
    "bundle/indexed_file.py",  # reads a bundle out of a seekable file
    "bugs.py",  # counts what went wrong, by the clock
}

MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


@dataclass
class Code:
    """What the checks want to know of a file: of imports the full names, of the rest the names as they stand, with the line."""

    imports: list[str] = field(default_factory=list)
    attributes: list[tuple[str, int]] = field(default_factory=list)
    calls: list[tuple[str, int]] = field(default_factory=list)


@cache
def code_of(path: Path) -> Code:
    """Return what stands in a file, wherever in it."""
    code = Code()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            of = node.value.id if isinstance(node.value, ast.Name) else ""
            code.attributes.append((f"{of}.{node.attr}", node.lineno))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            code.calls.append((node.func.id, node.lineno))
        elif isinstance(node, ast.Import):
            code.imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            code.imports += [f"{node.module}.{alias.name}" for alias in node.names]
    return code


@cache
def libraries(path: Path) -> set[str]:
    """Return the packages that a file imports from."""
    return {name.partition(".")[0] for name in code_of(path).imports}


@cache
def module_of(name: str) -> str | None:
    """Return the module of ours that a name is in; None for other people's."""
    while name:
        if name in MODULES:
            return name
        name = name.rpartition(".")[0]
    return None


@cache
def imported_modules(name: str) -> set[str]:
    """Return the modules of ours that a module imports."""
    found = {module_of(other) for other in code_of(MODULES[name]).imports}
    return {other for other in found if other is not None and other not in (name, "sneaker")}


def room(module: str) -> str:
    return module.split(".")[1]


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that reach each other (Tarjan's strongly connected components)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def walk(module: str) -> None:
        order[module] = low[module] = len(order)
        stack.append(module)
        for other in graph[module]:
            if other not in order:
                walk(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], order[other])
        if low[module] == order[module]:
            group = []
            while True:
                group.append(stack.pop())
                if group[-1] == module:
                    break
            if len(group) > 1:
                found.append(sorted(group))

    for module in graph:
        if module not in order:
            walk(module)
    return found


INSIDE = [name for name in MODULES if name != "sneaker"]


def test_imports_point_down() -> None:
    assert {room(name) for name in INSIDE} <= FLOOR_OF.keys(), "every room has a floor"
    wrong = []
    for name in INSIDE:
        own = room(name)
        for other in {room(module) for module in imported_modules(name)} - {own}:
            beside = FLOOR_OF[other] == FLOOR_OF[own] != 0 and other not in SAME_FLOOR.get(own, set())
            if beside or FLOOR_OF[other] > FLOOR_OF[own]:
                wrong.append(f"{name} imports {other}, which is {'on its floor' if beside else 'above it'}")
    assert wrong == []


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {name: imported_modules(name) for name in MODULES}
    assert circles(graph) == []


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_pure_floors_are_pure() -> None:
    wrong = {}
    for name in INSIDE:
        path = MODULES[name]
        if room(name) in PURE and str(path.relative_to(PACKAGE)) not in MAY_TOUCH_FILES:
            wrong[name] = libraries(path) & IMPURE
    assert {name: found for name, found in wrong.items() if found} == {}


def test_only_the_command_line_reads_the_environment_and_prints() -> None:
    wrong = []
    for name in INSIDE:
        if room(name) in ("cli", "__main__"):
            continue
        code = code_of(MODULES[name])
        reads = [(word, line) for word, line in code.attributes if word.endswith((".environ", ".getenv"))]
        prints = [(word, line) for word, line in code.calls if word == "print"]
        wrong += [f"{name} line {line}: {word}" for word, line in reads + prints]
    assert wrong == []


@pytest.mark.parametrize(("library", "module"), [("zstandard", "bundle/compression.py"), ("zfec", "bundle/parity.py")])
def test_one_module_for_one_library(library: str, module: str) -> None:
    users = [str(path.relative_to(PACKAGE)) for path in MODULES.values() if library in libraries(path)]
    assert users == [module]


WHOLE_PROCESS = {"gc.freeze", "gc.unfreeze", "gc.set_threshold", "gc.disable", "sys.setswitchinterval"}


def test_what_holds_for_the_whole_process_is_set_at_its_start() -> None:
    wrong = []
    for name in set(INSIDE) - {"sneaker.cli"}:
        found = [(word, line) for word, line in code_of(MODULES[name]).attributes if word in WHOLE_PROCESS]
        wrong += [f"{name} line {line}: {word}" for word, line in found]
    assert wrong == []
