"""What other machines have: their own words, which of them is newer, and how far each is counted on.

Four sources speak of a machine.  Its *card* and the clock in a *bundle* of its own carry its signature, and its *EBT* notes
came in a session that its key opened: all three are the machine's own words, so that a lie costs nobody but the liar.  An
*export* of ours is no word of the machine's: it may have been lost on the way.

Words may be outdated, or say what was true before their machine lost its disk.  No wall clock decides which is the newer:

- Of two cards, the one with the higher counter.  If it says less than the lower one did, its machine has lost something,
  and whatever else is known of it counts no more.
- EBT notes are newer than all that arrived before them, and count as they are, up and down.  If they say less than a card,
  a bundle or earlier notes, the machine has lost something, and they alone count until its next card.
- A card that arrives after EBT notes may have been signed before or after them; a bundle does not say when it was made.
  Where such two words differ, the higher one is *questioned*.

A stick is where a machine waits for what it lacks, so there only its card counts for good.  What goes beyond that keeps
messages off a stick for at most UNCONFIRMED_VISITS visits of ours, QUESTIONED_VISITS if it is questioned, and for one less
with each newer card that does not confirm it.  So a wrong hint costs some visits, and an old card does not have everything
sent twice.  Nothing but a card has anything removed from a stick.

An export keeps nothing off a stick.  Until the machine's next word, what it was given that way goes last among the feeds
that are equally near.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from sneaker.clock import VectorClock
from sneaker.refs import FeedRef

__all__ = [
    "QUESTIONED_VISITS",
    "UNCONFIRMED_VISITS",
    "ClockSource",
    "Kept",
    "Statement",
    "count_visit",
    "counted_on",
    "is_questioned",
    "learn",
]

#: For so many visits a word that no card confirms may keep messages off a stick, and one that another word contradicts.
UNCONFIRMED_VISITS = 10
QUESTIONED_VISITS = 3


class ClockSource(StrEnum):
    """Where a statement about a machine comes from."""

    CARD = "card"
    EBT = "ebt"
    BUNDLE = "bundle"
    #: An export of ours that was made for the machine.
    EXPORT = "export"


_HINTS = (ClockSource.EBT, ClockSource.BUNDLE)


@dataclass(frozen=True, slots=True)
class Statement:
    """What is said of ``machine``.

    ``clock`` is all that it has, but for EBT notes: they mention some feeds.  ``declined`` are feeds that it does not
    replicate over EBT.  ``counter``, ``time_ms`` and ``signed``, the bytes of the card, are those of a card.
    """

    machine: FeedRef
    source: ClockSource
    clock: VectorClock
    declined: frozenset[FeedRef] = frozenset()
    counter: int = 0
    time_ms: int = 0
    signed: bytes = b""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of what one source says of a machine.

    ``visits``: for how many more visits it is counted on beyond what the card says.  ``alone``: the card counts no more.
    """

    clock: VectorClock
    declined: frozenset[FeedRef] = frozenset()
    counter: int = 0
    signed: bytes = b""
    visits: int = UNCONFIRMED_VISITS
    alone: bool = False


#: What is kept of a machine.
Known = Mapping[ClockSource, Kept]


def learn(known: Known, said: Statement) -> dict[ClockSource, Kept | None]:
    """Return what changes in what is known of a machine, None for what is to be forgotten; nothing if ``said`` is old."""
    match said.source:
        case ClockSource.CARD:
            return _learn_card(known, said)
        case ClockSource.EBT:
            return _learn_notes(known, said)
        case ClockSource.BUNDLE:
            return _learn_bundle(known, said)
        case ClockSource.EXPORT:
            given = known.get(ClockSource.EXPORT, Kept(VectorClock())).clock.merged(said.clock)
            return {ClockSource.EXPORT: Kept(given)}


def _learn_card(known: Known, said: Statement) -> dict[ClockSource, Kept | None]:
    old = known.get(ClockSource.CARD)
    if old is not None and said.counter <= old.counter:
        return {}
    has_lost = old is not None and not said.clock.covers(old.clock)
    changes: dict[ClockSource, Kept | None] = {
        ClockSource.CARD: Kept(said.clock, counter=said.counter, signed=said.signed),
        ClockSource.EXPORT: None,
    }
    for source in _HINTS:
        hint = known.get(source)
        if hint is not None:
            changes[source] = _beside_card(hint, said.clock, source, has_lost=has_lost)
    return changes


