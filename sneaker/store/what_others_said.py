"""What the store remembers of other machines: who they are, and what is known of what they have.

One table for what cards, EBT notes, bundles and our own exports say, and one way in, ``learn_clocks``.  Which word is newer,
and how far it is counted on, is decided in ``planning.what_others_have``.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from sneaker.bundle.card import read_card_clock
from sneaker.bundle.records import decode_clock, encode_clock
from sneaker.clock import VectorClock
from sneaker.errors import BundleDamaged
from sneaker.limits import MAX_CLOCK_FEEDS
from sneaker.planning.what_others_have import ClockSource, Kept, Statement, count_visit, learn
from sneaker.refs import FeedRef
from sneaker.store.database import Database
from sneaker.store.own_feed_claims import OwnClaims
from sneaker.store.rows import Peer

__all__ = ["KnownCard", "KnownClocks"]

_COLUMNS = "source, counter, visits, alone, statement, declined"


class KnownCard(NamedTuple):
    """The newest card of a machine that we have seen anywhere, as its bytes."""

    machine: FeedRef
    counter: int
    seen_at_ms: int
    data: bytes


class KnownClocks:
    """The part of the store that deals with other machines; the own card is in the same table."""

    def __init__(self, database: Database, claims: OwnClaims, own: FeedRef | None) -> None:
        self._database = database
        self._claims = claims
        self._own = own

    # -- what machines have

    def learn_clocks(self, statements: Iterable[Statement], *, now_ms: int, met: bool = False) -> None:
        """Take over what is said of machines, in one transaction; what is older than what is known changes nothing.

        ``met`` says that they are connected now.  What is said of our own feed is remembered for good; of this machine itself,
        nothing else.
        """
        with self._database.transaction():
            for said in statements:
                if said.source is not ClockSource.EXPORT:
                    self._claims.write_clock(said.machine, said.clock)
                if said.machine != self._own:
                    self._learn(said, now_ms)
                    self._note_peer(said, now_ms if met else 0)
                elif said.source is ClockSource.CARD:
                    self.write_own_card(KnownCard(said.machine, said.counter, now_ms, said.signed))

    def _learn(self, said: Statement, now_ms: int) -> None:
        # Notes that say nothing only show that the machine is there.
        if said.source is ClockSource.CARD or said.clock or said.declined:
            self._write(said.machine, learn(self.known(said.machine), said), now_ms)

    def known(self, machine: FeedRef) -> dict[ClockSource, Kept]:
        """Return what is known of a machine; see ``counted_on``."""
        rows = self._database.all(
            f"SELECT {_COLUMNS} FROM known_clock"  # noqa: S608
            " WHERE source IN ('card', 'ebt', 'bundle', 'export') AND machine = ?",
            machine,
        )
        return {kept[0]: kept[1] for row in rows if (kept := _kept(*row)) is not None}

    def known_beside_cards(self) -> set[FeedRef]:
        """Return the machines of which more is known than a card says."""
        rows = self._database.all(
            "SELECT DISTINCT machine FROM known_clock WHERE source IN ('ebt', 'bundle', 'export')"
        )
        return {FeedRef(machine) for (machine,) in rows}

    def count_visit(self, machines: Iterable[FeedRef], ours: VectorClock) -> None:
        """Count a visit that was planned by what is known of these machines; ``ours`` is what could have been written."""
        with self._database.transaction():
            for machine in machines:
                self._write(machine, count_visit(self.known(machine), ours), None)

    def _write(self, machine: FeedRef, changes: dict[ClockSource, Kept | None], now_ms: int | None) -> None:
        connection = self._database.connection
        for source, kept in changes.items():
            if kept is None:
                connection.execute("DELETE FROM known_clock WHERE source = ? AND machine = ?", (str(source), machine))
                continue
            statement = kept.signed or encode_clock(_bounded(kept.clock))
            declined = encode_clock(VectorClock(dict.fromkeys(islice(kept.declined, MAX_CLOCK_FEEDS), 0)))
            connection.execute(
                "INSERT INTO known_clock VALUES (?1, ?2, ?3, coalesce(?4, 0), ?5, ?6, ?7, ?8) ON CONFLICT DO UPDATE SET"
                " counter = ?3, learnt_at_ms = coalesce(?4, learnt_at_ms), visits = ?5, alone = ?6, statement = ?7, declined = ?8",
                (
                    str(source),
                    machine,
                    kept.counter,
                    now_ms,
                    kept.visits,
                    kept.alone,
                    statement,
                    declined if kept.declined else b"",
                ),
            )

    # -- cards, to be carried on

    def cards(self) -> dict[FeedRef, KnownCard]:
        """Return the newest card of each machine, ours with them."""
        rows = self._database.all(
            "SELECT machine, counter, learnt_at_ms, statement FROM known_clock WHERE source = 'card'"
        )
        return {FeedRef(row[0]): KnownCard(FeedRef(row[0]), *row[1:]) for row in rows}

    def card(self, machine: FeedRef) -> KnownCard | None:
        """Return the newest card of a machine."""
        row = self._database.first(
            "SELECT counter, learnt_at_ms, statement FROM known_clock WHERE source = 'card' AND machine = ?", machine
        )
        return KnownCard(machine, *row) if row is not None else None

    def write_own_card(self, card: KnownCard) -> bool:
        """Remember a card of this home, in the transaction that is open; False if it is not newer than the one known."""
        written = self._database.connection.execute(
            "INSERT INTO known_clock VALUES ('card', ?1, ?2, ?3, 0, 0, ?4, x'') ON CONFLICT DO UPDATE SET"
            " counter = ?2, learnt_at_ms = ?3, statement = ?4 WHERE ?2 > counter",
            (card.machine, card.counter, card.seen_at_ms, card.data),
        )
        return written.rowcount > 0

    # -- peers

    def known_peers(self) -> list[Peer]:
        """Return the machines that anything was learnt of, those met last first."""
        rows = self._database.all(
            "SELECT ref, kind, counter, time_ms, met_at_ms FROM peer ORDER BY met_at_ms DESC, ref"
        )
        return [Peer(FeedRef(ref), ClockSource(kind), *numbers) for ref, kind, *numbers in rows]

    def _note_peer(self, said: Statement, met_at_ms: int) -> None:
        # Counter and times never go back: cards arrive in any order.
        if said.source is not ClockSource.EXPORT:
            self._database.connection.execute(
                "INSERT INTO peer (ref, kind, counter, time_ms, met_at_ms) VALUES (?, ?, ?, ?, ?) ON CONFLICT (ref) DO UPDATE"
                " SET kind = excluded.kind, counter = max(counter, excluded.counter),"
                " time_ms = max(time_ms, excluded.time_ms), met_at_ms = max(met_at_ms, excluded.met_at_ms)",
                (said.machine, str(said.source), said.counter, said.time_ms, met_at_ms),
            )

    def count_session(self, machine: FeedRef, *, resumed: bool) -> None:
        """Count an EBT session with a peer: one that left out what both had before, or a full one, which starts anew."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE peer SET resumed = CASE WHEN ? THEN resumed + 1 ELSE 0 END WHERE ref = ?", (resumed, machine)
            )

    def resumed_sessions(self, machine: FeedRef) -> int:
        """Return how many EBT sessions with a peer were resumed since the last full one."""
        row = self._database.first("SELECT resumed FROM peer WHERE ref = ?", machine)
        return int(row[0]) if row is not None else 0


def _kept(
    source: str, counter: int, visits: int, alone: int, statement: bytes, declined: bytes
) -> tuple[ClockSource, Kept] | None:
    """Return what a row holds; None for a hint that the disk has spoiled: then it is as if nothing had been said."""
    try:
        if source == ClockSource.CARD:
            return ClockSource.CARD, Kept(read_card_clock(statement), frozenset(), counter, statement)
        refused = frozenset(decode_clock(declined)) if declined else frozenset()
        return ClockSource(source), Kept(decode_clock(statement), refused, counter, b"", visits, bool(alone))
    except BundleDamaged:
        return None


def _bounded(clock: VectorClock) -> VectorClock:
    if len(clock) <= MAX_CLOCK_FEEDS:
        return clock
    return VectorClock(islice(sorted(clock.items()), MAX_CLOCK_FEEDS))
