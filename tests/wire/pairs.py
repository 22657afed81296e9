"""Two muxrpc sessions connected in memory, with the bytes between them cut by a seeded chooser."""

from __future__ import annotations

import random
from typing import Any

from sneaker.wire.muxrpc.session import Session
from sneaker.wire.stream_reader import NEED_DATA


class Link:
    """Moves bytes between two sessions. ``events[0]`` and ``events[1]`` collect what each side saw."""

    def __init__(self, left: Session, right: Session, seed: int | None = None) -> None:
        self.sides = (left, right)
        self.events: tuple[list[Any], list[Any]] = ([], [])
        self._wires = (bytearray(), bytearray())
        self._chooser = random.Random(seed) if seed is not None else None

    def flush(self) -> None:
        """Move everything until both sides are silent."""
        while self.step():
            pass

    def step(self) -> bool:
        """Move some bytes one way; False if there was nothing to move."""
        for index, side in enumerate(self.sides):
            self._wires[index].extend(side.data_to_send())
        ready = [index for index in (0, 1) if self._wires[index]]
        if not ready:
            return False
        index = ready[0] if self._chooser is None else self._chooser.choice(ready)
        wire = self._wires[index]
        size = len(wire) if self._chooser is None else self._chooser.randrange(1, min(len(wire), 300) + 1)
        to = self.sides[1 - index]
        to.receive_data(bytes(wire[:size]))
        del wire[:size]
        while (event := to.next_event()) is not NEED_DATA:
            self.events[1 - index].append(event)
        return True

    def take(self, index: int) -> list[Any]:
        """Flush, and return the events of one side since the last time."""
        self.flush()
        found = list(self.events[index])
        self.events[index].clear()
        return found
