"""What is on a stick, for a person to look at: nothing is taken in or changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sneaker.bundle.card import MAX_CARD_BYTES, decode_card
from sneaker.errors import BundleError, DriveError, SourceError
from sneaker.exchange.home import STORE_NAME, Home
from sneaker.exchange.stick import BUNDLES, CARDS, Stick, base32
from sneaker.exchange.visit import BUNDLE_NAME, CARD_NAME
from sneaker.store.drives import DriveTables

__all__ = ["describe"]


def describe(home: Home, path: Path) -> dict[str, Any]:
    """Return the stick at ``path`` as ``drive info --json`` prints it; raises DriveError if there is none."""
    with Stick(path) as stick, DriveTables.open(home.path / STORE_NAME) as tables:
        marker = stick.marker()
        if marker is None:
            raise DriveError(f"{path} is not a sneaker stick", hint=f"run 'sneaker drive init {path}' to make it one")
        files = tables.files(marker.drive_id)
        bundles, foreign = stick.entries(BUNDLES, BUNDLE_NAME)
        entries, others = stick.entries(CARDS, CARD_NAME)
        ours = home.store.clock()
        cards: dict[str, dict[str, Any]] = {}
        for entry in entries:
            try:
                card = decode_card(stick.read(CARDS, entry.name, MAX_CARD_BYTES))
            except (BundleError, SourceError, OSError):
                others += 1
                continue
            machine = str(card.machine)
            if machine not in cards or cards[machine]["counter"] < card.counter:
                cards[machine] = {
                    "machine": machine,
                    "counter": card.counter,
                    "time": card.time_ms,
                    "feeds": len(card.clock),
                    "behind": sum(max(0, last - card.clock.get(feed, 0)) for feed, last in ours.items()),
                    "wants": len(card.wants),
                }
        return {
            "drive": base32(marker.drive_id),
            "enrolled": tables.drive(marker.drive_id) is not None,
            "network_matches": marker.network_id == home.caps.network_id,
            "bundles": [
                {
                    "name": entry.name,
                    "bytes": entry.size,
                    "state": str(files[entry.name].state) if entry.name in files else "new",
                }
                for entry in bundles
            ],
            "cards": list(cards.values()),
            "foreign": foreign + others,
            "free_bytes": stick.free_bytes(),
        }
