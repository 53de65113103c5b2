"""The three alerts: the same as the Prometheus rules in the examples, for those who have no Prometheus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from spanline.stats.report import CRITICAL, INFO, WARNING, Alert

_DAY: Final = 86_400.0
RECENT_SECONDS: Final = _DAY
WEEK_SECONDS: Final = 7 * _DAY
_MOST_FAILURES: Final = 0.10
_MOST_GROWTH: Final = 0.50
_FEWEST_RUNS: Final = 3
"""An average of fewer runs is no week to compare a day with."""
_NAMED: Final = 3


class Average(msgspec.Struct, frozen=True):
    """A job's average run time over the last day, and over the week before that day, with that week's runs."""

    job: str
    recent: float
    week: float
    week_runs: int


def judge(success_rate: float | None, averages: Sequence[Average], retries: Mapping[str, int]) -> list[Alert]:
    """Look at the success rate of runs, at each job's average times and at the retries by category."""
    return [_failure_rate(success_rate), _run_time(averages), _retries(retries)]


def _failure_rate(success_rate: float | None) -> Alert:
    value = None if success_rate is None else 1 - success_rate
    return Alert(
        name="failure_rate",
        severity=CRITICAL,
        # What is said is what is judged: 1 - 0.9 is a little less than 0.1.
        firing=value is not None and round(value, 9) > _MOST_FAILURES,
        value=value,
        threshold=_MOST_FAILURES,
        message="no run to judge by" if value is None else f"{value:.1%} of runs failed (critical above 10 %)",
    )


def _run_time(averages: Sequence[Average]) -> Alert:
    growth = {a.job: a.recent / a.week - 1 for a in averages if a.week_runs >= _FEWEST_RUNS and a.week > 0}
    slower = sorted((job for job in growth if growth[job] > _MOST_GROWTH), key=lambda job: -growth[job])
    worst = max(growth.values(), default=None)
    if worst is None:
        message = f"no job has run in the last day and {_FEWEST_RUNS} times in the week before"
    elif slower:
        message = "; ".join(f"{job}: {growth[job]:+.0%}" for job in slower[:_NAMED])
        message += f" and {len(slower) - _NAMED} more" if len(slower) > _NAMED else ""
        message = f"average time of the last day against the week before: {message} (warning above +50 %)"
    else:
        message = f"average time of the last day against the week before: at most {worst:+.0%} (warning above +50 %)"
    return Alert(
        name="run_time",
        severity=WARNING,
        firing=bool(slower),
        value=worst,
        threshold=_MOST_GROWTH,
        message=message,
    )


def _retries(retries: Mapping[str, int]) -> Alert:
    total = sum(retries.values())
    by_category = ", ".join(f"{count} {category}" for category, count in retries.items())
    return Alert(
        name="retries",
        severity=INFO,
        firing=total > 0,
        value=total,
        threshold=0,
        message=f"retries: {by_category}" if total else "no retries",
    )
