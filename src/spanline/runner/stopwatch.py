"""How long something took in dbt: as dbt says, unless somebody has set the clock meanwhile, by which dbt measures."""

from __future__ import annotations

from collections.abc import Hashable

from .shared.writer import both_clocks

_TOLERANCE = 100_000_000
"""Nanoseconds by which both clocks may differ: a thread may have to wait between its looks at them."""


class Stopwatch:
    """Times what goes on side by side, each by a key of its own."""

    def __init__(self) -> None:
        self._began: dict[Hashable, tuple[int, int]] = {}

    def start(self, key: Hashable) -> None:
        """Note that this begins."""
        self._began[key] = both_clocks()

    def stop(self, key: Hashable, seconds: float) -> float:
        """The duration of this, which now ends, and which dbt says has taken so many seconds."""
        began = self._began.pop(key, None)
        if began is None:
            return seconds
        system, monotonic = (now - then for now, then in zip(both_clocks(), began))
        return seconds if abs(system - monotonic) < _TOLERANCE else monotonic / 1e9
