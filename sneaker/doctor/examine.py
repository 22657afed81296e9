"""What is wrong on this machine, and first of all: is the own feed forked, or in danger of it?

A finding is a *problem* if the person should do something about it, a *note* if it is good to know.  Nothing is
changed.
"""

from __future__ import annotations

from sneaker.doctor.finding import Finding, Level
from sneaker.doctor.home_folder import examine_folder
from sneaker.doctor.machine_clock import find_clock_problems
from sneaker.doctor.own_feed import OwnFeed, find_memory_problem, find_own_feed_problems
from sneaker.doctor.sticks import find_missing_sticks
from sneaker.doctor.store import find_damage, find_forked_feeds, find_waiting_messages
from sneaker.home.home import Home

__all__ = ["examine"]


def examine(home: Home, own: OwnFeed, *, now_ms: int, memory_problem: str | None = None) -> list[Finding]:
    """Return all findings of an opened home, problems first; raises StoreError only if the store cannot be read at all.

    ``memory_problem`` says why what is published cannot be remembered outside of the home, if so (``PublishMemory.probe``).
    """
    found = [
        *find_own_feed_problems(own),
        *find_memory_problem(memory_problem),
        *find_damage(home),
        *examine_folder(home.path),
        *find_clock_problems(home, now_ms),
        *find_forked_feeds(home),
        *find_waiting_messages(home),
        *find_missing_sticks(home, now_ms),
    ]
    return sorted(found, key=lambda finding: finding.level is not Level.PROBLEM)
