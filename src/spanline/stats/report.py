"""The report that `spanline stats` prints: plain data, printed unchanged by `--json`."""

from __future__ import annotations

from typing import Final

import msgspec

VERSION: Final = 1

CRITICAL, WARNING, INFO = "critical", "warning", "info"
"""How bad an alert is."""


class Runs(msgspec.Struct, frozen=True, kw_only=True):
    """The number of runs by outcome. `success_rate` leaves out runs that somebody cancelled; None if no run is left."""

    total: int
    success: int
    failed: int
    died: int
    cancelled: int
    timed_out: int
    success_rate: float | None


class RunTime(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds taken by the runs that dbt finished, whether they succeeded or failed."""

    runs: int
    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Runs of the same task, or of the same project and command."""

    job: str
    runs: int
    success_rate: float | None
    p50: float | None
    p95: float | None


class FailingNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node that failed in some of its executions."""

    unique_id: str
    executions: int
    failures: int
    failure_rate: float


class SlowNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node's execution times in seconds; `change` and `change_per_run` are of a straight line fitted to them."""

    unique_id: str
    executions: int
    mean: float
    p95: float
    change: float | None
    change_per_run: float | None


class Retries(msgspec.Struct, frozen=True, kw_only=True):
    """Attempts that Spanline has added, by the category of the failure, and sessions that somebody has added."""

    total: int
    by_category: dict[str, int]
    resumed_sessions: int


class FlakyTest(msgspec.Struct, frozen=True, kw_only=True):
    """A test whose result changed on the same code: how often, and how often it failed and then passed in one run."""

    unique_id: str
    executions: int
    failures: int
    flips: int
    recovered: int


class Artifacts(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that the artifacts of the runs take, a run's on average, and those of the largest."""

    total: int
    mean: float | None
    largest: int


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """Runs that are not in the figures, and lines that are not records."""

    under_way: int
    unreadable: int
    torn_lines: int


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Whether something is wrong with a job, and with which ones, the worst first.

    `value` is the worst job's, which was compared with `threshold`; None where too little is known.
    """

    name: str
    severity: str
    firing: bool
    value: float | None
    threshold: float
    message: str
    jobs: list[str]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything. Times are ISO 8601 in UTC, durations are seconds, rates are between 0 and 1."""

    version: int = VERSION
    home: str
    since: str
    until: str
    runs: Runs
    run_time: RunTime
    jobs: list[Job]
    failing_nodes: list[FailingNode]
    slowest_nodes: list[SlowNode]
    retries: Retries
    flaky_tests: list[FlakyTest]
    artifacts: Artifacts
    left_out: LeftOut
    alerts: list[Alert]

    @property
    def critical(self) -> bool:
        """Whether a critical alert fires."""
        return any(alert.firing and alert.severity == CRITICAL for alert in self.alerts)
