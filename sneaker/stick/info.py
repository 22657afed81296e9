"""What is on a stick, for a person to look at: nothing is taken in or changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sneaker.bundle.card import MAX_CARD_BYTES, decode_card
from sneaker.errors import BundleError, SourceError, StickError
from sneaker.home.home import Home
from sneaker.refs import FeedRef
from sneaker.stick.layout import BUNDLE_NAME, BUNDLES, CARD_NAME, CARDS
from sneaker.stick.safe_folder import Listing
from sneaker.stick.stick import Stick, stick_errors
from sneaker.store.sticks import FileState

__all__ = ["BundleInfo", "CardInfo", "StickInfo", "describe"]

# Cards that are shown: as many as a visit looks at.
_MAX_CARDS = 1000


@dataclass(frozen=True, slots=True)
class BundleInfo:
    """A bundle on the stick; ``state`` is what this machine knows of it, None if it has not seen it yet."""

    name: str
    bytes: int
    state: FileState | None


@dataclass(frozen=True, slots=True)
class CardInfo:
    """The newest card of a machine.

    ``time_ms`` is by that machine's clock. ``feeds`` is how many feeds it has, ``behind`` how many messages of what we hold it
    lacks, ``wants`` how many blobs it asks for.
    """

    machine: FeedRef
    counter: int
    time_ms: int
    feeds: int
    behind: int
    wants: int


@dataclass(frozen=True, slots=True)
class StickInfo:
    """What is on a stick; ``foreign`` is how many things in its folders are neither bundles nor cards."""

    id: bytes
    enrolled: bool
    network_matches: bool
    bundles: list[BundleInfo]
    cards: list[CardInfo]
    foreign: int
    free_bytes: int


def describe(home: Home, path: Path) -> StickInfo:
    """Return what is on the stick at ``path``; raises StickError if there is none."""
    with Stick(path) as stick, stick_errors(path):
        marker = stick.marker()
        if marker is None:
            raise StickError(f"{path} is not a sneaker stick", hint=f"run 'sneaker drive init {path}' to make it one")
        files = home.store.sticks.files(marker.stick_id)
        folder = stick.folder(BUNDLES)
        bundles = folder.list(BUNDLE_NAME) if folder is not None else Listing()
        cards, no_cards = _cards(home, stick)
        return StickInfo(
            id=marker.stick_id,
            enrolled=home.store.sticks.stick(marker.stick_id) is not None,
            network_matches=marker.network_id == home.caps.network_id,
            bundles=[
                BundleInfo(entry.name, entry.size, files[entry.name].state if entry.name in files else None)
                for entry in bundles.files
            ],
            cards=cards,
            foreign=bundles.others + no_cards,
            free_bytes=stick.free_bytes(),
        )


def _cards(home: Home, stick: Stick) -> tuple[list[CardInfo], int]:
    """Return the newest card of each machine, and how many other things are among them."""
    folder = stick.folder(CARDS)
    if folder is None:
        return [], 0
    listing = folder.list(CARD_NAME)
    others = listing.others
    ours = home.store.clock().classic()
    newest: dict[FeedRef, CardInfo] = {}
    for entry in listing.files[:_MAX_CARDS]:
        try:
            card = decode_card(folder.read(entry.name, MAX_CARD_BYTES))
        except (BundleError, SourceError, OSError):
            others += 1
            continue
        if card.machine not in newest or newest[card.machine].counter < card.counter:
            newest[card.machine] = CardInfo(
                machine=card.machine,
                counter=card.counter,
                time_ms=card.time_ms,
                feeds=len(card.clock),
                behind=sum(max(0, last - card.clock.get(feed, 0)) for feed, last in ours.items()),
                wants=len(card.wants),
            )
    return list(newest.values()), others
