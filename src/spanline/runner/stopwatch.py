"""How long something took in dbt: as dbt says, unless somebody has set the clock meanwhile, by which dbt measures."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Callable

from .shared.writer import both_clocks

_TOLERANCE = 100_000_000
"""Nanoseconds by which both clocks may differ: a thread may have to wait between its looks at them."""
_EARLIER = 5.0
"""Seconds by which dbt may begin to measure before it tells of the beginning: where it differs by more, the clock was
set in between."""


class Stopwatch:
    """Times what goes on side by side, each by a key of its own."""

    def __init__(self, clocks: Callable[[], tuple[int, int]] = both_clocks) -> None:
        """`clocks` tells the system's clock and the monotonic one, in nanoseconds."""
        self._clocks = clocks
        self._began: dict[Hashable, tuple[int, int]] = {}
        self._in_parts: set[Hashable] = set()

    def start(self, key: Hashable) -> None:
        """Note that this begins."""
        self._began[key] = self._clocks()

    def note_parts(self, key: Hashable) -> None:
        """Note that dbt adds up parts of this, which may overlap: it may say more than has passed."""
        self._in_parts.add(key)

    def stop(self, key: Hashable, seconds: float) -> float:
        """The duration of this, which now ends, and which dbt says has taken so many seconds."""
        began = self._began.pop(key, None)
        if began is None:
            return seconds
        system, monotonic = (now - then for now, then in zip(self._clocks(), began))
        passed = monotonic / 1e9
        if abs(system - monotonic) >= _TOLERANCE:
            return passed
        return seconds if key in self._in_parts or abs(seconds - passed) < _EARLIER else passed
