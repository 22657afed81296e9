"""What is installed with sneaker: its licences, and that the locked versions are of everything."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PERMISSIVE = {"0BSD", "Apache", "BSD", "CC0", "ISC", "MIT", "MPL", "PSF", "Zlib"}
#: Not permissive, and why that is so for now.
EXCEPTIONS = {
    "pyudev": "LGPL-2.1-or-later: a library that is imported as it is, and that people can exchange",
    "zfec": "GPL-2+ or TGPPL: to be replaced before a release",
}


def needed(name: str, seen: dict[str, Distribution] | None = None) -> dict[str, Distribution]:
    """Return what is installed with a distribution, by name, without its extras."""
    seen = {} if seen is None else seen
    for line in distribution(name).requires or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        if requirement.name.lower() not in seen:
            seen[requirement.name.lower()] = distribution(requirement.name)
            needed(requirement.name, seen)
    return seen


def licence(installed: Distribution) -> str:
    """Return what a distribution says of its licence: an expression, a short name, or what its classifiers say."""
    metadata: dict[str, Any] = dict(installed.metadata.json)
    expression = metadata.get("license_expression")
    if expression:
        return str(expression)
    classified = [text.split(" :: ")[-1] for text in metadata.get("classifier", []) if text.startswith("License")]
    named = metadata.get("license") or ""
    if named and "\n" not in named:
        return str(named)
    if classified:
        return " AND ".join(classified)
    for file in installed.files or []:
        if file.name.upper().startswith("LICEN"):
            text = Path(str(installed.locate_file(file))).read_text(encoding="utf-8")
            return "MIT" if "Permission is hereby granted, free of charge" in text else text[:60]
    return "unknown"


@pytest.mark.parametrize("name", sorted(needed("sneaker")))
def test_licences_of_what_is_imported_are_permissive(name: str) -> None:
    found = licence(distribution(name))
    # One of each OR is enough; of an AND all must be permissive.
    parts = [part.strip(" ()") for part in re.split(r"\bAND\b|;", found)]
    permissive = all(any(word in option for word in PERMISSIVE for option in part.split(" OR ")) for part in parts)
    assert permissive or name in EXCEPTIONS, f"{name} is under {found}"
    assert not permissive or name not in EXCEPTIONS, f"{name} is under {found}, and no exception any more"


def test_the_locked_versions_are_of_everything_that_is_declared() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    declared = [
        *project["dependencies"],
        *project["optional-dependencies"]["test"],
        *project["optional-dependencies"]["dev"],
    ]
    text = (ROOT / "scripts/constraints.txt").read_text(encoding="utf-8")
    locked = re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)
    for requirement in map(Requirement, declared):
        if requirement.name == "sneaker":
            continue
        versions = [version for name, version in locked if name == requirement.name]
        assert versions, f"{requirement.name} is not locked: run scripts/lock"
        assert all(requirement.specifier.contains(version) for version in versions), f"{requirement}: run scripts/lock"
    assert "://" not in text, "where packages come from is the reader's choice"


def test_every_dependency_has_a_lower_bound_for_scripts_lowest() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    for line in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
        assert re.match(r"[\w-]+>=[\d.]+", line), line
