"""How many examples a property is tried on, and which: always the same, or, in a deep run, twenty times as many of any.

`pytest -m hypothesis --hypothesis-profile=deep --hypothesis-seed=N` is the deep run; its seed repeats it.
"""

from __future__ import annotations

from typing import Final

from hypothesis import HealthCheck, settings

SAME: Final = "same"
DEEP: Final = "deep"
_USUAL: Final = 100

_PATIENT: Final = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A slow machine is no failure."""
settings.register_profile(SAME, _PATIENT, max_examples=_USUAL // 2, derandomize=True)
settings.register_profile(DEEP, _PATIENT, max_examples=10 * _USUAL, print_blob=True)


def examples(number: int) -> settings:
    """Try a property on another number of examples: on half as many each time, in a deep run on ten times as many."""
    return settings(max_examples=number * settings.default.max_examples // _USUAL)
