"""Statistics over the journals of many runs, without any backend, for `spanline stats`.

`places` finds the journals, `facts` extracts what statistics need, `cache` keeps that so that each journal is read
once, `figures` queries DuckDB, `alerts` evaluates alerts, `text` prints.
"""

from __future__ import annotations

import logging

from spanline.home.home import RunDirectory

log = logging.getLogger("spanline")


def keep_facts(run: RunDirectory) -> None:
    """Save the facts of this run, so that statistics need not read its journal. It never raises."""
    try:
        from spanline.stats.kept import keep_beside  # noqa: PLC0415 - needed when a run has ended, and not before

        keep_beside(run)
    except Exception as error:  # noqa: BLE001
        log.info("nothing is kept of the journal for statistics: %s: %s", type(error).__name__, error)
