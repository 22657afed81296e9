"""The sticks of the simulation, and a watch over them: who may remove what, and that nothing ever changes."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sneaker.bundle.card import Card, decode_card
from sneaker.bundle.indexed_file import open_indexed
from sneaker.errors import SneakerError
from sneaker.refs import FeedRef
from sneaker.stick.layout import BUNDLES, CARDS, FOLDER, base32, card_name

__all__ = ["File", "SimulatedStick", "Violation"]


class Violation(AssertionError):
    """The program broke one of its promises."""


@dataclass(frozen=True)
class File:
    """A file on a stick, and what it is: whose bundle or card, or nobody's."""

    digest: bytes
    size: int
    exporter: FeedRef | None = None
    lasts: dict[FeedRef, int] = field(default_factory=dict)
    card: Card | None = None


_seen: dict[tuple[str, bytes], File] = {}


def _look(path: Path, network_id: bytes) -> File:
    data = path.read_bytes()
    digest = hashlib.sha256(data).digest()
    known = _seen.get((path.name, digest))
    if known is not None:
        return known
    found = File(digest, len(data))
    if path.parent.name == BUNDLES and path.suffix == ".sneaker":
        try:
            bundle = open_indexed(io.BytesIO(data))
        except SneakerError:
            bundle = None
        if bundle is not None:
            lasts = {entry.feed: entry.last for entry in bundle.index.feeds}
            found = File(digest, len(data), bundle.header.exporter, lasts)
    elif path.parent.name == CARDS:
        try:
            card = decode_card(data)
            if path.name == card_name(card.machine, card.counter) and card.network_id == network_id:
                found = File(digest, len(data), card=card)
        except SneakerError:
            pass
    if len(_seen) > 20_000:
        _seen.clear()
    _seen[path.name, digest] = found
    return found


class SimulatedStick:
    """A folder that is a stick.  ``files`` is what lay there when it was looked at last, by path below the root."""

    def __init__(self, path: Path, network_id: bytes) -> None:
        self.path = path
        self.network_id = network_id
        self.files: dict[str, File] = {}
        #: Damaged copies of bundles: they stay for ever, as nobody can say that they are of no use.
        self.litter: set[str] = set()
        #: Whose the bundles were that changed where they lie.
        self.rotten: dict[str, FeedRef | None] = {}
        path.mkdir()

    def folder(self, name: str) -> Path:
        """Return one of the folders in it, made if need be: ours may not have been there yet."""
        path = self.path / FOLDER / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def look(self) -> dict[str, File]:
        """Return what lies there now."""
        return {
            str(path.relative_to(self.path)): _look(path, self.network_id)
            for path in sorted(self.path.rglob("*"))
            if path.is_file()
        }

    def accept(self) -> None:
        """Take what lies there now as given: the simulation itself changed it."""
        self.files = self.look()

    def check(self, visitor: FeedRef | None, best: Callable[[FeedRef, FeedRef], int] = lambda machine, feed: 0) -> int:
        """Compare with the last look after a visit of ``visitor``'s; return the bytes that were added.

        ``best`` says how much of a feed a machine ever had: a newer card may have been seen on another stick.

        Raises Violation if a file changed, or one is gone that the visitor had no right to remove.
        """
        now = self.look()
        for name, before in self.files.items():
            after = now.get(name)
            if after is None:
                self._check_removed(name, before, visitor, now, best)
            elif after.digest != before.digest:
                raise Violation(f"{name} changed after it got its name")
        added = sum(file.size for name, file in now.items() if name not in self.files)
        self.files = now
        return added

    def _check_removed(
        self,
        name: str,
        file: File,
        visitor: FeedRef | None,
        now: dict[str, File],
        best: Callable[[FeedRef, FeedRef], int],
    ) -> None:
        if file.card is not None:
            machine, counter = file.card.machine, file.card.counter
            if any(one.card and one.card.machine == machine and one.card.counter > counter for one in now.values()):
                return
            raise Violation(f"the card {name} was removed, and no newer one is there")
        if self.rotten.get(name, b"") == visitor:
            return  # its own, as far as it knows: it has looked the same from outside since it was written
        if file.exporter is not None and file.exporter == visitor:
            self._check_covered(name, file, now, best)
            return
        if visitor is not None and Path(name).name.startswith(f".{base32(visitor.key)[:16]}-"):
            return  # what an interrupted visit of its own left
        raise Violation(f"{name} was removed, which is {file.exporter or 'nobody'}'s")

    def _check_covered(
        self, name: str, file: File, now: dict[str, File], best: Callable[[FeedRef, FeedRef], int]
    ) -> None:
        """A bundle may only go if no card on the stick asks for anything in it that is in no other bundle."""
        newest: dict[FeedRef, Card] = {}
        for one in now.values():
            card = one.card
            if card is not None and card.machine != file.exporter:
                known = newest.get(card.machine)
                if known is None or known.counter < card.counter:
                    newest[card.machine] = card
        for feed, last in file.lasts.items():
            slowest = min(
                (max(card.clock.get(feed, 0), best(card.machine, feed)) for card in newest.values()), default=0
            )
            if slowest < last and all(one.lasts.get(feed, 0) < last for one in now.values()):
                raise Violation(f"{name} was removed, and some card asks for {last} of {feed}")

    def shown(self, feed: FeedRef) -> int:
        """Return the highest sequence of a feed that the stick proves: by its messages, or by a card of its own.

        Nobody here follows anybody, so what other machines' cards say of it is the word of strangers.
        """
        cards = [file.card for file in self.files.values() if file.card is not None]
        claimed = [card.clock.get(feed, 0) for card in cards if card.machine == feed]
        carried = [file.lasts.get(feed, 0) for file in self.files.values()]
        return max([0, *claimed, *carried])

    def bundles(self) -> Iterator[Path]:
        """Yield what lies in the folder of bundles, whatever it is."""
        yield from sorted(self.folder(BUNDLES).iterdir())

    def cards(self) -> Iterator[Path]:
        """Yield what lies in the folder of cards, whatever it is."""
        yield from sorted(self.folder(CARDS).iterdir())

    def wipe(self) -> None:
        """Lose everything, the marker too: another stick in its place."""
        shutil.rmtree(self.path)
        self.path.mkdir()
        self.files = {}
