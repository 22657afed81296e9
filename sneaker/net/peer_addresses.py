"""The addresses of one peer that was heard on the LAN, and which of them to try.

Whoever can send a packet can say that anybody is anywhere.  What the peer's own key signed goes before everything else; then
come the addresses at which it was reached, then those at which it was sought in vain least often.
"""

from __future__ import annotations

from dataclasses import dataclass

from sneaker.wire.address import Address

__all__ = ["EXPIRES_S", "PeerAddresses"]

#: A LAN peer that is not heard of any more is not dialled any more (ssb-lan's number).
EXPIRES_S = 10.0
_MAX_ADDRESSES = 4


@dataclass(slots=True)
class _Address:
    heard_at: float
    signed: bool
    was_reached: bool = False
    failures: int = 0


class PeerAddresses:
    """The addresses of one peer: the best few of them, however many are claimed."""

    def __init__(self) -> None:
        self._addresses: dict[Address, _Address] = {}

    def beacon_heard(self, address: Address, signed: bool, now: float) -> bool:
        """Take in a beacon; return True if this is the first address that the peer's own key vouches for."""
        had_signed = any(known.signed for known in self._addresses.values())
        known = self._addresses.get(address)
        if known is None:
            self._addresses[address] = _Address(now, signed)
            if len(self._addresses) > _MAX_ADDRESSES:
                del self._addresses[min(self._addresses, key=lambda each: self._worth(self._addresses[each]))]
        else:
            known.heard_at = now
            known.signed = known.signed or signed
        return signed and not had_signed

    def best_address(self, now: float, without: frozenset[Address] = frozenset()) -> Address | None:
        """Return the address to try next, of those that were heard of lately; None if there is none."""
        alive = {
            address: known
            for address, known in self._addresses.items()
            if now - known.heard_at <= EXPIRES_S and address not in without
        }
        return max(alive, key=lambda address: self._worth(alive[address]), default=None)

    @staticmethod
    def _worth(known: _Address) -> tuple[bool, bool, int, float]:
        return (known.signed, known.was_reached, -known.failures, known.heard_at)

    @property
    def heard_at(self) -> float:
        """When the peer was last heard, wherever."""
        return max(known.heard_at for known in self._addresses.values())

    def reached_at(self, address: Address) -> None:
        """Note that the peer was there."""
        known = self._addresses.get(address)
        if known is not None:
            known.was_reached, known.failures = True, 0

    def not_reached_at(self, address: Address) -> None:
        """Note that the peer was not there, or not to be had."""
        known = self._addresses.get(address)
        if known is not None:
            known.was_reached = False
            known.failures += 1
