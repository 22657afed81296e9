"""The bundles on a stick: what lies there, what this machine knows of it, and what others can get from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sneaker.planning.coverage import Coverage
from sneaker.stick.safe_folder import Entry
from sneaker.store.sticks import FileState, StickFile

__all__ = ["StickBundle", "StickBundles"]

_USEFUL = (FileState.OWN, FileState.TAKEN, FileState.PARTLY)


@dataclass(frozen=True, slots=True)
class StickBundle:
    """An intact bundle on the stick; ``own`` if this machine packed it."""

    name: str
    size: int
    own: bool
    coverage: Coverage


@dataclass(slots=True)
class StickBundles:
    """The files in the folder of bundles, by name.

    ``known`` is what earlier visits remember, ``present`` what lies there, ``learnt`` what this visit found out.
    """

    known: dict[str, StickFile]
    present: dict[str, Entry] = field(default_factory=dict)
    learnt: dict[str, StickFile] = field(default_factory=dict)
    _coverages: dict[str, Coverage | None] = field(default_factory=dict)

    def find_file(self, name: str) -> StickFile | None:
        """Return what is known of a file."""
        return self.learnt.get(name) or self.known.get(name)

    def coverage(self, name: str) -> Coverage | None:
        """Return what a bundle holds, None if that is not known."""
        if name not in self._coverages:
            file = self.find_file(name)
            self._coverages[name] = Coverage.decode(file.coverage) if file is not None else None
        return self._coverages[name]

    def note_file(
        self, entry: Entry, state: FileState, exporter: bytes = b"", coverage: Coverage | None = None
    ) -> None:
        """Remember what became of a file."""
        encoded = coverage.encode() if coverage is not None else b""
        self.learnt[entry.name] = StickFile(entry.name, entry.size, entry.mtime_ns, state, exporter, encoded)
        self.present[entry.name] = entry
        self._coverages[entry.name] = coverage

    def forget_file(self, name: str) -> None:
        """Forget a file that is gone."""
        self.present.pop(name, None)
        self.learnt.pop(name, None)
        self._coverages.pop(name, None)

    def mark_remembered(self) -> None:
        """Note that what was learnt is written down, and what is gone forgotten."""
        for name in self.gone_files():
            del self.known[name]
        self.known.update(self.learnt)
        self.learnt.clear()

    def gone_files(self) -> list[str]:
        """Return the names that earlier visits remember, and that are not there any more."""
        return [name for name in self.known if name not in self.present]

    def useful(self, ignored: Iterable[str] = ()) -> Iterator[StickBundle]:
        """Yield the intact bundles that others can get something from, as far as is known, but those ``ignored``."""
        left_out = set(ignored)
        for name, entry in self.present.items():
            file = self.find_file(name)
            if file is None or name in left_out or file.state not in _USEFUL:
                continue
            coverage = self.coverage(name)
            if coverage is not None and (coverage.ranges or coverage.blobs):
                yield StickBundle(name, entry.size, file.state is FileState.OWN, coverage)

    def own(self) -> list[StickBundle]:
        """Return the useful bundles that this machine packed."""
        return [bundle for bundle in self.useful() if bundle.own]

    def count_damaged(self) -> int:
        """Return how many bundles here cannot be read to their end."""
        files = (self.find_file(name) for name in self.present)
        return sum(file is not None and file.state is FileState.DAMAGED for file in files)
