"""What others are taken to have: which word is newer, and that a wrong one keeps nothing from anybody for long."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from sneaker.clock import VectorClock
from sneaker.planning.what_others_have import (
    QUESTIONED_VISITS,
    UNCONFIRMED_VISITS,
    ClockSource,
    Kept,
    Statement,
    count_visit,
    counted_on,
    is_questioned,
    learn,
)
from sneaker.refs import FeedRef

M, A, B = (FeedRef.classic(bytes([number]) * 32) for number in (1, 2, 3))
OURS = VectorClock({A: 10, B: 10})


class Memory:
    """What is kept of one machine."""

    def __init__(self) -> None:
        self.known: dict[ClockSource, Kept] = {}
        self.counter = 0

    def hear(self, said: Statement) -> None:
        self.apply(learn(self.known, said))

    def apply(self, changes: dict[ClockSource, Kept | None]) -> None:
        for source, kept in changes.items():
            if kept is None:
                self.known.pop(source, None)
            else:
                self.known[source] = kept

    def card(self, clock: dict[FeedRef, int], counter: int | None = None) -> None:
        self.counter += 1
        self.hear(Statement(M, ClockSource.CARD, VectorClock(clock), counter=counter or self.counter))

    def notes(self, clock: dict[FeedRef, int], declined: frozenset[FeedRef] = frozenset()) -> None:
        self.hear(Statement(M, ClockSource.EBT, VectorClock(clock), declined))

    def bundle(self, clock: dict[FeedRef, int]) -> None:
        self.hear(Statement(M, ClockSource.BUNDLE, VectorClock(clock)))

    def export(self, clock: dict[FeedRef, int]) -> None:
        self.hear(Statement(M, ClockSource.EXPORT, VectorClock(clock)))

    def visit(self) -> VectorClock:
        """Plan a visit and return what is counted on for it."""
        clock = counted_on(self.known)
        self.apply(count_visit(self.known, OURS))
        return clock


def test_nothing_is_known_of_who_said_nothing() -> None:
    assert counted_on({}) == {}
    assert not is_questioned({})


def test_of_two_cards_the_higher_counter_counts_in_whatever_order_they_come() -> None:
    memory = Memory()
    memory.card({A: 5}, counter=7)
    memory.card({A: 9}, counter=6)
    memory.card({A: 9}, counter=7)
    assert counted_on(memory.known) == {A: 5}
    memory.card({A: 2}, counter=8)
    assert counted_on(memory.known) == {A: 2}


def test_notes_are_newer_than_what_came_before_up_and_down() -> None:
    memory = Memory()
    memory.card({A: 5, B: 5})
    memory.notes({A: 9})
    assert counted_on(memory.known) == {A: 9, B: 5}
    assert not is_questioned(memory.known)
    seen = [memory.visit()[A] for _ in range(UNCONFIRMED_VISITS + 2)]
    assert seen == [9] * UNCONFIRMED_VISITS + [5, 5]
    memory.notes({A: 9})
    assert memory.visit()[A] == 9, "another session, another word"


def test_notes_that_say_less_count_alone_until_the_next_card() -> None:
    """The machine has lost something; who knows what else of its old card is gone."""
    memory = Memory()
    memory.card({A: 9, B: 9})
    memory.bundle({A: 12, B: 12})
    memory.notes({A: 4})
    assert counted_on(memory.known) == {A: 4}
    memory.bundle({A: 12, B: 12})
    assert counted_on(memory.known) == {A: 4}, "the old bundle is brought again"
    for _ in range(UNCONFIRMED_VISITS + 1):
        assert memory.visit() == {A: 4}, "more than that nobody says"
    memory.card({A: 6, B: 9})
    assert counted_on(memory.known) == {A: 6, B: 9}


def test_what_only_notes_say_is_counted_on_for_some_visits() -> None:
    memory = Memory()
    memory.card({A: 9})
    memory.notes({A: 4, B: 7})
    seen = [memory.visit() for _ in range(UNCONFIRMED_VISITS + 1)]
    assert seen == [{A: 4, B: 7}] * UNCONFIRMED_VISITS + [{A: 4}]


def test_notes_that_say_less_than_earlier_notes() -> None:
    memory = Memory()
    memory.notes({A: 9, B: 9})
    memory.notes({A: 3})
    assert counted_on(memory.known) == {A: 3}


def test_later_notes_leave_what_they_do_not_mention() -> None:
    memory = Memory()
    memory.notes({A: 5, B: 5})
    memory.notes({A: 7})
    assert counted_on(memory.known) == {A: 7, B: 5}
    memory.notes({}, frozenset({B}))
    assert counted_on(memory.known) == {A: 7}
    assert memory.known[ClockSource.EBT].declined == {B}
    memory.notes({B: 5})
    assert memory.known[ClockSource.EBT].declined == set()
    assert counted_on(memory.known) == {A: 7, B: 5}


def test_an_outdated_card_after_notes_keeps_nothing_off_for_long() -> None:
    memory = Memory()
    memory.notes({A: 9})
    memory.card({B: 1})
    assert is_questioned(memory.known)
    seen = [memory.visit().get(A, 0) for _ in range(QUESTIONED_VISITS + 2)]
    assert seen == [9] * QUESTIONED_VISITS + [0, 0]
    assert not is_questioned(memory.known)


def test_each_newer_card_that_does_not_confirm_makes_it_shorter() -> None:
    memory = Memory()
    memory.notes({A: 9})
    for _ in range(QUESTIONED_VISITS):
        memory.card({B: 1})
        assert counted_on(memory.known) == {A: 9, B: 1}
    memory.card({B: 1})
    assert counted_on(memory.known) == {B: 1}


def test_a_card_that_confirms_ends_the_question() -> None:
    memory = Memory()
    memory.notes({A: 9}, frozenset({B}))
    memory.card({B: 1})
    memory.card({A: 9, B: 1})
    assert not is_questioned(memory.known)
    assert [memory.visit() for _ in range(20)] == [{A: 9, B: 1}] * 20
    assert memory.known[ClockSource.EBT].declined == {B}
    memory.card({A: 12, B: 1})
    assert counted_on(memory.known)[A] == 12, "the older notes do not turn a newer card back"


def test_a_card_that_goes_back_ends_all_hints_at_once() -> None:
    memory = Memory()
    memory.card({A: 3, B: 8})
    memory.notes({A: 9})
    memory.bundle({B: 10})
    memory.card({A: 3, B: 2})
    assert counted_on(memory.known) == {A: 3, B: 2}


def test_a_visit_that_had_nothing_to_withhold_does_not_count() -> None:
    memory = Memory()
    memory.notes({M: 9})
    memory.card({A: 10, B: 10})
    for _ in range(9):
        assert memory.visit()[M] == 9
    assert is_questioned(memory.known)


def test_a_bundle_is_the_only_word_or_a_questioned_one() -> None:
    memory = Memory()
    memory.bundle({A: 5})
    assert counted_on(memory.known) == {A: 5}
    memory.card({A: 1})
    assert [memory.visit()[A] for _ in range(5)] == [5, 5, 5, 1, 1]
    for _ in range(5):
        memory.bundle({A: 5})
        assert memory.visit() == {A: 1}, "the same bundle again is no news"


def test_an_export_keeps_nothing_off_and_lasts_until_the_next_word() -> None:
    for word in (Memory.card, Memory.notes, Memory.bundle):
        memory = Memory()
        memory.card({A: 1})
        memory.export({A: 7})
        memory.export({B: 3})
        assert memory.known[ClockSource.EXPORT].clock == {A: 7, B: 3}
        assert counted_on(memory.known) == {A: 1}
        word(memory, {A: 2})
        assert ClockSource.EXPORT not in memory.known


Word = tuple[Callable[[Memory, dict[FeedRef, int]], None], dict[FeedRef, int]]
CLOCKS = st.dictionaries(st.sampled_from([A, B]), st.integers(0, 12))
WORDS = st.lists(st.tuples(st.sampled_from([Memory.card, Memory.notes, Memory.bundle, Memory.export]), CLOCKS))


@given(WORDS, CLOCKS)
def test_whatever_was_said_a_live_word_counts_at_once(words: list[Word], clock: dict[FeedRef, int]) -> None:
    memory = Memory()
    for word, said in words:
        word(memory, said)
    memory.notes(clock)
    counted = counted_on(memory.known)
    assert all(counted.get(feed, 0) == sequence for feed, sequence in clock.items())


@given(WORDS, CLOCKS, st.lists(CLOCKS.map(lambda said: (Memory.bundle, said)), max_size=3))
def test_whatever_was_said_a_card_counts_after_some_visits(
    words: list[Word],
    clock: dict[FeedRef, int],
    later: list[Word],
) -> None:
    """Nobody starves: the last card is what counts, however much the machine said before, or others bring again."""
    memory = Memory()
    for word, said in words:
        word(memory, said)
    memory.card(clock)
    for word, said in [*words, *later]:
        if word is Memory.bundle:
            word(memory, said)
    for _ in range(QUESTIONED_VISITS):
        memory.visit()
    counted = memory.visit()
    for feed, last in OURS.items():
        assert min(counted.get(feed, 0), last) <= max(clock.get(feed, 0), 0), (feed, counted)
