"""Where one peer was heard on the LAN.

Whoever can send a packet can say that anybody is anywhere.  What the peer's own key signed goes before everything else; then
come the places where it was met, then those where it was sought in vain least often.
"""

from __future__ import annotations

from dataclasses import dataclass

from sneaker.wire.address import Address

__all__ = ["EXPIRES_S", "Places"]

#: A LAN peer that is not heard of any more is not dialled any more (ssb-lan's number).
EXPIRES_S = 10.0
_MAX_PLACES = 4


@dataclass(slots=True)
class _Place:
    heard_at: float
    signed: bool
    was_met: bool = False
    failures: int = 0


class Places:
    """The places of one peer: the best few of them, however many are claimed."""

    def __init__(self) -> None:
        self._places: dict[Address, _Place] = {}

    def hear(self, address: Address, signed: bool, now: float) -> bool:
        """Take in a beacon; return True if this is the first place that the peer's own key vouches for."""
        had_signed = any(place.signed for place in self._places.values())
        place = self._places.get(address)
        if place is None:
            self._places[address] = _Place(now, signed)
            if len(self._places) > _MAX_PLACES:
                del self._places[min(self._places, key=lambda each: self._worth(self._places[each]))]
        else:
            place.heard_at = now
            place.signed = place.signed or signed
        return signed and not had_signed

    def choose(self, now: float, without: frozenset[Address] = frozenset()) -> Address | None:
        """Return the place to try next, of those that were heard of lately; None if there is none."""
        alive = {
            address: place
            for address, place in self._places.items()
            if now - place.heard_at <= EXPIRES_S and address not in without
        }
        return max(alive, key=lambda address: self._worth(alive[address]), default=None)

    @staticmethod
    def _worth(place: _Place) -> tuple[bool, bool, int, float]:
        return (place.signed, place.was_met, -place.failures, place.heard_at)

    @property
    def heard_at(self) -> float:
        """When the peer was last heard, wherever."""
        return max(place.heard_at for place in self._places.values())

    def met(self, address: Address) -> None:
        """Note that the peer was there."""
        place = self._places.get(address)
        if place is not None:
            place.was_met, place.failures = True, 0

    def missed(self, address: Address) -> None:
        """Note that the peer was not there, or not to be had."""
        place = self._places.get(address)
        if place is not None:
            place.was_met = False
            place.failures += 1
