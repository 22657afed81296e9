"""``python -m tests.fuzz.again TARGET FILE...``: gives a target inputs that were found, without a fuzzer."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.fuzz.targets import TARGETS

for name in sys.argv[2:]:
    data = Path(name).read_bytes()
    print(f"{name}: {len(data)} bytes, {data[:200]!r}")
    TARGETS[sys.argv[1]].check(data)
