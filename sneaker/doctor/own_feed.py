"""Is the own feed forked, or in danger of it? What anybody ever showed or claimed of it, and what follows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from sneaker.doctor.finding import MAX_LISTED, Finding, Level, day
from sneaker.errors import InvalidMessage, StoreDamaged
from sneaker.feed.formats import format_of
from sneaker.feed.message import Message
from sneaker.home.home import Home
from sneaker.own_feed.claims import contradicting
from sneaker.own_feed.fork_guard import Doubt
from sneaker.refs import FeedRef
from sneaker.store.own_feed_claims import may_be_wrong
from sneaker.store.rows import Claim, Fork, OwnKeyElsewhere, OwnSeen
from sneaker.store.store import Store

__all__ = ["ForkedPlace", "OwnFeed", "OwnState", "find_memory_problem", "find_own_feed_problems", "own_feed"]


class OwnState(StrEnum):
    """How the own feed stands."""

    #: Nobody has shown or claimed anything else than what is here.
    FINE = "fine"
    #: Others have, or say that they have, more of it: nothing is published until it is here.
    BEHIND = "behind"
    #: Two messages carry our signature for one place, or a card with our signature names another message than ours.
    FORKED = "forked"
    #: The identity was brought from elsewhere, and the person has not said which message is its last one.
    ADOPTED = "adopted"
    #: The secret is not the one that the home was made with, and the same holds.
    EXCHANGED = "exchanged"
    #: The home is a copy, a restored one, or on another machine than before, and the same holds.
    MOVED = "moved"
    #: Another machine proved that it holds our secret, and the same holds.
    SHARED = "shared"
    #: A stick carries a card of our own that this home never made, and the same holds.
    RESTORED = "restored"


@dataclass(frozen=True, slots=True)
class ForkedPlace:
    """Two messages of one author for one place; ``ours`` is None if the other one follows a message that we do not have."""

    sequence: int
    ours: Message | None
    theirs: Message | None
    fork: Fork


@dataclass(frozen=True, slots=True)
class OwnFeed:
    """The answer to "am I forked?"; ``last`` is the last own message here, if it can be read.

    ``claims`` are those that say more than we hold, or something else; strangers' are among them and do not count.
    """

    feed: FeedRef
    state: OwnState
    seen: OwnSeen
    last: Message | None = None
    claims: list[Claim] = field(default_factory=list)
    contradicting: list[Claim] = field(default_factory=list)
    forks: list[ForkedPlace] = field(default_factory=list)
    elsewhere: list[OwnKeyElsewhere] = field(default_factory=list)

    @property
    def stopping(self) -> list[Claim]:
        """The claims that keep us from publishing."""
        return [
            claim
            for claim in self.claims
            if claim.counts and not claim.dismissed and (claim.sequence > self.seen.held or claim in self.contradicting)
        ]

    @property
    def may_dismiss(self) -> bool:
        """Whether only others claim that there is more, so that the person may know better."""
        return (
            self.state is OwnState.BEHIND
            and self.seen.proven <= self.seen.held
            and all(may_be_wrong(self.feed, claim) for claim in self.stopping)
        )


def own_feed(home: Home, doubt: Doubt | None = None) -> OwnFeed:
    """Look at everything that anybody ever showed or claimed of the own feed; raises StoreError.

    ``doubt`` is what the home itself gives reason for (``ForkGuard.doubt``).
    """
    me, store = home.keypair.public, home.store
    seen = store.own_sequence_seen(me)
    others = contradicting(store, me)
    forks = [_place(store, fork) for fork in store.forks() if fork.feed == me]
    if forks or others or me in store.forked():
        state = OwnState.FORKED
    elif max(seen.proven, seen.claimed) > seen.held:
        state = OwnState.BEHIND
    elif doubt is not None:
        state = OwnState(doubt)
    else:
        state = OwnState.FINE
    try:
        last = store.message(me, seen.held) if seen.held else None
    except StoreDamaged:
        last = None
    claims = [claim for claim in store.claims.claims_about(me) if claim.sequence > seen.held or claim in others]
    return OwnFeed(me, state, seen, last, claims, others, forks, store.own_keys.own_key_elsewhere(me))


def _place(store: Store, fork: Fork) -> ForkedPlace:
    ours = None
    if fork.ours is not None:
        try:
            ours = store.message(fork.feed, fork.sequence)
        except StoreDamaged:
            ours = None
    try:
        theirs = format_of(fork.feed).expand(fork.feed, fork.sequence, fork.previous, fork.compact)
    except InvalidMessage:
        theirs = None
    return ForkedPlace(fork.sequence, ours, theirs, fork)


def find_own_feed_problems(own: OwnFeed) -> Iterator[Finding]:
    """Yield what is wrong with the own feed, or was said of it; see ``own_feed``."""
    if own.forks:
        places = ", ".join(str(place.sequence) for place in own.forks[:MAX_LISTED])
        yield Finding(
            "own-feed-forked",
            Level.PROBLEM,
            f"your feed is forked: two different messages with your signature for place {places}",
            "this cannot be mended, others take no more of this feed: go on with a new identity ('sneaker --home DIR init'),"
            " and tell your followers; if another machine uses the same secret, stop it",
        )
    for claim in own.contradicting[:MAX_LISTED]:
        yield Finding(
            "own-key-elsewhere",
            Level.PROBLEM,
            f"another copy of this home writes with your key: it left word that your message {claim.sequence} is"
            f" {claim.key}, here it is another one",
            "two machines must never share a secret; keep one of them, and make a new identity on the other",
        )
    if own.elsewhere:
        yield _shared_finding(own)
    if own.state is OwnState.BEHIND:
        yield from _behind_findings(own)
    elif own.state in _DOUBTS:
        yield _doubt_finding(own)
    dismissed = [claim for claim in own.claims if claim.dismissed and claim.counts]
    if dismissed:
        yield Finding(
            "claims-dismissed",
            Level.NOTE,
            f"you dismissed claims that your feed goes up to message {max(claim.sequence for claim in dismissed)}",
        )
    strangers = [claim for claim in own.claims if not claim.dismissed and not claim.counts]
    if strangers:
        who = f"{strangers[0].source}, who is" if len(strangers) == 1 else f"{len(strangers)} machines that are"
        farthest = max(claim.sequence for claim in strangers)
        yield Finding(
            "strangers-claim",
            Level.NOTE,
            f"{who} not near you, said that your feed goes up to message {farthest:,}, this machine holds it up to"
            f" {own.seen.held:,}; anybody can say so, and it stops nothing",
            "if it may be true, sync with whoever said it: messages of yours prove themselves; the word of those whom you follow"
            " counts without proof",
        )


_DOUBTS = {
    OwnState.ADOPTED: ("identity-adopted", "this identity was brought from elsewhere, where it may have published"),
    OwnState.EXCHANGED: (
        "secret-exchanged",
        "the secret of this home is not the one that it was made with; where it comes from, it may have published",
    ),
    OwnState.MOVED: (
        "home-moved",
        "this home was copied or restored, or came from another machine; somewhere else it may have published",
    ),
    OwnState.RESTORED: (
        "home-restored",
        "a stick carries a card of yours that this home did not make: it was put back to an earlier state, where it may have published",
    ),
}


def _shared_finding(own: OwnFeed) -> Finding:
    newest = own.elsewhere[0]
    others = f" (and {len(own.elsewhere) - 1} more)" if len(own.elsewhere) > 1 else ""
    return Finding(
        "own-key-shared",
        Level.PROBLEM,
        f"another machine has your secret: the one at {newest.host}{others} proved it on {day(newest.seen_at_ms)}. As soon as both"
        " publish, your feed is forked, others then take no more of it, and that cannot be mended. Nothing is published here until"
        " that is settled",
        "choose one machine that keeps the identity. On the other one stop every SSB program for good and make a new identity; if"
        " this is the one that goes on, bring what the other one published ('sneaker connect', a stick, its log), and then say"
        " which message is the last one: 'sneaker doctor --last' and its number",
    )


def _doubt_finding(own: OwnFeed) -> Finding:
    code, reason = _DOUBTS[own.state]
    if own.seen.held:
        more = f"more than message {own.seen.held:,}, the last one here"
        last = (
            "once the newest message that you ever published with this identity, on any machine, is the last one here"
        )
    else:
        more = "messages, and none are here"
        last = "once you are certain that nothing was ever published with this identity, on any machine"
    return Finding(
        code,
        Level.PROBLEM,
        f"{reason} {more}. Nothing is published until you have said which one is the last: one more in the place of a message"
        " that exists already forks the feed, others then take no more of it, and that cannot be mended",
        "bring your messages: import the log of the program that you used, or sync with sticks and peers that have them."
        f" Look into that program; {last}, and no other machine uses it any more, go on with 'sneaker doctor --last' and the"
        " number of that message",
    )


def _behind_findings(own: OwnFeed) -> Iterator[Finding]:
    held, proven, claimed = own.seen.held, own.seen.proven, own.seen.claimed
    back = (
        "bring your own messages back, and do not publish before: 'sneaker sync' a stick that others have visited, 'sneaker"
        " import' their bundles, or connect to a peer that follows you"
    )
    if proven > held:
        yield Finding(
            "own-feed-behind",
            Level.PROBLEM,
            f"messages of yours up to {proven} were seen, but this machine holds your feed only up to {held}; it is probably a"
            " restored copy, and will not publish until it has them",
            back,
        )
    if claimed > max(held, proven):
        only_if = "; only if you are certain that no such messages exist anywhere: 'sneaker doctor --dismiss'"
        lost = "; if nobody has them any more, go on with a new identity ('sneaker --home DIR init')"
        yield Finding(
            "own-feed-claimed",
            Level.PROBLEM,
            f"{_who_claims(own)} that your feed goes up to message {claimed}, this machine holds it up to {held}; it will not publish"
            " until it has them",
            back + (only_if if own.may_dismiss else lost),
        )


def _who_claims(own: OwnFeed) -> str:
    sources = {claim.source for claim in own.stopping}
    if sources == {own.feed}:
        return "a card or a message of your own, or what this machine remembers of its last publishing, says"
    if sources == {None}:
        return "a list or log that you gave says"
    return "a machine near you says" if len(sources) == 1 else f"{len(sources)} machines near you say"


def find_memory_problem(problem: str | None) -> Iterator[Finding]:
    """Yield that nothing can be remembered outside of the home, if there is a reason (``PublishMemory.probe``)."""
    if problem is not None:
        yield Finding(
            "memory-unwritable",
            Level.PROBLEM,
            f"what you publish cannot be remembered outside of the home: {problem}. If an old copy of the home is put back,"
            " nothing here will notice, and the next message can fork your feed",
            "let this user write there; XDG_STATE_HOME names another place",
        )