def _beside_card(hint: Kept, card: VectorClock, source: ClockSource, *, has_lost: bool) -> Kept:
    """Return what is left of a hint now that a newer card is here."""
    if has_lost:
        return replace(hint, visits=0, alone=False)
    if not card.covers(hint.clock):
        return replace(hint, visits=max(0, min(hint.visits - 1, QUESTIONED_VISITS)), alone=False)
    # Of notes only what the card does not say is kept; of bundles everything, so that old ones are known again.
    return Kept(VectorClock(), hint.declined) if source is ClockSource.EBT else hint


def _learn_notes(known: Known, said: Statement) -> dict[ClockSource, Kept | None]:
    changes: dict[ClockSource, Kept | None] = {ClockSource.EXPORT: None}
    before = known.get(ClockSource.EBT)
    older = [known[source] for source in (ClockSource.CARD, *_HINTS) if source in known]
    has_lost = any(word.visits and _says_less(said.clock, word.clock) for word in older)
    if before is None or before.visits <= QUESTIONED_VISITS or has_lost:
        before = Kept(VectorClock())
    bundle = known.get(ClockSource.BUNDLE)
    if has_lost and bundle is not None:
        changes[ClockSource.BUNDLE] = replace(bundle, visits=0)
    held = {feed: last for feed, last in before.clock.items() if feed not in said.declined}
    changes[ClockSource.EBT] = Kept(
        VectorClock({**held, **said.clock}),
        before.declined.difference(said.clock) | said.declined,
        alone=has_lost or before.alone,
    )
    return changes


def _says_less(notes: VectorClock, older: VectorClock) -> bool:
    return any(older.get(feed, 0) > last for feed, last in notes.items())


def _learn_bundle(known: Known, said: Statement) -> dict[ClockSource, Kept | None]:
    before = known.get(ClockSource.BUNDLE, Kept(VectorClock())).clock
    if before.covers(said.clock):
        return {}  # also where that has come to count no more: whoever brings it again changes nothing
    is_only_word = ClockSource.CARD not in known and ClockSource.EBT not in known
    visits = UNCONFIRMED_VISITS if is_only_word else QUESTIONED_VISITS
    return {ClockSource.BUNDLE: Kept(before.merged(said.clock), visits=visits), ClockSource.EXPORT: None}


def counted_on(known: Known) -> VectorClock:
    """Return what a machine is taken to have."""
    notes = known.get(ClockSource.EBT)
    if notes is not None and notes.alone:
        return notes.clock if notes.visits else _confirmed(known)
    clock = _confirmed(known)
    for source in _HINTS:
        hint = known.get(source)
        if hint is not None and hint.visits:
            clock = clock.merged(hint.clock)
    return clock


def _confirmed(known: Known) -> VectorClock:
    """Return what its card says that a machine has; less where notes say less."""
    card, notes = known.get(ClockSource.CARD), known.get(ClockSource.EBT)
    if card is None:
        return VectorClock()
    if notes is None or not notes.alone:
        return card.clock
    return VectorClock({feed: min(last, notes.clock.get(feed, 0)) for feed, last in card.clock.items()})


def is_questioned(known: Known) -> bool:
    """Say whether anything that is counted on may be outdated, as far as other words go."""
    confirmed = _confirmed(known)
    hints = [known[source] for source in _HINTS if source in known]
    return any(0 < hint.visits <= QUESTIONED_VISITS and not confirmed.covers(hint.clock) for hint in hints)


def count_visit(known: Known, ours: VectorClock) -> dict[ClockSource, Kept | None]:
    """Return what changes once a visit was planned by what is known: ``ours`` is what could have been written."""
    confirmed = _confirmed(known)
    lacked = confirmed.lacking(ours)
    return {
        source: replace(hint, visits=hint.visits - 1)
        for source in _HINTS
        if (hint := known.get(source)) is not None
        and hint.visits
        and any(hint.clock.get(feed, 0) > confirmed.get(feed, 0) for feed in lacked)
    }
