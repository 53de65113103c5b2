"""Python's cyclic garbage collector, set for what dbt does: it builds a manifest that stays, then runs node after node.

Each collection of the oldest generation walks the whole manifest, which is never garbage; with Python's thresholds a
third of dbt's time goes there (docs/benchmarks.md). Only a process of ours is set so: never a caller's own.
"""

from __future__ import annotations

import gc

_BUILDING = (1_000_000, 50, 1_000)
"""Until the selection is known nearly all that is made stays. Not off: a command that selects nothing has no later."""
_RUNNING = (20_000, 50, 1_000)


def expect_manifest() -> None:
    """Collect seldom, as nearly all that is made from now on stays."""
    gc.set_threshold(*_BUILDING)


def keep_manifest() -> None:
    """Never walk again what there is by now; collect what is made from now on as it goes."""
    gc.freeze()
    gc.set_threshold(*_RUNNING)
