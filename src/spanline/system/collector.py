"""Python's cyclic garbage collector in a process of our own, which makes little garbage in cycles and soon ends."""

from __future__ import annotations

import atexit
import gc
from typing import Final

_THRESHOLDS: Final = (20_000, 20, 100)
"""By default a collection begins every 700 objects, and one in a hundred walks all that was ever imported."""


def collect_seldom() -> None:
    """Collect cyclic garbage now and then, and at the end not at all. Not for a process that is somebody else's."""
    gc.set_threshold(*_THRESHOLDS)
    atexit.register(gc.freeze)  # the last collection of a process walks what is frozen no more
