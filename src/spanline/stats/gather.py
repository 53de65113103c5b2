"""Gather the report: find the journals, bring what is kept of them up to date, ask for the figures."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from spanline.errors import UsageError
from spanline.stats import alerts, cache
from spanline.stats.figures import Figures, artifacts
from spanline.stats.places import Journal, Place
from spanline.stats.report import LeftOut, Report

_LATEST: Final = datetime(9999, 1, 1, tzinfo=timezone.utc).timestamp()
_UNITS: Final = {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


def gather(
    place: Place, since: str, limit: int = 10, now: float | None = None, say: Callable[[str], None] = lambda _: None
) -> Report:
    """Report on the runs that began after `since`, with lists of at most `limit`. `say` reports slow work.

    Raises `UsageError` if `since` is invalid, nothing can be read, or DuckDB is not installed.
    """
    until = time.time() if now is None else now
    start = moment(since, until)
    try:
        import duckdb  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UsageError("statistics need DuckDB: pip install 'spanline[stats]'") from error
    known = place.journals()
    # Do not create a home if there are no runs.
    with cache.opened(place) if known else cache.short_lived() as folder:
        try:
            return _report(place, folder, known, (start, until), limit, say)
        except duckdb.Error:
            cache.empty(folder)  # a file may be spoilt: all is read again, once
        try:
            return _report(place, folder, known, (start, until), limit, say)
        except duckdb.Error as error:
            raise UsageError(f"DuckDB failed: {str(error).strip().splitlines()[0]}") from error


def moment(since: str, now: float) -> float:
    """The moment that `12h`, `7d`, `2w` or an ISO date names, in seconds since the epoch: from 1970 to 9999.

    Raises `UsageError` where it names none.
    """
    age = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", since)
    if age is not None:
        return max(0.0, now - float(age[1]) * _UNITS[age[2]])  # what is older has no date
    try:
        named = datetime.fromisoformat(since.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"--since takes an age such as 12h, 7d, 2w, or an ISO date, not {since!r}") from None
    return min(max(0.0, named), _LATEST)


def _report(
    place: Place,
    folder: Path,
    known: Sequence[Journal],
    window: tuple[float, float],
    limit: int,
    say: Callable[[str], None],
) -> Report:
    start, until = window
    earliest = min(start, until - alerts.RECENT_SECONDS - alerts.WEEK_SECONDS)
    wanted = {journal.run_id: journal for journal in known if journal.modified >= earliest}
    files, unreadable = cache.up_to_date(place, folder, list(wanted.values()), say)
    if unreadable and not files:  # unreadable journals would pass for healthy
        raise UsageError(f"none of the {len(unreadable)} journals in {place.name} can be read")
    with contextlib.closing(Figures(files, start, until, limit)) as figures:
        without_session = len(files) - figures.readable()
        live = figures.settle(run_id for run_id in figures.not_ended() if place.is_live(wanted[run_id]))
        found = Report(
            home=place.name,
            since=_iso(start),
            until=_iso(until),
            runs=figures.runs(),
            run_time=figures.run_time(),
            jobs=figures.jobs(),
            failing_nodes=figures.failing_nodes(),
            slowest_nodes=figures.slowest_nodes(),
            retries=figures.retries(),
            flaky_tests=figures.flaky_tests(),
            artifacts=artifacts(place.artifact_sizes(figures.run_ids()).values()),
            left_out=LeftOut(
                under_way=live, unreadable=len(unreadable) + without_session, torn_lines=figures.torn_lines()
            ),
            alerts=alerts.judge(figures.failure_rates(), figures.averages(), figures.retried()),
        )
    cache.tidy(folder, known)
    return found


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="seconds")
