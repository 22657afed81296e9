"""How hard tests try: quick for people, thorough in CI (``tests/conftest.py`` chooses the profile)."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings

__all__ = ["amount", "choose_profile", "tries"]

_THOROUGH = 100
# No deadlines, and no complaints of slowness: a test that fails because the machine is busy is a fault of its own. CI judges
# the change, so it tries the same examples each time; what is new is found by people's runs, which differ.
_COMMON: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
settings.register_profile("quick", max_examples=10, **_COMMON)
settings.register_profile("thorough", max_examples=_THOROUGH, derandomize=True, database=None, **_COMMON)


def choose_profile(name: str) -> None:
    """Choose ``quick`` or ``thorough`` for all tests that are imported afterwards."""
    settings.load_profile(name)


def tries(count: int, *also: HealthCheck, **options: Any) -> settings:
    """Return settings for ``count`` examples in the thorough profile, and a tenth of them in the quick one.

    ``also`` are health checks to leave out.
    """
    chosen = settings()
    return settings(
        max_examples=max(5, count * chosen.max_examples // _THOROUGH),
        suppress_health_check=[*chosen.suppress_health_check, *also],
        **options,
    )


def amount(*, quick: int, thorough: int) -> int:
    """Return how many of something, or how large, a test without Hypothesis makes: one test, two sizes.

    Both cross the same limits; ``thorough`` is for CI, and for ``SNEAKER_TRIES=thorough``.
    """
    return thorough if settings().max_examples >= _THOROUGH else quick
