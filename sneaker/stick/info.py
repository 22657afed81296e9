"""What is on a stick, for a person to look at: nothing is taken in or changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sneaker.bundle.card import MAX_CARD_BYTES, decode_card
from sneaker.errors import BundleError, SourceError, StickError
from sneaker.home.home import Home
from sneaker.stick.layout import BUNDLE_NAME, BUNDLES, CARD_NAME, CARDS, base32
from sneaker.stick.safe_folder import Listing
from sneaker.stick.stick import Stick, stick_errors

__all__ = ["describe"]

# Cards that are shown: as many as a visit looks at.
_MAX_CARDS = 1000


def describe(home: Home, path: Path) -> dict[str, Any]:
    """Return the stick at ``path`` as ``drive info --json`` prints it; raises StickError if there is none."""
    with Stick(path) as stick, stick_errors(path):
        marker = stick.marker()
        if marker is None:
            raise StickError(f"{path} is not a sneaker stick", hint=f"run 'sneaker drive init {path}' to make it one")
        files = home.store.sticks.files(marker.stick_id)
        folder = stick.folder(BUNDLES)
        bundles = folder.list(BUNDLE_NAME) if folder is not None else Listing()
        cards, no_cards = _cards(home, stick)
        return {
            "drive": base32(marker.stick_id),
            "enrolled": home.store.sticks.stick(marker.stick_id) is not None,
            "network_matches": marker.network_id == home.caps.network_id,
            "bundles": [
                {
                    "name": entry.name,
                    "bytes": entry.size,
                    "state": str(files[entry.name].state) if entry.name in files else "new",
                }
                for entry in bundles.files
            ],
            "cards": cards,
            "foreign": bundles.others + no_cards,
            "free_bytes": stick.free_bytes(),
        }


def _cards(home: Home, stick: Stick) -> tuple[list[dict[str, Any]], int]:
    """Return the newest card of each machine, and how many other things are among them."""
    folder = stick.folder(CARDS)
    if folder is None:
        return [], 0
    listing = folder.list(CARD_NAME)
    others = listing.others
    ours = home.store.clock()
    newest: dict[str, dict[str, Any]] = {}
    for entry in listing.files[:_MAX_CARDS]:
        try:
            card = decode_card(folder.read(entry.name, MAX_CARD_BYTES))
        except (BundleError, SourceError, OSError):
            others += 1
            continue
        machine = str(card.machine)
        if machine not in newest or newest[machine]["counter"] < card.counter:
            newest[machine] = {
                "machine": machine,
                "counter": card.counter,
                "time": card.time_ms,
                "feeds": len(card.clock),
                "behind": sum(max(0, last - card.clock.get(feed, 0)) for feed, last in ours.items()),
                "wants": len(card.wants),
            }
    return list(newest.values()), others
