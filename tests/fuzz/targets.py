"""The table of all targets: one for each reader of what others wrote."""

from __future__ import annotations

from tests.fuzz import bundles, feeds, files, wires
from tests.fuzz.rules import Target

__all__ = ["TARGETS"]

TARGETS: dict[str, Target] = {**bundles.TARGETS, **feeds.TARGETS, **wires.TARGETS, **files.TARGETS}
