"""The three alerts: the same as the Prometheus rules in the examples, without Prometheus.

As there, each job is judged separately: a job that always fails is not hidden by the runs of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from spanline.stats.report import CRITICAL, INFO, WARNING, Alert

_DAY: Final = 86_400.0
RECENT_SECONDS: Final = _DAY
WEEK_SECONDS: Final = 7 * _DAY
_MOST_FAILURES: Final = 0.10
_MOST_GROWTH: Final = 0.50
_FEWEST_RUNS: Final = 3
"""With fewer runs, the week's average is not used for comparison."""
_NAMED: Final = 3


class Rate(msgspec.Struct, frozen=True):
    """The share of a job's runs that did not succeed."""

    job: str
    runs: int
    failed: float


class Average(msgspec.Struct, frozen=True):
    """A job's average run time over the last day, and over the week before that day, with that week's runs."""

    job: str
    recent: float
    week: float
    week_runs: int


class Retried(msgspec.Struct, frozen=True):
    """How often a job was retried because of errors of a category."""

    job: str
    category: str
    retries: int


def judge(rates: Sequence[Rate], averages: Sequence[Average], retried: Sequence[Retried]) -> list[Alert]:
    """Evaluate each job's failures, average times, and retries by category."""
    return [_failure_rate(rates), _run_time(averages), _retries(retried)]


def _failure_rate(rates: Sequence[Rate]) -> Alert:
    worst = max((rate.failed for rate in rates), default=None)
    # Compare the figure as printed: a tenth has no exact binary form.
    failing = sorted((r for r in rates if round(r.failed, 9) > _MOST_FAILURES), key=lambda r: (-r.failed, r.job))
    if worst is None:
        message = "no run to judge by"
    elif failing:
        said = _named([f"{rate.job}: {rate.failed:.1%} of {rate.runs}" for rate in failing])
        message = f"runs that failed: {said} (critical above 10 %)"
    else:
        message = f"runs that failed: at most {worst:.1%} of a job's (critical above 10 %)"
    return Alert(
        name="failure_rate",
        severity=CRITICAL,
        firing=bool(failing),
        value=worst,
        threshold=_MOST_FAILURES,
        message=message,
        jobs=[rate.job for rate in failing],
    )


def _run_time(averages: Sequence[Average]) -> Alert:
    growth = {a.job: a.recent / a.week - 1 for a in averages if a.week_runs >= _FEWEST_RUNS and a.week > 0}
    slower = sorted((job for job in growth if growth[job] > _MOST_GROWTH), key=lambda job: -growth[job])
    worst = max(growth.values(), default=None)
    if worst is None:
        message = f"no job has succeeded in the last day and {_FEWEST_RUNS} times in the week before"
    elif slower:
        said = _named([f"{job}: {growth[job]:+.0%}" for job in slower])
        message = f"average time of the last day against the week before: {said} (warning above +50 %)"
    else:
        message = f"average time of the last day against the week before: at most {worst:+.0%} (warning above +50 %)"
    return Alert(
        name="run_time",
        severity=WARNING,
        firing=bool(slower),
        value=worst,
        threshold=_MOST_GROWTH,
        message=message,
        jobs=slower,
    )


def _retries(retried: Sequence[Retried]) -> Alert:
    by_job: dict[str, list[Retried]] = {}
    for one in retried:
        by_job.setdefault(one.job, []).append(one)
    totals = {job: sum(one.retries for one in found) for job, found in by_job.items()}
    jobs = sorted(totals, key=lambda job: (-totals[job], job))
    said = [f"{job}: {', '.join(f'{one.retries} {one.category}' for one in by_job[job])}" for job in jobs]
    return Alert(
        name="retries",
        severity=INFO,
        firing=bool(jobs),
        value=max(totals.values(), default=0),
        threshold=0,
        message=f"retries: {_named(said)}" if said else "no retries",
        jobs=jobs,
    )


def _named(said: Sequence[str]) -> str:
    """The first jobs' texts, and how many more there are."""
    more = f" and {len(said) - _NAMED} more" if len(said) > _NAMED else ""
    return "; ".join(said[:_NAMED]) + more
