"""What every reader of a byte stream answers when there is no event in the bytes it has so far."""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal

__all__ = ["NEED_DATA", "NeedData"]


class NeedData(Enum):
    """The type of ``NEED_DATA``, an enum of one so that type checkers can tell it from events."""

    NEED_DATA = "NEED_DATA"

    def __repr__(self) -> str:
        return self.value


#: There is no event in the bytes received so far.
NEED_DATA: Final[Literal[NeedData.NEED_DATA]] = NeedData.NEED_DATA
