"""Sizes as people write and read them: "500M", "1.5 GB"."""

from __future__ import annotations

import re

from sneaker.errors import UsageError
from sneaker.escaping import escaped

__all__ = ["format_size", "parse_size"]

_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*(?:([kKMGT])(i?))?B?")


def parse_size(text: str) -> int:
    """Read a size: bytes, or with k, M, G or T (powers of 1000), or Ki, Mi, Gi, Ti (of 1024); raises UsageError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        shown = text if len(text) <= 40 else text[:37] + "..."
        raise UsageError(f"{escaped(shown)!r} is not a size", hint="sizes are like 500M, 2G or 650000")
    power = " KMGT".index((match[2] or " ").upper())
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def format_size(size: int) -> str:
    """Return a number of bytes as people say it, for example "1.5 GB"."""
    value = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{int(value)} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
