"""The cards on a stick: which machines are on its round, what they have, and the newest ones carried on.

Anybody may put anything there.  A card counts if its machine signed it; what it says is used to plan, and for nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from sneaker.bundle.card import MAX_CARD_BYTES, Card, decode_card
from sneaker.errors import BundleError, SourceError
from sneaker.home.home import Home
from sneaker.own_feed.claims import card_statement
from sneaker.planning.what_others_have import Statement
from sneaker.refs import FeedRef
from sneaker.stick.layout import CARD_NAME, CARDS, card_name, from_base32
from sneaker.stick.own_card import current_card, decode_known
from sneaker.stick.safe_folder import Entry, Folder
from sneaker.stick.stick import Stick
from sneaker.transfer.import_files import ImportSession

__all__ = ["StickCards"]

# How many cards of one machine are read. There is one; an interrupted visit or a replicator may leave more.
_CARDS_READ = 16
# Machines that one stick goes round, and what is read of cards that are new: a stranger can make any number of both.
_MAX_MACHINES = 1000
_MAX_READ_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Named:
    """A file that is called like a card."""

    counter: int
    entry: Entry


class StickCards:
    """Reads the cards on a stick, and writes our own and newer ones of others."""

    def __init__(self, home: Home, stick: Stick, now_ms: Callable[[], int]) -> None:
        self._home = home
        self._stick = stick
        self._now_ms = now_ms
        self._me = home.keypair.public
        self._known = home.store.known_clocks.cards()
        self._names: dict[FeedRef, list[_Named]] = {}
        self._left_bytes = _MAX_READ_BYTES
        self._own_here: Card | None = None
        #: The newest card of each machine that has one here, from here or from elsewhere.
        self.cards: dict[FeedRef, Card] = {}
        #: When a card that is no news now was seen for the first time.
        self.unchanged_since: dict[FeedRef, int] = {}
        #: Those that were new to us: to be remembered once what came with them is safe.
        self.learnt: list[Statement] = []
        self.foreign = 0
        self.problems: list[str] = []

    @property
    def own(self) -> Card | None:
        """The last card we made, as far as this home remembers."""
        return decode_known(self._known.get(self._me))

    # ------------------------------------------------------------------------------------------------ reading

    def read_cards(self, session: ImportSession) -> None:
        """Find the newest valid card of each machine; raises OSError if the folder cannot be read."""
        folder = self._stick.folder(CARDS)
        if folder is None:
            return
        listing = folder.list(CARD_NAME)
        self.foreign = listing.others
        for entry in listing.files:
            match = CARD_NAME.fullmatch(entry.name)
            machine = from_base32(match[1], 32) if match is not None else None
            if match is None or machine is None or not 0 < entry.size <= MAX_CARD_BYTES:
                self.foreign += 1
                continue
            self._names.setdefault(FeedRef.classic(machine), []).append(_Named(int(match[2]), entry))
        machines = self._chosen()
        if listing.cut or len(machines) < len(self._names):
            self.problems.append(
                "there are more cards on the stick than any round has machines; not all were looked at"
            )
        for machine in machines:
            self._names[machine].sort(key=lambda named: -named.counter)
            card = self._newest(folder, session, machine)
            if card is not None:
                self.cards[machine] = card
        if self._left_bytes < 0:
            self.problems.append("the cards on the stick are larger than those of any round; not all were looked at")

    def _chosen(self) -> list[FeedRef]:
        """Return the machines to look at: ourselves, those we know, those whose feeds we hold, and some of the rest."""
        if len(self._names) <= _MAX_MACHINES:
            return list(self._names)
        held = self._home.store.clock()
        rank = {self._me: 0, **{machine: 1 for machine in self._known if machine != self._me}}
        ordered = sorted(self._names, key=lambda machine: (rank.get(machine, 2 if machine in held else 3), machine))
        return ordered[:_MAX_MACHINES]

    def _newest(self, folder: Folder, session: ImportSession, machine: FeedRef) -> Card | None:
        """Return the newest card of a machine that has a valid one here.

        Older cards are read as well, but for one thing: they may have seen more of our own feed than we hold. This home
        can be a restored copy, and so can their machine.
        """
        mine = self._known.get(machine)
        newest: Card | None = None
        is_here = False
        for named in self._names[machine][:_CARDS_READ]:
            if mine is not None and named.counter == mine.counter and machine != self._me:
                is_here = True
                continue
            found = self._read(folder, machine, named)
            if found is None:
                continue
            card, data = found
            is_here = True
            if machine == self._me and self._own_here is None:
                self._own_here = card
            if newest is None and (mine is None or card.counter > mine.counter):
                newest = card
                self.learnt.append(card_statement(card, data))
            session.statements.note_old_card(card)
        if newest is not None or mine is None or not is_here:
            return newest
        self.unchanged_since[machine] = mine.seen_at_ms
        return decode_known(mine)

    def _read(self, folder: Folder, machine: FeedRef, named: _Named) -> tuple[Card, bytes] | None:
        """Return a card that is what its name says, and its bytes."""
        self._left_bytes -= named.entry.size
        if self._left_bytes < 0:
            return None
        try:
            data = folder.read(named.entry.name, MAX_CARD_BYTES)
            card = decode_card(data)
        except FileNotFoundError:
            return None
        except PermissionError:
            self.problems.append(f"{CARDS}/{named.entry.name} may not be read by this user")
            return None
        except (BundleError, SourceError):
            self.foreign += 1
            return None
        if (card.machine, card.counter, card.network_id) != (machine, named.counter, self._home.caps.network_id):
            self.foreign += 1
            return None
        return card, data

    # ------------------------------------------------------------------------------------------------ writing

    def write_cards(self, part_prefix: str) -> None:
        """Leave our own card and newer ones of others on this round, and take away those that these replace."""
        folder = self._stick.make_folder(CARDS)
        own = self._own_here.counter if self._own_here is not None else 0
        # Names that our card cannot have, because something else has them.
        taken = {named.counter for named in self._names.get(self._me, []) if named.counter != own}
        current = current_card(self._home, now_ms=self._now_ms(), seen=self._own_here, taken=taken)
        newest = {
            machine: card for machine, card in self._home.store.known_clocks.cards().items() if machine in self.cards
        }
        newest[self._me] = current
        for machine, known in newest.items():
            names = self._names.get(machine, [])
            if all(named.counter != known.counter for named in names):
                # False if another machine has brought the same card at this moment: then it is there, too.
                folder.write_small(card_name(machine, known.counter), known.data, part_prefix)
            for named in names:
                # A file that is no card is not ours to remove, whatever its name is.
                if named.counter < known.counter and self._read(folder, machine, named) is not None:
                    with contextlib.suppress(PermissionError):  # another user's: its owner will remove it
                        folder.remove(named.entry.name)
