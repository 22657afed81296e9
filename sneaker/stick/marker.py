"""The marker of a stick: a small JSON file with the stick's own id and the network that it carries."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sneaker.errors import StickError
from sneaker.stick.layout import base32, from_base32

__all__ = ["Marker", "format_marker", "parse_marker"]


@dataclass(frozen=True, slots=True)
class Marker:
    """What makes a folder a stick: its own id (16 bytes), and the network it carries (``Caps.network_id``)."""

    stick_id: bytes
    network_id: bytes
    created_ms: int = 0


def parse_marker(data: bytes) -> Marker:
    """Read the bytes of a marker; raises StickError."""
    try:
        fields = json.loads(data)
        stick_id = from_base32(fields["drive"], 16)
        network_id = from_base32(fields["network"], 32)
        if fields["sneaker"] != 1 or stick_id is None or network_id is None:
            raise ValueError("not our fields")
        created = fields.get("created", 0)
        return Marker(stick_id, network_id, created if type(created) is int else 0)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise StickError(
            "the marker cannot be read",
            hint="the stick is damaged or not one of sneaker's; nothing on it was changed",
        ) from None


def format_marker(marker: Marker) -> bytes:
    """Return the bytes of a marker."""
    fields = {
        "sneaker": 1,
        "drive": base32(marker.stick_id),
        "network": base32(marker.network_id),
        "created": marker.created_ms,
    }
    return (json.dumps(fields, indent=2) + "\n").encode("ascii")
