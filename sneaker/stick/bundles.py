"""The bundles on a stick: what lies there, what this machine knows of it, and what others can get from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sneaker.planning.coverage import Coverage
from sneaker.stick.safe_folder import Entry
from sneaker.store.sticks import FileState, StickFile

__all__ = ["Shelf", "ShelfBundle"]

_USEFUL = (FileState.OWN, FileState.TAKEN, FileState.PARTLY)


@dataclass(frozen=True, slots=True)
class ShelfBundle:
    """An intact bundle on the stick; ``own`` if this machine packed it."""

    name: str
    size: int
    own: bool
    coverage: Coverage


@dataclass(slots=True)
class Shelf:
    """``known`` is what earlier visits remember, ``present`` what lies there, ``learnt`` what this visit found out."""

    known: dict[str, StickFile]
    present: dict[str, Entry] = field(default_factory=dict)
    learnt: dict[str, StickFile] = field(default_factory=dict)
    _coverages: dict[str, Coverage | None] = field(default_factory=dict)

    def find(self, name: str) -> StickFile | None:
        """Return what is known of a file."""
        return self.learnt.get(name) or self.known.get(name)

    def coverage(self, name: str) -> Coverage | None:
        """Return what a bundle holds, None if that is not known."""
        if name not in self._coverages:
            file = self.find(name)
            self._coverages[name] = Coverage.decode(file.coverage) if file is not None else None
        return self._coverages[name]

    def note(self, entry: Entry, state: FileState, exporter: bytes = b"", coverage: Coverage | None = None) -> None:
        """Remember what became of a file."""
        encoded = coverage.encode() if coverage is not None else b""
        self.learnt[entry.name] = StickFile(entry.name, entry.size, entry.mtime_ns, state, exporter, encoded)
        self.present[entry.name] = entry
        self._coverages[entry.name] = coverage

    def drop(self, name: str) -> None:
        """Forget a file that is gone."""
        self.present.pop(name, None)
        self.learnt.pop(name, None)
        self._coverages.pop(name, None)

    def remembered(self) -> None:
        """Note that what was learnt is written down, and what is gone forgotten."""
        for name in self.gone():
            del self.known[name]
        self.known.update(self.learnt)
        self.learnt.clear()

    def gone(self) -> list[str]:
        """Return the names that earlier visits remember, and that are not there any more."""
        return [name for name in self.known if name not in self.present]

    def bundles(self, ignored: Iterable[str] = ()) -> Iterator[ShelfBundle]:
        """Yield the intact bundles that others can get something from, as far as is known."""
        left_out = set(ignored)
        for name, entry in self.present.items():
            file = self.find(name)
            if file is None or name in left_out or file.state not in _USEFUL:
                continue
            coverage = self.coverage(name)
            if coverage is not None and (coverage.ranges or coverage.blobs):
                yield ShelfBundle(name, entry.size, file.state is FileState.OWN, coverage)

    def damaged(self) -> int:
        """Return how many bundles here cannot be read to their end."""
        return sum((file := self.find(name)) is not None and file.state is FileState.DAMAGED for name in self.present)
